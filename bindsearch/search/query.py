"""Queries: terms, arithmetic on terms, and their text form.

    query  = [sign] term { sign term }
    term   = [ number "*" ] [ prefix ":" ] source [ "@" number ["s"] "-" number "s" ]
    sign   = "+" | "-"
    number = such as 2, 0.5, .5 or 1e-3
    prefix = "text" | "image" | "video" | "audio" | "depth" | "thermal" | "imu" | "like"
    source = quoted | bare
    quoted = between " and " or between ' and '; inside, the same quote is doubled
    bare   = up to @, *, a quote or the end, or a sign that follows a space or precedes a weight or a prefix

So image:my-photo.jpg and image:my photo.jpg are one file each. Quote names that contain *, @ or a quote, a + or - after
a space or at the end, or a prefix. `format_query` quotes every name with characters other than letters, digits and
. / ~ _ + -

A source without a prefix is a file if it exists or looks like a path (a slash, an extension), else text. Without any
weights, each of n terms has the weight 1/n; if some terms are weighted, the others have the weight 1. "-" negates it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from numbers import Integral
from os import PathLike, fspath

from bindsearch.errors import QuerySyntaxError, UsageError
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


_DIGITS = r"(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?"
_NUMBER = re.compile(rf"\s*({_DIGITS})\s*\*")
_PREFIX = re.compile(r"\s*([A-Za-z]+):(?!//)")
_SPAN = re.compile(rf"@\s*({_DIGITS})s?\s*-\s*({_DIGITS})s")
_SECOND_PREFIX = re.compile(rf"\s(?:{'|'.join(PREFIXES)}):(?!//)")
_END_OF_BARE = re.compile(rf"[*@\"']|(?<!\S)[+-]|[+-](?=\s*(?:{_DIGITS}\s*\*|(?:{'|'.join(PREFIXES)}):))")
_QUOTED = re.compile(r"""(["'])((?:(?!\1).|\1\1)*+)\1""", re.DOTALL)
_PLAIN = re.compile(r"(?!//)[\w./~](?:[\w./~+-]*[\w./~])?")
_SPACE = re.compile(r"\s*")


def parse_query(expression: str) -> Composition:
    """Parse the text form of a composition.

    Raises:
        QuerySyntaxError: the expression does not parse; the error has the position.
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


def format_query(terms: Sequence[Term]) -> str:
    """Return the text form of terms; `parse_query` reads it as the same terms."""
    text = ""
    for term in terms:
        negative = term.negative if term.weight is None else math.copysign(1.0, term.weight) < 0
        sign = "-" if negative else "+" if text else ""
        text += f" {sign} {_format_term(term)}" if text else f"{sign}{_format_term(term)}"
    return text


def _format_term(term: Term) -> str:
    weight = "" if term.weight is None else f"{_format_number(abs(term.weight))}*"
    prefix = "" if term.kind is None else f"{term.kind}:"
    span = term.span
    suffix = "" if span is None else f"@{_format_number(span.start_s)}s-{_format_number(span.end_s)}s"
    return f"{weight}{prefix}{_format_source(term.source)}{suffix}"


def _format_source(source: str) -> str:
    if _PLAIN.fullmatch(source):
        return source
    quote = "'" if '"' in source and "'" not in source else '"'
    return f"{quote}{source.replace(quote, 2 * quote)}{quote}"


def _format_number(number: float) -> str:
    return repr(float(number)).removesuffix(".0")


def _skip_space(expression: str, position: int) -> int:
    match = _SPACE.match(expression, position)
    return match.end() if match else position


def _parse_term(expression: str, position: int) -> tuple[Term, int]:
    weight = None
    if number := _NUMBER.match(expression, position):
        weight = _finite(number, 1, expression)
        position = number.end()
    kind = None
    if prefix := _PREFIX.match(expression, position):
        kind = prefix.group(1).lower()
        if kind not in PREFIXES:
            message = f"unknown prefix {prefix.group(1)!r} (choose from {', '.join(PREFIXES)}, or quote the text)"
            raise QuerySyntaxError(message, expression, prefix.start(1))
        position = prefix.end()
    position = _skip_space(expression, position)
    if kind is None and expression[position : position + 1] in ("+", "-"):
        raise QuerySyntaxError("expected a text, a file or like:ITEM", expression, position)
    source, position = _parse_source(expression, position)
    span = None
    if position < len(expression) and expression[position] == "@":
        match = _SPAN.match(expression, position)
        if match is None:
            raise QuerySyntaxError("expected a span such as @12s-15s", expression, position)
        span = Span(_finite(match, 1, expression), _finite(match, 2, expression))
        if span.end_s <= span.start_s:
            raise QuerySyntaxError("the span ends before it starts", expression, position)
        position = match.end()
    return Term(kind, source, weight, span=span), position


def _parse_source(expression: str, position: int) -> tuple[str, int]:
    if position < len(expression) and expression[position] in "\"'":
        quoted = _QUOTED.match(expression, position)
        if quoted is None:
            raise QuerySyntaxError("the quote is not closed", expression, position)
        quote, content = quoted.groups()
        if not content:
            raise QuerySyntaxError("the quotes are empty", expression, position)
        return content.replace(2 * quote, quote), quoted.end()
    ending = _END_OF_BARE.search(expression, position)
    end = ending.start() if ending else len(expression)
    source = expression[position:end].strip()
    if end < len(expression) and expression[end] in "*\"'":
        message = f"unexpected {expression[end]} (a weight is a number before *; quote names that hold *, @ or quotes)"
        raise QuerySyntaxError(message, expression, end)
    if second := _SECOND_PREFIX.search(expression, position, end):
        raise QuerySyntaxError("expected + or - before the next term", expression, second.start() + 1)
    if not source:
        raise QuerySyntaxError("expected a text, a file or like:ITEM", expression, position)
    return source, end


def _finite(match: re.Match[str], group: int, expression: str) -> float:
    number = float(match.group(group))
    if not math.isfinite(number):
        raise QuerySyntaxError("the number is too large", expression, match.start(group))
    return number
