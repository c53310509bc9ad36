"""Import: ready vectors from files into a store, as items of a collection.

Takes back what `export` wrote, what `clip-retrieval inference` writes, any Parquet file with a column of vectors and
one of paths, and a .npy file with such a Parquet file beside it.
"""

from __future__ import annotations

import heapq
import json
import os
import posixpath
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bindsearch.encoders.base import Encoder
from bindsearch.errors import UsageError, VectorError
from bindsearch.ingest.media.sidecar import COLUMN_NAME, MAX_COLUMNS
from bindsearch.operations.exchange_format import BLOCK_ROWS, Columns, check_space, to_lists
from bindsearch.operations.optimize import optimize_store
from bindsearch.operations.vector_import import ImportReport, VectorImporter, import_context, segment_from_row
from bindsearch.operations.vector_sources import VectorFileReader, find_shards
from bindsearch.reports import OnRows, OnStage, ignore_rows, ignore_stage
from bindsearch.storage.batch import StagedSegment
from bindsearch.storage.config import StoreConfig, resolve_store
from bindsearch.storage.session import open_writer
from bindsearch.storage.vector_files import UNIT_TOLERANCE
from bindsearch.types import DOCUMENTED_COLUMNS, Modality, PathLike

if TYPE_CHECKING:
    import pyarrow as pa
    from numpy.typing import NDArray

ZERO_LENGTH = 1e-6
"""Vectors shorter than this have no direction."""

_PRINT = re.compile("[0-9a-f]{32}")
"""Form of what `fingerprint_of` gives."""


def import_vectors(
    store: PathLike | None,
    *sources: PathLike,
    root: PathLike | None = None,
    modality: str | Modality | None = None,
    vector_column: str | None = None,
    encoder: str | Encoder | None = None,
    encoder_options: Mapping[str, str | int | float | bool] | None = None,
    device: str = "auto",
    on_progress: OnRows = ignore_rows,
    on_stage: OnStage = ignore_stage,
) -> ImportReport:
    """Put vectors of files into the store at that path (as of `connect`); rows of one path become one item.

    An item that is there already is replaced. Items belong to the collection `root`: by default the one that an export
    names, else the common folder of all paths; where it differs from that of an export, they move there. `modality`:
    what vectors are of, where neither a column nor the folder's name says so. A new store needs `encoder`, unless the
    file says which one made its vectors; `encoder_options`, `device`: as of `connect`. Vectors of another length than
    1 are normalised, which the report notes. Batches are committed one by one; indexes are brought up to date at the
    end, and the next `index` of the collection looks at its files again.

    Raises:
        UsageError: files that cannot be read, lack a path or a modality, or lie outside of `root`.
        StoreError: the files name another encoder, weights or options than the store.
        VectorError: a vector is zero, not finite, or of another space's size.
        StoreLockedError: another process writes into the store.
    """
    started = time.monotonic()
    chosen = None if modality is None else _modality(modality)
    folder = None if root is None else str(Path(root).expanduser().resolve())
    if not sources:
        raise UsageError("nothing to import: give a folder, a .parquet or a .npy file")
    unique = dict.fromkeys(Path(source).expanduser().resolve() for source in sources)
    opened_sources = [[VectorFileReader(shard, vector_column) for shard in find_shards(source)] for source in unique]
    shards = [shard for group in opened_sources for shard in group]
    report = ImportReport()
    place = resolve_store(store)
    like = next((shard.space for shard in shards if shard.space is not None), None)
    with import_context(place, like, encoder=encoder, encoder_options=encoder_options, device=device) as (
        context,
        made,
    ):
        _check(made, place, shards)
        planned = [_plan(group, folder) for group in opened_sources]
        done, total = 0, sum(shard.n for shard in shards)
        on_progress(0, total)
        with open_writer(place, context.encoder, context.segments) as (_, catalog, writer):
            for plan in planned:
                intake = VectorImporter(catalog, writer, report, trusted=False)
                for n in _take_in(plan, intake, made.dim, chosen, report):
                    done += n
                    on_progress(done, total)
                intake.flush()
        report.optimized = optimize_store(context, on_stage=on_stage)
    report.took_s = time.monotonic() - started
    return report


def _modality(name: str | Modality) -> Modality:
    if name not in list(Modality):
        raise UsageError(f"unknown modality {str(name)!r}: choose from {', '.join(Modality)}")
    return Modality(name)


def _check(made: StoreConfig, place: Path, shards: Sequence[VectorFileReader]) -> None:
    for shard in shards:
        if shard.dim is not None and shard.dim != made.dim:
            raise VectorError(
                f"{shard.vectors} holds vectors of {shard.dim} dimensions, those of {made.encoder} have {made.dim}: "
                "name the encoder that made them, or another store"
            )
        if shard.space is not None:
            check_space(made, place, shard.space, shard.facts)


@dataclass(frozen=True)
class _Plan:
    """Item of each row of some shards: for each shard `codes` int64 (n,), numbers of items; of each item
    its number of rows, and its root with its path below."""

    shards: Sequence[VectorFileReader]
    codes: Sequence[NDArray[np.int64]]
    counts: NDArray[np.int64]
    items: Sequence[tuple[str, str]]


def _plan(shards: Sequence[VectorFileReader], root: str | None) -> _Plan:
    """Read the paths of all rows, and nothing else.

    Raises:
        UsageError: a row has no path, or one outside of `root`.
    """
    import pyarrow as pa

    paths: list[pa.Array] = []
    collections: list[pa.Array] = []
    for shard in shards:
        column = shard.column("path")
        if column is None:
            listed = ", ".join(shard.schema.names)
            raise UsageError(f"{shard.facts} has no column path (nor image_path): there are {listed}")
        if column.null_count:
            raise UsageError(f"{shard.facts}: row {column.is_null().index(True).as_py()} has no path")
        held = shard.column("collection") if shard.space is not None else None
        paths.extend(column.cast(pa.large_string()).chunks)
        collections.extend([pa.nulls(shard.n, pa.string())] if held is None else held.chunks)
    encoded = pa.chunked_array(paths, pa.large_string()).combine_chunks().dictionary_encode()
    rows = encoded.indices.to_numpy().astype(np.int64)
    _, firsts = np.unique(rows, return_index=True)
    held_by = pa.chunked_array(collections, pa.string()).take(firsts)
    placed = place_items(encoded.dictionary.to_pylist(), held_by.to_pylist(), root)
    numbers: dict[tuple[str, str], int] = {}
    codes = np.array([numbers.setdefault(place, len(numbers)) for place in placed], np.int64)[rows]
    bounds = np.cumsum([shard.n for shard in shards])[:-1]
    return _Plan(shards, np.split(codes, bounds), np.bincount(codes, minlength=len(numbers)), [*numbers])


def place_items(paths: Sequence[str], collections: Sequence[str | None], root: str | None) -> list[tuple[str, str]]:
    """Root and path below it of each item; `root`: what is wished, `collections`: what an export says.

    Raises:
        UsageError: a path is empty or relative where there is no root, or is outside of `root`.
    """
    tidy = [_tidy(path) for path in paths]
    held = [
        one if one is not None and path.startswith(_with_slash(one)) else None
        for path, one in zip(tidy, collections, strict=True)
    ]
    if root is not None:
        return _moved(tidy, held, root)
    loose = [path for path, one in zip(tidy, held, strict=True) if one is None]
    if relative := [path for path in loose if not path.startswith("/")]:
        raise UsageError(f"the path {relative[0]!r} is relative: say below which folder (--root FOLDER)")
    common = os.path.commonpath([posixpath.dirname(path) for path in loose]) if loose else ""
    roots = [common if one is None else one for one in held]
    return [(one, path[len(_with_slash(one)) :]) for one, path in zip(roots, tidy, strict=True)]


def _moved(paths: Sequence[str], held: Sequence[str | None], root: str) -> list[tuple[str, str]]:
    """Places below `root`; what lies elsewhere moves there from its one collection."""
    placed = []
    moved = set()
    for path, one in zip(paths, held, strict=True):
        if path.startswith(_with_slash(root)):
            placed.append((root, path[len(_with_slash(root)) :]))
        elif one is not None:
            moved.add(one)
            placed.append((root, path[len(_with_slash(one)) :]))
        elif path.startswith(("/", "../")):
            raise UsageError(f"{path} is outside of {root}: name a folder around all of them, or leave --root out")
        else:
            placed.append((root, path))
    if len(moved) > 1:
        raise UsageError(f"several collections cannot move to {root}: {', '.join(sorted(moved))}; leave --root out")
    return placed


def _tidy(path: str) -> str:
    tidy = posixpath.normpath(path)
    if tidy in (".", "..", "/", "//") or "\0" in tidy:
        raise UsageError(f"{path!r} is not the path of a file: give one in each row")
    return f"/{tidy.lstrip('/')}" if tidy.startswith("//") else tidy


def _with_slash(folder: str) -> str:
    return f"{folder.rstrip('/')}/"


def _take_in(
    plan: _Plan, intake: VectorImporter, dim: int, modality: Modality | None, report: ImportReport
) -> Iterator[int]:
    """Stage all items of some shards; yields the size of each block that is read.

    The next block is always the one that holds the first item not yet read: files that hold the same items, such as
    pictures and sounds of videos, are read side by side, so that few items wait for the rest of their vectors.
    """
    streams = [shard.blocks(dim) for shard in plan.shards]
    starts = [0] * len(streams)
    turns = [(int(codes[:BLOCK_ROWS].min()), number) for number, codes in enumerate(plan.codes) if len(codes)]
    heapq.heapify(turns)
    waiting: dict[int, list[StagedSegment]] = {}
    normalised = 0
    while turns:
        _, number = heapq.heappop(turns)
        shard, start = plan.shards[number], starts[number]
        table, raw = next(streams[number])
        vectors, changed = unit_rows(raw, shard.vectors, start)
        normalised += changed
        starts[number] = end = start + len(vectors)
        codes = plan.codes[number]
        _stage(plan, codes[start:end].tolist(), _facts(shard, table, modality), vectors, waiting, intake)
        if end < len(codes):
            heapq.heappush(turns, (int(codes[end : end + BLOCK_ROWS].min()), number))
        yield len(vectors)
    if normalised:
        report.notices.append(f"{normalised} vectors were not of length 1: they have been normalised")


def _stage(
    plan: _Plan,
    codes: Sequence[int],
    facts: Columns,
    vectors: NDArray[np.float32],
    waiting: dict[int, list[StagedSegment]],
    intake: VectorImporter,
) -> None:
    """Stage the items that are whole with these rows; `waiting` holds what there is of others, by number."""
    for row, code in enumerate(codes):
        wanted = plan.counts[code]
        segments = [segment_from_row(facts, row, vectors[row])]
        if wanted > 1:
            segments = waiting.setdefault(code, [])
            last = len(segments) + 1 == wanted
            segments.append(segment_from_row(facts, row, vectors[row] if last else vectors[row].copy()))
            if not last:
                continue
            del waiting[code]
        intake.add(intake.locate(*plan.items[code]), facts, row, segments)


def unit_rows(raw: NDArray[np.floating[Any]], path: Path, start: int) -> tuple[NDArray[np.float32], int]:
    """Vectors (m, d) of unit length, the first of them row `start` of a file, and how many had to be normalised.

    Raises:
        VectorError: one is zero or not finite.
    """
    with np.errstate(over="ignore", invalid="ignore"):  # what overflows is refused below
        rows = np.asarray(raw, np.float32)
        lengths = np.sqrt(np.vecdot(rows, rows))
    if wrong := np.flatnonzero(~np.isfinite(lengths) | (lengths < ZERO_LENGTH)).tolist():
        what = "is zero" if lengths[wrong[0]] < ZERO_LENGTH else "holds NaN, infinity or numbers that are too large"
        raise VectorError(f"{path}: the vector in row {start + wrong[0]} {what}: leave it out")
    other = np.abs(lengths - 1.0) > UNIT_TOLERANCE
    if other.any():
        rows = rows.copy()
        rows[other] /= lengths[other, None]
    return rows, int(other.sum())


def _facts(shard: VectorFileReader, table: pa.Table, modality: Modality | None) -> Columns:
    """The facts of a block. Only an export's own are taken at their word."""
    facts = dict(to_lists(table))
    nothing = [None] * table.num_rows
    default = modality or shard.modality
    facts["modality"] = [one or default for one in facts["modality"]]
    if unknown := {*facts["modality"], *facts["item_modality"]} - {*Modality, None}:
        raise UsageError(f"{shard.facts}: unknown modality {min(unknown)!r}: known are {', '.join(Modality)}")
    if None in facts["modality"]:
        raise UsageError(f"{shard.facts} does not say what its vectors are of: say it (--modality image)")
    if shard.space is None:
        facts["content_hash"] = facts["fingerprint"] = nothing
        facts["columns"] = _user_columns(table, shard.extras)
    else:
        facts["columns"] = [text if text is None or _is_object(text) else None for text in facts["columns"]]
        facts["fingerprint"] = [one if one and _PRINT.fullmatch(one) else None for one in facts["fingerprint"]]
    return facts


def _is_object(text: str) -> bool:
    try:
        return isinstance(json.loads(text), dict)
    except (ValueError, RecursionError):
        return False


def _user_columns(table: pa.Table, names: Sequence[str]) -> list[str | None]:
    """Columns of another program's as the user's own, where their names and values can be: a JSON object a row."""
    fit = [name for name in names if COLUMN_NAME.fullmatch(name) and name.lower() not in DOCUMENTED_COLUMNS]
    lists = [(name.lower(), table.column(f"#{name}").to_pylist()) for name in fit[:MAX_COLUMNS]]
    rows: list[str | None] = []
    for row in range(table.num_rows):
        known = {name: values[row] for name, values in lists if values[row] is not None}
        kept = {name: value for name, value in known.items() if value == value}  # NaN is not known either
        rows.append(json.dumps(kept, ensure_ascii=False) if kept else None)
    return rows
