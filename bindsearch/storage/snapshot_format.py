"""File format of snapshots: CURRENT, which names the parts of a generation, and the Arrow files of each part."""

from __future__ import annotations

import json
import mmap
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from bindsearch.atomic import atomic_write, make_folder
from bindsearch.errors import SnapshotDamagedError, StoreError
from bindsearch.hashing import HashingFile, hash_bytes
from bindsearch.small_files import (
    check_seal,
    open_regular,
    parse_json_object,
    read_json,
    read_small_file,
    sealed,
)
from bindsearch.storage.snapshot_checks import REMEDY, Checks, damage_told
from bindsearch.storage.vector_files import VectorFileEntry
from bindsearch.types import METADATA_COLUMNS, Modality

if TYPE_CHECKING:
    import pyarrow as pa

    from bindsearch.storage.class_columns import StoredColumns

FORMAT = 5
READABLE_FORMATS = (1, 2, 3, 4, 5)
"""Format versions that can be read; older parts are converted when they are opened.

Parts of format 1 are unsorted and have no user columns; those of format 2 have no metadata and no fingerprints. CURRENT
of formats before 4 has no digests: not its own, nor those of parts and vector files. Parts before format 5 lack what
decoders measure."""

FIRST_FORMAT_WITH_DIGESTS = 4

END_OF_NUMBERS = 2**62
"""Number beyond all generations, ids and row counts."""

VECTOR_FILE_NAME = re.compile(r"[0-9]+-[0-9]+\.arrow", re.ASCII)

PART_FILE = re.compile(r"(items|segments|removed|failures|class_columns)\.arrow|digests\.json|\..*\.tmp")
"""Name of a file of a part, or of one that is being written."""

CURRENT = "CURRENT"
SNAPSHOTS = "snapshots"
DIGESTS = "digests.json"

ITEM_COLUMNS = {
    "item_id": "int64",
    "collection_id": "int64",
    "rel_path": "large_string",
    "modality": "large_string",
    "size_bytes": "int64",
    "mtime_ns": "int64",
    "content_hash": "large_string",
    "fingerprint": "large_string",
    "columns": "large_string",
    **METADATA_COLUMNS,
}
"""Columns of items and their Arrow types; `columns` contains the user columns as JSON, null if there are none."""

SEGMENT_COLUMNS = {
    "segment_id": "int64",
    "item_id": "int64",
    "modality": "large_string",
    "vector_id": "int64",
    "start_s": "float64",
    "end_s": "float64",
    "text": "large_string",
}
"""Columns of segments and their Arrow types."""

FAILURE_COLUMNS = {"collection_id": "int64", "rel_path": "large_string", "reason": "large_string"}
"""Columns of failures and their Arrow types."""

LINEAR_SCAN_FRACTION = 0.05
"""Number of items, as a share of a part's segments, above which a scan of all rows is faster than binary searches."""

LOOKUP_COLUMNS = {"item_row": "int64", "by_item": "int64"}
"""Further columns of a part's segments: the row of each segment's item, and the segment rows sorted by item_id."""

RANGES_KEY = b"modality_rows"
"""Key in the schema's metadata of the rows [start, end) of each modality, as JSON."""


@dataclass(frozen=True)
class Manifest:
    """Content of CURRENT: the files of a generation."""

    generation: int
    """Number of the generation."""
    parts: tuple[int, ...]
    """Generations of the base and its deltas, in order."""
    collections: Mapping[int, str]
    """Root folder of each collection by its id."""
    vectors: Mapping[Modality, tuple[VectorFileEntry, ...]]
    """The vector files, oldest ids first."""
    failures: int | None
    """Generation whose folder contains the failures; None if nothing has failed."""
    indexes: Mapping[Modality, tuple[str, str]] = field(default_factory=dict)
    """Name of the folder and digest of the manifest of each partition's published index."""
    part_digests: Mapping[int, str] = field(default_factory=dict)
    """Digest of digests.json of each of the `folders`; none for parts of older formats."""
    class_columns: int | None = None
    """Generation whose folder contains the columns of classes; None if there are none."""
    format: int = FORMAT
    """Format version of CURRENT and the parts."""

    @property
    def folders(self) -> frozenset[int]:
        """Generations whose folders it needs."""
        others = [number for number in (self.failures, self.class_columns) if number is not None]
        return frozenset([*self.parts, *others])


@dataclass(frozen=True)
class Part:
    """A base or a delta; rows are numbered within the part, and all arrays are views of the mapped files.

    Attributes:
        items: Items, sorted by item_id.
        segments: Segments, sorted by (modality, vector_id).
        removed: Ids of items whose rows in earlier parts are dead: int64, ascending.
        ranges: Rows [start, end) of `segments` of each modality.
    """

    items: pa.RecordBatch
    segments: pa.RecordBatch
    removed: NDArray[np.int64]
    ranges: Mapping[Modality, tuple[int, int]]

    @cached_property
    def item_ids(self) -> NDArray[np.int64]:
        """item_id of each item: int64 (n items,), ascending."""
        return _view(self.items, "item_id")

    @cached_property
    def collection_ids(self) -> NDArray[np.int64]:
        """collection_id of each item: int64 (n items,)."""
        return _view(self.items, "collection_id")

    @cached_property
    def rel_paths(self) -> pa.LargeStringArray:
        """Relative path of each item."""
        return self.items.column("rel_path")

    @cached_property
    def segment_items(self) -> NDArray[np.int64]:
        """item_id of each segment: int64 (n segments,)."""
        return _view(self.segments, "item_id")

    @cached_property
    def vector_ids(self) -> NDArray[np.int64]:
        """vector_id of each segment: int64 (n segments,), ascending within a modality."""
        return _view(self.segments, "vector_id")

    @cached_property
    def item_of_segments(self) -> NDArray[np.int64]:
        """Row in `items` of each segment: int64 (n segments,)."""
        return _view(self.segments, "item_row")

    @cached_property
    def texts(self) -> pa.LargeStringArray:
        """Text of each segment; null if it has none."""
        return self.segments.column("text")

    @cached_property
    def blocks(self) -> tuple[list[int], list[tuple[Modality, list[pa.Array | None]]]]:
        """First segment of each modality, ascending; and the modality with its columns start_s, end_s and text.

        A column without any value for the modality is None.
        """
        ordered = sorted((start, end, modality) for modality, (start, end) in self.ranges.items())
        columns = [self.segments.column(name) for name in ("start_s", "end_s", "text")]
        blocks = []
        for start, end, modality in ordered:
            values = [column.slice(start, end - start) for column in columns]
            is_empty = [part.null_count == len(part) for part in values]
            blocks.append((modality, [None if no else one for one, no in zip(columns, is_empty, strict=True)]))
        return [start for start, _, _ in ordered], blocks

    def item_rows(self, item_ids: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the row of each item: int64 (m,), -1 if the part has no such item."""
        if not len(self.item_ids):
            return np.full(len(item_ids), -1, np.int64)
        rows = np.minimum(np.searchsorted(self.item_ids, item_ids), len(self.item_ids) - 1)
        return np.where(self.item_ids[rows] == item_ids, rows, -1)

    def segments_of(self, item_ids: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the rows of all segments of these items, unsorted: int64 (m,)."""
        if len(item_ids) > LINEAR_SCAN_FRACTION * len(self.segment_items):
            return np.flatnonzero(np.isin(self.segment_items, item_ids))
        order = _view(self.segments, "by_item")
        low = np.searchsorted(self.segment_items, item_ids, "left", order)
        high = np.searchsorted(self.segment_items, item_ids, "right", order)
        lengths = high - low
        before = np.cumsum(lengths) - lengths
        return np.asarray(order[np.repeat(low - before, lengths) + np.arange(lengths.sum())])


def read_manifest(store: Path) -> Manifest | None:
    """Read CURRENT; None if it does not exist yet.

    Raises:
        SnapshotDamagedError: the file is damaged or has an unknown format.
        StoreError: the file cannot be read now.
    """
    path = store / CURRENT
    return read_json(path, lambda data: _parse_manifest(data, path), REMEDY, SnapshotDamagedError)


def _parse_manifest(data: dict[str, Any], path: Path) -> Manifest:
    if data.get("format") not in READABLE_FORMATS:
        raise SnapshotDamagedError(
            f"{path} has format {data.get('format')!r}, this BindSearch reads up to {FORMAT}: {REMEDY}"
        )
    check_seal(data, required=data["format"] >= FIRST_FORMAT_WITH_DIGESTS)
    manifest = Manifest(
        generation=_number(data["generation"]),
        parts=tuple(_number(part) for part in data["parts"]),
        collections={int(key): str(root) for key, root in data["collections"].items()},
        vectors={Modality(m): tuple(_vector_file(*entry) for entry in v) for m, v in data["vectors"].items()},
        failures=None if data["failures"] is None else _number(data["failures"]),
        indexes={Modality(m): _published(entry) for m, entry in data.get("indexes", {}).items()},
        part_digests={int(key): str(digest) for key, digest in data.get("part_digests", {}).items()},
        class_columns=None if data.get("class_columns") is None else _number(data["class_columns"]),
        format=int(data["format"]),
    )
    if not manifest.parts:
        raise ValueError("it names no parts")
    return manifest


def _number(value: object) -> int:
    if type(value) is not int or not 0 <= value < END_OF_NUMBERS:
        raise ValueError(f"{value!r} is not a generation")
    return value


def _vector_file(name: str, rows: int, digest: str = "") -> VectorFileEntry:
    if not (isinstance(digest, str) and VECTOR_FILE_NAME.fullmatch(name) and _number(rows) > 0):
        raise ValueError(f"invalid vector file: {name!r}")
    return VectorFileEntry(name, rows, digest)


def _published(entry: list[str]) -> tuple[str, str]:
    folder, digest = entry
    if not (isinstance(digest, str) and folder and Path(folder).name == folder):
        raise ValueError(f"invalid index entry: {entry}")
    return folder, digest


def write_manifest(store: Path, manifest: Manifest) -> None:
    """Replace CURRENT atomically; this makes the generation visible to readers."""
    data = {
        "format": manifest.format,
        "generation": manifest.generation,
        "parts": manifest.parts,
        "collections": {str(key): root for key, root in manifest.collections.items()},
        "vectors": {modality.value: files for modality, files in manifest.vectors.items()},
        "failures": manifest.failures,
        "indexes": {modality.value: index for modality, index in manifest.indexes.items()},
        "part_digests": {str(number): digest for number, digest in manifest.part_digests.items()},
    }
    if manifest.class_columns is not None:
        data["class_columns"] = manifest.class_columns
    with atomic_write(store / CURRENT) as file:
        file.write(sealed(data))


def write_part(
    store: Path,
    generation: int,
    items: pa.Table,
    segments: pa.Table,
    removed: Sequence[int] | NDArray[np.int64],
    failures: pa.Table | None,
    class_columns: pa.Table | None = None,
) -> str:
    """Write a base or a delta; it is durable when this returns.

    Args:
        store: Folder of the store.
        generation: Number of the part.
        items: Its items.
        segments: Their segments.
        removed: Ids of items whose rows in earlier parts are dead.
        failures: All failures, if they have changed; None if not.
        class_columns: All columns of classes, as of `class_columns.with_columns`, if they have changed; None if not.

    Returns:
        The digest of its digests.json.
    """
    import pyarrow as pa

    folder = store / SNAPSHOTS / str(generation)
    make_folder(folder, store)
    item_rows, segment_rows = _to_stored_layout(items, segments)
    removed_ids = np.unique(np.asarray(removed, np.int64))
    batches = {"items": item_rows, "segments": segment_rows, "removed": pa.record_batch({"item_id": removed_ids})}
    if failures is not None:
        batches["failures"] = _one_batch(failures)
    if class_columns is not None:
        batches["class_columns"] = _one_batch(class_columns)
    digests = {}
    for name, batch in batches.items():
        with atomic_write(folder / f"{name}.arrow") as file:
            hashing = HashingFile(file)
            with pa.ipc.new_file(hashing, batch.schema) as writer:
                writer.write_batch(batch)
            digests[f"{name}.arrow"] = hashing.hexdigest
    with atomic_write(folder / DIGESTS) as file:
        hashing = HashingFile(file)
        hashing.write(json.dumps(digests).encode())
    return hashing.hexdigest


def open_part(store: Path, number: int, digest: str | None, checks: Checks) -> Part:
    """Map a base or a delta.

    Args:
        store: Folder of the store.
        number: Number of the part.
        digest: Digest of its digests.json; None for parts of older formats, of which some have no digests.
        checks: Receives the checks of its files.

    Raises:
        SnapshotDamagedError: a file is missing or damaged.
        StoreError: a file cannot be read now.
    """
    digests = _read_digests(store, number, digest)
    items, segments, removed = (
        _read(store, number, name, digests, checks) for name in ("items", "segments", "removed")
    )
    if not _is_stored_layout(items, segments):
        checks.wait()  # it will be converted, texts too
    path = store / SNAPSHOTS / str(number)
    with damage_told(path):
        _check_columns(removed, {"item_id": "int64"})
        part = part_of_tables(items, segments, np.unique(_one_batch(removed).column(0).to_numpy()))
    checks.run(path, part.segments.nbytes, lambda: _check_rows(part))
    return part


def _check_rows(part: Part) -> None:
    """Check that columns are those of a part, and row numbers those of rows; raise ValueError if they are not."""
    _check_columns(part.items, ITEM_COLUMNS)
    _check_columns(part.segments, {**SEGMENT_COLUMNS, **LOOKUP_COLUMNS})
    n_items, n_segments = len(part.item_ids), len(part.segment_items)
    pairs = ((part.item_of_segments, n_items), (_view(part.segments, "by_item"), n_segments))
    are_rows = all(not len(rows) or (rows.min() >= 0 and rows.max() < end) for rows, end in pairs)
    if not are_rows or not all(0 <= start <= end <= n_segments for start, end in part.ranges.values()):
        raise ValueError("it refers to rows that it does not have")


def _check_columns(table: pa.Table | pa.RecordBatch, expected: Mapping[str, str]) -> None:
    """Check the types of columns, and that numbers of rows and ids are not null. Raises ValueError: they are others."""
    import pyarrow as pa

    for name, kind in expected.items():
        number = table.schema.get_field_index(name)
        if number < 0 or table.schema.field(number).type != pa.type_for_alias(kind):
            raise ValueError(f"it has no column {name} of type {kind}")
        if kind == "int64" and name not in METADATA_COLUMNS and table.column(number).null_count:
            raise ValueError(f"its column {name} has no value in some rows")


def part_of_tables(items: pa.Table, segments: pa.Table, removed: NDArray[np.int64] | None = None) -> Part:
    """Return a base in memory with these items and segments; with ids of removed items, a delta."""
    if _is_stored_layout(items, segments):
        stored = _one_batch(items), _one_batch(segments)
    else:
        stored = _to_stored_layout(items, segments)
    ranges = json.loads(stored[1].schema.metadata[RANGES_KEY])
    by_modality = {Modality(modality): (int(start), int(end)) for modality, (start, end) in ranges.items()}
    return Part(*stored, removed=np.zeros(0, np.int64) if removed is None else removed, ranges=by_modality)


def _is_stored_layout(items: pa.Table, segments: pa.Table) -> bool:
    """Return whether tables have the layout of the newest format."""
    return RANGES_KEY in (segments.schema.metadata or {}) and ITEM_COLUMNS.keys() <= {*items.column_names}


def open_failures(store: Path, number: int, digest: str | None, checks: Checks) -> pa.Table:
    """Return the failures stored in the folder of a generation; arguments and errors as of `open_part`."""
    import pyarrow as pa

    failures = _read(store, number, "failures", _read_digests(store, number, digest), checks)
    with damage_told(store / SNAPSHOTS / str(number)):
        return failures.select(list(FAILURE_COLUMNS)).cast(pa.schema(list(FAILURE_COLUMNS.items())))


def open_class_columns(store: Path, number: int, digest: str | None, checks: Checks) -> StoredColumns:
    """Return the columns of classes stored in the folder of a generation; arguments and errors as of `open_part`."""
    from bindsearch.storage.class_columns import check_values, stored_columns  # most stores have no such columns

    path = store / SNAPSHOTS / str(number)
    table = _read(store, number, "class_columns", _read_digests(store, number, digest), checks)
    with damage_told(path):
        stored = stored_columns(table)
    checks.run(path, table.nbytes, lambda: check_values(stored))
    return stored


def newest_part(store: Path) -> int:
    """Return the generation of the newest part of a snapshot, 0 for none; the catalog commits it before it is written.

    Raises:
        StoreError: the folder of snapshots cannot be read.
    """
    folder = store / SNAPSHOTS
    try:
        names = [path.name for path in folder.iterdir()]
    except FileNotFoundError:
        return 0
    except OSError as error:
        raise StoreError(f"{folder} cannot be read ({error.strerror}): nothing was changed") from error
    return max((int(name) for name in names if name.isdecimal() and len(name) < 20), default=0)


def remove_unused_parts(store: Path, manifest: Manifest, keep_from: int) -> None:
    """Delete snapshot folders that `manifest` does not use and that are older than generation `keep_from`.

    Folders with anything but a part stay, because a link may be in the place of `snapshots`.
    """
    used = manifest.folders
    for folder in (store / SNAPSHOTS).iterdir():
        is_unused = folder.name.isdecimal() and int(folder.name) not in used and int(folder.name) < keep_from
        if is_unused and folder.is_dir() and all(PART_FILE.fullmatch(path.name) for path in folder.iterdir()):
            shutil.rmtree(folder, ignore_errors=True)


def _read_digests(store: Path, number: int, digest: str | None) -> Mapping[str, str]:
    """Return the digest of each file of a part by its name; none for a part of an older format without digests."""
    path = store / SNAPSHOTS / str(number) / DIGESTS
    try:
        with damage_told(path):
            content = read_small_file(path)
    except SnapshotDamagedError as error:
        if digest is None and isinstance(error.__cause__, FileNotFoundError):
            return {}
        raise
    with damage_told(path):
        if digest is not None and hash_bytes(content) != digest:
            raise ValueError("it does not match its digest")
        return {name: str(value) for name, value in parse_json_object(content).items()}


def _read(store: Path, number: int, name: str, digests: Mapping[str, str], checks: Checks) -> pa.Table:
    import pyarrow as pa

    path = store / SNAPSHOTS / str(number) / f"{name}.arrow"
    with damage_told(path), open_regular(path) as file:
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)  # half the time of pa.memory_map
    checks.run(path, len(mapped), lambda: _check_digest(mapped, digests.get(path.name)))
    with damage_told(path):
        table = pa.ipc.open_file(pa.py_buffer(mapped)).read_all()
        table.validate()
    checks.run(path, len(mapped), lambda: _check_offsets(table))
    return table


def _check_digest(mapped: mmap.mmap, digest: str | None) -> None:
    """Compare the content of a file with its digest, if it has one. Raises ValueError: they differ."""
    if digest is not None and hash_bytes(mapped) != digest:
        raise ValueError("it does not match its digest")


def _check_offsets(table: pa.Table) -> None:
    """Check that all texts are in the file, else raise ValueError: Arrow's quick validation does not check it."""
    for column in table.columns:
        width = {"string": np.int32, "large_string": np.int64}.get(str(column.type))
        for chunk in column.chunks if width is not None else ():
            _, offsets, data = chunk.buffers()
            ends = np.frombuffer(offsets, width)[chunk.offset : chunk.offset + len(chunk) + 1]
            size = 0 if data is None else data.size
            if len(ends) and (ends[0] < 0 or ends[-1] > size or np.any(ends[1:] < ends[:-1])):
                raise ValueError("the offsets of its texts are damaged")


def _to_stored_layout(items: pa.Table, segments: pa.Table) -> tuple[pa.RecordBatch, pa.RecordBatch]:
    """Return items and segments in the stored layout: sorted, with lookup columns and ranges."""
    import pyarrow as pa
    import pyarrow.compute as pc

    segments = segments.select(list(SEGMENT_COLUMNS))  # lookup columns are computed below
    for name in ITEM_COLUMNS.keys() - {*items.column_names}:  # older formats lack the later ones
        items = items.append_column(name, pa.nulls(items.num_rows, pa.type_for_alias(ITEM_COLUMNS[name])))
    items = _reorder(items, np.argsort(items.column("item_id").to_numpy(), kind="stable"))
    modalities = pa.array([modality.value for modality in Modality], segments.schema.field("modality").type)
    codes = pc.index_in(segments.column("modality"), value_set=modalities).to_numpy()
    segments = _reorder(segments, np.lexsort((segments.column("vector_id").to_numpy(), codes)))
    bounds = np.searchsorted(np.sort(codes), np.arange(len(Modality) + 1)).tolist()
    ranges = zip(Modality, pairwise(bounds), strict=True)
    by_name = {modality.value: (start, end) for modality, (start, end) in ranges if start < end}
    owners = segments.column("item_id").to_numpy()
    lookups = {
        "item_row": np.searchsorted(items.column("item_id").to_numpy(), owners),
        "by_item": np.argsort(owners, kind="stable"),
    }
    for name, rows in lookups.items():
        segments = segments.append_column(name, pa.array(rows, pa.int64()))
    item_schema = pa.schema(list(ITEM_COLUMNS.items()))
    segment_schema = pa.schema(list({**SEGMENT_COLUMNS, **LOOKUP_COLUMNS}.items()), {RANGES_KEY: json.dumps(by_name)})
    return (
        _one_batch(items.select(item_schema.names).cast(item_schema)),
        _one_batch(segments.select(segment_schema.names).cast(segment_schema)),
    )


def _reorder(table: pa.Table, order: NDArray[np.int64]) -> pa.Table:
    return table if np.array_equal(order, np.arange(len(order))) else table.take(order)


def _one_batch(table: pa.Table) -> pa.RecordBatch:
    import pyarrow as pa

    if all(column.num_chunks == 1 for column in table.columns):
        return pa.RecordBatch.from_arrays([column.chunk(0) for column in table.columns], schema=table.schema)
    return table.combine_chunks().to_batches()[0] if table.num_rows else pa.RecordBatch.from_pylist([], table.schema)


def _view(batch: pa.RecordBatch, name: str) -> NDArray[np.int64]:
    return np.asarray(batch.column(name).to_numpy(zero_copy_only=True))
