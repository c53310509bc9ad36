"""Import of precomputed vectors from files into a store, as items of a collection.

Reads the files of `export` and of `clip-retrieval inference`, any Parquet file with a column of vectors and a column of
paths, and a .npy file with such a Parquet file in the same folder.
"""

from __future__ import annotations

import heapq
import json
import os
import posixpath
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from bindsearch.arguments import to_absolute, to_choice, with_slash
from bindsearch.encoders.base import Encoder
from bindsearch.errors import UsageError, VectorError
from bindsearch.ingest.media.sidecar import COLUMN_NAME, MAX_COLUMNS
from bindsearch.operations.classify.column import carry_columns
from bindsearch.operations.exchange.exchange_format import (
    BLOCK_ROWS,
    ERROR_COLUMN,
    EXPORT_FILE,
    Columns,
    check_space,
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
from bindsearch.operations.exchange.vector_sources import VectorFileReader, check_complete, find_shards
from bindsearch.reports import OnRows, OnStage, ignore_rows, ignore_stage
from bindsearch.storage.batch import Embedded
from bindsearch.storage.config import StoreConfig, resolve_store
from bindsearch.storage.session import open_writer
from bindsearch.storage.vector_files import UNIT_TOLERANCE
from bindsearch.types import DOCUMENTED_COLUMNS, Modality, PathLike

ZERO_LENGTH = 1e-6
"""Minimum length of a vector: shorter ones are rejected as zero."""

_FINGERPRINT = re.compile("[0-9a-f]{32}")
"""Form of a fingerprint as `fingerprint_of` returns it."""


def import_vectors(
    store: PathLike | None,
    *sources: PathLike,
    root: PathLike | None = None,
    modality: str | Modality | None = None,
    vector_column: str | None = None,
    encoder: str | Encoder | None = None,
    encoder_options: Mapping[str, str | int | float | bool] | None = None,
    device: str = "auto",
    optimize: bool = True,
    on_progress: OnRows = ignore_rows,
    on_stage: OnStage = ignore_stage,
) -> ImportReport:
    """Import precomputed vectors from files into a store; rows with the same path, of all files, become one item.

    An existing item with the same path is replaced. Vectors that do not have unit length are normalised, and the
    report has a notice about it. Batches are committed one by one; indexes are brought up to date at the end. The next
    `index` of the collection inspects its files again. A file that `embed_files` could not read is recorded as a
    failure. Sources in an object store are copied into the folder for temporary files (TMPDIR) first.

    Args:
        store: Folder of the store, as in `connect`.
        *sources: Folders of an export or of clip-retrieval, folders of Parquet files, .parquet and .npy files; also in
            an object store (s3://BUCKET/PATH, gs://BUCKET/PATH).
        root: Collection that the items belong to. None: the collection recorded in an export, else the common folder of
            all paths. If it differs from the collection of an export, the items move to it.
        modality: Modality of vectors for which neither a column nor the name of the folder gives one.
        vector_column: Column of the vectors in Parquet files; None: the only column of lists of floats.
        encoder: Encoder as in `connect`; a new store needs it unless the files record the encoder of their vectors.
        encoder_options: Preprocessing options as in `connect`.
        device: Device as in `connect`.
        optimize: Whether indexes are brought up to date; if not, new vectors are scanned exactly until `optimize`.
        on_progress: Called with the number of vectors imported so far and the total.
        on_stage: Called with the name of each stage of the index maintenance.

    Returns:
        Numbers of items and vectors, and notices.

    Raises:
        UsageError: a file cannot be read, a row has no path or no modality, a path is outside of `root`, or an export
            is incomplete.
        StoreError: the files record another encoder, other weights or other options than the store's, or an object
            store does not answer.
        VectorError: a vector is zero, not finite, or has another dimension than the store's.
        StoreLockedError: another process is writing to the store.
    """
    started = time.monotonic()
    default_modality = None if modality is None else to_choice(modality, Modality, "modality")
    root_folder = None if root is None else str(to_absolute(root))
    if not sources:
        raise UsageError("nothing to import: give a folder, a .parquet or a .npy file")
    report = ImportReport()
    path = resolve_store(store)
    with ExitStack() as copies:
        names = {}
        for place in dict.fromkeys(map(to_place, dict.fromkeys(sources))):
            copy = local_copy(place, lambda path: path == EXPORT_FILE or path.endswith((".parquet", ".npy")), on_stage)
            names[copies.enter_context(copy)] = name_of(place)
        opened = {folder: [VectorFileReader(shard, vector_column) for shard in find_shards(folder)] for folder in names}
        for folder, of_source in opened.items():
            check_complete(folder, of_source)
        shards = [shard for group in opened.values() for shard in group]
        space = next((shard.space for shard in shards if shard.space is not None), None)
        opening = import_context(path, space, encoder=encoder, encoder_options=encoder_options, device=device)
        context, config = copies.enter_context(opening)
        _check(config, path, shards)
        plan = _plan(opened, root_folder)
        total = sum(shard.n for shard in shards)
        on_progress(0, total)
        with open_writer(path, context.encoder, context.segments) as (_, catalog, writer):
            importer = VectorImporter(catalog, writer, report, trusted=False)
            for done in accumulate(_import_shards(plan, importer, config.dim, default_modality, report)):
                on_progress(done, total)
            importer.flush()
        for folder, of_source in opened.items():
            if columns := next((shard.columns for shard in of_source if shard.columns), ()):
                on_stage("writing columns of classes")
                if root_folder is not None:
                    columns = tuple((column, dict.fromkeys(roots, root_folder)) for column, roots in columns)
                report.notices += carry_columns(columns, path, context.encoder, names[folder])
        update_indexes(context, report, optimize=optimize, on_stage=on_stage)
    report.took_s = time.monotonic() - started
    return report


def _check(config: StoreConfig, path: Path, shards: Sequence[VectorFileReader]) -> None:
    """Check that all shards have the space of the store; raise VectorError for other dimensions, else StoreError."""
    for shard in shards:
        if shard.dim is not None and shard.dim != config.dim:
            way_out = "give the encoder that made them, or use another store"
            ours = f"those of {config.encoder} have {config.dim}"
            raise VectorError(f"{shard.vectors} holds vectors of {shard.dim} dimensions, {ours}: {way_out}")
        if shard.space is not None:
            check_space(config, path, shard.space, shard.facts)


ItemPath = tuple[str, str]
"""Root and relative path of an item."""


@dataclass(frozen=True)
class _Plan:
    """Assignment of the rows of some shards to items, each with its root and relative path."""

    shards: Sequence[VectorFileReader]
    codes: Sequence[NDArray[np.int64]]  # for each shard the item number of each row (n,)
    counts: NDArray[np.int64]  # number of vectors of each item; 0 for a file that could not be read
    items: Sequence[ItemPath]


def _plan(sources: Mapping[Path, Sequence[VectorFileReader]], root: str | None) -> _Plan:
    """Assign all rows to items by their paths; raise UsageError for a bad path, or an item in several exports."""
    numbers: dict[str, int] = {}
    items: list[tuple[str, str]] = []
    codes: list[NDArray[np.int64]] = []
    exports: dict[int, Path] = {}
    for source, shards in sources.items():
        item_paths, rows = _placed(shards, root)
        is_export = all(shard.space is not None for shard in shards)
        export = source if source.is_dir() else source.parent
        number_of = np.zeros(len(item_paths), np.int64)
        for position, (folder, path) in enumerate(item_paths):
            number_of[position] = number = numbers.setdefault(with_slash(folder) + path, len(numbers))
            if number == len(items):
                items.append((folder, path))
            if is_export and exports.setdefault(number, export) != export:
                way_out = "import one after the other, the last one replaces the items of the first"
                fault = f"is in two exports, {exports[number]} and {export}"
                raise UsageError(f"{with_slash(folder)}{path} {fault}: {way_out}")
        codes += [number_of[of_shard] for of_shard in rows]
    shards = [shard for group in sources.values() for shard in group]
    counts = np.zeros(len(items), np.int64)
    for of_shard, shard in zip(codes, shards, strict=True):
        counts += np.bincount(of_shard[~shard.failed], minlength=len(items))
    return _Plan(shards, codes, counts, items)


def _placed(shards: Sequence[VectorFileReader], root: str | None) -> tuple[list[ItemPath], list[NDArray[np.int64]]]:
    """Return root and relative path of each path of a source, and for each shard the number of each row's path (n,)."""
    paths: list[pa.Array] = []
    collections: list[pa.Array] = []
    for shard in shards:
        column = shard.column("path")
        if column is None:
            listed = ", ".join(shard.schema.names)
            raise UsageError(f"{shard.facts} has no column path (or image_path): its columns are {listed}")
        if column.null_count:
            raise UsageError(f"{shard.facts}: row {column.is_null().index(True).as_py()} has no path")
        collection = shard.column("collection") if shard.space is not None else None
        paths.extend(column.cast(pa.large_string()).chunks)
        collections.extend([pa.nulls(shard.n, pa.string())] if collection is None else collection.chunks)
    encoded = pa.chunked_array(paths, pa.large_string()).combine_chunks().dictionary_encode()
    rows = encoded.indices.to_numpy().astype(np.int64)
    _, firsts = np.unique(rows, return_index=True)
    item_collections = pa.chunked_array(collections, pa.string()).take(firsts)
    item_paths = place_items(encoded.dictionary.to_pylist(), item_collections.to_pylist(), root)
    return item_paths, np.split(rows, np.cumsum([shard.n for shard in shards])[:-1])


def place_items(paths: Sequence[str], collections: Sequence[str | None], root: str | None) -> list[ItemPath]:
    """Return root and relative path of each item.

    Args:
        paths: Path of each item.
        collections: Collection of each item as recorded in an export; None: not recorded.
        root: Collection that the items should belong to; None: the recorded one, else the common folder of the paths.

    Raises:
        UsageError: a path is empty, relative without a root, or outside of `root`.
    """
    normal_paths = [_normalise_path(path) for path in paths]
    pairs = zip(normal_paths, collections, strict=True)
    export_roots = [
        folder if folder is not None and path.startswith(with_slash(folder)) else None for path, folder in pairs
    ]
    if root is not None:
        return _place_below(normal_paths, export_roots, root)
    rootless = [path for path, folder in zip(normal_paths, export_roots, strict=True) if folder is None]
    if relative := [path for path in rootless if not path.startswith("/")]:
        way_out = "give the folder that it is relative to (--root FOLDER)"
        raise UsageError(f"the path {relative[0]!r} is relative: {way_out}")
    common = os.path.commonpath([posixpath.dirname(path) for path in rootless]) if rootless else ""
    roots = (common if collection is None else collection for collection in export_roots)
    return [(folder, path[len(with_slash(folder)) :]) for folder, path in zip(roots, normal_paths, strict=True)]


def _place_below(paths: Sequence[str], export_roots: Sequence[str | None], root: str) -> list[ItemPath]:
    """Return items below `root`; items of one other collection move to it, UsageError is raised for several ones."""
    item_paths = []
    moved_roots = set()
    for path, export_root in zip(paths, export_roots, strict=True):
        if path.startswith(with_slash(root)):
            item_paths.append((root, path[len(with_slash(root)) :]))
        elif export_root is not None:
            moved_roots.add(export_root)
            item_paths.append((root, path[len(with_slash(export_root)) :]))
        elif path.startswith(("/", "../")):
            raise UsageError(f"{path} is outside of {root}: give a folder that contains all paths, or omit --root")
        else:
            item_paths.append((root, path))
    if len(moved_roots) > 1:
        raise UsageError(f"several collections cannot move to {root}: {', '.join(sorted(moved_roots))}; omit --root")
    return item_paths


def _normalise_path(path: str) -> str:
    """Return a normalised path; raise UsageError if it cannot be the path of a file."""
    normal = posixpath.normpath(path)
    if normal in (".", "..", "/", "//") or "\0" in normal:
        raise UsageError(f"{path!r} is not the path of a file: give one in each row")
    return f"/{normal.lstrip('/')}" if normal.startswith("//") else normal


def _import_shards(
    plan: _Plan, importer: VectorImporter, dim: int, modality: Modality | None, report: ImportReport
) -> Iterator[int]:
    """Stage all items of some shards; yield the number of rows of each block.

    The next block is always the one with the first item not yet read: files with the same items, such as images and
    sounds of videos, are read in turn, and few items wait for the rest of their vectors.
    """
    streams = [shard.blocks(dim) for shard in plan.shards]
    starts = [0] * len(streams)
    queue = [(int(codes[:BLOCK_ROWS].min()), number) for number, codes in enumerate(plan.codes) if len(codes)]
    heapq.heapify(queue)
    incomplete: dict[int, list[Embedded]] = {}  # segments of items that have further rows, by item number
    total_normalised = ignored = 0
    while queue:
        _, number = heapq.heappop(queue)
        shard, start = plan.shards[number], starts[number]
        table, raw = next(streams[number])
        vectors, n_normalised = unit_rows(raw, shard.vectors, start)
        total_normalised += n_normalised
        starts[number] = end = start + table.num_rows
        codes, failed = plan.codes[number], shard.failed[start:end]
        if failed.any():
            reasons = map(str, table.filter(failed).column(f"#{ERROR_COLUMN}").to_pylist())
            by_item = dict(zip(codes[start:end][failed].tolist(), reasons, strict=True))
            ignored += _stage_failures(plan, by_item, importer)
        embedded = _facts(shard, table.filter(~failed) if failed.any() else table, modality)
        for row, code in enumerate(codes[start:end][~failed].tolist()):
            segments = incomplete.setdefault(code, [])
            is_complete = len(segments) + 1 == plan.counts[code]
            segments.append(segment_from_row(embedded, row, vectors[row] if is_complete else vectors[row].copy()))
            if is_complete:
                importer.add(importer.locate(*plan.items[code]), embedded, row, incomplete.pop(code))
        if end < len(codes):
            heapq.heappush(queue, (int(codes[end : end + BLOCK_ROWS].min()), number))
        yield table.num_rows
    if ignored:
        report.notices.append(f"{ignored} files could not be read, and keep the vectors that they have")
    if total_normalised:
        report.notices.append(f"{total_normalised} vectors did not have unit length and were normalised")


def _stage_failures(plan: _Plan, reasons: Mapping[int, str], importer: VectorImporter) -> int:
    """Record why items could not be read, by item number; return how many have vectors and are left as they are."""
    ignored = 0
    for code, reason in reasons.items():
        slot = importer.locate(*plan.items[code])
        if plan.counts[code] or slot.item_id is not None:
            ignored += 1
        elif not slot.failed:
            importer.add_failure(slot, reason)
    return ignored


def unit_rows(raw: NDArray[np.floating[Any]], path: Path, start: int) -> tuple[NDArray[np.float32], int]:
    """Return vectors scaled to unit length, and how many were not of unit length.

    Args:
        raw: Vectors (m, d) of any floating-point type.
        path: File of the vectors, for messages.
        start: Row of the first vector in the file.

    Returns:
        Unit vectors, float32 (m, d), and the number of those that were normalised.

    Raises:
        VectorError: a vector is zero or not finite.
    """
    with np.errstate(over="ignore", invalid="ignore"):  # overflowing rows are rejected below
        rows = np.asarray(raw, np.float32)
        lengths = np.sqrt(np.vecdot(rows, rows))
    if invalid := np.flatnonzero(~np.isfinite(lengths) | (lengths < ZERO_LENGTH)).tolist():
        what = "is zero" if lengths[invalid[0]] < ZERO_LENGTH else "holds NaN, infinity or numbers out of range"
        raise VectorError(f"{path}: the vector in row {start + invalid[0]} {what}: remove the row")
    not_unit = np.abs(lengths - 1.0) > UNIT_TOLERANCE
    if not_unit.any():
        rows = rows.copy()
        rows[not_unit] /= lengths[not_unit, None]
    return rows, int(not_unit.sum())


def _facts(shard: VectorFileReader, table: pa.Table, modality: Modality | None) -> Columns:
    """Return the metadata of a block: hashes from exports alone, of other programs user columns from other columns."""
    facts = dict(to_lists(table))
    nulls = [None] * table.num_rows
    default = modality or shard.modality
    facts["modality"] = [value or default for value in facts["modality"]]
    if unknown := {*facts["modality"], *facts["item_modality"]} - {*Modality, None}:
        raise UsageError(f"{shard.facts}: unknown modality {min(unknown)!r}: choose from {', '.join(Modality)}")
    if None in facts["modality"]:
        raise UsageError(f"the modality of the vectors of {shard.facts} is unknown: give it, such as --modality image")
    if shard.space is None:
        facts["content_hash"] = facts["fingerprint"] = nulls
        facts["columns"] = _user_columns(table, shard.extras)
    else:
        facts["columns"] = [text if text is None or _is_object(text) else None for text in facts["columns"]]
        prints = facts["fingerprint"]
        facts["fingerprint"] = [value if value and _FINGERPRINT.fullmatch(value) else None for value in prints]
    return facts


def _is_object(text: str) -> bool:
    """Return whether a text is a JSON object."""
    try:
        return isinstance(json.loads(text), dict)
    except (ValueError, RecursionError):
        return False


def _user_columns(table: pa.Table, names: Sequence[str]) -> list[str | None]:
    """Return columns of another program whose names are allowed as user columns: a JSON object or None for each row."""
    usable = [name for name in names if COLUMN_NAME.fullmatch(name) and name.lower() not in DOCUMENTED_COLUMNS]
    lists = [(name.lower(), table.column(f"#{name}").to_pylist()) for name in usable[:MAX_COLUMNS]]
    rows: list[str | None] = []
    for row in range(table.num_rows):
        of_row = ((name, values[row]) for name, values in lists)
        # NaN, which is not equal to itself, means unknown too.
        present = {name: value for name, value in of_row if value is not None and value == value}
        rows.append(json.dumps(present, ensure_ascii=False) if present else None)
    return rows
