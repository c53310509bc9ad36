"""Running a query that has become a vector: search each target partition, rank the whole, look up the facts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from bindsearch.items import Hit
from bindsearch.partition import Partition
from bindsearch.query import Rank
from bindsearch.snapshot import Snapshot
from bindsearch.space import calibrate

if TYPE_CHECKING:
    from numpy.typing import NDArray

SPARE_SEGMENTS = 16
"""Segments fetched beyond k at first: several of them may belong to one item."""


@dataclass(frozen=True)
class QueryVector:
    """The composed unit vector float32 (d,), and each term's weighted share of it: `parts` float32 (t, d), summing
    to `vector`."""

    vector: NDArray[np.float32]
    parts: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class _Candidate:
    partition: Partition
    row: int
    segment_row: int
    item_id: int
    cosine: float
    score: float


def run_query(
    query: QueryVector,
    partitions: Sequence[Partition],
    snapshot: Snapshot,
    *,
    k: int,
    rank: Rank,
    excluded_items: NDArray[np.int64],
) -> list[Hit]:
    """The k best items over `partitions`, each by its best segment; k of each modality for Rank.PER_MODALITY.

    Equal scores are ordered by item id, so the same query gives the same list on the same generation.
    """
    found = [_nearest_items(query.vector, partition, snapshot, k, excluded_items) for partition in partitions]
    if rank is Rank.CALIBRATED:
        found = _with_calibrated_scores(found, query.vector)
    if rank is Rank.PER_MODALITY:
        best = [candidate for candidates in found for candidate in _best_of_each_item(candidates)[:k]]
    else:
        best = _best_of_each_item([candidate for candidates in found for candidate in candidates])[:k]
    return [_hit(position, candidate, query, snapshot) for position, candidate in enumerate(best, start=1)]


def _nearest_items(
    vector: NDArray[np.float32], partition: Partition, snapshot: Snapshot, k: int, excluded_items: NDArray[np.int64]
) -> list[_Candidate]:
    """Segments of at least k different items (fewer only where there are no more), nearest first."""
    allowed = partition.alive
    if len(excluded_items):
        allowed = allowed.copy()
        allowed[partition.rows_of_items(snapshot, excluded_items)] = False
    available = int(np.count_nonzero(allowed))
    selector = None if available == len(allowed) else allowed
    wanted = min(k + SPARE_SEGMENTS, available)
    while wanted:
        positions, cosines = partition.index.search(vector[None], wanted, selector)
        candidates = [
            _Candidate(partition, int(row), int(segment_row), int(snapshot.segment_items[segment_row]), cosine, cosine)
            for row, cosine in zip(positions[0], cosines[0].tolist(), strict=True)
            if row >= 0
            for segment_row in partition.segment_rows_at(int(row))
        ]
        if wanted == available or len({candidate.item_id for candidate in candidates}) >= k:
            return candidates
        wanted = min(4 * wanted, available)
    return []


def _with_calibrated_scores(found: list[list[_Candidate]], vector: NDArray[np.float32]) -> list[list[_Candidate]]:
    present = [candidates for candidates in found if candidates]
    if not present:
        return found
    scores = calibrate(
        [np.array([candidate.cosine for candidate in candidates], np.float32) for candidates in present],
        vector,
        [candidates[0].partition.statistics for candidates in present],
    )
    return [
        [
            replace(candidate, score=score)
            for candidate, score in zip(candidates, partition_scores.tolist(), strict=True)
        ]
        for candidates, partition_scores in zip(present, scores, strict=True)
    ]


def _best_of_each_item(candidates: Sequence[_Candidate]) -> list[_Candidate]:
    ordered = sorted(candidates, key=lambda candidate: (-candidate.score, candidate.item_id, candidate.segment_row))
    best: dict[int, _Candidate] = {}
    for candidate in ordered:
        best.setdefault(candidate.item_id, candidate)
    return list(best.values())


def _hit(rank: int, candidate: _Candidate, query: QueryVector, snapshot: Snapshot) -> Hit:
    segment = snapshot.segment(candidate.segment_row)
    item = snapshot.item(candidate.item_id)
    assert item is not None  # a segment and its item are written and removed together
    stored = candidate.partition.embeddings(np.array([candidate.row]))[0]
    return Hit(
        rank=rank,
        path=item.path,
        modality=segment.modality,
        score=candidate.score,
        cosine=candidate.cosine,
        item_id=item.item_id,
        collection=item.collection,
        start_s=segment.start_s,
        end_s=segment.end_s,
        text=segment.text,
        contributions=tuple((query.parts @ stored).tolist()),
    )
