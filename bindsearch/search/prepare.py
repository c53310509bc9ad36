"""Queries before planning: terms with their vectors, and the items that have the content of a query's own files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from bindsearch.arguments import to_absolute
from bindsearch.search.plan import TermStep
from bindsearch.search.query import LIKE, Query, resolve_weights
from bindsearch.search.query_encoding import EncodedTerm, Source, is_text
from bindsearch.search.query_syntax import format_query
from bindsearch.search.scoring.scores import QueryVector
from bindsearch.storage.snapshot import Snapshot
from bindsearch.types import Modality
from bindsearch.vectors import compose, scale_weights

if TYPE_CHECKING:
    from numpy.typing import NDArray


class QueryItems(NamedTuple):
    """Items with the same content as a query's own files.

    Attributes:
        excluded: Ids of items that must not be hits: int64.
        identical: Ids of items that certainly match: int64.
    """

    excluded: NDArray[np.int64]
    identical: NDArray[np.int64]


NO_ITEMS = QueryItems(np.zeros(0, np.int64), np.zeros(0, np.int64))


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


class SameContent(NamedTuple):
    """Items with the same content as the file of a term.

    Attributes:
        items: Their ids: int64.
        has_itself: Whether the term's own file or item is among them.
    """

    items: NDArray[np.int64]
    has_itself: bool


NO_SAME_CONTENT = SameContent(NO_ITEMS.excluded, False)


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


def names_one_of(source: str, item_ids: NDArray[np.int64], snapshot: Snapshot) -> bool:
    """Return whether the file of a term is that of one of these items."""
    if not len(item_ids):
        return False
    path = to_absolute(source)
    items = map(snapshot.item, item_ids.tolist())
    return any(item is not None and item.collection / item.rel_path == path for item in items)
