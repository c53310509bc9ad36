"""Duplicates: items of the same bytes, and items of a modality that are nearly the same to the encoder."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from bindsearch.errors import UsageError
from bindsearch.indexes.types import IndexForm
from bindsearch.search.generation import Generation
from bindsearch.search.partition import Partition
from bindsearch.storage.snapshot import Snapshot
from bindsearch.types import Item, Modality

if TYPE_CHECKING:
    from numpy.typing import NDArray

NEAR_COSINE = 0.97
"""Cosine from which two segments count as nearly the same, where none is given."""

NEIGHBOURS = 50
"""Matches of one segment that are kept: a larger group hangs together by the matches of its others."""

MATCHING_SHARE = 0.5
"""Share of the shorter recording's segments that must have a match in the other: a silence in both is no likeness."""

EXACT_ROWS = 100_000
"""Rows up to which all pairs are multiplied out; beyond, an index gives the neighbours, where there is one."""

BLOCK_ROWS = 2048
PROBES = 16
"""Lists looked at for each segment: what is nearly the same lies in the same list, or just across a border."""

CANDIDATES = 4 * NEIGHBOURS
"""Neighbours by the index's codes of which the nearest are kept, by their exact cosines."""


@dataclass(frozen=True, slots=True)
class NearDuplicate:
    """An item of a group: its largest cosine to another one of it, and how many of its segments have a match there."""

    item: Item
    cosine: float
    matching: int
    segments: int


@dataclass(frozen=True, slots=True)
class NearGroup:
    """Items that hang together by pairs that are nearly the same; the one that was indexed first comes first."""

    modality: Modality
    items: tuple[NearDuplicate, ...]


def find_exact_duplicates(snapshot: Snapshot) -> list[tuple[Item, ...]]:
    """Items that hold the same bytes, as groups, those of most items first."""
    import pyarrow as pa
    import pyarrow.compute as pc

    hashes = snapshot.items.column("content_hash")
    known = pc.and_kleene(pc.not_equal(hashes, ""), pc.is_valid(hashes))
    if snapshot.item_alive is not None:
        known = pc.and_(known, pa.array(snapshot.item_alive))
    rows = np.flatnonzero(known.to_numpy())
    codes = pc.dictionary_encode(hashes.take(rows).combine_chunks()).indices.to_numpy()
    order = np.argsort(codes, kind="stable")
    groups = np.split(rows[order], np.flatnonzero(np.diff(codes[order])) + 1)
    ids = snapshot.items.column("item_id").to_numpy()
    found = [_items(snapshot, np.sort(ids[group])) for group in groups if len(group) > 1]
    return sorted(found, key=lambda items: (-len(items), items[0].item_id))


def find_near_duplicates(
    generation: Generation,
    modality: Modality,
    threshold: float = NEAR_COSINE,
    *,
    on_rows: Callable[[int, int], None] = lambda _done, _total: None,
) -> list[NearGroup]:
    """Items of a modality that are nearly the same, as groups, those of most items first.

    Segments match from a cosine of `threshold` on; two recordings are nearly the same where half of the shorter one's
    segments have a match in the other. `on_rows` is told of the rows that are done, of all.

    Raises:
        UsageError: the threshold is not in 0..1.
    """
    if not 0.0 < threshold <= 1.0:
        raise UsageError(f"a cosine of {threshold} cannot be a threshold: give one above 0 and at most 1, such as 0.97")
    if modality not in generation.partitions or not generation.partitions[modality].live_rows:
        return []
    partition, snapshot = generation.partitions[modality], generation.snapshot
    rows = np.arange(partition.n) if partition.alive is None else partition.alive.positions
    owners = _Owners.of(partition, snapshot, rows)
    pairs = _Pairs(owners.first_of_row, threshold)
    if (
        len(rows) <= EXACT_ROWS
        or partition.index is None
        or partition.index.manifest.parameters.form is IndexForm.EXACT
    ):
        _all_pairs(partition, rows, rows, pairs, on_rows)
    else:
        _neighbours_by_index(partition, rows, pairs, on_rows)
    return _groups(modality, snapshot, owners, pairs)


@dataclass(frozen=True)
class _Owners:
    """Whose the n rows are. `first_of_row`: int64 (n of the partition,), the first item of each row, -1 for none;
    `exact_copies`: int64 (m, 2), items that share the vectors of a first one, and it; `segments`: number of each first
    item's rows."""

    first_of_row: NDArray[np.int64]
    exact_copies: NDArray[np.int64]
    segments: dict[int, int]

    @classmethod
    def of(cls, partition: Partition, snapshot: Snapshot, rows: NDArray[np.int64]) -> _Owners:
        places, segment_rows = partition.segments_of_rows(rows)
        items = snapshot.items_of(segment_rows)
        first = np.full(partition.n, np.iinfo(np.int64).max)
        np.minimum.at(first, rows[places], items)
        leaders = first[rows[places]]
        twins = np.unique(np.stack([items, leaders], axis=1)[items != leaders], axis=0)
        first[first == np.iinfo(np.int64).max] = -1
        found, counts = np.unique(first[rows], return_counts=True)
        return cls(first, twins, dict(zip(found.tolist(), counts.tolist(), strict=True)))


class _Pairs:
    """Matching rows of different items, at most NEIGHBOURS for each row."""

    def __init__(self, owner: NDArray[np.int64], threshold: float) -> None:
        self.owner = owner
        """The first item of each row."""
        self.threshold = threshold
        self._room = np.full(len(owner), NEIGHBOURS)
        self._found: list[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]] = []

    def add(self, left: NDArray[np.int64], right: NDArray[np.int64], cosines: NDArray[np.float32]) -> None:
        """Rows `left` (m,), in ascending order, with rows `right` (m,) of these cosines."""
        kept = (cosines >= self.threshold) & (self.owner[left] != self.owner[right])
        left, right, cosines = left[kept], right[kept], cosines[kept]
        starts = np.searchsorted(left, left)
        kept = np.arange(len(left)) - starts < self._room[left]
        left, right, cosines = left[kept], right[kept], cosines[kept]
        np.subtract.at(self._room, left, 1)
        if len(left):
            self._found.append((left, right, cosines))

    def matches(self) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]:
        """Row, item of another row that it matches, and their largest cosine: (m,) each, each pair of these once; both
        rows of a match are told of the other's item."""
        if not self._found:
            return np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, np.float32)
        left, right, cosines = (np.concatenate(column) for column in zip(*self._found, strict=True))
        rows, others = np.concatenate([left, right]), self.owner[np.concatenate([right, left])]
        cosines = np.concatenate([cosines, cosines])
        order = np.lexsort((-cosines, others, rows))
        rows, others, cosines = rows[order], others[order], cosines[order]
        first = np.ones(len(rows), np.bool_)
        first[1:] = (rows[1:] != rows[:-1]) | (others[1:] != others[:-1])
        return rows[first], others[first], cosines[first]


def _all_pairs(
    partition: Partition,
    left: NDArray[np.int64],
    right: NDArray[np.int64],
    pairs: _Pairs,
    on_rows: Callable[[int, int], None],
) -> None:
    """All pairs of rows `left` with the later ones of `right`, block by block."""
    for start in range(0, len(left), BLOCK_ROWS):
        own = left[start : start + BLOCK_ROWS]
        queries = partition.rows.embeddings(own)
        later = right[np.searchsorted(right, own[0]) :]
        for other_start in range(0, len(later), BLOCK_ROWS):
            others = later[other_start : other_start + BLOCK_ROWS]
            cosines = queries @ partition.rows.embeddings(others).T
            cosines[own[:, None] >= others[None, :]] = -1.0
            here, there = np.nonzero(cosines >= pairs.threshold)
            pairs.add(own[here], others[there], cosines[here, there])
        on_rows(min(start + BLOCK_ROWS, len(left)), len(left))


def _neighbours_by_index(
    partition: Partition, rows: NDArray[np.int64], pairs: _Pairs, on_rows: Callable[[int, int], None]
) -> None:
    """Each row with its nearest ones by the index; those that are newer than it with all of the newer ones."""
    for start in range(0, len(rows), BLOCK_ROWS):
        own = rows[start : start + BLOCK_ROWS]
        queries = partition.rows.embeddings(own)
        near = partition.candidates(queries, CANDIDATES, PROBES, partition.alive)
        found = partition.rows.rerank(queries, near, NEIGHBOURS)
        here, place = np.nonzero(found.positions >= 0)
        pairs.add(own[here], found.positions[here, place], found.cosines[here, place])
        on_rows(min(start + BLOCK_ROWS, len(rows)), len(rows))
    newer = rows[np.searchsorted(rows, partition.indexed_rows) :]
    _all_pairs(partition, newer, newer, pairs, lambda _done, _total: None)


def _groups(modality: Modality, snapshot: Snapshot, owners: _Owners, pairs: _Pairs) -> list[NearGroup]:
    rows, others, cosines = pairs.matches()
    counted: dict[tuple[int, int], int] = {}
    best: dict[tuple[int, int], float] = {}
    own = pairs.owner[rows]
    for item, other, cosine in zip(own.tolist(), others.tolist(), cosines.tolist(), strict=True):
        counted[item, other] = counted.get((item, other), 0) + 1
        best[item, other] = max(best.get((item, other), -1.0), cosine)
    union = _Union()
    likeness: dict[int, tuple[float, int]] = {}
    for (item, other), matching in counted.items():
        pair = (item, other) if owners.segments[item] <= owners.segments[other] else (other, item)
        if counted[pair] >= MATCHING_SHARE * owners.segments[pair[0]]:
            union.join(item, other)
            likeness[item] = max(likeness.get(item, (-1.0, 0)), (best[item, other], matching))
    for twin, leader in owners.exact_copies.tolist():
        union.join(twin, leader)
        likeness[twin] = likeness[leader] = (1.0, owners.segments[leader])
        owners.segments[twin] = owners.segments[leader]
    groups = []
    for members in union.groups():
        items = _items(snapshot, np.array(members, np.int64))
        groups.append(
            NearGroup(
                modality,
                tuple(NearDuplicate(item, *likeness[item.item_id], owners.segments[item.item_id]) for item in items),
            )
        )
    return sorted(groups, key=lambda group: (-len(group.items), group.items[0].item.item_id))


class _Union:
    """Groups of ids that hang together (union-find)."""

    def __init__(self) -> None:
        self._parent: dict[int, int] = {}

    def join(self, one: int, other: int) -> None:
        roots = sorted((self._root(one), self._root(other)))
        self._parent[roots[1]] = roots[0]

    def groups(self) -> Iterator[list[int]]:
        """Ids that hang together, ascending."""
        held: dict[int, list[int]] = {}
        for key in sorted(self._parent):
            held.setdefault(self._root(key), []).append(key)
        yield from held.values()

    def _root(self, key: int) -> int:
        self._parent.setdefault(key, key)
        while self._parent[key] != key:
            self._parent[key] = key = self._parent[self._parent[key]]
        return key


def _items(snapshot: Snapshot, item_ids: NDArray[np.int64]) -> tuple[Item, ...]:
    found = (snapshot.item(item_id) for item_id in item_ids.tolist())
    return tuple(item for item in found if item is not None)
