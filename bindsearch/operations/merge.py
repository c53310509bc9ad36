"""Merge: stores of one space into one, each file once, vectors that are shared still shared."""

from __future__ import annotations

import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from bindsearch.encoders.base import Encoder
from bindsearch.errors import UsageError
from bindsearch.operations.exchange_format import (
    Block,
    check_space,
    complete_items,
    living_rows,
    open_generation,
    read_blocks,
    to_lists,
)
from bindsearch.operations.optimize import optimize_store
from bindsearch.operations.vector_import import ImportReport, ItemSlot, VectorImporter, import_context, segment_from_row
from bindsearch.reports import OnRows, OnStage, ignore_rows, ignore_stage
from bindsearch.search.generation import Generation
from bindsearch.storage.catalog import Catalog
from bindsearch.storage.config import StoreConfig, read_config, resolve_store
from bindsearch.storage.session import open_writer
from bindsearch.storage.writer import Writer
from bindsearch.types import PathLike

if TYPE_CHECKING:
    from numpy.typing import NDArray


class _Source(NamedTuple):
    path: Path
    config: StoreConfig
    generation: Generation
    rows: NDArray[np.int64]


def merge_stores(
    target: PathLike | None,
    *sources: PathLike,
    encoder: str | Encoder | None = None,
    device: str = "auto",
    on_progress: OnRows = ignore_rows,
    on_stage: OnStage = ignore_stage,
) -> ImportReport:
    """Put everything the `sources` hold into the store `target`, made like the first one where there is none.

    Collections with the same root become one. A file that the target has already stays as it is there, unless the
    source knows it with other content and a newer modification time. Sources are read as they are in the moment it
    begins, without a lock, and are not changed. Each batch is committed by itself: after a kill, the same call goes
    on. Indexes are brought up to date at the end. `encoder`, `device`: as of `connect`.

    Raises:
        UsageError: no source, or the target is one of them.
        StoreNotFoundError: a source is no store.
        StoreError: they are not all of the same encoder, weights, options and lengths of segments.
        StoreLockedError: another process writes into the target.
    """
    started = time.monotonic()
    place = resolve_store(target)
    paths = _source_paths(place, sources)
    configs = [read_config(path) for path in paths]
    report = ImportReport()
    with import_context(place, configs[0], encoder=encoder, device=device) as (context, made):
        for path, config in zip(paths, configs, strict=True):
            check_space(made, place, config, path)
        opened_sources = [_open(path) for path in paths]
        total = sum(len(source.rows) for source in opened_sources)
        done = 0
        on_progress(0, total)
        with open_writer(place, context.encoder, context.segments) as (_, catalog, writer):
            for source in opened_sources:
                for n in _take_in(source, catalog, writer, report):
                    done += n
                    on_progress(done, total)
        report.optimized = optimize_store(context, on_stage=on_stage)
    report.took_s = time.monotonic() - started
    return report


def _source_paths(target: Path, sources: tuple[PathLike, ...]) -> list[Path]:
    paths = list(dict.fromkeys(Path(source).expanduser().resolve() for source in sources))
    if not paths:
        raise UsageError("nothing to merge: name one store or more")
    if target.resolve() in paths:
        raise UsageError(f"{target} is the store to merge into: leave it out of those to merge")
    return paths


def _open(path: Path) -> _Source:
    config, generation = open_generation(path)
    return _Source(path, config, generation, living_rows(generation.snapshot))


def _take_in(source: _Source, catalog: Catalog, writer: Writer, report: ImportReport) -> Iterator[int]:
    """Commit what a source holds; yields how many of its vectors each step has dealt with."""
    intake = VectorImporter(catalog, writer, report, trusted=True)
    snapshot = source.generation.snapshot
    for block in read_blocks(source.generation, source.rows, complete_items(snapshot, source.rows)):
        _stage(block, intake, report)
        yield len(block.vectors)
    intake.flush()
    if snapshot.failures is None:
        return
    intake = VectorImporter(catalog, writer, report, trusted=True)  # one that knows what has just been taken in
    for failure in snapshot.failures.to_pylist():
        place = intake.locate(snapshot.manifest.collections[failure["collection_id"]], failure["rel_path"])
        if place.item_id is None and not place.failed:
            intake.add_failure(place, failure["reason"])
    intake.flush()


def _stage(block: Block, intake: VectorImporter, report: ImportReport) -> None:
    facts, vectors = to_lists(block.facts), block.vectors.astype(np.float32)
    starts = np.flatnonzero(np.diff(block.facts.column("item_id").to_numpy(), prepend=-1)).tolist()
    for start, end in pairwise([*starts, len(vectors)]):
        root = facts["collection"][start]
        place = intake.locate(root, facts["path"][start][len(root.rstrip("/")) + 1 :])
        if _stays(place, facts["content_hash"][start], facts["mtime_ns"][start]):
            report.unchanged += 1
        else:
            segments = [segment_from_row(facts, row, vectors[row]) for row in range(start, end)]
            intake.add(place, facts, start, segments)


def _stays(place: ItemSlot, content_hash: str, mtime_ns: int | None) -> bool:
    """Return whether what is at a place has the same content as what comes, or is no older."""
    if place.item_id is None:
        return False
    return place.content_hash == content_hash or mtime_ns is None or mtime_ns <= place.mtime_ns
