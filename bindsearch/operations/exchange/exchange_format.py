"""Common parts of export, import and merge: the metadata exported with each vector, and its embedding space."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from bindsearch.errors import StoreError
from bindsearch.search.generation import Generation, Reader
from bindsearch.search.sql_filter.columns import class_values
from bindsearch.storage.class_columns import ClassColumn
from bindsearch.storage.config import StoreConfig, read_config
from bindsearch.storage.file_state import UNKNOWN_STATE, storable_ns
from bindsearch.storage.snapshot import Snapshot
from bindsearch.types import METADATA_COLUMNS, Modality

BLOCK_ROWS = 20_000
"""Number of vectors read, written and committed together: 61 MB in float32 for 768 dimensions."""

SPACE_KEY = b"bindsearch.space"
"""Key in the schema metadata for the embedding space: the fields of `StoreConfig` as JSON."""

EXPORT_KEY = b"bindsearch.export"
"""Key in the schema metadata for the id of the export that a file is part of; its folder then has EXPORT_FILE."""

EXPORT_FILE = "_export.json"
"""File that lists the others of an export with their sizes, and is written last; readers of Parquet folders skip its
name."""

VECTOR_COLUMN = "vector"

SPACE_COLUMN, ERROR_COLUMN = "space", "error"
"""Columns that `embed_files` adds: the value of SPACE_KEY in each row, for programs that drop schema metadata, and why
a file could not be read, in a row without a vector."""

CLASS_COLUMNS_KEY = b"bindsearch.class_columns"
"""Key in the schema metadata for the columns of classes: their records and the roots of their collections, as JSON."""

FACTS: Mapping[str, str] = MappingProxyType(
    {
        "item_id": "int64",
        "collection": "string",
        "path": "string",
        "modality": "string",
        "item_modality": "string",
        "start_s": "float64",
        "end_s": "float64",
        "text": "string",
        "size_bytes": "int64",
        "modified": "timestamp[us]",
        "mtime_ns": "int64",
        "content_hash": "string",
        "fingerprint": "string",
        "columns": "string",
        "classes": "string",
        **{name: kind.removeprefix("large_") for name, kind in METADATA_COLUMNS.items()},
    }
)
"""Columns exported with each vector, and their Arrow types.

`path` is absolute and below `collection`. `modified` is in UTC; `mtime_ns` is the same time in nanoseconds since 1970.
`fingerprint` is null if vectors of the item are missing. `columns` holds the user columns as JSON, `classes` those
that `classify` has written, which an import computes again from the vectors. The other columns are as in
`DOCUMENTED_COLUMNS`.
"""

Columns = Mapping[str, list[Any]]
"""Values of all columns of FACTS by name, one value for each vector."""


class Block(NamedTuple):
    """Block of vectors."""

    facts: pa.Table  # m rows with all columns of FACTS
    vectors: NDArray[np.float16]  # of unit length, (m, d)


def open_generation(store: Path) -> tuple[StoreConfig, Generation]:
    """Return the configuration and the newest generation of a store; no encoder is loaded.

    Raises:
        StoreNotFoundError: there is no store.
    """
    return read_config(store), Reader(store).current()


def space_to_json(config: StoreConfig) -> bytes:
    """Return the value of SPACE_KEY in the schema metadata."""
    return json.dumps(asdict(config)).encode()


def space_from_json(text: bytes) -> StoreConfig | None:
    """Return the configuration that `space_to_json` wrote; None if the text is something else."""
    try:
        return StoreConfig(**json.loads(text))
    except (ValueError, TypeError, RecursionError):
        return None


def columns_to_json(snapshot: Snapshot) -> bytes:
    """Return the value of CLASS_COLUMNS_KEY in the schema metadata."""
    stored, collections = snapshot.class_columns, snapshot.manifest.collections
    records = []
    for column in () if stored is None else stored.columns.values():
        roots = {str(key): collections[key] for key in column.collections if key in collections}
        records.append({"column": column.to_record(), "roots": roots})
    return json.dumps(records).encode()


def columns_from_json(text: bytes) -> tuple[tuple[ClassColumn, Mapping[int, str]], ...]:
    """Return the columns that `columns_to_json` wrote, with the roots of collections; none if the text is another."""
    try:
        records = json.loads(text)
        roots = [{int(key): str(root) for key, root in record["roots"].items()} for record in records]
        return tuple((ClassColumn.from_record(record["column"]), of) for record, of in zip(records, roots, strict=True))
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError):
        return ()


def class_arrays(snapshot: Snapshot) -> Mapping[str, pa.ChunkedArray]:
    """Return the columns of classes and of their probabilities by name, with a value for each item."""
    stored = snapshot.class_columns
    columns = () if stored is None else stored.columns.values()
    return {name: class_values(snapshot, name) for column in columns for name in column.column_names()}


def check_space(config: StoreConfig, store: Path, other_config: StoreConfig, source: Path) -> None:
    """Check that vectors are comparable with those of a store and have the same segment lengths.

    Args:
        config: Configuration of the store.
        store: Folder of the store.
        other_config: Space of the vectors.
        source: File or store of the vectors.

    Raises:
        StoreError: encoder, weights, dimension, options or segment lengths differ; the message names both values.
    """
    for what, ours, theirs in (
        ("the encoder", config.encoder, other_config.encoder),
        ("weights of digest", config.weights_digest, other_config.weights_digest),
        ("dimensions", config.dim, other_config.dim),
        ("the options", dict(config.encoder_options), dict(other_config.encoder_options)),
        ("audio segments in seconds", config.audio_segment_s, other_config.audio_segment_s),
        ("video segments in seconds", config.video_segment_s, other_config.video_segment_s),
        ("imu segments in seconds", config.imu_segment_s, other_config.imu_segment_s),
    ):
        if ours != theirs:
            fault = f"{what} {theirs} there, {ours} here"
            raise StoreError(f"vectors of {source} cannot be added to {store}: {fault}; use another store")


def live_segment_rows(snapshot: Snapshot) -> NDArray[np.int64]:
    """Return the rows of all live segments, int64 (m,), sorted by item_id."""
    alive = snapshot.segment_alive
    rows = np.arange(snapshot.segments.num_rows) if alive is None else np.flatnonzero(alive)
    return rows[np.argsort(snapshot.segment_items[rows], kind="stable")]


def split_at_item_boundaries(snapshot: Snapshot, rows: NDArray[np.int64], size: int) -> list[NDArray[np.int64]]:
    """Split segment rows, int64 (m,), sorted by item, into parts of about `size` rows that contain whole items."""
    owners = snapshot.item_of_segment_rows[rows]
    starts = np.flatnonzero(np.diff(owners, prepend=-1))
    firsts = starts[np.searchsorted(starts, np.arange(0, len(rows), size), side="right") - 1]
    return np.split(rows, np.unique(firsts)[1:])


def complete_items(snapshot: Snapshot, rows: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return for each of n items whether all its live segments are among these rows, int64 (m,): bool (n,)."""
    owners = snapshot.item_of_segment_rows
    alive = owners if snapshot.segment_alive is None else owners[snapshot.segment_alive]
    n = snapshot.items.num_rows
    return np.equal(np.bincount(owners[rows], minlength=n), np.bincount(alive, minlength=n))


def read_blocks(
    generation: Generation,
    rows: NDArray[np.int64],
    whole: NDArray[np.bool_],
    classes: Mapping[str, pa.ChunkedArray] = MappingProxyType({}),
) -> Iterator[Block]:
    """Yield metadata and vectors of segment rows in their order; the rows of an item are in one block.

    Args:
        generation: Generation to read, with n items.
        rows: Segment rows, int64 (m,), sorted by item.
        whole: Items whose vectors are all read, bool (n,); only these keep their fingerprint.
        classes: Columns of `class_arrays` to read.

    Yields:
        Blocks of about BLOCK_ROWS vectors.
    """
    snapshot = generation.snapshot
    for block in split_at_item_boundaries(snapshot, rows, BLOCK_ROWS) if len(rows) else ():
        facts = _facts(snapshot, block, whole, classes)
        vector_ids = snapshot.segments.column("vector_id").take(block).to_numpy()
        yield Block(facts, _vectors(generation, facts.column("modality"), vector_ids))


def to_lists(facts: pa.Table) -> Columns:
    """Return the columns of FACTS as lists; columns that the table lacks are lists of None."""
    n, nulls = facts.num_rows, [None] * facts.num_rows
    filled = [name for name in FACTS if name in facts.column_names and facts.column(name).null_count < n]
    lists = {**dict.fromkeys(FACTS, nulls), **{name: facts.column(name).to_pylist() for name in filled}}
    if lists["mtime_ns"] is nulls and lists["modified"] is not nulls:
        micros = facts.column("modified").cast(pa.int64()).to_pylist()
        lists["mtime_ns"] = [None if moment is None else storable_ns(1000 * moment) for moment in micros]
    return lists


def _facts(
    snapshot: Snapshot, rows: NDArray[np.int64], whole: NDArray[np.bool_], classes: Mapping[str, pa.ChunkedArray]
) -> pa.Table:
    """Return the metadata of segment rows, int64 (m,); `whole`: mask of items whose vectors are all read."""
    item_rows = snapshot.item_of_segment_rows[rows]
    items = snapshot.items.take(item_rows)
    segments = snapshot.segments.take(rows)
    roots = snapshot.manifest.collections
    codes = pc.index_in(items.column("collection_id"), value_set=pa.array([*roots], pa.int64()))
    texts = [*roots.values()]
    folders = pa.array([f"{root.rstrip('/')}/" for root in texts], pa.large_string()).take(codes.combine_chunks())
    known = pc.and_(pa.array(whole[item_rows]), pc.not_equal(items.column("fingerprint"), ""))
    sizes, mtimes = items.column("size_bytes"), items.column("mtime_ns")
    known_mtimes = _unless(pc.equal(mtimes, UNKNOWN_STATE.mtime_ns), mtimes)
    columns = {
        "item_id": items.column("item_id"),
        "collection": pa.array(texts, pa.string()).take(codes.combine_chunks()),
        "path": pc.binary_join_element_wise(folders, items.column("rel_path"), pa.scalar("", pa.large_string())),
        "modality": segments.column("modality"),
        "item_modality": items.column("modality"),
        **{name: segments.column(name) for name in ("start_s", "end_s", "text")},
        "size_bytes": _unless(pc.equal(sizes, UNKNOWN_STATE.size_bytes), sizes),
        "modified": pc.divide(known_mtimes, 1000),
        "mtime_ns": known_mtimes,
        "content_hash": items.column("content_hash"),
        "fingerprint": _unless(pc.invert(known), items.column("fingerprint")),
        **{name: items.column(name) for name in ("columns", *METADATA_COLUMNS)},
        "classes": _class_texts(classes, item_rows),
    }
    schema = pa.schema([(name, pa.type_for_alias(kind)) for name, kind in FACTS.items()])
    return pa.table({name: columns[name] for name in schema.names}).cast(schema)


def _class_texts(classes: Mapping[str, pa.ChunkedArray], item_rows: NDArray[np.int64]) -> pa.Array:
    """Return the classes of items as JSON objects, null for items without one; item rows: int64 (m,)."""
    lists = {name: values.take(pa.array(item_rows)).to_pylist() for name, values in classes.items()}
    rows = [{name: values[row] for name, values in lists.items()} for row in range(len(item_rows))]
    known = ({name: value for name, value in row.items() if value is not None} for row in rows)
    return pa.array([json.dumps(row, ensure_ascii=False) if row else None for row in known], pa.string())


def _unless(unknown: pa.ChunkedArray, values: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return the values, with null where `unknown` is true."""
    return pc.if_else(unknown, pa.scalar(None, values.type), values)


def _vectors(generation: Generation, modalities: pa.ChunkedArray, vector_ids: NDArray[np.int64]) -> NDArray[np.float16]:
    """Return the vectors, float16 (m, d), of these ids, int64 (m,), each from the partition of its modality."""
    names = np.asarray(modalities.to_numpy(zero_copy_only=False))
    partitions = {name: generation.partitions[Modality(name)] for name in dict.fromkeys(names.tolist())}
    first = next(iter(partitions.values()))
    if len(partitions) == 1:
        return first.rows.gather(first.rows_of_vectors(vector_ids))
    out = np.empty((len(vector_ids), first.dim), np.float16)
    for name, partition in partitions.items():
        mask = names == name
        out[mask] = partition.rows.gather(partition.rows_of_vectors(vector_ids[mask]))
    return out
