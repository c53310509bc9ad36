"""Export of vectors to engines, as Parquet files, or as .npy files with Parquet metadata in clip-retrieval's layout.

`npy`: `img_emb/img_emb_0.npy` with `metadata/metadata_0.parquet`, rows in the same order, as `clip-retrieval inference`
writes them (github.com/rom1504/clip-retrieval, clip_inference/writer.py); other modalities as
`audio_emb/audio_emb_0.npy` with `audio_metadata/audio_metadata_0.parquet`. The folder `metadata` belongs to the images,
or to the texts if no images are exported. `parquet`: `vectors-00000.parquet`, with a column `vector`. Engines: see
`bindsearch.operations.exchange.engines`.

The file EXPORT_FILE, which is written last, lists all others: without it an import takes the folder for incomplete.
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from itertools import accumulate
from pathlib import Path
from types import MappingProxyType
from typing import BinaryIO, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from bindsearch.arguments import to_choice
from bindsearch.atomic import atomic_write, make_folder
from bindsearch.errors import StoreError, UsageError
from bindsearch.operations.exchange.engines.engine import (
    DEFAULT_NAME,
    Engine,
    EngineResult,
    EngineSource,
    EngineTarget,
    check_modules,
    make_source,
    parse_engine_target,
)
from bindsearch.operations.exchange.exchange_format import (
    CLASS_COLUMNS_KEY,
    EXPORT_FILE,
    EXPORT_KEY,
    FACTS,
    SPACE_KEY,
    VECTOR_COLUMN,
    class_arrays,
    columns_to_json,
    complete_items,
    live_segment_rows,
    open_generation,
    read_blocks,
    space_to_json,
    split_at_item_boundaries,
)
from bindsearch.operations.exchange.object_store import Remote, check_empty, name_of, to_place, write_remote
from bindsearch.reports import OnRows, OnStage, ignore_rows, ignore_stage
from bindsearch.search.filter import Filter, segment_mask, to_filter
from bindsearch.search.generation import Generation
from bindsearch.search.query import parse_modalities
from bindsearch.storage.config import StoreConfig, resolve_store
from bindsearch.storage.faults import tells_faults
from bindsearch.types import Modality, PathLike

SHARD_ROWS = 1_000_000
"""Vectors per file; a file may exceed it by the rest of its last item."""

SHORT_NAMES = {Modality.IMAGE: "img"}
"""Modalities with another name in clip-retrieval."""

CLIP_COLUMNS: Mapping[Modality, Mapping[str, str]] = {
    Modality.IMAGE: {"path": "image_path"},
    Modality.TEXT: {"text": "caption"},
}
"""Column names in the metadata of clip-retrieval, by the name of ours."""


class Layout(StrEnum):
    """Layout of the files of an export."""

    NPY = "npy"
    PARQUET = "parquet"


@dataclass(frozen=True, slots=True)
class ExportReport:
    """Report of an export.

    Attributes:
        target: Folder of the export; for an object store its URI, for an engine its address, without credentials.
        vectors: Number of vectors of each modality.
        files: Number of files with vectors and metadata; None for an engine.
        size_bytes: Size of these files, or of a table with its indexes; None if the engine does not report it.
        took_s: Duration in seconds.
        name: Name of the collection or table of an engine; empty for a folder.
        notices: Messages for the user, about values that the engine cannot hold.
    """

    target: Path | str
    vectors: Mapping[Modality, int]
    files: int | None
    size_bytes: int | None
    took_s: float
    name: str = ""
    notices: tuple[str, ...] = ()


class NothingToExportError(UsageError):
    """No vectors match the modalities and the filter of an export."""

    def __init__(self) -> None:
        super().__init__("nothing to export: no vectors match, choose other modalities or another filter")


@tells_faults("read")
def export_vectors(
    store: PathLike | None,
    target: PathLike,
    *,
    layout: str | Layout | None = None,
    name: str = DEFAULT_NAME,
    replace: bool = False,
    modalities: str | Modality | Iterable[str | Modality] | None = None,
    filter: Filter | str | None = None,
    on_progress: OnRows = ignore_rows,
    on_stage: OnStage = ignore_stage,
) -> ExportReport:
    """Write vectors and their metadata into the empty folder `target`, or to an engine.

    Vectors are written in half precision, as they are stored. One generation of the store is read; other processes may
    write to the store meanwhile. Each file is written atomically, and a list of them last: `import_vectors` refuses
    what a killed export leaves. An export to an engine appears once it is complete.

    Args:
        store: Folder of the store; None: the default store.
        target: Folder of the export, also in an object store (s3://BUCKET/PATH, gs://BUCKET/PATH), which must be empty
            or missing; or `qdrant:PATH` (a folder of Qdrant Edge), `qdrant:URL` (a Qdrant server) or `pgvector:DSN`
            (PostgreSQL with pgvector).
        layout: `parquet` or `npy`, see `Layout`; None: `parquet`. For folders only.
        name: Name of the collection or table; for servers only.
        replace: Replace an earlier export to an engine.
        modalities: Modalities of the segments to export; None: all.
        filter: Filter as in `Store.search`; None: all segments.
        on_progress: Called with the number of vectors written so far and the total.
        on_stage: Called with the name of the current stage, such as the building of an engine's index.

    Returns:
        Numbers of vectors and files, and the size.

    Raises:
        UsageError: an unknown layout or modality, an invalid filter, nothing to export, or `target` is not empty.
        StoreError: the export cannot be written, or the object store refuses it or does not answer.
        StoreNotFoundError: there is no store.
        InstallationError: the libraries of an engine are not installed.
    """
    started = time.monotonic()
    chosen_modalities = parse_modalities(modalities)
    chosen_layout = to_choice(Layout.PARQUET if layout is None else layout, Layout, "layout")
    row_filter = to_filter(filter)
    place = parse_target(target, layout, name, replace=replace)
    config, generation = open_generation(resolve_store(store))
    rows = _select_rows(generation, chosen_modalities, row_filter)
    counts = {modality: len(part) for modality, part in rows.items() if len(part)}
    if not counts:
        raise NothingToExportError
    if isinstance(place, EngineTarget):
        source = make_source(config, generation, rows)
        sent = _engine_writer(place.engine)(place, source, on_progress, on_stage)
        took_s = time.monotonic() - started
        return ExportReport(sent.place, source.counts, None, sent.size_bytes, took_s, place.name, sent.notices)
    total = sum(counts.values())
    export_id = secrets.token_hex(16)
    sizes: dict[str, int] = {}
    write = _write_npy if chosen_layout == Layout.NPY else _write_parquet
    try:
        check_target(place)
        on_progress(0, total)
        for done in accumulate(write(partial(_open, place, sizes), _Source(export_id, config, generation, rows))):
            on_progress(done, total)
        with _open(place, {}, EXPORT_FILE) as file:
            listed = {"format": 1, "id": export_id, "vectors": counts, "files": sizes}
            file.write(json.dumps(listed, indent=1).encode())
    except OSError as error:
        raise StoreError(f"cannot write the export {name_of(place)}: {error}") from error
    folder = place if isinstance(place, Path) else place.name
    return ExportReport(folder, counts, len(sizes), sum(sizes.values()), time.monotonic() - started)


def parse_target(
    target: PathLike, layout: str | Layout | None = None, name: str = DEFAULT_NAME, *, replace: bool = False
) -> Path | Remote | EngineTarget:
    """Return the folder, the place in an object store or the engine that the target of an export names.

    Args:
        target: As in `export_vectors`; so are the others.
        layout: Layout of the files.
        name: Name of the collection or table.
        replace: Whether an earlier export to an engine is replaced.

    Raises:
        UsageError: the target is invalid, or an option does not apply to it.
        StoreError: an object store does not answer.
        InstallationError: the libraries of an engine are not installed.
    """
    engine = parse_engine_target(target, name, replace=replace)
    if engine is None:
        if replace:
            raise UsageError("only exports to qdrant: and pgvector: are replaced: choose another folder to export into")
        return to_place(target)
    if layout is not None:
        raise UsageError(f"the layout {layout} is for folders: leave it out for {engine.engine}")
    check_modules(engine.engine)
    return engine


def check_target(place: Path | Remote) -> None:
    """Check that the folder of an export is empty or missing, and create it on this machine.

    Raises:
        UsageError: the folder is not empty, or there is no such bucket.
        OSError: the folder cannot be read or created.
    """
    if not isinstance(place, Path):
        check_empty(place)
        return
    if place.is_file() or (place.is_dir() and any(place.iterdir())):
        raise UsageError(f"{place} is not an empty folder: choose another folder to export into")
    make_folder(place.absolute(), Path(place.absolute().anchor))


OpenFile = Callable[[str], AbstractContextManager[BinaryIO]]
"""Opens a file for writing by its path below the folder of the export; it is published when the block ends."""


@contextmanager
def _open(place: Path | Remote, sizes: dict[str, int], rel_path: str) -> Iterator[BinaryIO]:
    """Open a file of an export for writing; it is published when the block ends, and its size recorded in `sizes`."""
    if isinstance(place, Path):
        make_folder((place / rel_path).parent, place)
    with atomic_write(place / rel_path) if isinstance(place, Path) else write_remote(place, rel_path) as file:
        yield file
        size = file.tell()
    sizes[rel_path] = size


def _engine_writer(engine: Engine) -> Callable[[EngineTarget, EngineSource, OnRows, OnStage], EngineResult]:
    """Return the function that writes to an engine."""
    if engine is Engine.PGVECTOR:
        from bindsearch.operations.exchange.engines.pgvector import write_pgvector

        return write_pgvector
    from bindsearch.operations.exchange.engines.qdrant import write_qdrant, write_qdrant_edge

    return write_qdrant if engine is Engine.QDRANT else write_qdrant_edge


def _select_rows(
    generation: Generation, modalities: Iterable[Modality], filter: Filter
) -> dict[Modality, NDArray[np.int64]]:
    """Return the segment rows to export of each modality, sorted by item."""
    snapshot = generation.snapshot
    rows = live_segment_rows(snapshot)
    if filter:
        rows = rows[segment_mask(filter, snapshot)[rows]]
    column = snapshot.segments.column("modality")
    return {modality: rows[pc.equal(column, modality.value).to_numpy()[rows]] for modality in modalities}


class _Source(NamedTuple):
    """Content of an export: its id, and segment rows by modality, int64 (m,)."""

    export_id: str
    config: StoreConfig
    generation: Generation
    rows: Mapping[Modality, NDArray[np.int64]]


def _write_parquet(open_file: OpenFile, source: _Source) -> Iterator[int]:
    """Write all vectors, those of an item together; yield the number of rows of each block."""
    generation, snapshot = source.generation, source.generation.snapshot
    everything = np.concatenate(list(source.rows.values()))
    everything = everything[np.argsort(snapshot.segment_items[everything], kind="stable")]
    whole = complete_items(snapshot, everything)
    classes = class_arrays(snapshot)
    kind = pa.list_(pa.field("element", pa.float16(), nullable=False), source.config.dim)
    schema = _schema(source).append(pa.field(VECTOR_COLUMN, kind))
    for number, shard in enumerate(split_at_item_boundaries(snapshot, everything, SHARD_ROWS)):
        with _parquet_file(open_file, f"vectors-{number:05d}.parquet", schema) as file:
            for block in read_blocks(generation, shard, whole, classes):
                vectors = pa.FixedSizeListArray.from_arrays(pa.array(block.vectors.reshape(-1)), type=kind)
                file.write_table(block.facts.append_column(schema.field(VECTOR_COLUMN), vectors).cast(schema))
                yield len(block.vectors)


def _write_npy(open_file: OpenFile, source: _Source) -> Iterator[int]:
    """Write each modality to its own files, numbered as by clip-retrieval; yield the number of rows of each block."""
    generation, rows, snapshot = source.generation, source.rows, source.generation.snapshot
    whole = complete_items(snapshot, np.concatenate(list(rows.values())))
    classes = class_arrays(snapshot)
    first = next((modality for modality in (Modality.IMAGE, Modality.TEXT) if len(rows.get(modality, ()))), None)
    for modality, modality_rows in rows.items():
        if not len(modality_rows):
            continue
        short_name = SHORT_NAMES.get(modality, modality.value)
        facts_name = "metadata" if modality is first else f"{short_name}_metadata"
        shards = split_at_item_boundaries(snapshot, modality_rows, SHARD_ROWS)
        schema = _schema(source, CLIP_COLUMNS.get(modality, {}))
        for number, shard in enumerate(shards):
            digits = str(number).zfill(len(str(len(shards))))
            with (
                open_file(f"{short_name}_emb/{short_name}_emb_{digits}.npy") as vectors,
                _parquet_file(open_file, f"{facts_name}/{facts_name}_{digits}.parquet", schema) as facts,
            ):
                header = {"descr": "<f2", "fortran_order": False, "shape": (len(shard), source.config.dim)}
                np.lib.format.write_array_header_1_0(vectors, header)
                for block in read_blocks(generation, shard, whole, classes):
                    vectors.write(np.ascontiguousarray(block.vectors, "<f2").data)
                    facts.write_table(block.facts.rename_columns(schema.names).cast(schema))
                    yield len(block.vectors)


def _schema(source: _Source, renamed: Mapping[str, str] = MappingProxyType({})) -> pa.Schema:
    """Return the schema of the metadata columns, with the columns in `renamed` under other names."""
    fields = [(renamed.get(name, name), pa.type_for_alias(kind)) for name, kind in FACTS.items()]
    columns, space = columns_to_json(source.generation.snapshot), space_to_json(source.config)
    return pa.schema(fields, {SPACE_KEY: space, EXPORT_KEY: source.export_id, CLASS_COLUMNS_KEY: columns})


@contextmanager
def _parquet_file(open_file: OpenFile, rel_path: str, schema: pa.Schema) -> Iterator[pq.ParquetWriter]:
    """Yield the writer of a Parquet file that is published on exit; the vector column is not compressed (no gain)."""
    facts = [name for name in schema.names if name != VECTOR_COLUMN]
    compression = {**dict.fromkeys(facts, "zstd"), f"{VECTOR_COLUMN}.list.element": "none"}
    with (
        open_file(rel_path) as file,
        pq.ParquetWriter(
            file, schema, compression=compression, use_dictionary=facts, write_statistics=facts, store_schema=True
        ) as writer,
    ):
        yield writer
