"""Common parts of export, import and merge: the facts that travel with a vector, and the space it belongs to."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from bindsearch.errors import StoreError
from bindsearch.search.generation import Generation, open_reader
from bindsearch.storage.config import StoreConfig, read_config
from bindsearch.storage.file_state import UNKNOWN_STATE
from bindsearch.storage.snapshot import Snapshot
from bindsearch.types import METADATA_COLUMNS, Modality

if TYPE_CHECKING:
    import pyarrow as pa
    from numpy.typing import NDArray

BLOCK_ROWS = 20_000
"""Vectors that are read, written and committed together: 61 MB of 768 dimensions."""

SPACE_KEY = b"bindsearch.space"
"""Key of a schema's metadata that holds the space of the vectors: the fields of `StoreConfig` as JSON."""

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
        **{name: kind.removeprefix("large_") for name, kind in METADATA_COLUMNS.items()},
    }
)
"""Columns that go with each vector, and their Arrow types. `path` is absolute and lies in `collection`; `modified` in
UTC, to the nanosecond since 1970 in `mtime_ns`; `fingerprint` null where vectors of the item are missing; `columns` the
user's own as JSON; the rest as in `DOCUMENTED_COLUMNS`."""

Columns = Mapping[str, list[Any]]
"""Values of all FACTS by name, one for each vector."""


class Block(NamedTuple):
    """Some vectors: their `facts`, a table of m rows with all columns of FACTS, and fp16 (m, d)."""

    facts: pa.Table
    vectors: NDArray[np.float16]


def open_generation(store: Path) -> tuple[StoreConfig, Generation]:
    """The newest generation of a store and what the store was made with; no encoder is asked for.

    Raises:
        StoreNotFoundError: there is no store.
    """
    return read_config(store), open_reader(store).current()


def space_to_json(config: StoreConfig) -> bytes:
    """The value that SPACE_KEY has in a schema's metadata."""
    return json.dumps(asdict(config)).encode()


def space_from_json(text: bytes) -> StoreConfig | None:
    """Return what `space_to_json` wrote; None where it is something else."""
    try:
        return StoreConfig(**json.loads(text))
    except (ValueError, TypeError):
        return None


def check_space(held: StoreConfig, held_at: Path, other: StoreConfig, other_at: Path) -> None:
    """Refuse vectors that are not comparable with those of a store, or were cut otherwise.

    Raises:
        StoreError: another encoder, other weights, options or lengths of segments; names both.
    """
    for what, ours, theirs in (
        ("the encoder", held.encoder, other.encoder),
        ("weights of digest", held.weights_digest, other.weights_digest),
        ("dimensions", held.dim, other.dim),
        ("the options", dict(held.encoder_options), dict(other.encoder_options)),
        ("audio segments in seconds", held.audio_segment_s, other.audio_segment_s),
        ("video segments in seconds", held.video_segment_s, other.video_segment_s),
        ("imu segments in seconds", held.imu_segment_s, other.imu_segment_s),
    ):
        if ours != theirs:
            raise StoreError(
                f"vectors of {other_at} do not belong into {held_at}: {what} {theirs} there, {ours} here; "
                "take another store"
            )


def living_rows(snapshot: Snapshot) -> NDArray[np.int64]:
    """Rows of all living segments (m,), those of an item together, by item_id."""
    alive = snapshot.segment_alive
    rows = np.arange(snapshot.segments.num_rows) if alive is None else np.flatnonzero(alive)
    return rows[np.argsort(snapshot.items_of(rows), kind="stable")]


def split_at_item_boundaries(snapshot: Snapshot, rows: NDArray[np.int64], size: int) -> list[NDArray[np.int64]]:
    """Segment rows (m,), those of an item together, in pieces of about `size` that hold whole items."""
    owners = snapshot.item_of_segment_rows()[rows]
    starts = np.flatnonzero(np.diff(owners, prepend=-1))
    firsts = starts[np.searchsorted(starts, np.arange(0, len(rows), size), side="right") - 1]
    return np.split(rows, np.unique(firsts)[1:])


def complete_items(snapshot: Snapshot, rows: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Of which items (n,) all living segments are among these rows (m,)."""
    owners = snapshot.item_of_segment_rows()
    alive = owners if snapshot.segment_alive is None else owners[snapshot.segment_alive]
    n = snapshot.items.num_rows
    return np.equal(np.bincount(owners[rows], minlength=n), np.bincount(alive, minlength=n))


def read_blocks(generation: Generation, rows: NDArray[np.int64], whole: NDArray[np.bool_]) -> Iterator[Block]:
    """Facts and vectors of segment rows (m,) in their order, those of an item together and in one block.

    `whole`: the items that may keep their fingerprint, as all their vectors are read.
    """
    snapshot = generation.snapshot
    for block in split_at_item_boundaries(snapshot, rows, BLOCK_ROWS) if len(rows) else ():
        facts = _facts(snapshot, block, whole)
        vector_ids = snapshot.segments.column("vector_id").take(block).to_numpy()
        yield Block(facts, _vectors(generation, facts.column("modality"), vector_ids))


def to_lists(facts: pa.Table) -> Columns:
    """The columns of FACTS as lists; those that the table lacks are all None."""
    import pyarrow as pa

    n, nothing = facts.num_rows, [None] * facts.num_rows
    lists: dict[str, list[Any]] = {}
    for name in FACTS:
        column = facts.column(name) if name in facts.column_names else None
        if column is None or column.null_count == n:
            lists[name] = nothing
        else:
            lists[name] = column.to_pylist()
    if lists["mtime_ns"] is nothing and lists["modified"] is not nothing:
        micros = facts.column("modified").cast(pa.int64()).to_pylist()
        lists["mtime_ns"] = [None if moment is None else 1000 * moment for moment in micros]
    return lists


def _facts(snapshot: Snapshot, rows: NDArray[np.int64], whole: NDArray[np.bool_]) -> pa.Table:
    """Facts of segment rows (m,); `whole`: whether of each item all vectors are among those that are read."""
    import pyarrow as pa
    import pyarrow.compute as pc

    item_rows = snapshot.item_of_segment_rows()[rows]
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
    }
    schema = pa.schema([(name, pa.type_for_alias(kind)) for name, kind in FACTS.items()])
    return pa.table(columns).cast(schema)


def _unless(unknown: pa.ChunkedArray, values: pa.ChunkedArray) -> pa.ChunkedArray:
    import pyarrow as pa
    import pyarrow.compute as pc

    return pc.if_else(unknown, pa.scalar(None, values.type), values)


def _vectors(generation: Generation, modalities: pa.ChunkedArray, vector_ids: NDArray[np.int64]) -> NDArray[np.float16]:
    """The vectors (m, d) of these ids, each in the partition of its modality."""
    names = np.asarray(modalities.to_numpy(zero_copy_only=False))
    found = [*dict.fromkeys(names.tolist())]
    if len(found) == 1:
        partition = generation.partitions[Modality(found[0])]
        return partition.rows.gather(partition.rows_of_vectors(vector_ids))
    out: NDArray[np.float16] | None = None
    for name in found:
        here = names == name
        partition = generation.partitions[Modality(name)]
        gathered = partition.rows.gather(partition.rows_of_vectors(vector_ids[here]))
        if out is None:
            out = np.empty((len(vector_ids), gathered.shape[1]), np.float16)
        out[here] = gathered
    assert out is not None  # a block is never empty
    return out
