"""Execution of plans: search each partition, rank the candidates, look up the metadata of the hits."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from time import perf_counter
from typing import TYPE_CHECKING

import numpy as np

from bindsearch.indexes.types import SearchResult
from bindsearch.search.plan import PartitionRun, PartitionStep, Plan, Strategy, WordRun
from bindsearch.search.query import Ranking
from bindsearch.search.scoring.candidates import (
    Candidates,
    FilteredPartition,
    PartitionScale,
    QueryVector,
    Scored,
    log_odds_of,
    partition_scales,
    score_candidates,
)
from bindsearch.search.scoring.hits import (
    choose_hits,
    cosines_show_copies,
    is_pictures,
    make_hits,
    raise_copies_of_query,
)
from bindsearch.search.scoring.probability import ProbabilityModel
from bindsearch.search.thread_pool import Workers
from bindsearch.storage.snapshot import SegmentFacts, Snapshot
from bindsearch.types import Hit, Modality

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from bindsearch.indexes.row_mask import RowMask
    from bindsearch.search.words.index import WordIndex
    from bindsearch.search.words.matches import WordCounts, WordMatches

FETCH_GROWTH_FACTOR = 4
"""Growth factor of the number of rows fetched, until k items are found; items may have several segments."""

MAX_RERANK = 4096
"""Number of candidates above which an exact scan of all rows is as fast as rescoring candidates."""

MAX_TIED_ROWS = 4096
"""Maximum number of rows fetched to break ties.

All rows with the cosine of the last hit are fetched, so that ties are broken by item id; with more, the oldest win."""

_EXACT = (Strategy.SCAN, Strategy.GATHER)


@dataclass(frozen=True)
class QueryItems:
    """Items with the same content as a query's own files.

    Attributes:
        excluded: Ids of items that must not be hits: int64.
        identical: Ids of items that certainly match: int64.
    """

    excluded: NDArray[np.int64]
    identical: NDArray[np.int64]


@dataclass(frozen=True)
class Result:
    """Result of a plan.

    Attributes:
        hits: Hits, best first.
        partitions: Measurements of each partition.
        merge_ms: Time of ranking in milliseconds.
        facts_ms: Time of looking up metadata in milliseconds.
        lacks_items: Whether copies took places for which there may be more items.
        words: Measurements of searching words; None if they were not searched.
    """

    hits: list[Hit]
    partitions: tuple[PartitionRun, ...]
    merge_ms: float
    facts_ms: float
    lacks_items: bool = False
    words: WordRun | None = None


def run_plans(
    plans: Sequence[Plan],
    queries: Sequence[QueryVector],
    searched: Mapping[Modality, FilteredPartition],
    snapshot: Snapshot,
    items: Sequence[QueryItems],
    model: ProbabilityModel,
    workers: Workers,
    words: WordIndex | None,
) -> list[Result]:
    """Run the plans of one or more queries; queries with equal steps share one call per partition.

    Equal scores are ordered by item id, so a query always gives the same list on the same generation.

    Args:
        plans: The plan of each query.
        queries: The vector of each query.
        searched: The target partitions, filtered.
        snapshot: Snapshot of the generation.
        items: Excluded and identical items of each query.
        model: Model of the probability of a match.
        workers: Threads to search with.
        words: Word index of the generation; None if no plan searches words.

    Returns:
        The result of each query.
    """
    scales = [partition_scales(plan, query, searched, model) for plan, query in zip(plans, queries, strict=True)]
    found, runs = find_candidates(plans, queries, searched, snapshot, items, scales, workers)
    results = []
    for plan, query, candidates, run, scale, own in zip(plans, queries, found, runs, scales, items, strict=True):
        matches, word_run = search_words(plan, words, searched, snapshot, own.excluded)
        result = _rank(
            plan,
            query,
            [candidates[modality] for modality in searched if modality in candidates],
            searched,
            scale,
            own.identical,
            matches,
            snapshot,
            tuple(run[modality] for modality in searched if modality in run),
        )
        if result.lacks_items:  # many copies were folded
            wider = replace(plan, spare=FETCH_GROWTH_FACTOR * plan.depth)
            (result,) = run_plans([wider], [query], searched, snapshot, [own], model, workers, words)
        result = replace(result, words=word_run)
        results.append(result)
    return results


def run_words(
    plan: Plan,
    searched: Mapping[Modality, FilteredPartition],
    snapshot: Snapshot,
    items: QueryItems,
    words: WordIndex,
) -> Result:
    """Run a plan that searches words alone; arguments as for `run_plans`."""
    matches, run = search_words(plan, words, searched, snapshot, items.excluded)
    result = _rank(plan, None, [], searched, {}, items.identical, matches, snapshot, ())
    if result.lacks_items:
        return run_words(replace(plan, spare=FETCH_GROWTH_FACTOR * plan.depth), searched, snapshot, items, words)
    return replace(result, words=run)


def search_words(
    plan: Plan,
    words: WordIndex | None,
    searched: Mapping[Modality, FilteredPartition],
    snapshot: Snapshot,
    excluded: NDArray[np.int64],
    corpus: WordCounts | None = None,
) -> tuple[WordMatches | None, WordRun | None]:
    """Return what contains the words of a query, and the measurements; None if words are not searched.

    Args:
        plan: The plan.
        words: Word index of the generation; None if no plan searches words.
        searched: The target partitions, filtered.
        snapshot: Snapshot of the generation.
        excluded: Ids of items that must not be hits: int64.
        corpus: How common the words are; None: as in this store.
    """
    if plan.words is None or words is None:
        return None, None
    from bindsearch.search.words.matches import MATCHES_PER_ITEM, find_words

    started = perf_counter()
    limit = MATCHES_PER_ITEM * plan.depth
    matches, found = find_words(plan.words, words, searched, snapshot, excluded, limit, corpus)
    return matches, WordRun(found, 1000 * (perf_counter() - started))


NEAR_MATCHES = 10
"""Number of matching rows that must be near a query for the measured probes to hold."""

MAX_NEAR_ROWS = 4096
"""Most rows in which they are looked for; with rarer matches all of them are compared, which is cheap."""

GATHERED_SHARE = 0.1
"""Share of matching rows up to which they are gathered; beyond, scanning all is faster."""


def find_candidates(
    plans: Sequence[Plan],
    queries: Sequence[QueryVector],
    searched: Mapping[Modality, FilteredPartition],
    snapshot: Snapshot,
    items: Sequence[QueryItems],
    scales: Sequence[Mapping[Modality, PartitionScale]],
    workers: Workers,
) -> tuple[list[dict[Modality, Candidates]], list[dict[Modality, PartitionRun]]]:
    """Return the candidates of each query by partition, and the measurements; arguments as for `run_plans`."""
    jobs = [
        partial(_search_step, target, step, numbers, plans, queries, snapshot, items, scales)
        for step, numbers, target in _longest_first(plans, searched)
    ]
    found: list[dict[Modality, Candidates]] = [{} for _ in plans]
    runs: list[dict[Modality, PartitionRun]] = [{} for _ in plans]
    for answers in workers.run(jobs):
        for number, candidates, measured in answers:
            found[number][measured.modality] = candidates
            runs[number][measured.modality] = measured
    return found, runs


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
    items: Sequence[QueryItems],
    scales: Sequence[Mapping[Modality, PartitionScale]],
) -> list[tuple[int, Candidates, PartitionRun]]:
    """Search a partition for queries with the same step; return number, candidates and measurements of each."""
    started = perf_counter()
    modality = target.partition.modality
    vectors = [queries[number].for_target(modality).vector for number in numbers]
    batch, scored = search_partition(target, step, np.stack(vectors))
    candidates = [
        _enough_items(
            target,
            step,
            SearchResult(positions, cosines),
            vector,
            plans[number],
            scales[number][modality],
            snapshot,
            items[number].excluded,
        )
        for number, vector, positions, cosines in zip(numbers, vectors, batch.positions, batch.cosines, strict=True)
    ]
    took_ms = 1000 * (perf_counter() - started) / len(numbers)
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
    if mask is None:
        candidates = partition.candidates(queries, step.rerank, step.probes, None)
    else:
        candidates, is_usual = _matching_candidates(target, mask, step, queries)
        if not is_usual.all():
            return _search_apart(target, step, queries, is_usual)
    if partition.tail_start == partition.n:
        return partition.rows.rerank(queries, candidates, step.fetch_rows), step.rerank
    tail = partition.rows.scan(queries, step.fetch_rows, mask, start=partition.tail_start)
    positions = np.hstack([candidates, tail.positions])
    return partition.rows.rerank(queries, positions, step.fetch_rows), step.rerank + step.tail


def _matching_candidates(
    target: FilteredPartition, mask: RowMask, step: PartitionStep, queries: NDArray[np.float32]
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Return candidates that match the filter, and for which queries rows near them match it as often as others do.

    The probes of a step were measured under filters that do not depend on the query. A filter that excludes what is
    near it would need far more of them. So the rows near the query are fetched, matching or not, and those that match
    are counted; FAISS filters itself only where too many would have to be fetched.

    Returns:
        Positions int64 (nq, step.rerank), -1 where there are fewer, and bool (nq,); where it is False, the candidates
        are of no use.
    """
    partition, wide = target.partition, step.strategy is Strategy.PROBE_WIDE
    if step.rerank >= mask.count and not wide:  # all matching rows are candidates
        return partition.candidates(queries, step.rerank, step.probes, mask), np.ones(len(queries), np.bool_)
    share = max(mask.count, 1) / partition.n
    near = _rows_with(NEAR_MATCHES, share)
    if near > MAX_NEAR_ROWS:
        return np.empty((len(queries), 0), np.int64), np.zeros(len(queries), np.bool_)
    depth = max(near, step.rerank) if wide else _rows_with(step.rerank, share)
    in_one_pass = wide or depth <= MAX_NEAR_ROWS
    nearest = partition.candidates(queries, depth if in_one_pass else near, step.probes, None)
    matches = mask.flags[nearest] & (nearest >= 0)
    is_usual = np.count_nonzero(matches[:, :near], axis=1) >= min(NEAR_MATCHES, mask.count)
    if not in_one_pass:
        return partition.candidates(queries, step.rerank, step.probes, mask), is_usual
    first = np.argsort(~matches, axis=1, kind="stable")[:, : step.rerank]
    nearest = np.where(matches, nearest, -1)
    return np.take_along_axis(nearest, first, axis=1), is_usual


def _rows_with(matches: int, share: float) -> int:
    """Return how many independent rows, of which a share s matches, hold k matches in 99.9% of cases.

    (k + 3 sqrt(k (1 - s))) / s: three standard deviations of the negative binomial distribution, taken as normal.
    """
    return math.ceil((matches + 3 * math.sqrt(matches * (1 - share))) / share)


def _search_apart(
    target: FilteredPartition, step: PartitionStep, queries: NDArray[np.float32], is_usual: NDArray[np.bool_]
) -> tuple[SearchResult, int]:
    """Search exactly for the queries whose surroundings the filter excludes, and by the step for the others."""
    assert target.rows is not None
    few = target.rows.count <= GATHERED_SHARE * target.partition.n
    exact = replace(step, strategy=Strategy.GATHER if few else Strategy.SCAN)
    found = SearchResult(
        np.full((len(queries), step.fetch_rows), -1, np.int64),
        np.full((len(queries), step.fetch_rows), -np.inf, np.float32),
    )
    scored = 0
    for rows, how in ((np.flatnonzero(~is_usual), exact), (np.flatnonzero(is_usual), step)):
        if len(rows):
            part, part_scored = search_partition(target, how, queries[rows])
            width = part.positions.shape[1]
            found.positions[rows, :width], found.cosines[rows, :width] = part.positions, part.cosines
            scored = max(scored, part_scored)
    return found, scored


def _enough_items(
    target: FilteredPartition,
    step: PartitionStep,
    found: SearchResult,
    vector: NDArray[np.float32],
    plan: Plan,
    scale: PartitionScale,
    snapshot: Snapshot,
    excluded: NDArray[np.int64],
) -> Candidates:
    """Return the segments of at least k items and all ties with the last item.

    Searches again with a wider step as long as there may be more, or better ones: an item of many segments has a lower
    probability than one of few with the same cosine.
    """
    while True:
        valid = int(np.count_nonzero(found.positions >= 0))
        candidates = _segments(target, found.positions[:valid], found.cosines[:valid], snapshot, excluded)
        if valid == step.matching_rows or (valid < step.fetch_rows and step.strategy in _EXACT):
            return candidates
        if valid >= step.fetch_rows and _is_complete(candidates, plan, scale, float(found.cosines[valid - 1]), valid):
            return candidates
        step = _wider(step, valid)
        batch, _ = search_partition(target, step, vector[None])
        found = SearchResult(batch.positions[0], batch.cosines[0])


def _is_complete(candidates: Candidates, plan: Plan, scale: PartitionScale, least_cosine: float, valid: int) -> bool:
    """Return whether no row that was not fetched can be among the best items, given the least cosine fetched."""
    several = candidates.chances > 1
    if not several.any():  # each segment is an item of its own, and the order is that of the cosines
        last = float(candidates.cosines[plan.depth - 1]) if len(candidates.cosines) >= plan.depth else None
        return last is not None and (last > least_cosine or valid >= MAX_TIED_ROWS)
    values, bound = candidates.cosines.astype(np.float64), least_cosine
    if plan.ranking is Ranking.PROBABILITY:
        cosines = np.append(candidates.cosines, np.float32(least_cosine))
        _, log_odds = log_odds_of(cosines, np.append(candidates.chances, 1), scale)
        values, bound = log_odds[:-1], float(log_odds[-1])
    last = _nth_item(candidates.item_ids, values, plan.depth)
    return last is not None and (last > bound or valid >= MAX_TIED_ROWS)


def _nth_item(item_ids: NDArray[np.int64], values: NDArray[np.float64], n: int) -> float | None:
    """Return the best value of the n-th best distinct item; None if there are fewer."""
    order = np.argsort(-values, kind="stable")
    _, firsts = np.unique(item_ids[order], return_index=True)
    if len(firsts) < n:
        return None
    return float(values[order[np.partition(firsts, n - 1)[n - 1]]])


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
    chances = target.partition.chances(segment_rows)
    return Candidates(target.partition.modality, rows[positions], segment_rows, item_ids, cosines[positions], chances)


def _rank(
    plan: Plan,
    query: QueryVector | None,
    found: Sequence[Candidates],
    searched: Mapping[Modality, FilteredPartition],
    scales: Mapping[Modality, PartitionScale],
    identical: NDArray[np.int64],
    matches: WordMatches | None,
    snapshot: Snapshot,
    runs: tuple[PartitionRun, ...],
) -> Result:
    started = perf_counter()
    source = StoreSource(searched, snapshot)
    scored = score_found(query, found, searched, scales, identical, matches, snapshot, source.has_copies)
    if scored is None:
        return Result([], runs, 1000 * (perf_counter() - started), 0.0)
    chosen = choose_hits(plan, scored, source)
    ranked = perf_counter()
    hits = make_hits(plan, query, scored, chosen, source)
    done = perf_counter()
    return Result(hits, runs, 1000 * (ranked - started), 1000 * (done - ranked), chosen.lacks_items)


def score_found(
    query: QueryVector | None,
    found: Sequence[Candidates],
    searched: Mapping[Modality, FilteredPartition],
    scales: Mapping[Modality, PartitionScale],
    identical: NDArray[np.int64],
    matches: WordMatches | None,
    snapshot: Snapshot,
    has_copies: Callable[[Modality], bool],
) -> Scored | None:
    """Return what vectors and words found with its scores; None if that is nothing.

    Args:
        query: Vector of the query; None: words alone are searched.
        found: The candidates of each partition that vectors found.
        searched: The target partitions, filtered.
        scales: Scale of each partition.
        identical: Ids of items that certainly match: int64.
        matches: What words found; None if they were not searched.
        snapshot: Snapshot of the generation.
        has_copies: Returns whether cosines show copies of a modality.
    """
    present = [candidates for candidates in found if len(candidates.rows)]
    if matches is not None:
        from bindsearch.search.words.matches import with_words

        present = with_words(present, matches, searched, query, snapshot)
    if not present:
        return None
    of_partitions = None if query is None else [scales[candidates.modality] for candidates in present]
    scored = raise_copies_of_query(score_candidates(present, of_partitions, identical), has_copies)
    if matches is not None:
        from bindsearch.search.words.matches import combine

        scored = combine(scored, matches)
    return scored


class StoreSource:
    """Vectors and metadata of candidates from the partitions and the snapshot of a store; see `HitSource`."""

    def __init__(self, searched: Mapping[Modality, FilteredPartition], snapshot: Snapshot) -> None:
        """Refer to the target partitions and the snapshot of a generation."""
        self._searched = searched
        self._snapshot = snapshot

    def has_copies(self, modality: Modality) -> bool:
        """Return whether cosines show copies of a modality; see `cosines_show_copies`."""
        return is_pictures(modality) and cosines_show_copies(self._searched[modality].partition.neighbour_cosines)

    def vector_keys(self, scored: Scored, numbers: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return a number for the vector of each candidate: int64 (m,)."""
        return scored.rows[numbers] * len(scored.modalities) + scored.owner[numbers]

    def embeddings(self, scored: Scored, numbers: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return the stored vector of each candidate: float32 (m, d)."""
        owner, rows = scored.owner[numbers], scored.rows[numbers]
        out = np.empty((len(numbers), next(iter(self._searched.values())).partition.dim), np.float32)
        for number in set(owner.tolist()):
            mask = owner == number
            out[mask] = self._searched[scored.modalities[number]].partition.rows.embeddings(rows[mask])
        return out

    def facts(self, scored: Scored, numbers: NDArray[np.int64]) -> list[SegmentFacts]:
        """Return the metadata of each candidate."""
        return self._snapshot.facts(scored.segment_rows[numbers])
