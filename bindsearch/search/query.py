"""Queries: terms and arithmetic on terms. Their text form is in `query_syntax`."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from numbers import Integral
from os import PathLike, fspath

from bindsearch.errors import UsageError
from bindsearch.former_names import former_fields, former_keywords
from bindsearch.search.filter import NO_FILTER, Filter
from bindsearch.types import Modality, Span

LIKE = "like"
PREFIXES = (*(modality.value for modality in Modality), LIKE)


class Ranking(StrEnum):
    """Ranking of hits of several modalities."""

    CALIBRATED = "calibrated"
    COSINE = "cosine"
    PER_MODALITY = "per-modality"


Rank = Ranking
"""The former name."""


@dataclass(frozen=True, slots=True)
class Term:
    """One term of a query.

    Attributes:
        kind: A modality, "like", or None for "a file if it exists, else text".
        source: The text, path or item.
        weight: The weight. None: 1/n if no term is weighted, else 1.
        negative: Whether to subtract a term without a weight.
        span: Span of a recording to use; None for all of it.
    """

    kind: str | None
    source: str
    weight: float | None = None
    negative: bool = False
    span: Span | None = None

    def __add__(self, other: Term | Composition) -> Composition:
        return Composition((self,)) + other

    def __sub__(self, other: Term | Composition) -> Composition:
        return Composition((self,)) - other

    def __neg__(self) -> Term:
        if self.weight is None:
            return replace(self, negative=not self.negative)
        return replace(self, weight=-self.weight)

    def __mul__(self, factor: float) -> Term:
        (weight,) = resolve_weights((self,)) if self.weight is not None else (-1.0 if self.negative else 1.0,)
        return replace(self, weight=float(factor) * weight, negative=False)

    __rmul__ = __mul__

    def __truediv__(self, divisor: float) -> Term:
        return self * (1.0 / float(divisor))


@dataclass(frozen=True, slots=True)
class Composition:
    """A weighted sum of terms."""

    terms: tuple[Term, ...]

    def __add__(self, other: Term | Composition) -> Composition:
        return Composition(self.terms + terms_of(other))

    def __sub__(self, other: Term | Composition) -> Composition:
        return Composition(self.terms + tuple(-term for term in terms_of(other)))

    def __neg__(self) -> Composition:
        return Composition(tuple(-term for term in self.terms))

    def __mul__(self, factor: float) -> Composition:
        return Composition(tuple(factor * term for term in self.terms))

    __rmul__ = __mul__

    def __truediv__(self, divisor: float) -> Composition:
        return self * (1.0 / float(divisor))


Searchable = str | Term | Composition


@former_fields(rank="ranking", diverse="diversity")
@dataclass(frozen=True, slots=True)
class Query:
    """A query.

    Attributes:
        terms: The terms, at least one.
        to: Target modalities, at least one.
        k: Number of items to return, at least 1.
        ranking: Ranking of hits of several modalities.
        include_query: Whether items with the same content as the query's own files may be hits.
        filter: Filter of the segments.
        diversity: Diversity in 0..1 (maximal marginal relevance): 0 is relevance only, 1 is diversity only.

    Raises:
        UsageError: no term, an infinite weight, a source that is not UTF-8, no target, k < 1, or `diversity` outside
            0..1.
    """

    terms: tuple[Term, ...]
    to: tuple[Modality, ...] = tuple(Modality)
    k: int = 10
    ranking: Ranking = Ranking.CALIBRATED
    include_query: bool = False
    filter: Filter = NO_FILTER
    diversity: float = 0.0

    def __post_init__(self) -> None:
        if not all(term.source.strip() for term in self.terms) or not self.terms:
            raise UsageError("the query is empty: give a text, a file or like:ITEM")
        for term in self.terms:
            if not math.isfinite(term.weight or 0.0):
                raise UsageError(f"the weight of {term.source!r} is {term.weight}: give a finite number")
            try:
                term.source.encode()
            except UnicodeEncodeError:
                raise UsageError(f"{term.source!r} is not UTF-8: give it in UTF-8") from None
        if not self.to:
            raise UsageError(f"no target modality: choose from {', '.join(Modality)}")
        if not is_count(self.k):
            raise UsageError(f"k is {self.k!r}: ask for at least 1 hit")
        if not 0.0 <= self.diversity <= 1.0:
            raise UsageError(f"diversity is {self.diversity!r}: give a number from 0 (nearest) to 1 (most different)")


def is_count(value: object) -> bool:
    """Return whether `value` is an integer of at least 1, NumPy integers included; True is not."""
    return value is not True and isinstance(value, Integral) and int(value) >= 1


def text(words: str) -> Term:
    """Return a text term, such as `bs.text("a dog barking")`.

    Raises:
        UsageError: `words` is not a string.
    """
    if not isinstance(words, str):
        raise UsageError(f"{words!r} is not a text: give a string")
    return Term(Modality.TEXT, words)


def image(path: str | PathLike[str]) -> Term:
    """Return an image term."""
    return Term(Modality.IMAGE, fspath(path))


def video(path: str | PathLike[str]) -> Term:
    """Return a video term; only the frames are used, not the sound track."""
    return Term(Modality.VIDEO, fspath(path))


def audio(path: str | PathLike[str]) -> Term:
    """Return an audio term."""
    return Term(Modality.AUDIO, fspath(path))


def depth(path: str | PathLike[str]) -> Term:
    """Return a depth term."""
    return Term(Modality.DEPTH, fspath(path))


def thermal(path: str | PathLike[str]) -> Term:
    """Return a thermal term."""
    return Term(Modality.THERMAL, fspath(path))


def imu(path: str | PathLike[str]) -> Term:
    """Return a motion (IMU) term."""
    return Term(Modality.IMU, fspath(path))


def like(item: int | str | PathLike[str]) -> Term:
    """Return a term for an indexed item, by id or path; it uses the stored vectors and needs no model."""
    return Term(LIKE, str(item) if isinstance(item, int) else fspath(item))


def resolve_weights(terms: Sequence[Term]) -> tuple[float, ...]:
    """Return the weights to use: +-1/n each if no term is weighted; else +-1 for terms without a weight."""
    default = 1.0 if any(term.weight is not None for term in terms) else 1.0 / max(len(terms), 1)
    return tuple(term.weight if term.weight is not None else (-default if term.negative else default) for term in terms)


def parse_modalities(names: str | Modality | Iterable[str | Modality] | None) -> tuple[Modality, ...]:
    """Return target modalities, given "image,video", names or None (all): unique, in the order of `Modality`.

    Raises:
        UsageError: a name is not a modality.
    """
    if names is None:
        return tuple(Modality)
    parts = names.split(",") if isinstance(names, str) else [str(name) for name in names]
    chosen = set()
    for part in filter(str.strip, parts):
        try:
            chosen.add(Modality(part.strip().lower()))
        except ValueError:
            raise UsageError(f"unknown modality {part.strip()!r}: choose from {', '.join(Modality)}") from None
    return tuple(modality for modality in Modality if modality in chosen)


@former_keywords(rank="ranking", diverse="diversity")
def make_query(
    query: Searchable,
    *,
    to: str | Modality | Iterable[str | Modality] | None = None,
    k: int = 10,
    ranking: str | Ranking = Ranking.CALIBRATED,
    include_query: bool = False,
    filter: Filter = NO_FILTER,
    diversity: float = 0.0,
) -> Query:
    """Return a Query.

    Args:
        query: A text, a term or a composition; a plain string is a text, never an expression.
        to: Target modalities (None: all).
        k: Number of items to return.
        ranking: Ranking of hits of several modalities.
        include_query: Whether items with the same content as the query's own files may be hits.
        filter: Filter of the segments.
        diversity: Diversity in 0..1 (maximal marginal relevance): 0 is relevance only, 1 is diversity only.

    Raises:
        UsageError: the query is empty, a modality or ranking is unknown, k < 1, or `diversity` is not in 0..1.
    """
    if isinstance(query, str):
        query = text(query)
    try:
        ranking = Ranking(ranking)
    except ValueError:
        raise UsageError(f"unknown ranking {ranking!r}: choose from {', '.join(Ranking)}") from None
    return Query(terms_of(query), parse_modalities(to), k, ranking, include_query, filter, diversity)


def terms_of(value: Searchable) -> tuple[Term, ...]:
    """Return the terms of a composition, a term or a plain text.

    Raises:
        UsageError: `value` is none of them.
    """
    if isinstance(value, str):
        return (text(value),)
    if isinstance(value, Composition):
        return value.terms
    if isinstance(value, Term):
        return (value,)
    raise UsageError(f"{value!r} is not a query term: create one with bs.text(...), bs.image(...), bs.like(...)")
