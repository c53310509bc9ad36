"""Searches of one generation: preparation, planning and execution of queries."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from bindsearch.arguments import to_absolute
from bindsearch.indexes.types import UnitCosts
from bindsearch.search.executor import QueryItems, Result, run_plans, run_words
from bindsearch.search.filter import describe_filter
from bindsearch.search.generation import Generation
from bindsearch.search.plan import PartitionFacts, Plan, PlanFacts, WordStep
from bindsearch.search.planner import make_plan
from bindsearch.search.query import LIKE, Query, Ranking, Term, WordSearch, resolve_weights
from bindsearch.search.query_encoding import EncodedTerm, find_item, is_text
from bindsearch.search.query_syntax import format_query
from bindsearch.search.scoring.candidates import FilteredPartition, QueryVector
from bindsearch.search.scoring.probability import ProbabilityModel
from bindsearch.search.thread_pool import Workers
from bindsearch.storage.snapshot import Snapshot
from bindsearch.types import Modality
from bindsearch.vectors import compose, scale_weights

if TYPE_CHECKING:
    from numpy.typing import NDArray

NO_ITEMS = QueryItems(np.zeros(0, np.int64), np.zeros(0, np.int64))


@dataclass(frozen=True)
class ResolvedTerms:
    """Resolved terms of a query, with one entry per term in each field.

    Attributes:
        sources: Modality of each term; None if unknown.
        labels: Text form of each term, without its weight.
        weights: Weight of each term.
        cost_notes: What encoding each term requires, as text.
    """

    sources: tuple[Modality | None, ...] = (None,)
    labels: tuple[str, ...] = ("vector",)
    weights: tuple[float, ...] = (1.0,)
    cost_notes: tuple[str, ...] = ("a query vector",)


@dataclass(frozen=True)
class PreparedQuery:
    """A query ready to be planned.

    Attributes:
        query: The query.
        terms: Its resolved terms.
        vector: Its vector; None if the query is only explained, or if words alone are searched.
        items: Items with the same content as the query's own files.
        excluded_rows: Number of segments of the excluded ones.
        notices: What of the query's files is not used.
    """

    query: Query
    terms: ResolvedTerms
    vector: QueryVector | None
    items: QueryItems = NO_ITEMS
    excluded_rows: int = 0
    notices: tuple[str, ...] = ()


@dataclass(frozen=True)
class PlanContext:
    """Context of planning.

    Attributes:
        costs: Measured unit costs.
        notes: Notes on devices for readers of the plan.
        shards: Number of shards that the files are divided among.
    """

    costs: UnitCosts
    notes: tuple[str, ...]
    shards: int = 1


def query_vector(embeddings: NDArray[np.float32], weights: Sequence[float]) -> QueryVector:
    """Compose a query vector from its terms.

    Scaling the terms by their temperatures would not change the result, as `compose` normalises each term (ImageBind
    paper, B.4).

    Args:
        embeddings: Unit vector of each term: float32 (t, d).
        weights: Weight of each term.

    Raises:
        UsageError: the terms cancel each other.
    """
    vector = compose(embeddings, weights)
    parts = scale_weights(weights)[:, None] * embeddings
    return QueryVector(vector, parts / np.linalg.norm(parts.sum(axis=0)))


def labels_of(query: Query) -> tuple[str, ...]:
    """Return the text form of each term, without its weight."""
    return tuple(format_query((replace(term, weight=None, negative=False),)) for term in query.terms)


def query_items(generation: Generation, query: Query, hashes: Sequence[str | None]) -> tuple[QueryItems, int, int]:
    """Find the items with the same content as the query's own files.

    If the file itself is indexed, or the term is `like`, other items are wanted: it and its copies are excluded, except
    with `include_query`. Else they are what is asked for: they certainly match a query of one term without a caption.

    Args:
        generation: The generation to search.
        query: The query.
        hashes: Content hash of each term's file; None for a text, "" for an item whose content is unknown.

    Returns:
        The items, the number of segments of excluded ones, and the number of those that are copies.
    """
    snapshot = generation.snapshot
    found = []
    for term, content_hash in zip(query.terms, hashes, strict=True):
        if content_hash is None:
            found.append(NO_SAME_CONTENT)
        else:
            items = snapshot.items_with_content([content_hash]) if content_hash else _item_itself(term, snapshot)
            found.append(SameContent(items, term.kind == LIKE or names_one_of(term.source, items, snapshot)))
    divided, own = divide_items(query, found)
    return divided, count_segments(divided.excluded, snapshot), len(divided.excluded) - own


class SameContent(NamedTuple):
    """Items with the same content as the file of a term.

    Attributes:
        items: Their ids: int64.
        has_itself: Whether the term's own file or item is among them.
    """

    items: NDArray[np.int64]
    has_itself: bool


NO_SAME_CONTENT = SameContent(NO_ITEMS.excluded, False)


def divide_items(query: Query, found: Sequence[SameContent]) -> tuple[QueryItems, int]:
    """Return which items with the content of a query's files are excluded, and which certainly match.

    Args:
        query: The query.
        found: Items with the content of each term's file; none for a text.

    Returns:
        The items, and how many excluded ones are the query's own, not copies.
    """
    is_own = [of_term.has_itself and not query.include_query for of_term in found]
    excluded = [of_term.items for of_term, own in zip(found, is_own, strict=True) if own]
    identical = [of_term.items for of_term, own in zip(found, is_own, strict=True) if not own]
    hidden = np.unique(np.concatenate([NO_ITEMS.excluded, *excluded]))
    own_files = len({items.tobytes() for items in excluded})
    is_one_file = len(query.terms) == 1 and resolve_weights(query.terms)[0] > 0 and not query.terms[0].caption
    certain = np.concatenate([NO_ITEMS.identical, *identical]) if is_one_file else NO_ITEMS.identical
    return QueryItems(hidden, certain), own_files


def count_segments(item_ids: NDArray[np.int64], snapshot: Snapshot) -> int:
    """Return the number of segments of items."""
    return sum(len(snapshot.segments_of(item)) for item in item_ids.tolist())


def _item_itself(term: Term, snapshot: Snapshot) -> NDArray[np.int64]:
    """Return the id of the item that a term names: int64 (1,). Imported items have no content to find copies by."""
    return np.array([find_item(term.source, snapshot).item_id], np.int64)


def names_one_of(source: str, item_ids: NDArray[np.int64], snapshot: Snapshot) -> bool:
    """Return whether the file of a term is that of one of these items."""
    if not len(item_ids):
        return False
    path = to_absolute(source)
    items = map(snapshot.item, item_ids.tolist())
    return any(item is not None and item.collection / item.rel_path == path for item in items)


def prepare_query(generation: Generation, query: Query, encoded: Sequence[EncodedTerm]) -> PreparedQuery:
    """Prepare a query for planning, given its encoded terms.

    Raises:
        UsageError: the terms cancel each other.
    """
    terms, vector = compose_query(query, encoded)
    items, rows, copies = query_items(generation, query, [term.content_hash for term in encoded])
    notices = [notice for term in encoded for notice in term.notices]
    if copies:
        notices.append(copies_notice(copies))
    return PreparedQuery(query, terms, vector, items, rows, tuple(dict.fromkeys(notices)))


def copies_notice(n: int) -> str:
    """Return the notice that copies of a query's files are not among the hits."""
    return f"copies of the query's own files are left out: {n} (--include-query)"


def compose_query(query: Query, encoded: Sequence[EncodedTerm]) -> tuple[ResolvedTerms, QueryVector]:
    """Return the resolved terms of a query and its vector, given its encoded terms.

    Raises:
        UsageError: the terms cancel each other.
    """
    weights = resolve_weights(query.terms)
    terms = ResolvedTerms(
        sources=tuple(term.modality for term in encoded),
        labels=labels_of(query),
        weights=weights,
        cost_notes=tuple(term.cost_note for term in encoded),
    )
    vector = query_vector(np.stack([term.for_target(None) for term in encoded]), weights)
    targets = {target for term in encoded for target in term.embeddings if target is not None}
    by_target = {
        target: query_vector(np.stack([term.for_target(target) for term in encoded]), weights) for target in targets
    }
    if by_target:
        vector = replace(vector, by_target=by_target)
    return terms, vector


def prepare_words(query: Query) -> PreparedQuery:
    """Prepare a query of which words alone are searched; nothing is encoded."""
    sources = tuple(Modality.TEXT if is_text(term) else None for term in query.terms)
    notes = tuple("its words, no model" if source else "not used" for source in sources)
    return PreparedQuery(query, ResolvedTerms(sources, labels_of(query), resolve_weights(query.terms), notes), None)


def plan_query(generation: Generation, prepared: PreparedQuery, context: PlanContext) -> Plan:
    """Return the plan of a query, from the generation's cache if possible.

    A plan depends on the query vector only through the partitions that it is in the distribution of.

    Args:
        generation: The generation to search.
        prepared: The query.
        context: Unit costs and notes on devices.

    Raises:
        UsageError: the filter is invalid.
    """
    query = prepared.query
    words = word_step_of(generation, query)
    vector = prepared.vector
    targets = filtered_partitions(generation, query)
    if query.words is WordSearch.ONLY:
        return replace(_make_plan(prepared, (), context), words=words)
    partitions = tuple(
        generation.facts(target, None if vector is None else vector.for_target(modality).vector)
        for modality, target in targets.items()
    )
    distributions = tuple((facts.in_distribution, facts.predicted_source) for facts in partitions)
    of_query = (query.to, query.k, query.ranking, query.filter, query.diversity, query.min_match, query.copies)
    key = (of_query, prepared.terms, prepared.excluded_rows, distributions, context)
    plan = generation.plan(key, lambda: _make_plan(prepared, partitions, context))
    return plan if words is None else replace(plan, words=words)


def word_step_of(generation: Generation, query: Query) -> WordStep | None:
    """Return the step that searches the words of a query; None if they are not searched."""
    alone = query.words is WordSearch.ONLY
    if not alone and (query.words is WordSearch.OFF or query.ranking is not Ranking.PROBABILITY):
        return None
    if not alone and not any(map(is_text, query.terms)):
        return None
    from bindsearch.search.words.matches import word_step

    return word_step(query, generation.words)


def _make_plan(prepared: PreparedQuery, partitions: tuple[PartitionFacts, ...], context: PlanContext) -> Plan:
    return make_plan(
        prepared.query,
        PlanFacts(
            partitions=partitions,
            sources=prepared.terms.sources,
            labels=prepared.terms.labels,
            weights=prepared.terms.weights,
            cost_notes=prepared.terms.cost_notes,
            filter=describe_filter(prepared.query.filter) if prepared.query.filter else None,
            excluded=prepared.excluded_rows,
            costs=context.costs,
            notes=context.notes,
            shards=context.shards,
        ),
    )


def filtered_partitions(generation: Generation, query: Query) -> dict[Modality, FilteredPartition]:
    """Return the target partitions of a query with its filter.

    Raises:
        UsageError: the filter is invalid.
    """
    targets = [modality for modality in query.to if modality in generation.partitions]
    return {modality: generation.filtered(modality, query.filter) for modality in targets}


def run(
    generation: Generation,
    prepared: Sequence[PreparedQuery],
    plans: Sequence[Plan],
    model: ProbabilityModel,
    workers: Workers,
) -> list[Result]:
    """Run the plans of queries; queries with the same targets and filter are searched together.

    Args:
        generation: The generation to search.
        prepared: The queries; each has a vector, except those of which words alone are searched.
        plans: The plan of each query.
        model: Model of the probability of a match.
        workers: Threads to search with.

    Returns:
        The result of each query.

    Raises:
        UsageError: a filter is invalid.
    """
    results: list[Result | None] = [None] * len(prepared)
    groups: dict[object, list[int]] = {}
    for number, query in enumerate(prepared):
        if query.query.words is WordSearch.ONLY:
            targets = filtered_partitions(generation, query.query)
            results[number] = run_words(plans[number], targets, generation.snapshot, query.items, generation.words)
        else:
            groups.setdefault((query.query.to, query.query.filter), []).append(number)
    for numbers in groups.values():
        targets = filtered_partitions(generation, prepared[numbers[0]].query)
        vectors = [vector for number in numbers if (vector := prepared[number].vector) is not None]
        items = [prepared[number].items for number in numbers]
        group_plans = [plans[number] for number in numbers]
        words = generation.words if any(plan.words is not None for plan in group_plans) else None
        group_results = run_plans(group_plans, vectors, targets, generation.snapshot, items, model, workers, words)
        for number, result in zip(numbers, group_results, strict=True):
            results[number] = result
    return [result for result in results if result is not None]
