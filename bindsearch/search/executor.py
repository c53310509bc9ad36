"""Execution of plans: search each partition, rank the candidates, look up the metadata of the hits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from time import perf_counter
from typing import TYPE_CHECKING

import numpy as np

from bindsearch.indexes.row_mask import RowMask
from bindsearch.indexes.types import SearchResult
from bindsearch.search.calibration import calibrate
from bindsearch.search.partition import Partition
from bindsearch.search.plan import PartitionRun, PartitionStep, Plan, Strategy
from bindsearch.search.query import Ranking
from bindsearch.search.ranking import best_of_each_item, diversify
from bindsearch.search.thread_pool import Workers
from bindsearch.storage.snapshot import Snapshot
from bindsearch.types import Hit, Modality

if TYPE_CHECKING:
    from numpy.typing import NDArray

FETCH_GROWTH_FACTOR = 4
"""Growth factor of the number of rows fetched, until k items are found; items may have several segments."""

MAX_RERANK = 4096
"""Number of candidates above which an exact scan of all rows is as fast as rescoring candidates."""

MAX_TIED_ROWS = 4096
"""Maximum number of rows fetched to break ties.

All rows with the cosine of the last hit are fetched, so that ties are broken by item id; with more, the oldest win."""

_EXACT = (Strategy.SCAN, Strategy.GATHER)


@dataclass(frozen=True)
class QueryVector:
    """A composed query vector.

    Attributes:
        vector: float32 (d,), unit norm.
        parts: Weighted share of each term: float32 (t, d); their sum is `vector`.
    """

    vector: NDArray[np.float32]
    parts: NDArray[np.float32]


@dataclass(frozen=True)
class FilteredPartition:
    """A partition with the filter of a search.

    Attributes:
        partition: The partition.
        rows: Rows that are live and match the filter; None for all.
        segments: True for the segments that match the filter, over the snapshot's rows: bool; None for all.
    """

    partition: Partition
    rows: RowMask | None
    segments: NDArray[np.bool_] | None


@dataclass(frozen=True)
class Candidates:
    """Segments found in one partition.

    Attributes:
        modality: Modality of the partition.
        rows: Row of each segment's vector in the partition: int64 (m,).
        segment_rows: Row of each segment in the snapshot: int64 (m,).
        item_ids: Item of each segment: int64 (m,).
        cosines: float32 (m,).
    """

    modality: Modality
    rows: NDArray[np.int64]
    segment_rows: NDArray[np.int64]
    item_ids: NDArray[np.int64]
    cosines: NDArray[np.float32]


@dataclass(frozen=True)
class Result:
    """Result of a plan.

    Attributes:
        hits: Hits, best first.
        partitions: Measurements of each partition.
        merge_ms: Time of ranking in milliseconds.
        facts_ms: Time of looking up metadata in milliseconds.
    """

    hits: list[Hit]
    partitions: tuple[PartitionRun, ...]
    merge_ms: float
    facts_ms: float


def run_plans(
    plans: Sequence[Plan],
    queries: Sequence[QueryVector],
    searched: Mapping[Modality, FilteredPartition],
    snapshot: Snapshot,
    excluded: Sequence[NDArray[np.int64]],
    workers: Workers,
) -> list[Result]:
    """Run the plans of one or more queries; queries with equal steps share one call per partition.

    Equal scores are ordered by item id, so a query always gives the same list on the same generation.

    Args:
        plans: The plan of each query.
        queries: The vector of each query.
        searched: The target partitions, filtered.
        snapshot: Snapshot of the generation.
        excluded: Ids of items that must not be hits, for each query: int64.
        workers: Threads to search with.

    Returns:
        The result of each query.
    """
    jobs = [
        partial(_search_step, target, step, numbers, plans, queries, snapshot, excluded)
        for step, numbers, target in _longest_first(plans, searched)
    ]
    found: list[dict[Modality, Candidates]] = [{} for _ in plans]
    runs: list[dict[Modality, PartitionRun]] = [{} for _ in plans]
    for answers in workers.run(jobs):
        for number, candidates, measured in answers:
            found[number][measured.modality] = candidates
            runs[number][measured.modality] = measured
    return [
        _rank(
            plan,
            query,
            [candidates[modality] for modality in searched if modality in candidates],
            searched,
            snapshot,
            tuple(run[modality] for modality in searched if modality in run),
        )
        for plan, query, candidates, run in zip(plans, queries, found, runs, strict=True)
    ]


def _longest_first(
    plans: Sequence[Plan], searched: Mapping[Modality, FilteredPartition]
) -> list[tuple[PartitionStep, list[int], FilteredPartition]]:
    """Return the distinct steps, longest first, with the numbers of their queries and the partition to search."""
    steps = [
        (step, numbers, target)
        for modality, target in searched.items()
        for step, numbers in _same_steps(plans, modality)
    ]
    return sorted(steps, key=lambda entry: -entry[0].estimate_ms * len(entry[1]))


def _search_step(
    target: FilteredPartition,
    step: PartitionStep,
    numbers: Sequence[int],
    plans: Sequence[Plan],
    queries: Sequence[QueryVector],
    snapshot: Snapshot,
    excluded: Sequence[NDArray[np.int64]],
) -> list[tuple[int, Candidates, PartitionRun]]:
    """Search a partition for queries with the same step; return number, candidates and measurements of each."""
    started = perf_counter()
    batch, scored = search_partition(target, step, np.stack([queries[number].vector for number in numbers]))
    candidates = [
        _enough_items(
            target, step, SearchResult(positions, cosines), queries[number].vector, plans[number], snapshot, hidden
        )
        for number, positions, cosines, hidden in zip(
            numbers, batch.positions, batch.cosines, [excluded[number] for number in numbers], strict=True
        )
    ]
    took_ms = 1000 * (perf_counter() - started) / len(numbers)
    modality = target.partition.modality
    return [
        (number, segments, PartitionRun(modality, scored, len(segments.rows), took_ms))
        for number, segments in zip(numbers, candidates, strict=True)
    ]


def _same_steps(plans: Sequence[Plan], modality: Modality) -> list[tuple[PartitionStep, list[int]]]:
    """Return the distinct steps over a partition, each with the numbers of its queries."""
    groups: dict[tuple[object, ...], tuple[PartitionStep, list[int]]] = {}
    for number, plan in enumerate(plans):
        for step in plan.partitions:
            if step.modality is modality and step.strategy is not Strategy.SKIP:
                key = (step.strategy, step.probes, step.rerank, step.fetch_rows)
                groups.setdefault(key, (step, []))[1].append(number)
    return list(groups.values())


def search_partition(
    target: FilteredPartition, step: PartitionStep, queries: NDArray[np.float32]
) -> tuple[SearchResult, int]:
    """Search a partition by the strategy of a step.

    Args:
        target: The partition, filtered.
        step: The step.
        queries: float32 (nq, d), unit norm.

    Returns:
        The `step.fetch_rows` nearest rows of each query with exact cosines, and the number of rows scored per query.
    """
    partition, mask = target.partition, target.rows
    match step.strategy:
        case Strategy.SCAN:
            return partition.rows.scan(queries, step.fetch_rows, mask), step.matching_rows
        case Strategy.GATHER:
            matching = np.arange(partition.n) if mask is None else mask.positions
            positions = np.broadcast_to(matching, (len(queries), len(matching)))
            return partition.rows.rerank(queries, positions, step.fetch_rows), len(matching)
    wide = step.strategy is Strategy.PROBE_WIDE
    candidates = partition.candidates(queries, step.rerank, step.probes, None if wide else mask)
    if wide and mask is not None:
        candidates = np.where(mask.flags[candidates], candidates, -1)
    if partition.tail_start == partition.n:
        return partition.rows.rerank(queries, candidates, step.fetch_rows), step.rerank
    tail = partition.rows.scan(queries, step.fetch_rows, mask, start=partition.tail_start)
    positions = np.hstack([candidates, tail.positions])
    return partition.rows.rerank(queries, positions, step.fetch_rows), step.rerank + step.tail


def _enough_items(
    target: FilteredPartition,
    step: PartitionStep,
    found: SearchResult,
    vector: NDArray[np.float32],
    plan: Plan,
    snapshot: Snapshot,
    excluded: NDArray[np.int64],
) -> Candidates:
    """Return the segments of at least k items and all ties with the last item.

    Searches again with a wider step as long as there may be more.
    """
    items = plan.depth
    while True:
        valid = int(np.count_nonzero(found.positions >= 0))
        candidates = _segments(target, found.positions[:valid], found.cosines[:valid], snapshot, excluded)
        if valid == step.matching_rows or (valid < step.fetch_rows and step.strategy in _EXACT):
            return candidates
        last = _cosine_of_item(candidates, items)
        tied = last is not None and last == found.cosines[valid - 1] and valid < MAX_TIED_ROWS
        if valid >= step.fetch_rows and last is not None and not tied:
            return candidates
        step = _wider(step, valid)
        batch, _ = search_partition(target, step, vector[None])
        found = SearchResult(batch.positions[0], batch.cosines[0])


def _cosine_of_item(candidates: Candidates, n: int) -> float | None:
    """Return the cosine of the n-th distinct item; None if there are fewer."""
    seen: set[int] = set()
    for item_id, cosine in zip(candidates.item_ids.tolist(), candidates.cosines.tolist(), strict=True):
        seen.add(item_id)
        if len(seen) == n:
            return float(cosine)
    return None


def _wider(step: PartitionStep, valid: int) -> PartitionStep:
    """Return a wider step after one that gave `valid` of `step.fetch_rows` rows, with too few items."""
    if step.strategy in _EXACT:
        return replace(step, fetch_rows=min(FETCH_GROWTH_FACTOR * step.fetch_rows, step.matching_rows))
    if step.probes < step.lists:  # the probed lists contain too few rows that match the filter
        return replace(
            step, probes=min(FETCH_GROWTH_FACTOR * step.probes, step.lists), rerank=FETCH_GROWTH_FACTOR * step.rerank
        )
    if valid < step.fetch_rows or FETCH_GROWTH_FACTOR * step.rerank > MAX_RERANK:
        return replace(step, strategy=Strategy.SCAN)
    return replace(
        step,
        fetch_rows=min(FETCH_GROWTH_FACTOR * step.fetch_rows, step.matching_rows),
        rerank=FETCH_GROWTH_FACTOR * step.rerank,
    )


def _segments(
    target: FilteredPartition,
    rows: NDArray[np.int64],
    cosines: NDArray[np.float32],
    snapshot: Snapshot,
    excluded: NDArray[np.int64],
) -> Candidates:
    positions, segment_rows = target.partition.segments_of_rows(rows)
    item_ids = snapshot.items_of(segment_rows)
    if target.segments is not None or len(excluded):
        mask = np.ones(len(positions), np.bool_) if target.segments is None else target.segments[segment_rows]
        if len(excluded):
            mask &= ~np.isin(item_ids, excluded)
        positions, segment_rows, item_ids = positions[mask], segment_rows[mask], item_ids[mask]
    return Candidates(target.partition.modality, rows[positions], segment_rows, item_ids, cosines[positions])


def _rank(
    plan: Plan,
    query: QueryVector,
    found: Sequence[Candidates],
    searched: Mapping[Modality, FilteredPartition],
    snapshot: Snapshot,
    runs: tuple[PartitionRun, ...],
) -> Result:
    started = perf_counter()
    present = [candidates for candidates in found if len(candidates.rows)]
    chosen = _choose(plan, query, present, searched) if present else []
    ranked = perf_counter()
    hits = _hits(query, present, searched, chosen, snapshot)
    done = perf_counter()
    return Result(hits, runs, 1000 * (ranked - started), 1000 * (done - ranked))


def _choose(
    plan: Plan, query: QueryVector, present: Sequence[Candidates], searched: Mapping[Modality, FilteredPartition]
) -> list[tuple[int, int, float]]:
    """Return partition number, position in its candidates and score of each hit, best first."""
    cosines = [candidates.cosines for candidates in present]
    scores = cosines
    if plan.ranking is Ranking.CALIBRATED:
        statistics = [searched[candidates.modality].partition.statistics for candidates in present]
        scores = calibrate(cosines, query.vector, statistics, _own_shares(plan, present))
    if plan.ranking is Ranking.PER_MODALITY:
        parts = [[number] for number in range(len(present))]
    else:
        parts = [list(range(len(present)))]
    chosen: list[tuple[int, int, float]] = []
    for numbers in parts:
        owner = np.repeat(numbers, [len(present[number].rows) for number in numbers])
        position = np.concatenate([np.arange(len(present[number].rows)) for number in numbers])
        all_scores = np.concatenate([scores[number] for number in numbers])
        items = np.concatenate([present[number].item_ids for number in numbers])
        segments = np.concatenate([present[number].segment_rows for number in numbers])
        best = best_of_each_item(all_scores, items, segments, plan.depth)
        if plan.diversity:
            vectors = _embeddings(present, searched, owner[best], position[best])
            best = best[diversify(all_scores[best], vectors, plan.k, plan.diversity)]
        chosen.extend(zip(owner[best].tolist(), position[best].tolist(), all_scores[best].tolist(), strict=True))
    return chosen


def _own_shares(plan: Plan, present: Sequence[Candidates]) -> list[float] | None:
    """Return the share of the query that has each partition's modality; None if a term's modality is unknown.

    Images and videos count as one modality: every encoder embeds them with one tower, without a modality gap.
    """
    if any(term.source is None for term in plan.terms):
        return None
    total = sum(abs(term.weight) for term in plan.terms) or 1.0
    return [
        sum(abs(term.weight) for term in plan.terms if _tower(term.source) is _tower(candidates.modality)) / total
        for candidates in present
    ]


def _tower(modality: Modality | None) -> Modality | None:
    return Modality.IMAGE if modality is Modality.VIDEO else modality


def _embeddings(
    present: Sequence[Candidates],
    searched: Mapping[Modality, FilteredPartition],
    owner: NDArray[np.int64],
    position: NDArray[np.int64],
) -> NDArray[np.float32]:
    """Return the stored vectors (m, d) of candidates, given by partition number and position."""
    parts = np.unique(owner).tolist()
    out: NDArray[np.float32] | None = None
    for number in parts:
        mask = owner == number
        rows = searched[present[number].modality].partition.rows.embeddings(present[number].rows[position[mask]])
        if out is None:
            out = np.empty((len(owner), rows.shape[1]), np.float32)
        out[mask] = rows
    assert out is not None
    return out


def _hits(
    query: QueryVector,
    present: Sequence[Candidates],
    searched: Mapping[Modality, FilteredPartition],
    chosen: Sequence[tuple[int, int, float]],
    snapshot: Snapshot,
) -> list[Hit]:
    if not chosen:
        return []
    segment_rows = np.array([present[number].segment_rows[position] for number, position, _ in chosen], np.int64)
    cosines = [float(present[number].cosines[position]) for number, position, _ in chosen]
    if len(query.parts) == 1:
        shares = [(cosine,) for cosine in cosines]
    else:
        owner, position, _ = (np.array(column) for column in zip(*chosen, strict=True))
        stored = _embeddings(present, searched, owner.astype(np.int64), position.astype(np.int64))
        shares = [tuple(row) for row in (stored @ query.parts.T).tolist()]
    return [
        Hit(
            rank=rank,
            path=facts.path,
            modality=facts.modality,
            score=score,
            cosine=cosine,
            item_id=facts.item_id,
            collection=facts.collection,
            start_s=facts.start_s,
            end_s=facts.end_s,
            text=facts.text,
            contributions=share,
        )
        for rank, ((_, _, score), cosine, share, facts) in enumerate(
            zip(chosen, cosines, shares, snapshot.facts(segment_rows), strict=True), start=1
        )
    ]
