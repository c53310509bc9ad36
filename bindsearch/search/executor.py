"""Running a plan: search each partition as its step says, rank the whole, look up the facts."""

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
"""Growth of the rows that are fetched, until there are k items, where several segments belong to one item."""

MAX_RERANK = 4096
"""Beyond so many candidates a scan of the rows is as cheap as scoring what the codes find."""

MAX_TIED_ROWS = 4096
"""Rows as near as the last one wanted are all fetched, so that ties go by item; of more than this, the oldest."""

_EXACT = (Strategy.SCAN, Strategy.GATHER)


@dataclass(frozen=True)
class QueryVector:
    """The composed unit vector float32 (d,), and each term's weighted share of it: `parts` float32 (t, d), summing
    to `vector`."""

    vector: NDArray[np.float32]
    parts: NDArray[np.float32]


@dataclass(frozen=True)
class FilteredPartition:
    """A partition in one search: rows that may be found (None: all), the segments a filter keeps (None: all), and
    items that are left out."""

    partition: Partition
    rows: RowMask | None
    segments: NDArray[np.bool_] | None


@dataclass(frozen=True)
class Candidates:
    """Segments found in one partition: row of the vector, row in the snapshot, item and cosine of each, all (m,)."""

    modality: Modality
    rows: NDArray[np.int64]
    segment_rows: NDArray[np.int64]
    item_ids: NDArray[np.int64]
    cosines: NDArray[np.float32]


@dataclass(frozen=True)
class Result:
    """Result of a plan: hits, best first, and what each step did."""

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
    """Answer one query or several, each by its plan; those with equal steps share one call of each partition.

    `excluded`: item ids left out of each answer. Equal scores are ordered by item id, so the same query gives the
    same list on the same generation.
    """
    jobs = [
        partial(_search_step, place, step, numbers, plans, queries, snapshot, excluded)
        for step, numbers, place in _longest_first(plans, searched)
    ]
    found: list[dict[Modality, Candidates]] = [{} for _ in plans]
    runs: list[dict[Modality, PartitionRun]] = [{} for _ in plans]
    for answers in workers.run(jobs):
        for number, candidates, ran in answers:
            found[number][ran.modality] = candidates
            runs[number][ran.modality] = ran
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
    """The different steps, each with the numbers of the queries that take it and the partition it searches."""
    steps = [
        (step, numbers, place) for modality, place in searched.items() for step, numbers in _same_steps(plans, modality)
    ]
    return sorted(steps, key=lambda taken: -taken[0].estimate_ms * len(taken[1]))


def _search_step(
    place: FilteredPartition,
    step: PartitionStep,
    numbers: Sequence[int],
    plans: Sequence[Plan],
    queries: Sequence[QueryVector],
    snapshot: Snapshot,
    excluded: Sequence[NDArray[np.int64]],
) -> list[tuple[int, Candidates, PartitionRun]]:
    """Return what one partition holds for those queries that search it alike: for each its number and candidates."""
    started = perf_counter()
    batch, scored = search_partition(place, step, np.stack([queries[number].vector for number in numbers]))
    candidates = [
        _enough_items(
            place, step, SearchResult(positions, cosines), queries[number].vector, plans[number], snapshot, left_out
        )
        for number, positions, cosines, left_out in zip(
            numbers, batch.positions, batch.cosines, [excluded[number] for number in numbers], strict=True
        )
    ]
    took_ms = 1000 * (perf_counter() - started) / len(numbers)
    modality = place.partition.modality
    return [
        (number, one, PartitionRun(modality, scored, len(one.rows), took_ms))
        for number, one in zip(numbers, candidates, strict=True)
    ]


def _same_steps(plans: Sequence[Plan], modality: Modality) -> list[tuple[PartitionStep, list[int]]]:
    """Steps over a partition, each with the numbers of the queries that take it."""
    groups: dict[tuple[object, ...], tuple[PartitionStep, list[int]]] = {}
    for number, plan in enumerate(plans):
        for step in plan.partitions:
            if step.modality is modality and step.strategy is not Strategy.SKIP:
                key = (step.strategy, step.probes, step.rerank, step.fetch_rows)
                groups.setdefault(key, (step, []))[1].append(number)
    return list(groups.values())


def search_partition(
    place: FilteredPartition, step: PartitionStep, queries: NDArray[np.float32]
) -> tuple[SearchResult, int]:
    """The `step.want` nearest rows of each query (nq, d) by the step's strategy, their cosines exact, and how many rows
    were scored for each."""
    partition, mask = place.partition, place.rows
    match step.strategy:
        case Strategy.SCAN:
            return partition.rows.scan(queries, step.fetch_rows, mask), step.matching_rows
        case Strategy.GATHER:
            kept = np.arange(partition.n) if mask is None else mask.positions
            positions = np.broadcast_to(kept, (len(queries), len(kept)))
            return partition.rows.rerank(queries, positions, step.fetch_rows), len(kept)
    wide = step.strategy is Strategy.PROBE_WIDE
    candidates = partition.candidates(queries, step.rerank, step.probes, None if wide else mask)
    if wide and mask is not None:
        candidates = np.where(mask.flags[candidates], candidates, -1)
    if partition.tail_start == partition.n:
        return partition.rows.rerank(queries, candidates, step.fetch_rows), step.rerank
    tail = partition.rows.scan(queries, step.fetch_rows, mask, start=partition.tail_start)
    both = np.hstack([candidates, tail.positions])
    return partition.rows.rerank(queries, both, step.fetch_rows), step.rerank + step.tail


def _enough_items(
    place: FilteredPartition,
    step: PartitionStep,
    found: SearchResult,
    vector: NDArray[np.float32],
    plan: Plan,
    snapshot: Snapshot,
    excluded: NDArray[np.int64],
) -> Candidates:
    """The segments found, of at least k items and all that are as near as the last of them: searched again, wider,
    while there may be more."""
    items = plan.depth
    while True:
        valid = int(np.count_nonzero(found.positions >= 0))
        candidates = _segments(place, found.positions[:valid], found.cosines[:valid], snapshot, excluded)
        if valid == step.matching_rows or (valid < step.fetch_rows and step.strategy in _EXACT):
            return candidates
        last = _cosine_of_item(candidates, items)
        tied = last is not None and last == found.cosines[valid - 1] and valid < MAX_TIED_ROWS
        if valid >= step.fetch_rows and last is not None and not tied:
            return candidates
        step = _wider(step, valid)
        again, _ = search_partition(place, step, vector[None])
        found = SearchResult(again.positions[0], again.cosines[0])


def _cosine_of_item(candidates: Candidates, n: int) -> float | None:
    """The cosine of the n-th different item; None where there are fewer."""
    seen: set[int] = set()
    for item_id, cosine in zip(candidates.item_ids.tolist(), candidates.cosines.tolist(), strict=True):
        seen.add(item_id)
        if len(seen) == n:
            return float(cosine)
    return None


def _wider(step: PartitionStep, valid: int) -> PartitionStep:
    """The step after one that gave `valid` rows of the `step.want` asked for, and too few items."""
    if step.strategy in _EXACT:
        return replace(step, fetch_rows=min(FETCH_GROWTH_FACTOR * step.fetch_rows, step.matching_rows))
    if step.probes < step.lists:  # the lists probed hold too few rows that the filter keeps
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
    place: FilteredPartition,
    rows: NDArray[np.int64],
    cosines: NDArray[np.float32],
    snapshot: Snapshot,
    excluded: NDArray[np.int64],
) -> Candidates:
    places, segment_rows = place.partition.segments_of_rows(rows)
    item_ids = snapshot.items_of(segment_rows)
    if place.segments is not None or len(excluded):
        kept = np.ones(len(places), np.bool_) if place.segments is None else place.segments[segment_rows]
        if len(excluded):
            kept &= ~np.isin(item_ids, excluded)
        places, segment_rows, item_ids = places[kept], segment_rows[kept], item_ids[kept]
    return Candidates(place.partition.modality, rows[places], segment_rows, item_ids, cosines[places])


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
    """Partition number, place in its candidates and score of each hit, best first."""
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
        place = np.concatenate([np.arange(len(present[number].rows)) for number in numbers])
        together = np.concatenate([scores[number] for number in numbers])
        items = np.concatenate([present[number].item_ids for number in numbers])
        segments = np.concatenate([present[number].segment_rows for number in numbers])
        wanted = plan.depth
        best = best_of_each_item(together, items, segments, wanted)
        if plan.diversity:
            vectors = _embeddings(present, searched, owner[best], place[best])
            best = best[diversify(together[best], vectors, plan.k, plan.diversity)]
        chosen.extend(zip(owner[best].tolist(), place[best].tolist(), together[best].tolist(), strict=True))
    return chosen


def _own_shares(plan: Plan, present: Sequence[Candidates]) -> list[float] | None:
    """Return which share of the query is of each partition's modality; None where a term's modality is not known.

    Pictures and videos count as one: every encoder embeds them with one tower, and there is no gap between them.
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
    place: NDArray[np.int64],
) -> NDArray[np.float32]:
    """Stored vectors (m, d) of candidates given by partition number and place."""
    parts = np.unique(owner).tolist()
    out: NDArray[np.float32] | None = None
    for number in parts:
        here = owner == number
        rows = searched[present[number].modality].partition.rows.embeddings(present[number].rows[place[here]])
        if out is None:
            out = np.empty((len(owner), rows.shape[1]), np.float32)
        out[here] = rows
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
    segment_rows = np.array([present[number].segment_rows[place] for number, place, _ in chosen], np.int64)
    cosines = [float(present[number].cosines[place]) for number, place, _ in chosen]
    if len(query.parts) == 1:
        shares = [(cosine,) for cosine in cosines]
    else:
        owner, place, _ = (np.array(column) for column in zip(*chosen, strict=True))
        stored = _embeddings(present, searched, owner.astype(np.int64), place.astype(np.int64))
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
