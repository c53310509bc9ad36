"""Searching one generation: the facts for the planner, plans, and running them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from bindsearch.indexes.types import UnitCosts
from bindsearch.search.executor import FilteredPartition, QueryVector, Result, run_plans
from bindsearch.search.filter import describe_filter
from bindsearch.search.generation import Generation
from bindsearch.search.plan import PartitionFacts, Plan, PlanFacts
from bindsearch.search.planner import make_plan
from bindsearch.search.query import Query, format_query, resolve_weights
from bindsearch.search.query_encoding import EncodedTerm
from bindsearch.search.thread_pool import Workers
from bindsearch.types import Modality
from bindsearch.vectors import compose

if TYPE_CHECKING:
    from numpy.typing import NDArray

NO_ITEMS = np.zeros(0, np.int64)


@dataclass(frozen=True)
class ResolvedTerms:
    """The terms of a query as they were understood: modality (None: not known), text form, weight, and what making the
    vector takes; one entry a term each."""

    sources: tuple[Modality | None, ...] = (None,)
    labels: tuple[str, ...] = ("vector",)
    weights: tuple[float, ...] = (1.0,)
    loads: tuple[str, ...] = ("a ready vector",)


@dataclass(frozen=True)
class PreparedQuery:
    """A query ready to be planned; `vector` None: to be explained only. `excluded`: ids of items left out, with
    `excluded_rows` segments."""

    query: Query
    terms: ResolvedTerms
    vector: QueryVector | None
    excluded: NDArray[np.int64]
    excluded_rows: int = 0


@dataclass(frozen=True)
class PlanContext:
    """Context of planning: measured costs, and notes on the devices for readers of the plan."""

    costs: UnitCosts
    notes: tuple[str, ...]


def query_vector(embeddings: NDArray[np.float32], weights: Sequence[float]) -> QueryVector:
    """The composed query of unit term vectors (t, d), and each term's share of it.

    Scaling the terms by their temperatures first would change nothing, since composing normalises each (paper, B.4).

    Raises:
        UsageError: the terms cancel.
    """
    vector = compose(embeddings, weights)
    parts = np.asarray(weights, np.float32)[:, None] * embeddings
    return QueryVector(vector, parts / np.linalg.norm(parts.sum(axis=0)))


def labels_of(query: Query) -> tuple[str, ...]:
    """The text form of each term, its weight apart."""
    return tuple(format_query((replace(term, weight=None, negative=False),)) for term in query.terms)


def excluded_items(generation: Generation, query: Query, hashes: Sequence[str]) -> tuple[NDArray[np.int64], int]:
    """Items with the content of the query's own files, which it does not find, and their number of segments."""
    if not hashes or query.include_query:
        return NO_ITEMS, 0
    items = generation.snapshot.items_with_content(hashes)
    return items, sum(len(generation.snapshot.segments_of(item)) for item in items.tolist())


def prepare_query(generation: Generation, query: Query, encoded: Sequence[EncodedTerm]) -> PreparedQuery:
    """A query with its terms encoded, ready to be planned.

    Raises:
        UsageError: the terms cancel.
    """
    weights = resolve_weights(query.terms)
    excluded, rows = excluded_items(
        generation, query, [term.content_hash for term in encoded if term.content_hash is not None]
    )
    terms = ResolvedTerms(
        sources=tuple(term.modality for term in encoded),
        labels=labels_of(query),
        weights=weights,
        loads=tuple(term.cost_note for term in encoded),
    )
    vector = query_vector(np.stack([term.embedding for term in encoded]), weights)
    return PreparedQuery(query, terms, vector, excluded, rows)


def plan_query(generation: Generation, asked: PreparedQuery, machine: PlanContext) -> Plan:
    """The plan of a query. Plans are remembered: what they depend on of the vector is which partitions it lies in.

    Raises:
        UsageError: its filter cannot be used.
    """
    query = asked.query
    vector = None if asked.vector is None else asked.vector.vector
    places = _places(generation, query)
    partitions = tuple(generation.facts(place, vector) for place in places.values())
    inside = tuple((facts.in_distribution, facts.predicted_source) for facts in partitions)
    of_query = (query.to, query.k, query.ranking, query.filter, query.diversity)
    key = (of_query, asked.terms, asked.excluded_rows, inside, machine)
    return generation.plan(key, lambda: _make_plan(asked, partitions, machine))


def _make_plan(asked: PreparedQuery, partitions: tuple[PartitionFacts, ...], machine: PlanContext) -> Plan:
    return make_plan(
        asked.query,
        PlanFacts(
            partitions=partitions,
            sources=asked.terms.sources,
            labels=asked.terms.labels,
            weights=asked.terms.weights,
            cost_notes=asked.terms.loads,
            filter=describe_filter(asked.query.filter) if asked.query.filter else None,
            excluded=asked.excluded_rows,
            costs=machine.costs,
            notes=machine.notes,
        ),
    )


def _places(generation: Generation, query: Query) -> dict[Modality, FilteredPartition]:
    held = [modality for modality in query.to if modality in generation.partitions]
    return {modality: generation.searched(modality, query.filter) for modality in held}


def run(
    generation: Generation, asked: Sequence[PreparedQuery], plans: Sequence[Plan], workers: Workers
) -> list[Result]:
    """Answer queries by their plans; queries with the same targets and filter share the work."""
    results: list[Result | None] = [None] * len(asked)
    groups: dict[object, list[int]] = {}
    for number, one in enumerate(asked):
        groups.setdefault((one.query.to, one.query.filter), []).append(number)
    for numbers in groups.values():
        places = _places(generation, asked[numbers[0]].query)
        vectors = [vector for number in numbers if (vector := asked[number].vector) is not None]
        excluded = [asked[number].excluded for number in numbers]
        chosen = [plans[number] for number in numbers]
        found = run_plans(chosen, vectors, places, generation.snapshot, excluded, workers)
        for number, result in zip(numbers, found, strict=True):
            results[number] = result
    return [result for result in results if result is not None]
