"""The part of a search that one shard does: moments and counts, its best candidates, their vectors and metadata."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from bindsearch.search.engine import (
    NO_SAME_CONTENT,
    PlanContext,
    PreparedQuery,
    SameContent,
    count_segments,
    filtered_partitions,
    names_one_of,
    plan_query,
)
from bindsearch.search.executor import find_candidates, score_found, search_words
from bindsearch.search.generation import Generation
from bindsearch.search.plan import Plan
from bindsearch.search.query import LIKE, Ranking
from bindsearch.search.ranking import best_of_each_item
from bindsearch.search.scoring.candidates import Scored
from bindsearch.search.scoring.hits import ranked_values
from bindsearch.search.thread_pool import Workers
from bindsearch.shards.search.messages import (
    Details,
    DetailsRequest,
    FoundPart,
    ModalitySummary,
    PreparedPart,
    PrepareRequest,
    RoutedQuery,
    Sample,
    SampleRequest,
    SearchRequest,
    Summary,
    TargetPart,
)
from bindsearch.storage.config import StoreConfig

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from bindsearch.search.words.matches import WordCounts

COMPARED_FACTOR = 2
"""A router looks for copies among this many times as many items as it needs; see `scoring.hits`."""

MAX_TIES = 1024
"""Most further candidates that are returned because their score equals that of the last."""


def summarize(generation: Generation, config: StoreConfig) -> Summary:
    """Return the state of a generation."""
    modalities = {
        modality: ModalitySummary(partition.statistics.n, partition.statistics.mu, partition.live_rows)
        for modality, partition in generation.partitions.items()
        if partition.live_rows
    }
    errors = [partition.index_error for partition in generation.partitions.values()]
    problems = [f"index not used, scanned exactly instead: {error}" for error in errors if error is not None]
    if generation.problem is not None:
        problems.insert(0, generation.problem)
    snapshot = generation.snapshot
    return Summary(snapshot.manifest.generation, config, snapshot.roots, modalities, tuple(problems))


def take_sample(generation: Generation, request: SampleRequest) -> list[Sample]:
    """Return evenly spaced vectors of each modality of a request, in its order."""
    samples = []
    for modality, size in request.sizes.items():
        partition = generation.partitions[modality]
        rows, vectors = partition.sample(size)
        positions, segment_rows = partition.segments_of_rows(rows)
        _, firsts = np.unique(positions, return_index=True)
        items = generation.snapshot.items_of(segment_rows[firsts])
        samples.append(Sample(vectors.astype(np.float16), items))
    return samples


def prepare_part(generation: Generation, request: PrepareRequest) -> PreparedPart:
    """Return what the scales of queries depend on.

    Raises:
        UsageError: the filter is invalid.
    """
    vectors = [routed.vector for routed in request.queries]
    targets = {}
    for modality, target in filtered_partitions(generation, request.queries[0].query).items():
        partition = target.partition
        if not partition.live_rows:
            continue
        matching = partition.live_rows if target.rows is None else target.rows.count
        moments = tuple(
            partition.statistics.moments(vector.for_target(modality).vector) for vector in vectors if vector is not None
        )
        targets[modality] = TargetPart(partition.items, partition.live_rows, matching, moments)
    return PreparedPart(
        targets,
        tuple(_count_words(generation, routed) for routed in request.queries),
        tuple(_same_content(generation, routed) for routed in request.queries),
    )


def _count_words(generation: Generation, routed: RoutedQuery) -> WordCounts | None:
    from bindsearch.search.engine import word_step_of

    step = word_step_of(generation, routed.query)
    if step is None:
        return None
    from bindsearch.search.words.matches import count_words

    return count_words(step, generation.words)


def _same_content(generation: Generation, routed: RoutedQuery) -> tuple[SameContent, ...]:
    """Return the items with the content of each term's file."""
    snapshot = generation.snapshot
    found = []
    for term, content_hash, item in zip(routed.query.terms, routed.hashes, routed.items, strict=True):
        if content_hash:
            items = snapshot.items_with_content([content_hash])
            has_itself = term.kind == LIKE or names_one_of(term.source, items, snapshot)
            found.append(SameContent(items, has_itself))
        elif item is not None:
            found.append(SameContent(np.array([item], np.int64), True))
        else:
            found.append(NO_SAME_CONTENT)
    return tuple(found)


def search_part(
    generation: Generation, request: SearchRequest, context: PlanContext, workers: Workers
) -> list[FoundPart]:
    """Return the best candidates for each query."""
    snapshot = generation.snapshot
    searches = request.searches
    searched = filtered_partitions(generation, searches[0].routed.query)
    plans = plan_part(generation, request, context)
    with_vector = [number for number, search in enumerate(searches) if search.routed.vector is not None]
    found, runs = find_candidates(
        [plans[number] for number in with_vector],
        [vector for search in searches if (vector := search.routed.vector) is not None],
        searched,
        snapshot,
        [searches[number].items for number in with_vector],
        [searches[number].scales for number in with_vector],
        workers,
    )
    by_query = {number: (found[place], runs[place]) for place, number in enumerate(with_vector)}
    parts = []
    for number, (plan, search) in enumerate(zip(plans, searches, strict=True)):
        candidates, measured = by_query.get(number, ({}, {}))
        words = None if plan.words is None else generation.words
        matches, word_run = search_words(plan, words, searched, snapshot, search.items.excluded, search.words)
        scored = score_found(
            search.routed.vector,
            [candidates[modality] for modality in searched if modality in candidates],
            searched,
            search.scales,
            search.items.identical,
            matches,
            snapshot,
            request.has_copies.__contains__,
        )
        best = None if scored is None else best_candidates(plan, scored)
        parts.append(FoundPart(plan, tuple(measured.values()), word_run, best))
    return parts


def plan_part(generation: Generation, request: SearchRequest, context: PlanContext) -> list[Plan]:
    """Return the plan of each query."""
    plans = []
    for search in request.searches:
        routed = search.routed
        excluded = count_segments(search.items.excluded, generation.snapshot)
        prepared = PreparedQuery(routed.query, routed.terms, routed.vector, search.items, excluded)
        plan = plan_query(generation, prepared, replace(context, shards=request.shards))
        plans.append(plan if search.spare is None else replace(plan, spare=search.spare))
    return plans


def best_candidates(plan: Plan, scored: Scored) -> Scored:
    """Return the best segment of each of the best items: as many as a router needs, and those with equal scores."""
    values = ranked_values(plan.ranking, scored)
    every = np.arange(len(values))
    parts: Sequence[NDArray[np.int64]] = [every]
    if plan.ranking is Ranking.PER_MODALITY:
        parts = [every[scored.owner == number] for number in range(len(scored.modalities))]
    kept = []
    for part in parts:
        best = part[best_of_each_item(values[part], scored.item_ids[part], scored.segment_rows[part], len(part))]
        most = COMPARED_FACTOR * plan.depth
        if len(best) > most:
            ties = int(np.count_nonzero(values[best[most:]] == values[best[most - 1]]))
            best = best[: most + min(ties, MAX_TIES)]
        kept.append(best)
    return scored.take(np.concatenate(kept))


def details_of(generation: Generation, request: DetailsRequest) -> Details:
    """Return vectors and metadata of candidates."""
    snapshot = generation.snapshot
    facts = snapshot.facts(request.segment_rows)
    rows = snapshot.item_of_segment_rows()[request.segment_rows]
    hashes = [content_hash or "" for content_hash in snapshot.items.column("content_hash").take(rows).to_pylist()]
    dim = next(iter(generation.partitions.values())).dim
    vectors = np.empty((len(facts) if request.with_vectors else 0, dim), np.float16)
    if request.with_vectors:
        for modality in set(request.modalities):
            mask = np.array([one is modality for one in request.modalities])
            vectors[mask] = generation.partitions[modality].rows.gather(request.rows[mask])
    return Details(vectors, tuple(facts), tuple(hashes))
