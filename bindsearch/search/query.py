"""Queries: terms and arithmetic on terms. Their text form is in `query_syntax`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from os import PathLike
from types import MappingProxyType

from bindsearch.arguments import existing_form, shown, to_choice, to_flag, to_integer, to_list, to_number, to_path_text
from bindsearch.errors import UsageError
from bindsearch.former_names import former_fields, former_keywords
from bindsearch.search.filter import NO_FILTER, Filter
from bindsearch.types import LEAST_PROBABILITY, Match, Modality, Span

ALL = tuple(Modality)
LIKE = "like"
EMPTY = "the query is empty: give a text, a file or like:ITEM"
HOW_TO_MAKE_TERMS = "create one with bs.text(...), bs.image(...), bs.like(...)"
FINITE = "give a finite number"
EVERYDAY_NAMES: Mapping[str, Modality] = MappingProxyType(
    {
        "document": Modality.TEXT,
        "picture": Modality.IMAGE,
        "photo": Modality.IMAGE,
        "clip": Modality.VIDEO,
        "sound": Modality.AUDIO,
        "motion": Modality.IMU,
    }
)
"""Other names of target modalities; these and the names of modalities may have a plural s."""

CAPTIONED = (Modality.IMAGE, Modality.VIDEO)
"""Modalities of files that may be embedded with a caption as one input."""

PREFIXES = (*(modality.value for modality in Modality), LIKE)


class Ranking(StrEnum):
    """Ranking of hits of several modalities."""

    PROBABILITY = "probability"
    Z = "z"
    COSINE = "cosine"
    PER_MODALITY = "per-modality"

    CALIBRATED = Z
    """The former name of Z."""

    @classmethod
    def _missing_(cls, value: object) -> Ranking | None:
        return cls.Z if value == "calibrated" else None


Rank = Ranking
"""The former name."""


class WordSearch(StrEnum):
    """Search for the words of a query's texts in names, captions, metadata and passages."""

    AUTO = "auto"
    """Beside vectors, if hits are ranked by probability."""
    OFF = "off"
    """Vectors alone."""
    ONLY = "only"
    """Words alone; no model is needed."""


@dataclass(frozen=True, slots=True)
class Term:
    """One term of a query.

    Attributes:
        kind: A modality, "like", or None for "a file if it exists, else text".
        source: The text, path or item.
        weight: The weight. None: 1/n if no term is weighted, else 1.
        negative: Whether to subtract a term without a weight.
        span: Span of a recording to use; None for all of it.
        caption: Text that a picture or video is embedded with as one input, by encoders that can; "" for none.
    """

    kind: str | None
    source: str
    weight: float | None = None
    negative: bool = False
    span: Span | None = None
    caption: str = ""

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
        return replace(self, weight=to_number(factor, "a weight", FINITE) * weight, negative=False)

    __rmul__ = __mul__

    def __truediv__(self, divisor: float) -> Term:
        return self * _inverse(divisor)


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
        return self * _inverse(divisor)


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
        diversity: Diversity in 0..1, see docs/ranking.md: 0 is relevance only; 0.3 spreads the list, 0.5 halves the
            near-duplicates in it, 1 is diversity only. Hits are in the order in which they were selected.
        min_match: Least probability of a match, 0..1, that a hit must have.
        copies: Whether copies of a hit are hits of their own.
        words: Whether words are searched: beside vectors, not at all, or alone.

    Raises:
        UsageError: no term, an infinite weight, a source that is not UTF-8, no target, k < 1, or `diversity` or
            `min_match` outside 0..1.
    """

    terms: tuple[Term, ...]
    to: tuple[Modality, ...] = ALL
    k: int = 10
    ranking: Ranking = Ranking.PROBABILITY
    include_query: bool = False
    filter: Filter = NO_FILTER
    diversity: float = 0.0
    min_match: float = 0.0
    copies: bool = False
    words: WordSearch = WordSearch.AUTO

    def __post_init__(self) -> None:
        checked = {
            "terms": tuple(map(_checked_term, to_list(self.terms, "the list of terms"))),
            "to": parse_modalities(self.to),
            "k": to_integer(self.k, "k", "ask for at least 1 hit", lowest=1),
            "ranking": to_choice(self.ranking, Ranking, "ranking"),
            "include_query": to_flag(self.include_query, "include_query"),
            "diversity": to_number(
                self.diversity, "diversity", "give a number from 0 (nearest) to 1 (most different)", 0.0, 1.0
            ),
            "min_match": to_number(
                self.min_match, "min_match", "give a probability from 0 (all hits) to 1 (certain hits)", 0.0, 1.0
            ),
            "copies": to_flag(self.copies, "copies"),
            "words": to_choice(self.words, WordSearch, "search by words"),
        }
        for name, value in checked.items():
            object.__setattr__(self, name, value)
        if not self.terms:
            raise UsageError(EMPTY)
        if not self.to:
            raise UsageError(f"no target modality: choose from {', '.join(Modality)}")
        if not isinstance(self.filter, Filter):
            raise UsageError(f"the filter is {shown(self.filter)}: create one with bs.make_filter(...)")


def _checked_term(term: object) -> Term:
    """Return a term with numbers of Python's own type.

    Raises:
        UsageError: it is not a term, its source is empty or cannot be stored, or its kind, span or weight is invalid.
    """
    if not isinstance(term, Term) or not isinstance(term.source, str):
        raise UsageError(f"{shown(term)} is not a query term: {HOW_TO_MAKE_TERMS}")
    if not term.source.strip():
        raise UsageError(EMPTY)
    if term.kind is not None and not (isinstance(term.kind, str) and term.kind in PREFIXES):
        raise UsageError(f"unknown kind of term {shown(term.kind)}: choose from {', '.join(PREFIXES)}")
    try:
        term.source.encode()
    except UnicodeEncodeError:
        raise UsageError(f"{shown(term.source)} is not UTF-8: give it in UTF-8") from None
    if term.kind != Modality.TEXT and (source := existing_form(term.source)) != term.source:
        term = replace(term, source=source)
    if not isinstance(term.caption, str) or (term.caption and term.kind not in (None, *CAPTIONED)):
        raise UsageError(
            f"{shown(term.source)} has the caption {shown(term.caption)}: only pictures and videos have one"
        )
    if term.span is not None:
        if not isinstance(term.span, Span):
            raise UsageError(f"the span of {shown(term.source)} is {shown(term.span)}: give a Span in seconds")
        seconds = [to_number(time, "a time of a span", FINITE) for time in (term.span.start_s, term.span.end_s)]
        term = replace(term, span=Span(*seconds))
    if term.weight is None:
        return term
    return replace(term, weight=to_number(term.weight, f"the weight of {shown(term.source)}", FINITE))


def _inverse(divisor: float) -> float:
    number = to_number(divisor, "a divisor", FINITE)
    if not number:
        raise UsageError("a query term is divided by 0: give another number")
    return 1.0 / number


def text(words: str) -> Term:
    """Return a text term, such as `bs.text("a dog barking")`.

    Raises:
        UsageError: `words` is not a string.
    """
    if not isinstance(words, str):
        raise UsageError(f"{shown(words)} is not a text: give a string")
    return Term(Modality.TEXT, words)


def image(path: str | PathLike[str], *, caption: str = "") -> Term:
    """Return an image term.

    Args:
        path: The picture.
        caption: Text to embed with it as one input, if the encoder can; a sum of two terms needs no such encoder.
    """
    return Term(Modality.IMAGE, to_path_text(path), caption=caption)


def video(path: str | PathLike[str], *, caption: str = "") -> Term:
    """Return a video term; the sound track is used only by encoders that embed both as one input.

    Args:
        path: The video.
        caption: As for `image`.
    """
    return Term(Modality.VIDEO, to_path_text(path), caption=caption)


def audio(path: str | PathLike[str]) -> Term:
    """Return an audio term."""
    return Term(Modality.AUDIO, to_path_text(path))


def depth(path: str | PathLike[str]) -> Term:
    """Return a depth term."""
    return Term(Modality.DEPTH, to_path_text(path))


def thermal(path: str | PathLike[str]) -> Term:
    """Return a thermal term."""
    return Term(Modality.THERMAL, to_path_text(path))


def imu(path: str | PathLike[str]) -> Term:
    """Return a motion (IMU) term."""
    return Term(Modality.IMU, to_path_text(path))


def like(item: int | str | PathLike[str]) -> Term:
    """Return a term for an indexed item, by id or path; it uses the stored vectors and needs no model."""
    if isinstance(item, str | PathLike):
        return Term(LIKE, to_path_text(item))
    return Term(LIKE, shown(to_integer(item, "the item of like", "give its id or its path")))


def resolve_weights(terms: Sequence[Term]) -> tuple[float, ...]:
    """Return the weights to use: +-1/n each if no term is weighted; else +-1 for terms without a weight."""
    default = 1.0 if any(term.weight is not None for term in terms) else 1.0 / max(len(terms), 1)
    return tuple(term.weight if term.weight is not None else (-default if term.negative else default) for term in terms)


def parse_modalities(names: str | Modality | Iterable[str | Modality] | None) -> tuple[Modality, ...]:
    """Return target modalities, given "image,video", names or None (all): unique, in the order of `Modality`.

    Everyday names are understood too, and plurals: "photos,sounds".

    Raises:
        UsageError: a name is not a modality.
    """
    if names is None or names is ALL:
        return ALL
    parts = names.split(",") if isinstance(names, str) else to_list(names, "the list of modalities")
    written = [part.strip().lower() if type(part) is str else part for part in parts]
    chosen = {_to_modality(part) for part in written if part != ""}
    return tuple(modality for modality in Modality if modality in chosen)


def _to_modality(name: object) -> Modality:
    if isinstance(name, Modality):
        return name
    if isinstance(name, str):
        singular = name.removesuffix("s")
        name = EVERYDAY_NAMES.get(singular, singular if singular in {*Modality} else name)
    plurals = [f"{other}s" for other, modality in EVERYDAY_NAMES.items() if modality is not Modality.IMU]
    return to_choice(name, Modality, "modality", plurals)


@former_keywords(rank="ranking", diverse="diversity")
def make_query(
    query: Searchable,
    *,
    to: str | Modality | Iterable[str | Modality] | None = None,
    k: int = 10,
    ranking: str | Ranking = Ranking.PROBABILITY,
    include_query: bool = False,
    filter: Filter = NO_FILTER,
    diversity: float = 0.0,
    min_match: float | str | Match = 0.0,
    copies: bool = False,
    words: str | WordSearch = WordSearch.AUTO,
) -> Query:
    """Return a Query.

    Args:
        query: A text, a term or a composition; a plain string is a text, never an expression.
        to: Target modalities (None: all).
        k: Number of items to return.
        ranking: Ranking of hits of several modalities.
        include_query: Whether items with the same content as the query's own files may be hits.
        filter: Filter of the segments.
        diversity: Diversity in 0..1, see docs/ranking.md: 0 is relevance only; 0.3 spreads the list, 0.5 halves the
            near-duplicates in it, 1 is diversity only. Hits are in the order in which they were selected.
        min_match: Least match that a hit must have: a probability in 0..1, or a word: exact, strong, likely, weak.
        copies: Whether copies of a hit are hits of their own.
        words: Whether words are searched in names, captions, metadata and passages: "auto", "off" or "only".

    Raises:
        UsageError: the query is empty, a modality, ranking or match is unknown, k < 1, or `diversity` or `min_match` is
            not in 0..1.
    """
    if isinstance(query, str):
        query = text(query)
    return Query(
        terms=terms_of(query),
        to=parse_modalities(to),
        k=k,
        ranking=to_choice(ranking, Ranking, "ranking"),
        include_query=include_query,
        filter=filter,
        diversity=diversity,
        min_match=to_probability(min_match),
        copies=copies,
        words=to_choice(words, WordSearch, "search by words"),
    )


def to_probability(match: float | str | Match) -> float:
    """Return the least probability of a match that is given as a probability or as a word."""
    return LEAST_PROBABILITY[to_choice(match, Match, "match")] if isinstance(match, str) else match


def terms_of(value: object) -> tuple[Term, ...]:
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
    raise UsageError(f"{shown(value)} is not a query term: {HOW_TO_MAKE_TERMS}")
