"""Execution of plans: search each partition, rank the candidates, look up the metadata of the hits."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from time import perf_counter
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from bindsearch.indexes.types import SearchResult
from bindsearch.search.generation import Generation
from bindsearch.search.partition import FilteredPartition
from bindsearch.search.plan import PartitionRun, PartitionStep, Plan, Strategy, TermStep, WordRun
from bindsearch.search.query import Query, Ranking
from bindsearch.search.scoring.candidates import (
    Candidates,
    PartitionScale,
    QueryVector,
    Scored,
    log_odds_of,
    score_candidates,
)
from bindsearch.search.scoring.hits import StoreSource, choose_hits, make_hits, raise_copies_of_query
from bindsearch.search.thread_pool import Workers
from bindsearch.types import Hit, Modality

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from bindsearch.indexes.row_mask import RowMask
    from bindsearch.search.words.matches import WordCounts, WordMatches

FETCH_GROWTH_FACTOR = 4
"""Growth factor of the number of rows fetched, until k items are found; items may have several segments."""

MAX_RERANK = 4096
"""Number of candidates above which an exact scan of all rows is as fast as rescoring candidates."""

MAX_TIED_ROWS = 4096
"""Maximum number of rows fetched to break ties.

All rows with the cosine of the last hit are fetched, so that ties are broken by item id; with more, the oldest win."""

NEAR_MATCHES = 10
"""Number of matching rows that must be near a query for the measured probes to hold."""

MAX_NEAR_ROWS = 4096
"""Most rows in which they are looked for; with rarer matches all of them are compared, which is cheap."""

GATHERED_SHARE = 0.1
"""Share of matching rows up to which they are gathered; beyond, scanning all is faster."""

THREAD_MS = 0.3
"""Estimated time in milliseconds of steps beside the longest, from which on threads share them."""

_EXACT = (Strategy.SCAN, Strategy.GATHER)


class QueryItems(NamedTuple):
    """Items with the same content as a query's own files.

    Attributes:
        excluded: Ids of items that must not be hits: int64.
        identical: Ids of items that certainly match: int64.
    """

    excluded: NDArray[np.int64]
    identical: NDArray[np.int64]


@dataclass(frozen=True)
class PreparedQuery:
    """A query with resolved terms.

    Attributes:
        query: The query.
        terms: A step for each term.
        vector: Its vector; None if the query is only explained, or if words alone are searched.
        hashes: Content hash of each term's file or item; None for a text, "" for an item whose content is unknown.
        items: Id of the item of each term that has no content to find copies by; None for another term.
        notices: What of the query's files is not used.
    """

    query: Query
    terms: tuple[TermStep, ...]
    vector: QueryVector | None
    hashes: tuple[str | None, ...] = ()
    items: tuple[int | None, ...] = ()
    notices: tuple[str, ...] = ()


@dataclass(frozen=True)
class Result:
    """Result of a query.

    Attributes:
        hits: Hits, best first.
        plan: The plan.
        partitions: Measurements of each partition.
        filter_ms: Time of evaluating the filter and planning in milliseconds.
        merge_ms: Time of ranking in milliseconds.
        facts_ms: Time of looking up metadata in milliseconds.
        words: Measurements of searching words; None if they were not searched.
        notices: Notices on the query.
        missing: Why a shard did not answer, by its number.
    """

    hits: list[Hit]
    plan: Plan
    partitions: tuple[PartitionRun, ...]
    filter_ms: float
    merge_ms: float
    facts_ms: float
    words: WordRun | None
    notices: tuple[str, ...] = ()
    missing: Mapping[int, str] = field(default_factory=dict)


class Batch(NamedTuple):
    """Queries with the same targets and filter, which are searched together.

    Attributes:
        generation: The generation to search.
        targets: The target partitions, filtered.
        vectors: Vector of each query; None: words alone are searched.
        plans: Plan of each query.
        items: Excluded and identical items of each query.
        scales: Scale of each partition for each query.
        workers: Threads to search with.
        filter_ms: Time of evaluating the filter and planning, in milliseconds a query.
    """

    generation: Generation
    targets: Mapping[Modality, FilteredPartition]
    vectors: Sequence[QueryVector | None]
    plans: Sequence[Plan]
    items: Sequence[QueryItems]
    scales: Sequence[Mapping[Modality, PartitionScale]]
    workers: Workers
    filter_ms: float = 0.0


def run_batch(batch: Batch) -> list[Result]:
    """Run the plans of queries; equal steps share one call per partition.

    Equal scores are ordered by item id, so a query always gives the same list on the same generation.
    """
    found, runs = find_candidates(batch)
    return [_rank(batch, number, found[number], tuple(runs[number].values())) for number in range(len(batch.plans))]


def find_candidates(
    batch: Batch,
) -> tuple[list[dict[Modality, Candidates]], list[dict[Modality, PartitionRun]]]:
    """Return the candidates of each query by partition, and the measurements, both in the order of the targets."""
    steps: dict[tuple[object, ...], tuple[PartitionStep, list[int]]] = {}
    for number, plan in enumerate(batch.plans):
        for step in plan.partitions:
            if step.strategy is not Strategy.SKIP:
                key = (step.modality, step.strategy, step.probes, step.rerank, step.fetch_rows)
                steps.setdefault(key, (step, []))[1].append(number)
    jobs = sorted((-step.estimate_ms * len(numbers), place) for place, (step, numbers) in enumerate(steps.values()))
    ordered = list(steps.values())
    calls = [partial(_search_step, batch, *ordered[place]) for _, place in jobs]
    others_ms = -sum(cost for cost, _ in jobs[1:])
    done = batch.workers.run(calls) if others_ms >= THREAD_MS else [call() for call in calls]
    answers = {(number, run.modality): (segments, run) for answer in done for number, segments, run in answer}
    found: list[dict[Modality, Candidates]] = [{} for _ in batch.plans]
    runs: list[dict[Modality, PartitionRun]] = [{} for _ in batch.plans]
    for modality in batch.targets:
        for number in range(len(batch.plans)):
            if (number, modality) in answers:
                found[number][modality], runs[number][modality] = answers[number, modality]
    return found, runs


def _search_step(
    batch: Batch, step: PartitionStep, numbers: Sequence[int]
) -> list[tuple[int, Candidates, PartitionRun]]:
    """Search a partition for queries with the same step; return number, candidates and measurements of each."""
    started = perf_counter()
    modality = step.modality
    queries = [vector for number in numbers if (vector := batch.vectors[number]) is not None]
    vectors = [query.by_target.get(modality, query).vector for query in queries]
    rows = vectors[0][None] if len(vectors) == 1 else np.stack(vectors)
    found, scored = search_partition(batch.targets[modality], step, rows)
    candidates = [
        _enough_items(batch, number, step, SearchResult(positions[None], cosines[None]), vector)
        for number, vector, positions, cosines in zip(numbers, vectors, *found, strict=True)
    ]
    took_ms = 1000 * (perf_counter() - started) / len(numbers)
    return [
        (number, segments, PartitionRun(modality, scored, len(segments.rows), took_ms))
        for number, segments in zip(numbers, candidates, strict=True)
    ]


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
    batch: Batch, number: int, step: PartitionStep, found: SearchResult, vector: NDArray[np.float32]
) -> Candidates:
    """Return the segments of at least k items and all ties with the last item.

    Searches again with a wider step as long as there may be more, or better ones: an item of many segments has a lower
    probability than one of few with the same cosine.
    """
    target, plan = batch.targets[step.modality], batch.plans[number]
    partition, excluded = target.partition, batch.items[number].excluded
    while True:
        (rows,), (cosines,) = found
        valid = len(rows)
        if not valid or rows[-1] < 0:
            valid = int(np.count_nonzero(rows >= 0))
            rows, cosines = rows[:valid], cosines[:valid]
        least_cosine = cosines[-1] if valid else np.float32(-np.inf)
        places, segment_rows = partition.segments_of_rows(rows)
        item_ids = batch.generation.snapshot.items_of(segment_rows)
        if target.segments is not None or len(excluded):
            mask = np.ones(len(segment_rows), np.bool_) if target.segments is None else target.segments[segment_rows]
            if len(excluded):
                mask &= ~np.isin(item_ids, excluded)
            places = np.flatnonzero(mask) if places is None else places[mask]
            segment_rows, item_ids = segment_rows[mask], item_ids[mask]
        if places is not None:
            rows, cosines = rows[places], cosines[places]
        chances = partition.chances(segment_rows)
        candidates = Candidates(step.modality, rows, segment_rows, item_ids, cosines, chances)
        if valid == step.matching_rows or (valid < step.fetch_rows and step.strategy in _EXACT):
            return candidates
        scale = batch.scales[number][step.modality]
        if valid >= step.fetch_rows and _is_complete(candidates, plan, scale, float(least_cosine), valid):
            return candidates
        step = _wider(step, valid)
        found, _ = search_partition(target, step, vector[None])


def _is_complete(candidates: Candidates, plan: Plan, scale: PartitionScale, least_cosine: float, valid: int) -> bool:
    """Return whether no row that was not fetched can be among the best items, given the least cosine fetched."""
    if not len(candidates.chances) or candidates.chances.max() == 1:
        # each segment is an item of its own, and the order is that of the cosines
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


def _rank(batch: Batch, number: int, found: Mapping[Modality, Candidates], runs: tuple[PartitionRun, ...]) -> Result:
    """Return the result of a query, given the candidates of each partition; words are searched now."""
    plan, vector = batch.plans[number], batch.vectors[number]
    matches, word_run = (None, None) if plan.words is None else search_words(batch, number)
    started = perf_counter()
    source = StoreSource(batch.targets, batch.generation.snapshot)
    scored = score_found(batch, number, found, matches, source.has_copies)
    if scored is None:
        return Result([], plan, runs, batch.filter_ms, 1000 * (perf_counter() - started), 0.0, word_run)
    chosen = choose_hits(plan, scored, source)
    if chosen.lacks_items:  # many copies were folded
        wider = batch._replace(
            vectors=[vector],
            plans=[replace(plan, spare=FETCH_GROWTH_FACTOR * plan.depth)],
            items=[batch.items[number]],
            scales=[batch.scales[number]],
        )
        return replace(run_batch(wider)[0], plan=plan)
    ranked = perf_counter()
    hits = make_hits(plan, vector, scored, chosen, source)
    done = perf_counter()
    return Result(hits, plan, runs, batch.filter_ms, 1000 * (ranked - started), 1000 * (done - ranked), word_run)


def search_words(
    batch: Batch, number: int, corpus: WordCounts | None = None
) -> tuple[WordMatches | None, WordRun | None]:
    """Return what contains the words of a query, and the measurements; None if words are not searched.

    Args:
        batch: The queries.
        number: Number of the query.
        corpus: How common the words are; None: as in this store.
    """
    plan = batch.plans[number]
    if plan.words is None:
        return None, None
    from bindsearch.search.words.matches import MATCHES_PER_ITEM, find_words

    started = perf_counter()
    limit = MATCHES_PER_ITEM * plan.depth
    generation, excluded = batch.generation, batch.items[number].excluded
    matches, found = find_words(
        plan.words, generation.words, batch.targets, generation.snapshot, excluded, limit, corpus
    )
    return matches, WordRun(found, 1000 * (perf_counter() - started))


def score_found(
    batch: Batch,
    number: int,
    found: Mapping[Modality, Candidates],
    matches: WordMatches | None,
    has_copies: Callable[[Modality], bool],
) -> Scored | None:
    """Return what vectors and words found with its scores; None if that is nothing.

    Args:
        batch: The queries.
        number: Number of the query.
        found: The candidates of each partition that vectors found.
        matches: What words found; None if they were not searched.
        has_copies: Returns whether cosines show copies of a modality.
    """
    vector, scales = batch.vectors[number], batch.scales[number]
    present = [candidates for candidates in found.values() if len(candidates.rows)]
    if matches is not None:
        from bindsearch.search.words.matches import with_words

        present = with_words(present, matches, batch.targets, vector, batch.generation.snapshot)
    if not present:
        return None
    of_partitions = None if vector is None else [scales[candidates.modality] for candidates in present]
    scored = score_candidates(present, of_partitions, batch.items[number].identical)
    scored = raise_copies_of_query(scored, has_copies)
    if matches is not None:
        from bindsearch.search.words.matches import combine

        scored = combine(scored, matches)
    return scored
