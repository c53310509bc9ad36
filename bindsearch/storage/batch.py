"""Staged batches, and their conversion to rows of the catalog's tables."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from bindsearch.errors import StoreError
from bindsearch.media import SegmentOf
from bindsearch.storage.catalog import RowChanges
from bindsearch.storage.file_state import LARGEST, STATE_COLUMNS, FileState, state_columns
from bindsearch.types import FACT_COLUMNS, METADATA_COLUMNS, Metadata, Modality, facts_of

if TYPE_CHECKING:
    import pyarrow as pa
    from numpy.typing import NDArray


Embedded: TypeAlias = "SegmentOf[NDArray[np.float32]]"
"""A segment to commit, with its embedding: float32 (d,), unit norm."""


@dataclass(frozen=True, slots=True)
class StagedItem:
    """An item to commit.

    Attributes:
        item_id: Id of the item that it replaces; None for a new one.
        collection_id: Id of its collection.
        rel_path: Path relative to the collection's root.
        modality: Modality of the item.
        state: State of the file when it was read.
        content_hash: Digest of the file's bytes.
        fingerprint: Digest of all that determines its embeddings.
        segments: Its segments. None: it shares the vectors of another item with the same fingerprint, which is in the
            same batch or was committed before.
        columns: User columns as a JSON object; None if there are none.
        metadata: Metadata of the file; what decoders measure may be missing if it shares vectors.
    """

    item_id: int | None
    collection_id: int
    rel_path: str
    modality: Modality
    state: FileState
    content_hash: str
    fingerprint: str
    segments: tuple[Embedded, ...] | None
    columns: str | None = None
    metadata: Metadata = Metadata()  # noqa: RUF009  (frozen)


@dataclass(kw_only=True)
class StagedBatch(RowChanges):
    """Content of the next commit; `items`: new and changed ones."""

    items: list[StagedItem] = field(default_factory=list)

    @property
    def is_empty(self) -> bool:
        """Return whether there is nothing to commit."""
        return not any(getattr(self, entry.name) for entry in fields(self))


def with_shared_modalities(
    items: Sequence[StagedItem], item_ids: Sequence[int], segments: pa.Table
) -> Sequence[StagedItem]:
    """Return the items, with the modality of items that share segments replaced by one that their segments have.

    Example: an mp4 without a video stream has audio segments only, so it is an audio item, and so is its copy.
    """
    if all(item.segments is not None for item in items):
        return items
    modalities: dict[int, list[str]] = {}
    for key, modality in zip(*(segments.column(name).to_pylist() for name in ("item_id", "modality")), strict=True):
        modalities.setdefault(key, []).append(modality)
    found = []
    for key, item in zip(item_ids, items, strict=True):
        is_right = item.segments is not None or item.modality.value in modalities[key]
        found.append(item if is_right else replace(item, modality=Modality(modalities[key][0])))
    return found


def with_shared_facts(
    items: Sequence[StagedItem], committed: Callable[[Sequence[str]], Mapping[str, Mapping[str, float | None]]]
) -> Sequence[StagedItem]:
    """Return the items; those that share vectors have what the decoder measured of the item that was decoded.

    `committed` returns the values of FACT_COLUMNS of committed items, by fingerprint.
    """
    wanted = {item.fingerprint for item in items if item.segments is None}
    if not wanted:
        return items
    staged = {item.fingerprint: item.metadata for item in items if item.segments is not None}
    facts = {key: facts_of(known) for key, known in committed([*wanted - staged.keys()]).items()}
    facts |= {key: facts_of({name: getattr(staged[key], name) for name in FACT_COLUMNS}) for key in wanted & {*staged}}
    return [
        replace(item, metadata=item.metadata.merge_over(facts[item.fingerprint]))
        if item.segments is None and item.fingerprint in facts
        else item
        for item in items
    ]


def own_segments(item_ids: Sequence[int], items: Sequence[StagedItem]) -> tuple[pa.Table, list[Embedded]]:
    """Return the segments that items do not share: as a table without segment_id and vector_id, and as they are."""
    import pyarrow as pa

    segments = [segment for item in items for segment in item.segments or ()]
    owners = [key for key, item in zip(item_ids, items, strict=True) for _ in item.segments or ()]
    number, text = pa.float64(), pa.string()
    names = {"item_id": pa.int64(), "modality": text, "start_s": number, "end_s": number, "text": text}
    rows = [(one.modality.value, one.start_s, one.end_s, one.text) for one in segments]
    columns = [owners, *(zip(*rows, strict=True) if rows else ((), (), (), ()))]
    return pa.table(
        [pa.array(column, kind) for column, kind in zip(columns, names.values(), strict=True)], [*names]
    ), segments


def with_shared_segments(
    segments: pa.Table,
    item_ids: Sequence[int],
    items: Sequence[StagedItem],
    committed: Callable[[Sequence[str]], pa.Table],
) -> pa.Table:
    """Add segments for the items that share the vectors of another item.

    Args:
        segments: Rows of the segments that items do not share, with vector_id.
        item_ids: Id of each item.
        items: The items.
        committed: Returns the committed segments of items with given fingerprints, one item per fingerprint, with a
            column `fingerprint`.

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
    owner_ids = [staged[fingerprint] for fingerprint in wanted if fingerprint in staged]
    local = segments.filter(np.isin(segments.column("item_id").to_numpy(), owner_ids))
    fingerprint_of = {key: fingerprint for fingerprint, key in staged.items()}
    fingerprints = [fingerprint_of[key] for key in local.column("item_id").to_pylist()]
    local = local.append_column("fingerprint", [pa.array(fingerprints, pa.string())]).drop_columns("item_id")
    available = pa.concat_tables([local, known.select([*local.column_names])])
    if missing := {*wanted} - {*available.column("fingerprint").to_pylist()}:
        raise StoreError(f"no item with fingerprint {min(missing)}, whose vectors should be shared: index again")
    owners = pa.table(
        {"item_id": pa.array([key for key, _ in sharing], pa.int64()), "fingerprint": pa.array(wanted, pa.string())}
    )
    shared = owners.join(available, "fingerprint", join_type="inner").select(segments.column_names)
    return pa.concat_tables([segments, shared.cast(segments.schema)])


def check_storable(item: StagedItem) -> None:
    """Check that the catalog can hold the values of an item, so that one file cannot make a commit fail.

    Raises:
        ValueError: it cannot; the message says which value.
    """
    metadata = {name: getattr(item.metadata, name) for name in METADATA_COLUMNS}
    texts = {name: metadata[name] for name, kind in METADATA_COLUMNS.items() if kind == "large_string"}
    passages = [("text", segment.text) for segment in item.segments or ()]
    for name, text in (*texts.items(), ("path", item.rel_path), ("columns", item.columns), *passages):
        if text is not None and not text.isascii():
            try:
                text.encode()
            except UnicodeEncodeError:
                raise ValueError(f"its {name} is not Unicode text") from None
    numbers = {name: metadata[name] for name, kind in METADATA_COLUMNS.items() if kind == "int64"}
    for name, number in (*numbers.items(), *state_columns(item.state).items()):
        if number is not None and not -LARGEST <= number + 1 <= LARGEST + 1:
            raise ValueError(f"its {name} is {number}: expected a number of 64 bits")


def items_table(item_ids: Sequence[int], items: Sequence[StagedItem]) -> pa.Table:
    """Return rows of the catalog's items table for items with these ids."""
    import pyarrow as pa

    table = {
        "item_id": pa.array(item_ids, pa.int64()),
        "collection_id": pa.array([item.collection_id for item in items], pa.int64()),
        "modality": pa.array([item.modality.value for item in items], pa.string()),
    }
    for name in ("rel_path", "content_hash", "fingerprint", "columns"):
        table[name] = pa.array([getattr(item, name) for item in items], pa.string())
    states = [state_columns(item.state) for item in items]
    for name in STATE_COLUMNS:
        table[name] = pa.array([state[name] for state in states], pa.int64())
    for name, kind in METADATA_COLUMNS.items():
        values = [getattr(item.metadata, name) for item in items]
        table[name] = pa.array(values, pa.type_for_alias(kind.removeprefix("large_")))
    return pa.table(table)
