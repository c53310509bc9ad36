"""Relevance: how much nearer a part of a medium is to a query than to what it is compared with, the negatives."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import NDArray

from bindsearch.arguments import to_integer, to_list, to_number
from bindsearch.encoders.base import Encoder
from bindsearch.errors import UsageError, VectorError
from bindsearch.operations.classify.vectors import logit_scale
from bindsearch.operations.locate.dense import MAX_DETAIL
from bindsearch.search.prepare import compose_query, labels_of
from bindsearch.search.query import Query, Searchable, Term, make_query, resolve_weights
from bindsearch.search.query_encoding import is_text
from bindsearch.types import Modality

if TYPE_CHECKING:
    from bindsearch.search.query_encoding import EncodedTerm
    from bindsearch.search.scoring.scores import QueryVector

EncodeTerms: TypeAlias = "Callable[[Sequence[Term]], list[EncodedTerm]]"

NEGATIVES = ("object", "things", "stuff", "texture", "background", "a photo")
"""Texts that a query is compared with: the four canonical phrases of LERF, and two for the rest of a picture."""

MOTION_NEGATIVES = ("movement", "motion", "activity", "a person", "something else")
"""Texts that a query is compared with in motion: any motion is nearer to any of them than to an object."""

SAME = 0.999
"""Cosine from which a built-in negative is the query itself, and is left out."""

THRESHOLD = 0.9
MAX_BOXES, MOST_BOXES = 20, 1000
MAX_NEGATIVES = 100


@dataclass(frozen=True, slots=True)
class LocateOptions:
    """Options of locating.

    Attributes:
        threshold: Least relevance of boxes and spans, above 0 and at most 1.
        against: What the query is compared with in place of NEGATIVES and MOTION_NEGATIVES: texts, terms or
            compositions.
        detail: Number of squares, side by side, along the shorter side of a picture, 1..4; views of recordings overlap
            more by the same factor.
        max_boxes: Most boxes or spans of a file.

    Raises:
        UsageError: a value is out of range.
    """

    threshold: float = THRESHOLD
    against: Sequence[Searchable] = ()
    detail: int = 1
    max_boxes: int = MAX_BOXES

    def __post_init__(self) -> None:
        way_out = "give a relevance above 0, at most 1, such as 0.9"
        object.__setattr__(self, "threshold", to_number(self.threshold, "the threshold", way_out, 1e-6, 1.0))
        for name, most in (("detail", MAX_DETAIL), ("max_boxes", MOST_BOXES)):
            expected = f"give a number from 1 to {most}"
            value = to_integer(getattr(self, name), name, expected, lowest=1)
            if value > most:
                raise UsageError(f"{name} is {value}: {expected}")
            object.__setattr__(self, name, value)
        against = [self.against] if isinstance(self.against, Searchable) else to_list(self.against, "against")
        if len(against) > MAX_NEGATIVES:
            raise UsageError(f"{len(against)} negatives are given: give at most {MAX_NEGATIVES}")
        object.__setattr__(self, "against", tuple(against))


@dataclass(frozen=True)
class UsedTerm:
    """A term of a query: its modality, its text, path or item, and its weight."""

    modality: Modality
    source: str
    weight: float


@dataclass(frozen=True)
class ComparedQuery:
    """A query with what it is compared with in one modality.

    Attributes:
        names: Names of the negatives.
        vectors: Unit vectors of the query and, below it, of its negatives: float32 (1 + n, d).
        notices: ComparedQuery that are left out.
    """

    names: tuple[str, ...]
    vectors: NDArray[np.float32]
    notices: tuple[str, ...] = ()


@dataclass(frozen=True)
class Probe:
    """An encoded query with its negatives.

    Attributes:
        encoder: The encoder.
        options: Options of locating.
        terms: The terms of the query.
        by_target: Vectors and negatives by what is searched; None has the usual ones.
        notices: What of the query's files is not used.
    """

    encoder: Encoder
    options: LocateOptions
    terms: tuple[UsedTerm, ...]
    by_target: Mapping[Modality | None, ComparedQuery]
    notices: tuple[str, ...] = ()

    def for_target(self, target: Modality | None) -> ComparedQuery:
        """Return the vectors to locate in a modality with, and the negatives; None: the usual ones."""
        return self.by_target.get(target, self.by_target[None])

    def notices_of(self, target: Modality) -> tuple[str, ...]:
        """Return what of the query is not used in a modality."""
        return (*self.notices, *self.for_target(target).notices)

    def relevance(self, margin: NDArray[np.float64], target: Modality) -> NDArray[np.float32]:
        """Return the relevance of parts of a medium, given their margins; see `relevance`."""
        weights = np.abs([term.weight for term in self.terms])
        scales = [relevance_scale(self.encoder, term.modality, target) for term in self.terms]
        return relevance(margin, float(np.average(scales, weights=weights)))


def margins(cosines: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return how much nearer parts of a medium are to a query than to the nearest of its negatives, float64 (...).

    Args:
        cosines: Cosines with the query and, below it, with its negatives, float32 (1 + n, ...), n >= 1.
    """
    return np.asarray(cosines[0] - cosines[1:].max(axis=0), np.float64)


def relevance(margin: NDArray[np.float64], scale: float) -> NDArray[np.float32]:
    """Return the relevance of parts of a medium, 0..1.

    Relevance is min over i of exp(s q) / (exp(s q) + exp(s c_i)), with the cosine q of a part with the query, c_i with
    negative i, and the scale s (LERF, Kerr et al., ICCV 2023, arXiv 2303.09553, section 3.4): the logistic function of
    s times the margin.

    Args:
        margin: Margins of the parts, see `margins`: float64 (...).
        scale: The scale s.

    Returns:
        float32 (...).
    """
    return np.asarray(1 / (1 + np.exp(-np.clip(scale * margin, -700, 700))), np.float32)


def relevance_scale(encoder: Encoder, source: Modality, target: Modality) -> float:
    """Return what cosines are multiplied by before the softmax of a query's modality and that of a medium.

    It is that of the encoder's `relevance_scale`, if it has one (see `LocatingEncoder`), else the temperature that the
    pair was trained with: the lower one of those of `logit_scale`.
    """
    own: Callable[[Modality, Modality], float] | None = getattr(encoder, "relevance_scale", None)
    if own is not None:
        return float(own(source, target))
    return min(logit_scale(encoder, modality) for modality in (source, target))


def make_probe(
    query: Searchable, options: LocateOptions, encoder: Encoder, encode: EncodeTerms, *, compared: bool = True
) -> Probe:
    """Return an encoded query with its negatives.

    Args:
        query: A text, a term or a composition.
        options: Options of locating.
        encoder: The encoder.
        encode: Encodes terms.
        compared: Whether it is compared with negatives; without them there is no relevance.

    Raises:
        UsageError: the query or a negative is empty or cannot be used, its terms cancel each other, or none of the
            negatives differs from the query.
        VectorError: a vector holds NaN.
    """
    groups: dict[Modality | None, Sequence[Searchable]] = {None: options.against if compared else ()}
    if compared and not options.against:
        groups = {None: NEGATIVES, Modality.IMU: MOTION_NEGATIVES}
        if Modality.TEXT not in encoder.modalities:
            way_out = "give files to compare with, such as --against image:FILE"
            raise UsageError(f"the encoder {encoder.name} has no text tower for the built-in negatives: {way_out}")
    queries = [make_query(one) for one in (query, *(one for group in groups.values() for one in group))]
    encoded = iter(encode([term for one in queries for term in one.terms]))
    own = [[next(encoded) for _ in one.terms] for one in queries]
    composed = [compose_query(one, terms) for one, terms in zip(queries, own, strict=True)]
    asked, rest = composed[0], iter(zip(map(_name, queries[1:]), composed[1:], strict=True))
    named = {target: [next(rest) for _ in group] for target, group in groups.items()}
    targets = {*groups, *(target for vector in composed for target in vector.by_target)}
    notices = [notice for terms in own for term in terms for notice in term.notices]
    by_target = {target: _negatives(asked, named.get(target, named[None]), target) for target in targets}
    used = zip(own[0], resolve_weights(queries[0].terms), strict=True)
    terms_used = tuple(UsedTerm(term.modality, term.source, float(weight)) for term, weight in used)
    return Probe(encoder, options, terms_used, by_target, tuple(dict.fromkeys(notices)))


def _name(query: Query) -> str:
    """Return the name of a negative: its text as it is, else the form that queries have as text."""
    (first, *others) = query.terms
    return first.source if not others and is_text(first) else " ".join(labels_of(query))


def _negatives(asked: QueryVector, named: Sequence[tuple[str, QueryVector]], target: Modality | None) -> ComparedQuery:
    """Return a query with its negatives in one modality, without those that are the query (UsageError: all are)."""
    vectors = [asked, *(vector for _, vector in named)]
    rows = np.stack([(one if target is None else one.for_target(target)).vector for one in vectors])
    if not np.isfinite(rows).all():
        raise VectorError("a vector of the query or of a negative is not finite: give another one")
    same = rows[1:] @ rows[0] >= SAME
    if named and same.all():
        raise UsageError("the query is what it is compared with: give other negatives by --against")
    names = np.array([name for name, _ in named], object)
    left_out = (f"not compared with {name}, which is the query" for name in names[same])
    return ComparedQuery(tuple(names[~same]), rows[np.concatenate([[True], ~same])], tuple(left_out))
