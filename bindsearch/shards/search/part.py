"""The part of a search that one shard does: moments and counts, its best candidates, their vectors and metadata."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from bindsearch.search.engine import (
    Batch,
    GenerationSearch,
    PlannedQuery,
    find_candidates,
    plan_query,
    score_found,
    search_words,
    word_step_of,
)
from bindsearch.search.generation import Generation
from bindsearch.search.partition import FilteredPartition
from bindsearch.search.plan import Plan
from bindsearch.search.prepare import PreparedQuery, same_content
from bindsearch.search.scoring.hits import ranked_lists
from bindsearch.search.scoring.scores import Scored
from bindsearch.shards.search.messages import (
    Details,
    DetailsRequest,
    FoundPart,
    ModalitySummary,
    PreparedPart,
    PrepareRequest,
    Sample,
    SampleRequest,
    SearchRequest,
    Summary,
    TargetPart,
)
from bindsearch.storage.config import StoreConfig
from bindsearch.types import Modality

if TYPE_CHECKING:
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
        samples.append(Sample(vectors.astype(np.float16), partition.items_of_rows(rows)))
    return samples


def prepare_part(generation: Generation, request: PrepareRequest) -> PreparedPart:
    """Return what the scales of queries depend on.

    Raises:
        UsageError: the filter is invalid.
    """
    vectors = [prepared.vector for prepared in request.queries if prepared.vector is not None]
    targets = {}
    first = request.queries[0].query
    for modality, target in generation.filtered(first.to, first.filter).items():
        partition = target.partition
        if not partition.live_rows:
            continue
        matching = partition.live_rows if target.rows is None else target.rows.count
        moments = tuple(partition.statistics.moments(vector.for_target(modality).vector)[2:] for vector in vectors)
        targets[modality] = TargetPart(partition.items, partition.live_rows, matching, moments)
    words = tuple(_count_words(generation, prepared) for prepared in request.queries)
    return PreparedPart(targets, words, tuple(same_content(generation.snapshot, one) for one in request.queries))


def _count_words(generation: Generation, prepared: PreparedQuery) -> WordCounts | None:
    step = word_step_of(generation, prepared.query)
    if step is None:
        return None
    from bindsearch.search.words.matches import count_words

    return count_words(step, generation.words)


def search_part(search: GenerationSearch, request: SearchRequest) -> list[FoundPart]:
    """Return the best candidates for each query."""
    targets, plans = _plan(search, request)
    pairs = zip(plans, request.searches, strict=True)
    queries = [PlannedQuery(one.prepared.vector, plan, one.items, one.scales) for plan, one in pairs]
    batch = Batch(search.generation, targets, queries, search.workers)
    parts = []
    for query, found, one in zip(queries, find_candidates(batch), request.searches, strict=True):
        matches, word_run = search_words(batch, query, one.words)
        scored = score_found(batch, query, found, matches, request.has_copies.__contains__)
        best = None if scored is None else best_candidates(query.plan, scored)
        parts.append(FoundPart(query.plan, tuple(run for _, run in found.values()), word_run, best))
    return parts


def plan_part(search: GenerationSearch, request: SearchRequest) -> list[Plan]:
    """Return the plan of each query."""
    return _plan(search, request)[1]


def _plan(search: GenerationSearch, request: SearchRequest) -> tuple[Mapping[Modality, FilteredPartition], list[Plan]]:
    """Return the target partitions, filtered, and the plan of each query."""
    search = replace(search, shards=request.shards)
    first = request.searches[0].prepared.query
    targets = search.generation.filtered(first.to, first.filter)
    plans = []
    for one in request.searches:
        plan, _ = plan_query(search, one.prepared, targets, one.items)
        plans.append(plan if one.spare is None else replace(plan, spare=one.spare))
    return targets, plans


def best_candidates(plan: Plan, scored: Scored) -> Scored:
    """Return the best segment of each of the best items: as many as a router needs, and those with equal scores."""
    values, lists = ranked_lists(plan.ranking, scored)
    kept = []
    for best in lists:
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
    rows = snapshot.item_of_segment_rows[request.segment_rows]
    hashes = [content_hash or "" for content_hash in snapshot.items.column("content_hash").take(rows).to_pylist()]
    dim = next(iter(generation.partitions.values())).dim
    vectors = np.empty((len(facts) if request.with_vectors else 0, dim), np.float16)
    if request.with_vectors:
        for modality in set(request.modalities):
            mask = np.array([one is modality for one in request.modalities])
            vectors[mask] = generation.partitions[modality].rows.gather(request.rows[mask])
    return Details(vectors, tuple(facts), tuple(hashes))
