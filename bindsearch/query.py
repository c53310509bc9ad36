"""Queries: terms, arithmetic on them, and their text form.

    query  = ["-"] term { ("+" | "-") term }
    term   = [ number "*" ] [ prefix ":" ] source [ "@" seconds "s-" seconds "s" ]
    prefix = "text" | "image" | "video" | "audio" | "depth" | "thermal" | "imu" | "like"
    source = quoted | bare     a bare source ends at @, and at + or - after a space or before a weight or prefix

So image:my-photo.jpg is one file; quote names that hold * or @, or a + or - after a space.

A source without a prefix is a file where there is one of that name or it looks like a path (a slash, an extension),
else text.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from os import PathLike, fspath

from bindsearch.errors import QuerySyntaxError, UsageError
from bindsearch.filters import EVERYTHING, Filter
from bindsearch.items import Modality, Span

LIKE = "like"
PREFIXES = (*(modality.value for modality in Modality), LIKE)


class Rank(StrEnum):
    """How a list over several modalities is ranked."""

    CALIBRATED = "calibrated"
    COSINE = "cosine"
    PER_MODALITY = "per-modality"


@dataclass(frozen=True, slots=True)
class Term:
    """One term of a query: `kind` is a modality, "like", or None for "a file if there is one, else text".

    `weight` None counts as 1/n, or as 1 beside weighted terms; `negative` subtracts such a term.
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


@dataclass(frozen=True, slots=True)
class Composition:
    """A weighted sum of terms."""

    terms: tuple[Term, ...]

    def __add__(self, other: Term | Composition) -> Composition:
        return Composition(self.terms + _terms_of(other))

    def __sub__(self, other: Term | Composition) -> Composition:
        return Composition(self.terms + tuple(-term for term in _terms_of(other)))

    def __neg__(self) -> Composition:
        return Composition(tuple(-term for term in self.terms))

    def __mul__(self, factor: float) -> Composition:
        return Composition(tuple(factor * term for term in self.terms))

    __rmul__ = __mul__


Searchable = str | Term | Composition


@dataclass(frozen=True, slots=True)
class Query:
    """What is asked: terms, target modalities, number of hits, ranking, filter.

    `diverse` in 0..1: how much a hit's likeness to the hits before it counts against it.

    Raises:
        UsageError: no term, no target, k < 1 or `diverse` outside 0..1.
    """

    terms: tuple[Term, ...]
    to: tuple[Modality, ...] = tuple(Modality)
    k: int = 10
    rank: Rank = Rank.CALIBRATED
    include_query: bool = False
    filter: Filter = EVERYTHING
    diverse: float = 0.0

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
        if not isinstance(self.k, int) or self.k < 1:
            raise UsageError(f"k is {self.k!r}: ask for at least 1 hit")
        if not 0.0 <= self.diverse <= 1.0:
            raise UsageError(f"diverse is {self.diverse!r}: give a number from 0 (nearest) to 1 (most different)")


def text(words: str) -> Term:
    """A text term: `bs.text("a dog barking")`.

    Raises:
        UsageError: it is no text.
    """
    if not isinstance(words, str):
        raise UsageError(f"{words!r} is no text: give a string")
    return Term(Modality.TEXT, words)


def image(path: str | PathLike[str]) -> Term:
    """A picture as a term."""
    return Term(Modality.IMAGE, fspath(path))


def video(path: str | PathLike[str]) -> Term:
    """A video as a term; only its picture counts, not its sound track."""
    return Term(Modality.VIDEO, fspath(path))


def audio(path: str | PathLike[str]) -> Term:
    """A sound as a term."""
    return Term(Modality.AUDIO, fspath(path))


def depth(path: str | PathLike[str]) -> Term:
    """A depth map as a term."""
    return Term(Modality.DEPTH, fspath(path))


def thermal(path: str | PathLike[str]) -> Term:
    """A thermal picture as a term."""
    return Term(Modality.THERMAL, fspath(path))


def imu(path: str | PathLike[str]) -> Term:
    """A motion recording as a term."""
    return Term(Modality.IMU, fspath(path))


def like(item: int | str | PathLike[str]) -> Term:
    """An indexed item, by id or path, as a term: its stored vectors are used, no model is needed."""
    return Term(LIKE, str(item) if isinstance(item, int) else fspath(item))


def resolve_weights(terms: Sequence[Term]) -> tuple[float, ...]:
    """The weights used: with none given each term counts +-1/n, else a term without one counts +-1."""
    default = 1.0 if any(term.weight is not None for term in terms) else 1.0 / max(len(terms), 1)
    return tuple(term.weight if term.weight is not None else (-default if term.negative else default) for term in terms)


def parse_modalities(names: str | Modality | Iterable[str | Modality] | None) -> tuple[Modality, ...]:
    """Target modalities from "image,video", names or None (all), without repeats, in the order of `Modality`.

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


def make_query(
    query: Searchable,
    *,
    to: str | Modality | Iterable[str | Modality] | None = None,
    k: int = 10,
    rank: str | Rank = Rank.CALIBRATED,
    include_query: bool = False,
    filter: Filter = EVERYTHING,
    diverse: float = 0.0,
) -> Query:
    """A Query from a text, a term or a composition. A plain string is a text, never an expression.

    Raises:
        UsageError: an unknown modality or ranking, an empty query, k < 1.
    """
    if isinstance(query, str):
        query = text(query)
    try:
        ranking = Rank(rank)
    except ValueError:
        raise UsageError(f"unknown ranking {rank!r}: choose from {', '.join(Rank)}") from None
    return Query(_terms_of(query), parse_modalities(to), k, ranking, include_query, filter, diverse)


_NUMBER = re.compile(r"\s*([0-9]+(?:\.[0-9]*)?|\.[0-9]+)\s*\*")
_PREFIX = re.compile(r"\s*([A-Za-z]+):(?!//)")
_SPAN = re.compile(r"@\s*([0-9]+(?:\.[0-9]+)?)s?\s*-\s*([0-9]+(?:\.[0-9]+)?)s")
_SECOND_PREFIX = re.compile(rf"\s(?:{'|'.join(PREFIXES)}):(?!//)")
_END_OF_BARE = re.compile(rf"[*@\"']|(?<!\S)[+-]|[+-](?=\s*(?:[0-9.]+\s*\*|(?:{'|'.join(PREFIXES)}):))")
_SPACE = re.compile(r"\s*")


def parse_query(expression: str) -> Composition:
    """Parse the text form of a composition.

    Raises:
        QuerySyntaxError: it does not parse; the error points at the character.
    """
    terms: list[Term] = []
    position = _skip_space(expression, 0)
    if position == len(expression):
        raise QuerySyntaxError("the query is empty: write a term such as 0.5*image:fruit.jpg", expression, 0)
    while position < len(expression):
        sign = expression[position]
        if sign in "+-":
            position += 1
        elif terms:
            raise QuerySyntaxError("expected + or - before the next term", expression, position)
        term, position = _parse_term(expression, position)
        terms.append(-term if sign == "-" else term)
        position = _skip_space(expression, position)
    return Composition(tuple(terms))


def _terms_of(value: Term | Composition) -> tuple[Term, ...]:
    if isinstance(value, Composition):
        return value.terms
    if isinstance(value, Term):
        return (value,)
    raise UsageError(f"{value!r} is no query term: make one with bs.text(...), bs.image(...), bs.like(...)")


def _skip_space(expression: str, position: int) -> int:
    match = _SPACE.match(expression, position)
    return match.end() if match else position


def _parse_term(expression: str, position: int) -> tuple[Term, int]:
    weight = None
    if number := _NUMBER.match(expression, position):
        weight = float(number.group(1))
        position = number.end()
    kind = None
    if prefix := _PREFIX.match(expression, position):
        kind = prefix.group(1).lower()
        if kind not in PREFIXES:
            message = f"unknown prefix {prefix.group(1)!r} (choose from {', '.join(PREFIXES)}, or quote the text)"
            raise QuerySyntaxError(message, expression, prefix.start(1))
        position = prefix.end()
    source, position = _parse_source(expression, _skip_space(expression, position))
    span = None
    if position < len(expression) and expression[position] == "@":
        match = _SPAN.match(expression, position)
        if match is None:
            raise QuerySyntaxError("expected a span such as @12s-15s", expression, position)
        span = Span(float(match.group(1)), float(match.group(2)))
        if span.end_s <= span.start_s:
            raise QuerySyntaxError("the span ends before it starts", expression, position)
        position = match.end()
    return Term(kind, source, weight, span=span), position


def _parse_source(expression: str, position: int) -> tuple[str, int]:
    if position < len(expression) and expression[position] in "\"'":
        end = expression.find(expression[position], position + 1)
        if end < 0:
            raise QuerySyntaxError("the quote is not closed", expression, position)
        if end == position + 1:
            raise QuerySyntaxError("nothing stands between the quotes", expression, position)
        return expression[position + 1 : end], end + 1
    ending = _END_OF_BARE.search(expression, position)
    end = ending.start() if ending else len(expression)
    source = expression[position:end].strip()
    if end < len(expression) and expression[end] in "*\"'":
        message = f"unexpected {expression[end]} (a weight is a number before *; quote names that hold * or @)"
        raise QuerySyntaxError(message, expression, end)
    if second := _SECOND_PREFIX.search(expression, position, end):
        raise QuerySyntaxError("expected + or - before the next term", expression, second.start() + 1)
    if not source:
        raise QuerySyntaxError("expected a text, a file or like:ITEM", expression, position)
    return source, end
