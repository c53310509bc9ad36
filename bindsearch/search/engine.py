"""Searches of one generation: planning of queries, search of the partitions, ranking of what they give."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from bindsearch.indexes.types import SearchResult, UnitCosts
from bindsearch.search.filter import Filter, describe_filter, empty_folder_notices
from bindsearch.search.generation import PLAN_CACHE_SIZE, Generation
from bindsearch.search.partition import FilteredPartition
from bindsearch.search.plan import PartitionRun, PartitionStep, Plan, PlanFacts, Strategy, WordRun, WordStep
from bindsearch.search.planner import make_plan
from bindsearch.search.prepare import NO_ITEMS, PreparedQuery, QueryItems, divide_items, same_content
from bindsearch.search.query import Query, Ranking, Term, WordSearch
from bindsearch.search.query_encoding import EncodedTerm, find_item, is_text, stored_term
from bindsearch.search.scoring.hits import StoreSource, best_hits
from bindsearch.search.scoring.probability import ProbabilityModel
from bindsearch.search.scoring.scores import (
    Candidates,
    PartitionScale,
    PartitionStatistics,
    QueryVector,
    Scored,
    TargetScale,
    log_odds_of,
    make_scales,
    score_candidates,
    target_scales,
)
from bindsearch.search.thread_pool import Workers
from bindsearch.types import Hit, Item, Modality

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

_UNKNOWN: tuple[bool | None, Modality | None] = (None, None)
"""The resemblance of an unknown query, or to a partition without measured regions."""


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


class PlannedQuery(NamedTuple):
    """A query as it is searched.

    Attributes:
        vector: Its vector; None: words alone are searched.
        plan: Its plan.
        items: Items that have the content of its own files.
        scales: Scale of each partition.
        copies: Number of excluded items that are copies of its own files.
    """

    vector: QueryVector | None
    plan: Plan
    items: QueryItems
    scales: Mapping[Modality, PartitionScale]
    copies: int = 0


class Batch(NamedTuple):
    """Queries with the same targets and filter, which are searched together.

    Attributes:
        generation: The generation to search.
        targets: The target partitions, filtered.
        queries: The queries.
        workers: Threads to search with.
        filter_ms: Time of evaluating the filter and planning, in milliseconds a query.
    """

    generation: Generation
    targets: Mapping[Modality, FilteredPartition]
    queries: Sequence[PlannedQuery]
    workers: Workers
    filter_ms: float = 0.0


@dataclass(frozen=True)
class GenerationSearch:
    """Searches of one generation, with what the queries of a store share.

    Attributes:
        generation: The generation to search.
        model: Model of the probability of a match.
        workers: Threads to search with.
        costs: Measured unit costs.
        notes: Notes on devices for readers of a plan.
        shards: Number of shards that the files are divided among.
    """

    generation: Generation
    model: ProbabilityModel
    workers: Workers
    costs: UnitCosts
    notes: tuple[str, ...] = ()
    shards: int = 1

    @property
    def roots(self) -> Sequence[Path]:
        """Root folder of each collection."""
        return self.generation.snapshot.roots

    def stored_term(self, term: Term) -> EncodedTerm:
        """Return the encoded term of an indexed item; see `query_encoding.stored_term`."""
        return stored_term(term, self.generation.snapshot, self.generation.partitions)

    def find_item(self, source: str) -> Item:
        """Return the item with an id or path; see `query_encoding.find_item`."""
        return find_item(source, self.generation.snapshot)

    def near_words(self, tokens: Sequence[str]) -> Mapping[str, str]:
        """Return those of some tokens that occur nowhere, with a similar one that does."""
        from bindsearch.search.words.spelling import near_words

        return near_words(tokens, self.generation.words, self.generation.snapshot)

    def plan(self, prepared: PreparedQuery) -> Plan:
        """Return the plan of a query; nothing is searched."""
        targets = self.generation.filtered(prepared.query.to, prepared.query.filter)
        items, _ = divide_items(prepared.query, same_content(self.generation.snapshot, prepared))
        return plan_query(self, prepared, targets, items)[0]

    def search(self, prepared: Sequence[PreparedQuery]) -> list[Result]:
        """Return the result of each query; queries with the same targets and filter are searched together.

        Raises:
            UsageError: a filter is invalid.
        """
        groups: dict[object, list[int]] = {}
        for number, one in enumerate(prepared):
            groups.setdefault((one.query.to, one.query.filter), []).append(number)
        results: dict[int, Result] = {}
        for numbers in groups.values():
            batch = self.batch([prepared[number] for number in numbers])
            for number, query, found in zip(numbers, batch.queries, find_candidates(batch), strict=True):
                results[number] = rank(batch, query, found)
        return [results[number] for number in range(len(prepared))]

    def batch(self, prepared: Sequence[PreparedQuery]) -> Batch:
        """Return queries with the same targets and filter, with their plans.

        Items that have the content of a query's own files: if the file itself is indexed, or the term is `like`, other
        items are wanted, so it and its copies are excluded, except with `include_query`. Else they are what is asked
        for: they certainly match a query of one term without a caption.
        """
        started = perf_counter()
        generation = self.generation
        targets = generation.filtered(prepared[0].query.to, prepared[0].query.filter)
        queries = []
        for one in prepared:
            items, own = NO_ITEMS, 0
            if any(content_hash is not None for content_hash in one.hashes):
                items, own = divide_items(one.query, same_content(generation.snapshot, one))
            plan, known = plan_query(self, one, targets, items)
            scales: dict[Modality, PartitionScale] = {}
            if (vector := one.vector) is not None:
                statistics = [generation.partitions[to].statistics for to in known]
                vectors = [vector.by_target.get(to, vector).vector for to in known]
                scales = make_scales(known, list(map(PartitionStatistics.moments, statistics, vectors)))
            queries.append(PlannedQuery(vector, plan, items, scales, len(items.excluded) - own))
        return Batch(generation, targets, queries, self.workers, 1000 * (perf_counter() - started) / len(prepared))

    def problems(self, result: Result, filter: Filter, of_calibration: str | None) -> list[str]:
        """Return what is wrong with the filter's folders, the snapshot, the calibration, and indexes that it needed."""
        generation, snapshot = self.generation, self.generation.snapshot
        found = empty_folder_notices(filter, snapshot, snapshot.item_alive)
        found += [problem for problem in (generation.problem, of_calibration) if problem is not None]
        found += generation.words.problems if result.plan.words is not None else ()
        errors = [generation.partitions[step.modality].index_error for step in result.plan.partitions]
        return [*found, *(f"index not used, scanned exactly instead: {error}" for error in errors if error is not None)]


def copies_notice(n: int) -> str:
    """Return the notice that n copies of a query's files are not among the hits."""
    return f"copies of the query's own files are left out: {n} (--include-query)"


def plan_query(
    search: GenerationSearch,
    prepared: PreparedQuery,
    targets: Mapping[Modality, FilteredPartition],
    items: QueryItems,
) -> tuple[Plan, Mapping[Modality, TargetScale]]:
    """Return the plan of a query, from the generation's cache if possible, and what its scales depend on.

    A plan depends on the query vector only through the partitions that it is in the distribution of.

    Args:
        search: The generation, and what its queries share.
        prepared: The query.
        targets: The target partitions, filtered.
        items: Excluded items.
    """
    query, vector, generation = prepared.query, prepared.vector, search.generation
    words = None if query.words is WordSearch.OFF else word_step_of(generation, query)
    if query.words is WordSearch.ONLY:
        targets = {}
    excluded = sum(len(generation.snapshot.segments_of(item)) for item in items.excluded.tolist())
    like = tuple(
        [
            _UNKNOWN
            if vector is None or target.partition.regions is None
            else target.partition.resemblance(vector.by_target.get(modality, vector).vector)
            for modality, target in targets.items()
        ]
    )
    of_query = (query.to, query.k, query.ranking, query.filter, query.diversity, query.min_match, query.copies)
    key = (of_query, query.words, prepared.terms, excluded, like)
    settings = (search.model, search.costs, search.notes, search.shards)
    known = generation.plans.get(key)
    if known is None or known[0] != settings:
        facts = []
        for target, (is_inside, predicted) in zip(targets.values(), like, strict=True):
            own = replace(target.partition.facts, in_distribution=is_inside, predicted_source=predicted)
            if target.rows is not None:
                own = replace(own, matching_rows=target.rows.count, runs=target.rows.runs)
            facts.append(own)
        text = describe_filter(query.filter) if query.filter else None
        of_plan = PlanFacts(tuple(facts), prepared.terms, text, excluded, search.costs, search.notes, search.shards)
        plan = make_plan(query, of_plan)
        numbers = {
            step.modality: targets[step.modality].partition.items * step.matching_rows / max(step.live_rows, 1)
            for step in plan.partitions
            if step.strategy is not Strategy.SKIP
        }
        known = settings, plan, target_scales(plan.terms, numbers, search.model)
        with generation.lock:
            if len(generation.plans) >= PLAN_CACHE_SIZE:
                generation.plans.pop(next(iter(generation.plans)))  # the oldest
            generation.plans[key] = known
    _, plan, scales = known
    return plan if words is None else replace(plan, words=words), scales


def word_step_of(generation: Generation, query: Query) -> WordStep | None:
    """Return the step that searches the words of a query; None if they are not searched."""
    alone = query.words is WordSearch.ONLY
    if not alone and (query.words is WordSearch.OFF or query.ranking is not Ranking.PROBABILITY):
        return None
    if not alone and not any(map(is_text, query.terms)):
        return None
    from bindsearch.search.words.matches import word_step

    return word_step(query, generation.words)


def find_candidates(batch: Batch) -> list[dict[Modality, tuple[Candidates, PartitionRun]]]:
    """Return the candidates of each query by partition, with the measurements, in the order of the targets.

    Equal steps share one call per partition.
    """
    steps: dict[tuple[object, ...], tuple[PartitionStep, list[int]]] = {}
    for number, query in enumerate(batch.queries):
        for step in query.plan.partitions:
            if step.strategy is not Strategy.SKIP:
                key = (step.modality, step.strategy, step.probes, step.rerank, step.fetch_rows)
                steps.setdefault(key, (step, []))[1].append(number)
    costs_ms = [step.estimate_ms * len(numbers) for step, numbers in steps.values()]
    if len(steps) > 1 and sum(costs_ms) - max(costs_ms) >= THREAD_MS:
        ordered = sorted(steps.values(), key=lambda one: -one[0].estimate_ms * len(one[1]))  # the longest first
        done = batch.workers.run([partial(_search_step, batch, *one) for one in ordered])
    else:
        done = [_search_step(batch, *one) for one in steps.values()]
    found = {(number, run.modality): (segments, run) for answer in done for number, segments, run in answer}
    return [
        {modality: found[number, modality] for modality in batch.targets if (number, modality) in found}
        for number in range(len(batch.queries))
    ]


def _search_step(
    batch: Batch, step: PartitionStep, numbers: Sequence[int]
) -> list[tuple[int, Candidates, PartitionRun]]:
    """Search a partition for queries with the same step; return number, candidates and measurements of each."""
    started = perf_counter()
    vectors = [
        vector.by_target.get(step.modality, vector).vector
        for number in numbers
        if (vector := batch.queries[number].vector) is not None
    ]
    rows = vectors[0][None] if len(vectors) == 1 else np.stack(vectors)
    found, scored = search_partition(batch.targets[step.modality], step, rows)
    candidates = [
        _enough_items(batch, batch.queries[number], step, SearchResult(positions[None], cosines[None]), vector)
        for number, vector, positions, cosines in zip(numbers, vectors, *found, strict=True)
    ]
    took_ms = 1000 * (perf_counter() - started) / len(numbers)
    return [
        (number, segments, PartitionRun(step.modality, scored, len(segments.rows), took_ms))
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
    batch: Batch, query: PlannedQuery, step: PartitionStep, found: SearchResult, vector: NDArray[np.float32]
) -> Candidates:
    """Return the segments of at least k items and all ties with the last item.

    Searches again with a wider step as long as there may be more, or better ones: an item of many segments has a lower
    probability than one of few with the same cosine.
    """
    target, excluded = batch.targets[step.modality], query.items.excluded
    while True:
        (rows,), (cosines,) = found
        valid = len(rows)
        if not valid or rows[-1] < 0:
            valid = int(np.count_nonzero(rows >= 0))
            rows, cosines = rows[:valid], cosines[:valid]
        least_cosine = cosines[-1] if valid else np.float32(-np.inf)
        places, segment_rows, item_ids, chances = target.partition.segments_of_rows(rows)
        if places is not None:
            rows, cosines = rows[places], cosines[places]
        if target.segments is not None or len(excluded):
            mask = np.ones(len(segment_rows), np.bool_) if target.segments is None else target.segments[segment_rows]
            if len(excluded):
                mask &= ~np.isin(item_ids, excluded)
            rows, segment_rows, item_ids = rows[mask], segment_rows[mask], item_ids[mask]
            cosines, chances = cosines[mask], chances[mask]
        candidates = Candidates(step.modality, rows, segment_rows, item_ids, cosines, chances)
        if valid == step.matching_rows or (valid < step.fetch_rows and step.strategy in _EXACT):
            return candidates
        scale = query.scales[step.modality]
        if valid >= step.fetch_rows and _is_complete(candidates, query.plan, scale, float(least_cosine), valid):
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
        _, _, log_odds = log_odds_of(cosines, np.append(candidates.chances, 1), scale)
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


def rank(batch: Batch, query: PlannedQuery, found: Mapping[Modality, tuple[Candidates, PartitionRun]]) -> Result:
    """Return the result of a query, given the candidates of each partition; words are searched now.

    Equal scores are ordered by item id, so a query always gives the same list on the same generation.
    """
    plan, facts_ms = query.plan, 0.0
    matches, word_run = (None, None) if plan.words is None else search_words(batch, query)
    started = perf_counter()
    source = StoreSource(batch.targets, batch.generation.snapshot.facts)
    scored = score_found(batch, query, found, matches, source.has_copies)
    hits: list[Hit] | None = []
    if scored is not None:
        hits, facts_ms = best_hits(plan, query.vector, scored, source)
    if hits is None:  # many copies were folded
        wider = query._replace(plan=replace(plan, spare=FETCH_GROWTH_FACTOR * plan.depth))
        (found,) = find_candidates(batch._replace(queries=[wider]))
        return replace(rank(batch, wider, found), plan=plan)
    merge_ms = 1000 * (perf_counter() - started) - facts_ms
    runs = tuple([run for _, run in found.values()])
    notices = (copies_notice(query.copies),) if query.copies else ()
    return Result(hits, plan, runs, batch.filter_ms, merge_ms, facts_ms, word_run, notices)


def search_words(
    batch: Batch, query: PlannedQuery, corpus: WordCounts | None = None
) -> tuple[WordMatches | None, WordRun | None]:
    """Return what contains the words of a query, and the measurements; None if words are not searched.

    Args:
        batch: The queries.
        query: One of them.
        corpus: How common the words are; None: as in this store.
    """
    plan = query.plan
    if plan.words is None:
        return None, None
    from bindsearch.search.words.matches import MATCHES_PER_ITEM, find_words

    started = perf_counter()
    limit = MATCHES_PER_ITEM * plan.depth
    words, snapshot = batch.generation.words, batch.generation.snapshot
    matches, found = find_words(plan.words, words, batch.targets, snapshot, query.items.excluded, limit, corpus)
    return matches, WordRun(found, 1000 * (perf_counter() - started))


def score_found(
    batch: Batch,
    query: PlannedQuery,
    found: Mapping[Modality, tuple[Candidates, PartitionRun]],
    matches: WordMatches | None,
    has_copies: Callable[[Modality], bool],
) -> Scored | None:
    """Return what vectors and words found with its scores; None if that is nothing.

    Args:
        batch: The queries.
        query: One of them.
        found: The candidates of each partition that vectors found.
        matches: What words found; None if they were not searched.
        has_copies: Returns whether cosines show copies of a modality.
    """
    present = [candidates for candidates, _ in found.values() if len(candidates.rows)]
    if matches is not None:
        from bindsearch.search.words.matches import combine, with_words

        present = with_words(present, matches, batch.targets, query.vector, batch.generation.snapshot)
    if not present:
        return None
    scales = None if query.vector is None else [query.scales[candidates.modality] for candidates in present]
    scored = score_candidates(present, scales, query.items.identical, has_copies)
    return scored if matches is None else combine(scored, matches)
