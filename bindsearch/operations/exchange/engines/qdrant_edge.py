"""Export to a folder of Qdrant Edge: the engine of Qdrant in the reader's own process."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from bindsearch.arguments import to_absolute
from bindsearch.atomic import atomic_write, is_there, sync_folder
from bindsearch.errors import UsageError
from bindsearch.operations.exchange.engines.qdrant_points import payload_indexes, payloads
from bindsearch.operations.exchange.engines.source import EngineSource, is_description, read_engine_blocks
from bindsearch.operations.exchange.engines.target import EngineResult, EngineTarget, engine_faults
from bindsearch.reports import OnRows, OnStage

DESCRIPTION = "bindsearch.json"
"""File beside Qdrant's own: the embedding space, and the number of vectors."""


def write_qdrant_edge(
    target: EngineTarget, source: EngineSource, on_progress: OnRows, on_stage: OnStage
) -> EngineResult:
    """Write a shard of Qdrant Edge; the folder appears once it is complete and indexed.

    Args:
        target: The folder; it must be missing, empty, or an earlier export that is to be replaced.
        source: The segments.
        on_progress: Called with the number of vectors written so far and the total.
        on_stage: Called with the name of the current stage.

    Raises:
        UsageError: the folder holds something else, or another process exports to it.
        StoreError: the folder cannot be written.
    """
    folder = to_absolute(target.address)
    with engine_faults(str(folder)):
        _check_folder(folder, replace=target.replace)
        folder.parent.mkdir(parents=True, exist_ok=True)
        with _incomplete_folder(folder) as incomplete:
            new = incomplete / "shard"
            _write_shard(new, source, on_progress, on_stage)
            if is_there(folder):
                folder.rename(incomplete / "replaced")
            new.rename(folder)
            sync_folder(folder.parent)
    size_bytes = sum(512 * path.stat().st_blocks for path in folder.rglob("*") if path.is_file())  # sparse files
    return EngineResult(f"qdrant:{folder}", size_bytes)


def _check_folder(folder: Path, *, replace: bool) -> None:
    """Raise UsageError if a folder may not be written."""
    if not is_there(folder) or (folder.is_dir() and not any(folder.iterdir())):
        return
    file = folder / DESCRIPTION
    if not (file.is_file() and is_description(file.read_text("utf-8", errors="replace"))):
        raise UsageError(f"{folder} is not an empty folder: choose another folder to export into")
    if not replace:
        raise UsageError(f"{folder} holds an export already: add --replace, or choose another folder")


@contextmanager
def _incomplete_folder(folder: Path) -> Iterator[Path]:
    """Yield an empty folder beside `folder`, removed at the end; one that a killed process has left is emptied."""
    incomplete = folder.with_name(f"{folder.name}.incomplete")
    incomplete.mkdir(exist_ok=True)
    lock = FileLock(incomplete / "lock", timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise UsageError(f"another process exports to {folder}: wait for it, or choose another folder") from None
    try:
        for name in ("shard", "replaced"):
            shutil.rmtree(incomplete / name, ignore_errors=True)
        yield incomplete
    finally:
        shutil.rmtree(incomplete, ignore_errors=True)
        lock.release()


def _write_shard(folder: Path, source: EngineSource, on_progress: OnRows, on_stage: OnStage) -> None:
    """Create a shard with all points, its payload indexes first: the graph has links for each of their values."""
    import qdrant_edge as qdrant

    kinds = {
        "keyword": qdrant.PayloadSchemaType.Keyword,
        "integer": qdrant.PayloadSchemaType.Integer,
        "float": qdrant.PayloadSchemaType.Float,
        "datetime": qdrant.PayloadSchemaType.Datetime,
        "bool": qdrant.PayloadSchemaType.Bool,
    }
    folder.mkdir()
    half = qdrant.VectorStorageDatatype.Float16
    vectors = qdrant.EdgeVectorParams(size=source.config.dim, distance=qdrant.Distance.Cosine, datatype=half)
    shard = qdrant.EdgeShard.create(str(folder), qdrant.EdgeConfig(vectors=vectors))
    try:
        for key, kind in payload_indexes(source.known_kinds):
            shard.update(qdrant.UpdateOperation.create_field_index(key, kinds[kind]))
        done, total = 0, source.total
        on_progress(done, total)
        for block in read_engine_blocks(source):
            rows = zip(block.ids, block.vectors.tolist(), payloads(block), strict=True)
            shard.update(qdrant.UpdateOperation.upsert_points([qdrant.Point(*row) for row in rows]))
            done += len(block.ids)
            on_progress(done, total)
        on_stage("building the index")
        shard.optimize()
        shard.flush()
    finally:
        shard.close()
    with atomic_write(folder / DESCRIPTION) as file:
        file.write(json.dumps(source.describe(), indent=2).encode())
