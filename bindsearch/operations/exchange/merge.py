"""Merge of stores with the same embedding space; each file occurs once, and shared vectors stay shared.

Indexes are taken over with their operating points where the rows are the same, else built again: they are measurements
of certain rows in a certain order. They hold in another store if its first rows of the modality are the same vectors in
the same order, all live, and the index settings are equal. The store is then in the state of the source with rows added
to it, and the usual policy decides (`index_policy`): a tail is scanned, appended or a reason to build, and points are
measured again for modalities of queries that the source had none of. In any other case nothing is taken over: points
that were measured with other rows say nothing about these.

Latencies in the points are those of the machine that measured them, as in a store that was copied.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import replace
from itertools import accumulate, chain, pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bindsearch.arguments import with_slash
from bindsearch.encoders.base import Encoder
from bindsearch.errors import IndexDamagedError, UsageError
from bindsearch.indexes.index_files import publish_index
from bindsearch.operations.classify.column import carry_columns
from bindsearch.operations.context import StoreContext
from bindsearch.operations.exchange.exchange_format import (
    check_space,
    complete_items,
    live_segment_rows,
    read_blocks,
    to_lists,
)
from bindsearch.operations.exchange.object_store import local_copy, name_of, to_place
from bindsearch.operations.exchange.vector_import import (
    ImportReport,
    VectorImporter,
    import_context,
    segment_from_row,
    update_indexes,
)
from bindsearch.operations.index_policy import read_index_settings
from bindsearch.operations.optimize import APPEND_ROWS, next_generation
from bindsearch.reports import OnRows, OnStage, ignore_rows, ignore_stage
from bindsearch.search.generation import Generation, Reader
from bindsearch.search.partition import Partition
from bindsearch.storage.catalog import Catalog
from bindsearch.storage.config import read_config, resolve_store
from bindsearch.storage.faults import tells_faults
from bindsearch.storage.session import open_writer
from bindsearch.storage.writer import Writer
from bindsearch.types import PathLike


class _Source(NamedTuple):
    """Store to merge, opened; `name`: for messages; `rows`: its live segment rows, sorted by item."""

    name: str
    generation: Generation
    rows: NDArray[np.int64]


@tells_faults("write")
def merge_stores(
    target: PathLike | None,
    *sources: PathLike,
    encoder: str | Encoder | None = None,
    device: str = "auto",
    optimize: bool = True,
    on_progress: OnRows = ignore_rows,
    on_stage: OnStage = ignore_stage,
) -> ImportReport:
    """Merge the stores `sources` into the store `target`.

    Collections with the same root become one. An existing item of the target stays unchanged, unless the source has it
    with other content and a newer modification time. The sources are read without a lock, as they are at the start,
    and are not changed. Each batch is committed separately: if the merge is interrupted, the same call resumes it.
    Indexes are brought up to date at the end. One of a source is taken over with its operating points if the target has
    none and begins with the same vectors, as an empty target does. Sources in an object store are copied into the
    folder for temporary files (TMPDIR) first.

    Args:
        target: Folder of the target store, created like the first source if it is missing; None: the default store.
        *sources: Folders of the stores to merge; also in an object store (s3://BUCKET/PATH, gs://BUCKET/PATH).
        encoder: Encoder as in `connect`.
        device: Device as in `connect`.
        optimize: Whether indexes are brought up to date; if not, new vectors are scanned exactly until `optimize`.
        on_progress: Called with the number of vectors merged so far and the total.
        on_stage: Called with the name of each stage of the index maintenance.

    Returns:
        Numbers of items, vectors and failures.

    Raises:
        UsageError: no source is given, or the target is one of them.
        StoreNotFoundError: a source is not a store.
        StoreError: the stores differ in encoder, weights, options or segment lengths, or an object store does not
            answer.
        StoreLockedError: another process is writing to the target.
    """
    started = time.monotonic()
    target_path = resolve_store(target)
    places = list(dict.fromkeys(map(to_place, dict.fromkeys(sources))))
    if not places:
        raise UsageError("nothing to merge: give at least one store")
    if target_path.resolve() in places:
        raise UsageError(f"{target_path} is the store to merge into: remove it from the stores to merge")
    report = ImportReport()
    with ExitStack() as copies:
        names = {copies.enter_context(local_copy(place, _is_read, on_stage)): name_of(place) for place in places}
        configs = {path: read_config(path) for path in names}
        opening = import_context(target_path, next(iter(configs.values())), encoder=encoder, device=device)
        context, target_config = copies.enter_context(opening)
        for path, config in configs.items():
            check_space(target_config, target_path, config, Path(names[path]))
        opened_sources = []
        for path, name in names.items():
            generation = Reader(path).current()
            opened_sources.append(_Source(name, generation, live_segment_rows(generation.snapshot)))
        total = sum(len(source.rows) for source in opened_sources)
        on_progress(0, total)
        with open_writer(target_path, context.encoder, context.segments) as (_, catalog, writer):
            blocks = (_import_source(source, catalog, writer, report) for source in opened_sources)
            for done in accumulate(chain.from_iterable(blocks)):
                on_progress(done, total)
        for source in opened_sources:
            snapshot = source.generation.snapshot
            if (stored := snapshot.class_columns) is not None:
                on_stage("writing columns of classes")
                columns = [(column, snapshot.manifest.collections) for column in stored.columns.values()]
                report.notices += carry_columns(columns, target_path, context.encoder, source.name)
        if optimize:
            generations = {source.name: source.generation for source in opened_sources}
            report.notices += carry_indexes(context, generations, on_stage)
        update_indexes(context, report, optimize=optimize, on_stage=on_stage)
    report.took_s = time.monotonic() - started
    return report


_READ = ("store.json", "catalog.duckdb", "catalog.duckdb.wal", "CURRENT", "vectors", "snapshots", "indexes")
"""Files and folders of a store that a merge may read."""


def _is_read(rel_path: str) -> bool:
    """Return whether a merge may read a file of a store."""
    return rel_path.partition("/")[0] in _READ and not rel_path.startswith("indexes/words/")


def _import_source(source: _Source, catalog: Catalog, writer: Writer, report: ImportReport) -> Iterator[int]:
    """Commit the items and failures of a source; yield the number of vectors of each block."""
    importer = VectorImporter(catalog, writer, report, trusted=True)
    snapshot = source.generation.snapshot
    for block in read_blocks(source.generation, source.rows, complete_items(snapshot, source.rows)):
        facts, vectors = to_lists(block.facts), block.vectors.astype(np.float32)
        starts = np.flatnonzero(np.diff(block.facts.column("item_id").to_numpy(), prepend=-1)).tolist()
        for start, end in pairwise([*starts, len(vectors)]):
            root = facts["collection"][start]
            slot = importer.locate(root, facts["path"][start][len(with_slash(root)) :])
            mtime_ns = facts["mtime_ns"][start]
            is_same = slot.content_hash == facts["content_hash"][start]
            if slot.item_id is not None and (is_same or mtime_ns is None or mtime_ns <= slot.mtime_ns):
                report.unchanged += 1
            else:
                segments = [segment_from_row(facts, row, vectors[row]) for row in range(start, end)]
                importer.add(slot, facts, start, segments)
        yield len(block.vectors)
    importer.flush()
    if snapshot.failures is None:
        return
    # A new importer reads the catalog again, with the items just committed.
    importer = VectorImporter(catalog, writer, report, trusted=True)
    for failure in snapshot.failures.to_pylist():
        slot = importer.locate(snapshot.manifest.collections[failure["collection_id"]], failure["rel_path"])
        if slot.item_id is None and not slot.failed:
            importer.add_failure(slot, failure["reason"])
    importer.flush()


def carry_indexes(context: StoreContext, sources: Mapping[str, Generation], on_stage: OnStage) -> list[str]:
    """Take over indexes of other stores, given by name, for partitions that have none and begin with the same rows.

    Returns:
        A line for each index that was taken over.

    Raises:
        StoreLockedError: another process is writing.
    """
    notices: list[str] = []
    if not any(source.manifest.indexes for source in sources.values()):
        return notices
    with open_writer(context.path, context.encoder, context.segments) as (_, _, writer):
        writer.compact()
        settings = read_index_settings(context.path)
        target = Reader(context.path).current()
        for modality, partition in target.partitions.items():
            for name, source in () if modality in target.manifest.indexes else sources.items():
                other = source.partitions.get(modality)
                if other is None or other.index is None or other.index.manifest.settings != settings:
                    continue
                on_stage(f"{modality}: comparing the rows with those of {name}")
                if not _begins_with(partition, other):
                    continue
                writer.set_indexes({modality: _publish(context, partition, other)})
                points = len(other.index.manifest.points)
                notices.append(f"the {modality} index of {name} is taken over, with {points} operating points")
                break
    return notices


def _begins_with(partition: Partition, other: Partition) -> bool:
    """Return whether the first rows of a partition are the rows that the index of another covers, all live."""
    assert other.index is not None
    n = other.index.manifest.n
    if n > partition.n or other.moved:
        return False
    if any(each.alive is not None and not each.alive.flags[:n].all() for each in (partition, other)):
        return False
    for start in range(0, n, APPEND_ROWS):
        rows = np.arange(start, min(start + APPEND_ROWS, n))
        if not np.array_equal(partition.rows.gather(rows), other.rows.gather(rows)):
            return False
    return True


def _publish(context: StoreContext, partition: Partition, other: Partition) -> tuple[str, str]:
    """Write the index of another partition for the same rows; return its folder and the digest of its manifest."""
    opened = other.index
    assert opened is not None
    n = opened.manifest.n
    try:
        codes = None if opened.manifest.gpu_parameters is None else other.open_gpu_codes()
    except IndexDamagedError:  # the policy has them built where a GPU needs them
        codes = None
    manifest = replace(
        opened.manifest,
        generation=next_generation(context.path, partition.modality),
        last_vector_id=int(partition.vector_ids[n - 1]),
        files={},
        gpu_parameters=None if codes is None else opened.manifest.gpu_parameters,
        gpu_points=() if codes is None else opened.manifest.gpu_points,
    )
    return publish_index(context.path, manifest, opened.index, partition.vector_ids[:n], opened.statistics, codes)
