"""Searches of one generation: preparation, planning and execution of queries."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from bindsearch.arguments import to_absolute
from bindsearch.indexes.types import UnitCosts
from bindsearch.search.executor import Batch, PreparedQuery, QueryItems, Result, run_batch
from bindsearch.search.filter import Filter, describe_filter, empty_folder_notices
from bindsearch.search.generation import Generation
from bindsearch.search.partition import FilteredPartition
from bindsearch.search.plan import Plan, PlanFacts, TermStep, WordStep
from bindsearch.search.planner import make_plan
from bindsearch.search.query import LIKE, Query, Ranking, Term, WordSearch, resolve_weights
from bindsearch.search.query_encoding import EncodedTerm, Source, find_item, is_text, stored_term
from bindsearch.search.query_syntax import format_query
from bindsearch.search.scoring.candidates import QueryVector, partition_scales
from bindsearch.search.scoring.probability import ProbabilityModel
from bindsearch.search.thread_pool import Workers
from bindsearch.storage.snapshot import Snapshot
from bindsearch.types import Item, Modality
from bindsearch.vectors import compose, scale_weights

if TYPE_CHECKING:
    from numpy.typing import NDArray

NO_ITEMS = QueryItems(np.zeros(0, np.int64), np.zeros(0, np.int64))


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
        return plan_query(self, prepared, targets, query_items(self.generation, prepared)[0])

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
            batch, notices = self.batch([prepared[number] for number in numbers])
            for number, notice, result in zip(numbers, notices, run_batch(batch), strict=True):
                results[number] = replace(result, notices=notice) if notice else result
        return [results[number] for number in range(len(prepared))]

    def batch(self, prepared: Sequence[PreparedQuery]) -> tuple[Batch, list[tuple[str, ...]]]:
        """Return queries with the same targets and filter with their plans, and the notices on each."""
        started = perf_counter()
        targets = self.generation.filtered(prepared[0].query.to, prepared[0].query.filter)
        plans, items, scales = [], [], []
        notices: list[tuple[str, ...]] = []
        for one in prepared:
            own, copies = query_items(self.generation, one) if any_items(one) else (NO_ITEMS, 0)
            plan = plan_query(self, one, targets, own)
            plans.append(plan)
            items.append(own)
            scales.append({} if one.vector is None else partition_scales(plan, one.vector, targets, self.model))
            notices.append((copies_notice(copies),) if copies else ())
        planned_ms = 1000 * (perf_counter() - started) / len(prepared)
        vectors = [one.vector for one in prepared]
        return Batch(self.generation, targets, vectors, plans, items, scales, self.workers, planned_ms), notices

    def problems(self, result: Result, filter: Filter, of_calibration: str | None) -> list[str]:
        """Return what is wrong with the filter's folders, the snapshot, the calibration, and indexes that it needed."""
        generation, snapshot = self.generation, self.generation.snapshot
        found = empty_folder_notices(filter, snapshot, snapshot.item_alive)
        found += [problem for problem in (generation.problem, of_calibration) if problem is not None]
        found += generation.words.problems if result.plan.words is not None else ()
        errors = [generation.partitions[step.modality].index_error for step in result.plan.partitions]
        return [*found, *(f"index not used, scanned exactly instead: {error}" for error in errors if error is not None)]


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


def term_steps(query: Query, terms: Sequence[EncodedTerm | Source]) -> tuple[TermStep, ...]:
    """Return a step for each term of a query, given the encoded or resolved terms."""
    weights = resolve_weights(query.terms)
    return tuple(
        TermStep(label, term.modality, weight, term.cost_note)
        for label, term, weight in zip(labels_of(query), terms, weights, strict=True)
    )


def labels_of(query: Query) -> tuple[str, ...]:
    """Return the text form of each term, without its weight."""
    return tuple(format_query((replace(term, weight=None, negative=False),)) for term in query.terms)


def query_items(generation: Generation, prepared: PreparedQuery) -> tuple[QueryItems, int]:
    """Find the items with the same content as the query's own files.

    If the file itself is indexed, or the term is `like`, other items are wanted: it and its copies are excluded, except
    with `include_query`. Else they are what is asked for: they certainly match a query of one term without a caption.

    Returns:
        The items, and the number of excluded ones that are copies.
    """
    divided, own = divide_items(prepared.query, same_content(generation.snapshot, prepared))
    return divided, len(divided.excluded) - own


class SameContent(NamedTuple):
    """Items with the same content as the file of a term.

    Attributes:
        items: Their ids: int64.
        has_itself: Whether the term's own file or item is among them.
    """

    items: NDArray[np.int64]
    has_itself: bool


NO_SAME_CONTENT = SameContent(NO_ITEMS.excluded, False)


def any_items(prepared: PreparedQuery) -> bool:
    """Return whether items may have the content of a term's file."""
    return any(content_hash is not None for content_hash in prepared.hashes)


def same_content(snapshot: Snapshot, prepared: PreparedQuery) -> tuple[SameContent, ...]:
    """Return the items with the content of each term's file; none for a text."""
    found = []
    for term, content_hash, item in zip(prepared.query.terms, prepared.hashes, prepared.items, strict=True):
        if content_hash:
            items = snapshot.items_with_content([content_hash])
            found.append(SameContent(items, term.kind == LIKE or names_one_of(term.source, items, snapshot)))
        else:
            found.append(NO_SAME_CONTENT if item is None else SameContent(np.array([item], np.int64), True))
    return tuple(found)


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


def names_one_of(source: str, item_ids: NDArray[np.int64], snapshot: Snapshot) -> bool:
    """Return whether the file of a term is that of one of these items."""
    if not len(item_ids):
        return False
    path = to_absolute(source)
    items = map(snapshot.item, item_ids.tolist())
    return any(item is not None and item.collection / item.rel_path == path for item in items)


def copies_notice(n: int) -> str:
    """Return the notice that copies of a query's files are not among the hits."""
    return f"copies of the query's own files are left out: {n} (--include-query)"


def compose_query(query: Query, encoded: Sequence[EncodedTerm]) -> QueryVector:
    """Return the vector of a query, given its encoded terms.

    Raises:
        UsageError: the terms cancel each other.
    """
    weights = resolve_weights(query.terms)
    vector = query_vector(np.stack([term.for_target(None) for term in encoded]), weights)
    targets = {target for term in encoded for target in term.embeddings if target is not None}
    by_target = {
        target: query_vector(np.stack([term.for_target(target) for term in encoded]), weights) for target in targets
    }
    return replace(vector, by_target=by_target) if by_target else vector


def prepare_query(
    query: Query, terms: Sequence[EncodedTerm | Source], items: Sequence[int | None], vector: QueryVector | None
) -> PreparedQuery:
    """Return a query with resolved terms.

    Args:
        query: The query.
        terms: Its terms, encoded or only resolved.
        items: Id of the item of each term that has no content to find copies by; None for another term.
        vector: Its vector; None if it is only explained.
    """
    notices = dict.fromkeys(notice for term in terms if isinstance(term, EncodedTerm) for notice in term.notices)
    hashes = tuple(term.content_hash for term in terms)
    return PreparedQuery(query, term_steps(query, terms), vector, hashes, tuple(items), tuple(notices))


def prepare_words(query: Query) -> PreparedQuery:
    """Prepare a query of which words alone are searched; nothing is encoded."""
    steps = tuple(
        TermStep(label, Modality.TEXT, weight, "its words, no model")
        if is_text(term)
        else TermStep(label, None, weight, "not used")
        for label, term, weight in zip(labels_of(query), query.terms, resolve_weights(query.terms), strict=True)
    )
    nothing = (None,) * len(steps)
    return PreparedQuery(query, steps, None, nothing, nothing)


def plan_query(
    search: GenerationSearch,
    prepared: PreparedQuery,
    targets: Mapping[Modality, FilteredPartition],
    items: QueryItems,
) -> Plan:
    """Return the plan of a query, from the generation's cache if possible.

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
    excluded = count_segments(items.excluded, generation.snapshot) if len(items.excluded) else 0
    like = tuple(
        target.partition.resemblance(None if vector is None else vector.by_target.get(modality, vector).vector)
        for modality, target in targets.items()
    )

    def make() -> Plan:
        facts = []
        for target, (is_inside, predicted) in zip(targets.values(), like, strict=True):
            known = replace(target.partition.facts, in_distribution=is_inside, predicted_source=predicted)
            if target.rows is not None:
                known = replace(known, matching_rows=target.rows.count, runs=target.rows.runs)
            facts.append(known)
        text = describe_filter(query.filter) if query.filter else None
        of_plan = PlanFacts(tuple(facts), prepared.terms, text, excluded, search.costs, search.notes, search.shards)
        return make_plan(query, of_plan)

    of_query = (query.to, query.k, query.ranking, query.filter, query.diversity, query.min_match, query.copies)
    key = (of_query, query.words, prepared.terms, excluded, like, search.costs, search.notes, search.shards)
    plan = generation.plans.get(key, make)
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
