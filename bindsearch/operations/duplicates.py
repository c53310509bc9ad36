"""Search for duplicates: items with the same bytes, and near-duplicates by the cosine of their vectors.

Near-duplicates are grouped around medoids: every member of a group is a near-duplicate of its medoid, which can stand
for all of them. Single linkage would chain items that are not similar to each other into one group. Complete linkage,
where all pairs of a group are similar, needs all pairs: m^2 / 2 comparisons for a group of m items, which the
neighbours that an index returns do not give; and it cuts the copies of one original apart where two of them differ in
opposite ways. A medoid group needs m comparisons, and these are exact.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from bindsearch.arguments import to_number
from bindsearch.indexes.types import IndexForm
from bindsearch.search.generation import Generation
from bindsearch.search.partition import Partition
from bindsearch.search.scoring.scores import COPY_COSINE
from bindsearch.storage.snapshot import Snapshot
from bindsearch.types import Item, Modality

NEAR_COSINE = 0.97
"""Default similarity threshold: two segments match if their cosine is at least this."""

PICTURES = (Modality.IMAGE, Modality.VIDEO)
"""Modalities whose default threshold is COPY_COSINE."""

RECORDINGS = (Modality.AUDIO, Modality.DEPTH, Modality.THERMAL, Modality.IMU)
"""Modalities of which encoders may map all recordings of one kind to nearly one vector."""

NEAREST_SAMPLE = 256
"""Number of items whose nearest other item is searched for, to learn whether an encoder distinguishes recordings."""

NEIGHBOURS = 50
"""Minimum number of matches kept per segment; larger groups are found through their other members."""

KEPT_PAIRS = 5_000_000
"""Number of matches kept in total if all pairs are compared, at 24 bytes each."""

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
        cosine: Largest cosine of the item to the medoid of the group, of the medoid to another member; 1.0 for exact
            copies.
        matching: Number of the item's segments that have a match in that member.
        segments: Number of the item's segments.
        same_file_as: Id of an earlier item of the group whose path leads to the same file, by a hard or symbolic link;
            None if there is none. Deleting a link frees no space.
    """

    item: Item
    cosine: float
    matching: int
    segments: int
    same_file_as: int | None = None


@dataclass(frozen=True, slots=True)
class NearGroup:
    """Group of items that are near-duplicates of one of them, the medoid.

    Attributes:
        modality: Modality of the segments that were compared.
        items: Members of the group, the one indexed first comes first.
        medoid_id: Id of the item that all others are near-duplicates of.
    """

    modality: Modality
    items: tuple[NearDuplicate, ...]
    medoid_id: int


def find_exact_duplicates(snapshot: Snapshot) -> list[tuple[Item, ...]]:
    """Return groups of items with the same bytes, the largest groups first."""
    hashes = snapshot.items.column("content_hash")
    known = pc.and_kleene(pc.not_equal(hashes, ""), pc.is_valid(hashes))
    if snapshot.item_alive is not None:
        known = pc.and_(known, pa.array(snapshot.item_alive))
    rows = np.flatnonzero(known.to_numpy())
    codes = pc.dictionary_encode(hashes.take(rows).combine_chunks()).indices.to_numpy()
    order = np.argsort(codes, kind="stable")
    groups = np.split(rows[order], np.flatnonzero(np.diff(codes[order])) + 1)
    ids = snapshot.items.column("item_id").to_numpy()
    same = [_items(snapshot, np.sort(ids[group])) for group in groups if len(group) > 1]
    return sorted(same, key=lambda items: (-len(items), items[0].item_id))


def same_files(items: Iterable[Item]) -> dict[int, int]:
    """Return items whose paths lead to the file of an earlier item, by hard or symbolic links.

    Files that cannot be looked up now and members of archives are left out.

    Returns:
        The id of the earlier item, by the id of each such item.
    """
    first: dict[tuple[int, int], int] = {}
    same: dict[int, int] = {}
    for item in items:
        try:
            status = item.path.stat()
        except (OSError, ValueError):
            continue
        earlier = first.setdefault((status.st_dev, status.st_ino), item.item_id)
        if earlier != item.item_id:
            same[item.item_id] = earlier
    return same


def default_threshold(modality: Modality) -> float:
    """Return the cosine from which two segments of a modality match by default."""
    return COPY_COSINE if modality in PICTURES else NEAR_COSINE


def find_near_duplicates(
    generation: Generation,
    modality: Modality,
    threshold: float | None = None,
    *,
    on_rows: Callable[[int, int], None] = lambda _done, _total: None,
    on_notice: Callable[[str], None] = lambda _notice: None,
) -> list[NearGroup]:
    """Return groups of near-duplicate items of a modality, the largest groups first.

    Two recordings are near-duplicates if half of the shorter one's segments have a match in the other one. Groups are
    formed in turn: the item with most near-duplicates that are in no group yet is the medoid of the next one, and they
    are its members; of several such items, the one indexed first.

    Without a threshold, a modality is compared only if the encoder distinguishes its items. It distinguishes recordings
    (sounds, motions, depth, thermal) if the median of the cosine of an item, by its middle segment, to the nearest
    other item is below the default threshold: half of them may have copies. It distinguishes pictures, videos and texts
    if the median of the cosine to the COPIES-th nearest other item is, see `Partition.neighbour_cosines`. Both are
    measured on samples. With `mini`, the median to the nearest other item is 0.81 for sounds, 1.000 for motions, 0.90
    for depth and 0.88 for thermal.

    Args:
        generation: Generation of the store to search.
        modality: Modality of the segments to compare.
        threshold: Cosine from which two segments match, above 0 and at most 1; None: see `default_threshold`.
        on_rows: Called with the number of rows compared so far and the total.
        on_notice: Called with a notice if the items are not compared; only those with the same bytes are grouped then.

    Returns:
        Groups of at least two items; an empty list if the modality has no live rows.

    Raises:
        UsageError: the threshold is not above 0 and at most 1.
    """
    if threshold is not None:
        expected = "give one above 0 and at most 1, such as 0.97"
        threshold = to_number(threshold, "the cosine threshold", expected, math.ulp(0.0), 1.0)
    if modality not in generation.partitions or not generation.partitions[modality].live_rows:
        return []
    partition, snapshot = generation.partitions[modality], generation.snapshot
    index = partition.index
    rows = np.arange(partition.n) if partition.alive is None else partition.alive.positions
    owners = _Owners.of(partition, snapshot, rows)
    pairs = _Pairs(owners.of_row, default_threshold(modality) if threshold is None else threshold)
    if threshold is None and (notice := _indistinct(partition, rows, owners, pairs.threshold)):
        on_notice(notice)
    elif len(rows) > EXACT_ROWS and index is not None and index.manifest.parameters.form is not IndexForm.EXACT:
        _neighbours_by_index(partition, rows, pairs, on_rows)
    else:
        _all_pairs(partition, rows, pairs, on_rows)
    found = []
    for medoid_id, measured in _with_exact_copies(owners, list(_medoid_groups(partition, owners, pairs))):
        items = _items(snapshot, np.array(sorted(measured), np.int64))
        same = same_files(items)
        members = [NearDuplicate(item, *measured[item.item_id], same.get(item.item_id)) for item in items]
        found.append(NearGroup(modality, tuple(members), medoid_id))
    return sorted(found, key=lambda group: (-len(group.items), group.items[0].item.item_id))


def _indistinct(partition: Partition, rows: NDArray[np.int64], owners: _Owners, threshold: float) -> str | None:
    """Return a notice if the encoder cannot tell the items of a partition apart at a threshold; else None."""
    if len(owners.ids) < 2:
        return None
    modality = partition.modality
    if modality in RECORDINGS:
        middle = owners.rows[(owners.starts[:-1] + owners.starts[1:]) // 2]
        own = middle[np.linspace(0, len(middle) - 1, min(len(middle), NEAREST_SAMPLE)).astype(np.int64)]
        queries = partition.rows.embeddings(own)
        nearest = np.full(len(own), -1.0, np.float32)
        for start in range(0, len(rows), BLOCK_ROWS):
            others = rows[start : start + BLOCK_ROWS]
            cosines = queries @ partition.rows.embeddings(others).T
            cosines[owners.of_row[own][:, None] == owners.of_row[others]] = -1.0
            np.maximum(nearest, cosines.max(axis=1), out=nearest)
        median, which = float(np.median(nearest)), "nearest other item"
    else:
        median, which = float(partition.neighbour_cosines[-1]), f"{len(partition.neighbour_cosines)}th nearest item"
    if median < threshold:
        return None
    fault = "only identical files are grouped, as this encoder cannot tell copies from items of one kind"
    measured = f"median cosine to the {which}: {median:.3f}, threshold: {threshold:g}"
    return f"{modality}: {fault} ({measured}); set a threshold to compare them"


@dataclass(frozen=True)
class _Owners:
    """Items that the n rows of a partition belong to, by number: the first item of each row, without exact copies."""

    ids: NDArray[np.int64]  # of each of u items, ascending
    of_row: NDArray[np.int64]  # number of the item of each row, -1 for rows without one (n,)
    rows: NDArray[np.int64]  # ordered by item (r,)
    starts: NDArray[np.int64]  # of the rows of each item in them (u + 1,)
    exact_copies: NDArray[np.int64]  # id of an item, and number of the item whose vectors it shares (m, 2)

    @classmethod
    def of(cls, partition: Partition, snapshot: Snapshot, rows: NDArray[np.int64]) -> _Owners:
        """Return the owners of live rows (r,) of a partition."""
        positions, segment_rows, *_ = partition.segments_of_rows(rows)
        positions = np.arange(len(rows)) if positions is None else positions
        items = snapshot.segment_items[segment_rows]
        first = np.full(len(rows), np.iinfo(np.int64).max)
        np.minimum.at(first, positions, items)
        ids, numbers = np.unique(first, return_inverse=True)
        of_row = np.full(partition.n, -1)
        of_row[rows] = numbers
        leaders = first[positions]
        copies = np.stack([items, np.searchsorted(ids, leaders)], axis=1)[items != leaders]
        starts = np.concatenate([[0], np.cumsum(np.bincount(numbers, minlength=len(ids)))])
        return cls(ids, of_row, rows[np.argsort(numbers, kind="stable")], starts, np.unique(copies, axis=0))

    @property
    def segments(self) -> NDArray[np.int64]:
        """Number of rows of each item: int64 (u,)."""
        return np.diff(self.starts)

    def rows_of(self, numbers: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the rows of items (m,), one item after the other."""
        return np.concatenate([self.rows[self.starts[one] : self.starts[one + 1]] for one in numbers.tolist()])


class _Pairs:
    """Matching rows of different items; for each row at least NEIGHBOURS, if it has as many."""

    def __init__(self, owner: NDArray[np.int64], threshold: float) -> None:
        self.owner = owner
        """Number of the item of each row, int64 (n,)."""
        self.threshold = threshold
        self.is_cut = np.zeros(len(owner), np.bool_)
        """Rows that may have more matches than were kept: bool (n,)."""
        self._room = np.full(len(owner), max(NEIGHBOURS, KEPT_PAIRS // max(len(owner), 1)))
        self._matches: list[tuple[NDArray[np.int64], NDArray[np.int64]]] = []

    def add(self, left: NDArray[np.int64], right: NDArray[np.int64], cosines: NDArray[np.float32]) -> None:
        """Add pairs of rows `left` (m,), in ascending order, and rows `right` (m,) with their cosines (m,)."""
        mask = (cosines >= self.threshold) & (self.owner[left] != self.owner[right])
        left, right = left[mask], right[mask]
        mask = np.arange(len(left)) - np.searchsorted(left, left) < self._room[left]
        self.is_cut[left[~mask]] = True
        left, right = left[mask], right[mask]
        np.subtract.at(self._room, left, 1)
        if len(left):
            self._matches.append((left, right))

    def near_items(self, segments: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return near-duplicate pairs of items, both ways, ordered (e,) each; `segments`: rows of each item (u,)."""
        if not self._matches:
            return np.zeros(0, np.int64), np.zeros(0, np.int64)
        left, right = (np.concatenate(column) for column in zip(*self._matches, strict=True))
        n = len(segments)
        # pairs as one number each: rows and the items that they match, then items and the items that they match
        both = np.concatenate([left * n + self.owner[right], right * n + self.owner[left]])
        rows, others = np.divmod(np.unique(both), n)
        pairs, matching = np.unique(self.owner[rows] * n + others, return_counts=True)
        one, other = np.divmod(pairs, n)
        near = (segments[one] <= segments[other]) & (matching >= MATCHING_SHARE * segments[one])
        one, other = one[near], other[near]
        return np.divmod(np.unique(np.concatenate([one * n + other, other * n + one])), n)


def _all_pairs(
    partition: Partition, rows: NDArray[np.int64], pairs: _Pairs, on_rows: Callable[[int, int], None]
) -> None:
    """Compare rows with all later ones, block by block."""
    for start in range(0, len(rows), BLOCK_ROWS):
        own = rows[start : start + BLOCK_ROWS]
        queries = partition.rows.embeddings(own)
        for other_start in range(start, len(rows), BLOCK_ROWS):
            others = rows[other_start : other_start + BLOCK_ROWS]
            cosines = queries @ partition.rows.embeddings(others).T
            cosines[own[:, None] >= others[None, :]] = -1.0
            left_pos, right_pos = np.nonzero(cosines >= pairs.threshold)
            pairs.add(own[left_pos], others[right_pos], cosines[left_pos, right_pos])
        on_rows(min(start + BLOCK_ROWS, len(rows)), len(rows))


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
        pairs.is_cut[own[nearest.cosines[:, -1] >= pairs.threshold]] = True
        on_rows(min(start + BLOCK_ROWS, len(rows)), len(rows))
    newer = rows[np.searchsorted(rows, partition.indexed_rows) :]
    _all_pairs(partition, newer, pairs, lambda _done, _total: None)


class _Compared(NamedTuple):
    """Items that are near-duplicates of a medoid: numbers, largest cosines, and counts of matching rows (m,) each."""

    numbers: NDArray[np.int64]
    cosines: NDArray[np.float32]
    matching: NDArray[np.int64]  # rows that have a match in the medoid
    of_medoid: NDArray[np.int64]  # rows of the medoid that have a match in them


def _medoid_groups(partition: Partition, owners: _Owners, pairs: _Pairs) -> Iterator[tuple[int, _Compared]]:
    """Yield the medoid and the other members of each group, by item numbers; no item is in two groups.

    Members are compared with the medoid exactly. If more matches were found than kept, near-duplicates of members are
    compared, too, as long as there are further members among them.
    """
    one, other = pairs.near_items(owners.segments)
    starts = np.searchsorted(one, np.arange(len(owners.ids) + 1))
    is_cut = np.zeros(len(owners.ids), np.bool_)
    is_cut[pairs.owner[pairs.is_cut]] = True
    is_free = np.ones(len(owners.ids), np.bool_)
    compared_with = np.full(len(owners.ids), -1)
    waiting = [(-int(degree), number) for number, degree in enumerate(np.diff(starts)) if degree]
    heapq.heapify(waiting)
    while waiting:
        degree, medoid = heapq.heappop(waiting)
        found = other[starts[medoid] : starts[medoid + 1]]
        found = found[is_free[found]]
        if not is_free[medoid] or not len(found):
            continue
        if len(found) < -degree:
            heapq.heappush(waiting, (-len(found), medoid))
            continue
        compared_with[medoid] = medoid
        parts = []
        while len(found):
            compared_with[found] = medoid
            parts.append(_compare(partition, owners, medoid, found, pairs.threshold))
            accepted = parts[-1].numbers
            if not len(accepted) or not (is_cut[medoid] or is_cut[accepted].any()):
                break
            found = np.unique(np.concatenate([other[starts[number] : starts[number + 1]] for number in accepted]))
            found = found[is_free[found] & (compared_with[found] != medoid)]
        members = _Compared(*map(np.concatenate, zip(*parts, strict=True)))
        if len(members.numbers):
            is_free[members.numbers] = is_free[medoid] = False
            yield medoid, members


def _compare(
    partition: Partition, owners: _Owners, medoid: int, others: NDArray[np.int64], threshold: float
) -> _Compared:
    """Compare all rows of items (m,) with all rows of a medoid, and return those that are near-duplicates of it."""
    own = partition.rows.embeddings(owners.rows_of(np.array([medoid])))
    cosines = partition.rows.embeddings(owners.rows_of(others)) @ own.T
    lengths = owners.segments[others]
    starts = np.cumsum(lengths) - lengths
    is_match = cosines >= threshold
    matching = np.add.reduceat(is_match.any(axis=1).astype(np.int64), starts)
    of_medoid = np.logical_or.reduceat(is_match, starts, axis=0).sum(axis=1)
    near = (lengths <= len(own)) & (matching >= MATCHING_SHARE * lengths)
    near |= (lengths >= len(own)) & (of_medoid >= MATCHING_SHARE * len(own))
    largest = np.maximum.reduceat(cosines.max(axis=1), starts)
    return _Compared(others[near], largest[near], matching[near], of_medoid[near])


def _with_exact_copies(
    owners: _Owners, groups: list[tuple[int, _Compared]]
) -> Iterator[tuple[int, dict[int, tuple[float, int, int]]]]:
    """Yield the id of each group's medoid; by item id, the cosine, and the numbers of matching and of all segments."""
    segments = owners.segments.tolist()
    copies: dict[int, list[int]] = {}
    for copy, leader in owners.exact_copies.tolist():
        copies.setdefault(leader, []).append(copy)
    found = []
    for medoid, members in groups:
        best = int(members.cosines.argmax())
        measured = [(medoid, float(members.cosines[best]), int(members.of_medoid[best]))]
        measured += zip(*(column.tolist() for column in members[:3]), strict=True)
        found.append((medoid, measured))
    grouped = {number for _, measured in found for number, _, _ in measured}
    found += [(leader, [(leader, 1.0, segments[leader])]) for leader in copies if leader not in grouped]
    ids = owners.ids.tolist()
    for medoid, measured in found:
        group: dict[int, tuple[float, int, int]] = {}
        for number, cosine, matching in measured:
            same = (1.0, segments[number], segments[number])
            group[ids[number]] = same if number in copies else (cosine, matching, segments[number])
            group |= dict.fromkeys(copies.get(number, ()), same)
        yield ids[medoid], group


def _items(snapshot: Snapshot, item_ids: NDArray[np.int64]) -> tuple[Item, ...]:
    """Return the items of these ids, int64 (m,)."""
    items = (snapshot.item(item_id) for item_id in item_ids.tolist())
    return tuple(item for item in items if item is not None)
