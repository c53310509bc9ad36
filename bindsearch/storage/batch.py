"""Content of the next commit, and its conversion to rows of the catalog's tables."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING

import numpy as np

from bindsearch.errors import StoreError
from bindsearch.storage.catalog import Failure, SourceContainer
from bindsearch.storage.file_state import FileState
from bindsearch.types import METADATA_COLUMNS, Metadata, Modality

if TYPE_CHECKING:
    import pyarrow as pa
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class StagedSegment:
    """A segment with its embedding float32 (d,)."""

    modality: Modality
    embedding: NDArray[np.float32]
    start_s: float | None
    end_s: float | None
    text: str | None


@dataclass(frozen=True, slots=True)
class StagedItem:
    """A file ready to be committed; `item_id` is that of the item it replaces, None for a new one.

    `segments` None: those of another item with the same fingerprint, staged with it or committed before, whose vectors
    it shares. `columns`: the user's own, a JSON object (None: there are none).
    """

    item_id: int | None
    collection_id: int
    rel_path: str
    modality: Modality
    state: FileState
    content_hash: str
    fingerprint: str
    segments: tuple[StagedSegment, ...] | None
    columns: str | None = None
    metadata: Metadata = Metadata()  # noqa: RUF009  (frozen)


@dataclass
class StagedBatch:
    """Content of the next commit."""

    items: list[StagedItem] = field(default_factory=list)
    removed: list[int] = field(default_factory=list)
    touched: dict[int, FileState] = field(default_factory=dict)
    failures: list[Failure] = field(default_factory=list)
    forgotten_failures: list[tuple[int, str]] = field(default_factory=list)
    containers: list[SourceContainer] = field(default_factory=list)
    forgotten_containers: list[tuple[int, str]] = field(default_factory=list)
    forgotten_collections: list[int] = field(default_factory=list)

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to commit."""
        return not any(getattr(self, entry.name) for entry in fields(self))


def with_shared_modalities(
    items: Sequence[StagedItem], item_ids: Sequence[int], segments: pa.Table
) -> Sequence[StagedItem]:
    """Items that share segments, with a modality that is among them: an mp4 without a picture is a sound, also as a
    copy."""
    if all(item.segments is not None for item in items):
        return items
    held: dict[int, list[str]] = {}
    for key, modality in zip(*(segments.column(name).to_pylist() for name in ("item_id", "modality")), strict=True):
        held.setdefault(key, []).append(modality)
    return [
        item
        if item.segments is not None or item.modality.value in held[key]
        else replace(item, modality=Modality(held[key][0]))
        for key, item in zip(item_ids, items, strict=True)
    ]


def own_segments(item_ids: Sequence[int], items: Sequence[StagedItem]) -> tuple[pa.Table, list[StagedSegment]]:
    """Segments that items bring themselves, as rows without segment_id and vector_id, and in the same order."""
    import pyarrow as pa

    segments = [segment for item in items for segment in item.segments or ()]
    owners = [key for key, item in zip(item_ids, items, strict=True) for _ in item.segments or ()]
    table = pa.table(
        {
            "item_id": pa.array(owners, pa.int64()),
            "modality": pa.array([segment.modality.value for segment in segments], pa.string()),
            "start_s": pa.array([segment.start_s for segment in segments], pa.float64()),
            "end_s": pa.array([segment.end_s for segment in segments], pa.float64()),
            "text": pa.array([segment.text for segment in segments], pa.string()),
        }
    )
    return table, segments


def with_shared_segments(
    segments: pa.Table,
    item_ids: Sequence[int],
    items: Sequence[StagedItem],
    committed: Callable[[Sequence[str]], pa.Table],
) -> pa.Table:
    """`segments` and those of the items that share another's, each with the same vectors.

    `committed` gives the segments of items with these fingerprints, one item for each, with a column `fingerprint`.

    Raises:
        StoreError: no item has one of the fingerprints.
    """
    import pyarrow as pa

    sharing = [(key, item.fingerprint) for key, item in zip(item_ids, items, strict=True) if item.segments is None]
    if not sharing:
        return segments
    staged = {item.fingerprint: key for key, item in zip(item_ids, items, strict=True) if item.segments is not None}
    wanted = [fingerprint for _, fingerprint in sharing]
    known = committed([fingerprint for fingerprint in dict.fromkeys(wanted) if fingerprint not in staged])
    here = segments.filter(np.isin(segments.column("item_id").to_numpy(), [staged.get(one, -1) for one in wanted]))
    prints = {key: fingerprint for fingerprint, key in staged.items()}
    owned = [prints[key] for key in here.column("item_id").to_pylist()]
    here = here.append_column("fingerprint", [pa.array(owned, pa.string())])
    found = pa.concat_tables([here.drop_columns("item_id"), known.select([*here.drop_columns("item_id").column_names])])
    if lost := {*wanted} - {*found.column("fingerprint").to_pylist()}:
        raise StoreError(f"no item has the fingerprint {min(lost)} whose vectors were to be shared: index again")
    owners = pa.table(
        {"item_id": pa.array([key for key, _ in sharing], pa.int64()), "fingerprint": pa.array(wanted, pa.string())}
    )
    shared = owners.join(found, "fingerprint", join_type="inner").select(segments.column_names)
    return pa.concat_tables([segments, shared.cast(segments.schema)])


def items_table(item_ids: Sequence[int], items: Sequence[StagedItem]) -> pa.Table:
    """Rows of the catalog's table for items of these ids."""
    import pyarrow as pa

    return pa.table(
        {
            "item_id": pa.array(item_ids, pa.int64()),
            "collection_id": pa.array([item.collection_id for item in items], pa.int64()),
            "rel_path": pa.array([item.rel_path for item in items], pa.string()),
            "modality": pa.array([item.modality.value for item in items], pa.string()),
            "size_bytes": pa.array([item.state.size_bytes for item in items], pa.int64()),
            "mtime_ns": pa.array([item.state.mtime_ns for item in items], pa.int64()),
            "facts_stamp": pa.array([item.state.sidecar_version for item in items], pa.int64()),
            "inode": pa.array([item.state.inode for item in items], pa.int64()),
            "content_hash": pa.array([item.content_hash for item in items], pa.string()),
            "fingerprint": pa.array([item.fingerprint for item in items], pa.string()),
            "columns": pa.array([item.columns for item in items], pa.string()),
            **{
                name: pa.array(
                    [getattr(item.metadata, name) for item in items], pa.type_for_alias(kind.removeprefix("large_"))
                )
                for name, kind in METADATA_COLUMNS.items()
            },
        }
    )
