"""Search for duplicates: items with the same bytes, and near-duplicates by the cosine of their vectors."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from bindsearch.arguments import to_number
from bindsearch.indexes.types import IndexForm
from bindsearch.search.generation import Generation
from bindsearch.search.partition import Partition
from bindsearch.storage.snapshot import Snapshot
from bindsearch.types import Item, Modality

if TYPE_CHECKING:
    from numpy.typing import NDArray

NEAR_COSINE = 0.97
"""Default similarity threshold: two segments match if their cosine is at least this."""

NEIGHBOURS = 50
"""Maximum number of matches kept per segment; larger groups are still connected through their other members."""

MATCHING_SHARE = 0.5
"""Share of the shorter recording's segments that must have a match in the other.

A single matching segment, such as silence in both recordings, does not make them near-duplicates.
"""

EXACT_ROWS = 100_000
"""Maximum number of rows for which all pairs are compared; above it, neighbours come from the index if there is one."""

BLOCK_ROWS = 2048
PROBES = 16
"""Inverted lists probed per segment (nprobe): near-duplicates are in the same list or in an adjacent one."""

CANDIDATES = 4 * NEIGHBOURS
"""Candidates per segment that the index returns; the NEIGHBOURS with the largest exact cosines are kept."""


@dataclass(frozen=True, slots=True)
class NearDuplicate:
    """Item of a group of near-duplicates.

    Attributes:
        item: The item.
        cosine: Largest cosine of the item to another member of the group; 1.0 for exact copies.
        matching: Number of the item's segments that have a match in that member.
        segments: Number of the item's segments.
    """

    item: Item
    cosine: float
    matching: int
    segments: int


@dataclass(frozen=True, slots=True)
class NearGroup:
    """Group of items connected by near-duplicate pairs.

    Attributes:
        modality: Modality of the segments that were compared.
        items: Members of the group, the one indexed first comes first.
    """

    modality: Modality
    items: tuple[NearDuplicate, ...]


def find_exact_duplicates(snapshot: Snapshot) -> list[tuple[Item, ...]]:
    """Return groups of items with the same bytes, the largest groups first."""
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
    groups_of_items = [_items(snapshot, np.sort(ids[group])) for group in groups if len(group) > 1]
    return sorted(groups_of_items, key=lambda items: (-len(items), items[0].item_id))


def find_near_duplicates(
    generation: Generation,
    modality: Modality,
    threshold: float = NEAR_COSINE,
    *,
    on_rows: Callable[[int, int], None] = lambda _done, _total: None,
) -> list[NearGroup]:
    """Return groups of near-duplicate items of a modality, the largest groups first.

    Two recordings are near-duplicates if half of the shorter one's segments have a match in the other one.

    Args:
        generation: Generation of the store to search.
        modality: Modality of the segments to compare.
        threshold: Cosine from which two segments match, above 0 and at most 1.
        on_rows: Called with the number of rows compared so far and the total.

    Returns:
        Groups of at least two items; an empty list if the modality has no live rows.

    Raises:
        UsageError: the threshold is not above 0 and at most 1.
    """
    expected = "give one above 0 and at most 1, such as 0.97"
    threshold = to_number(threshold, "the cosine threshold", expected, math.ulp(0.0), 1.0)
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
    """Items that the n rows of a partition belong to.

    Attributes:
        first_of_row: First item of each row, int64 (n,); -1 for rows without an item.
        exact_copies: Pairs of an item and the first item whose vectors it shares, int64 (m, 2).
        segments: Number of rows of each first item, by item id.
    """

    first_of_row: NDArray[np.int64]
    exact_copies: NDArray[np.int64]
    segments: dict[int, int]

    @classmethod
    def of(cls, partition: Partition, snapshot: Snapshot, rows: NDArray[np.int64]) -> _Owners:
        """Return the owners of rows (m,) of a partition."""
        positions, segment_rows = partition.segments_of_rows(rows)
        items = snapshot.items_of(segment_rows)
        first = np.full(partition.n, np.iinfo(np.int64).max)
        np.minimum.at(first, rows[positions], items)
        leaders = first[rows[positions]]
        exact_copies = np.unique(np.stack([items, leaders], axis=1)[items != leaders], axis=0)
        first[first == np.iinfo(np.int64).max] = -1
        items_with_rows, counts = np.unique(first[rows], return_counts=True)
        return cls(first, exact_copies, dict(zip(items_with_rows.tolist(), counts.tolist(), strict=True)))


class _Pairs:
    """Matching rows of different items, at most NEIGHBOURS for each row."""

    def __init__(self, owner: NDArray[np.int64], threshold: float) -> None:
        self.owner = owner
        """First item of each row, int64 (n,)."""
        self.threshold = threshold
        self._room = np.full(len(owner), NEIGHBOURS)
        self._matches: list[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]] = []

    def add(self, left: NDArray[np.int64], right: NDArray[np.int64], cosines: NDArray[np.float32]) -> None:
        """Add pairs of rows `left` (m,), in ascending order, and rows `right` (m,) with their cosines (m,)."""
        mask = (cosines >= self.threshold) & (self.owner[left] != self.owner[right])
        left, right, cosines = left[mask], right[mask], cosines[mask]
        starts = np.searchsorted(left, left)
        mask = np.arange(len(left)) - starts < self._room[left]
        left, right, cosines = left[mask], right[mask], cosines[mask]
        np.subtract.at(self._room, left, 1)
        if len(left):
            self._matches.append((left, right, cosines))

    def matches(self) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]:
        """Return rows, the items of other rows that they match, and their largest cosines: (m,) each.

        Each pair of row and item occurs once. A match of two rows gives an entry for both of them.
        """
        if not self._matches:
            return np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, np.float32)
        left, right, cosines = (np.concatenate(column) for column in zip(*self._matches, strict=True))
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
    """Compare rows `left` with all later rows of `right`, block by block."""
    for start in range(0, len(left), BLOCK_ROWS):
        own = left[start : start + BLOCK_ROWS]
        queries = partition.rows.embeddings(own)
        later = right[np.searchsorted(right, own[0]) :]
        for other_start in range(0, len(later), BLOCK_ROWS):
            others = later[other_start : other_start + BLOCK_ROWS]
            cosines = queries @ partition.rows.embeddings(others).T
            cosines[own[:, None] >= others[None, :]] = -1.0
            left_pos, right_pos = np.nonzero(cosines >= pairs.threshold)
            pairs.add(own[left_pos], others[right_pos], cosines[left_pos, right_pos])
        on_rows(min(start + BLOCK_ROWS, len(left)), len(left))


def _neighbours_by_index(
    partition: Partition, rows: NDArray[np.int64], pairs: _Pairs, on_rows: Callable[[int, int], None]
) -> None:
    """Compare each row with its nearest neighbours from the index, and rows of the tail with one another."""
    for start in range(0, len(rows), BLOCK_ROWS):
        own = rows[start : start + BLOCK_ROWS]
        queries = partition.rows.embeddings(own)
        candidates = partition.candidates(queries, CANDIDATES, PROBES, partition.alive)
        nearest = partition.rows.rerank(queries, candidates, NEIGHBOURS)
        query, rank = np.nonzero(nearest.positions >= 0)
        pairs.add(own[query], nearest.positions[query, rank], nearest.cosines[query, rank])
        on_rows(min(start + BLOCK_ROWS, len(rows)), len(rows))
    newer = rows[np.searchsorted(rows, partition.indexed_rows) :]
    _all_pairs(partition, newer, newer, pairs, lambda _done, _total: None)


def _groups(modality: Modality, snapshot: Snapshot, owners: _Owners, pairs: _Pairs) -> list[NearGroup]:
    """Return the groups of items that the matching pairs connect, the largest groups first."""
    rows, others, cosines = pairs.matches()
    match_counts: dict[tuple[int, int], int] = {}
    best_cosines: dict[tuple[int, int], float] = {}
    own = pairs.owner[rows]
    for item, other, cosine in zip(own.tolist(), others.tolist(), cosines.tolist(), strict=True):
        match_counts[item, other] = match_counts.get((item, other), 0) + 1
        best_cosines[item, other] = max(best_cosines.get((item, other), -1.0), cosine)
    union = _Union()
    similarity: dict[int, tuple[float, int]] = {}
    for (item, other), matching in match_counts.items():
        pair = (item, other) if owners.segments[item] <= owners.segments[other] else (other, item)
        if match_counts[pair] >= MATCHING_SHARE * owners.segments[pair[0]]:
            union.join(item, other)
            similarity[item] = max(similarity.get(item, (-1.0, 0)), (best_cosines[item, other], matching))
    for copy, leader in owners.exact_copies.tolist():
        union.join(copy, leader)
        similarity[copy] = similarity[leader] = (1.0, owners.segments[leader])
        owners.segments[copy] = owners.segments[leader]
    groups = []
    for members in union.groups():
        items = _items(snapshot, np.array(members, np.int64))
        groups.append(
            NearGroup(
                modality,
                tuple(NearDuplicate(item, *similarity[item.item_id], owners.segments[item.item_id]) for item in items),
            )
        )
    return sorted(groups, key=lambda group: (-len(group.items), group.items[0].item.item_id))


class _Union:
    """Connected groups of ids (union-find)."""

    def __init__(self) -> None:
        self._parent: dict[int, int] = {}

    def join(self, first: int, second: int) -> None:
        """Connect two ids."""
        roots = sorted((self._root(first), self._root(second)))
        self._parent[roots[1]] = roots[0]

    def groups(self) -> Iterator[list[int]]:
        """Yield the ids of each connected group, ascending."""
        members: dict[int, list[int]] = {}
        for key in sorted(self._parent):
            members.setdefault(self._root(key), []).append(key)
        yield from members.values()

    def _root(self, key: int) -> int:
        """Return the representative of a group, and shorten the path to it."""
        self._parent.setdefault(key, key)
        while self._parent[key] != key:
            self._parent[key] = key = self._parent[self._parent[key]]
        return key


def _items(snapshot: Snapshot, item_ids: NDArray[np.int64]) -> tuple[Item, ...]:
    """Return the items of these ids, int64 (m,)."""
    items = (snapshot.item(item_id) for item_id in item_ids.tolist())
    return tuple(item for item in items if item is not None)
