"""Relevance: how much nearer a part of a medium is to a query than to what it is compared with, the negatives."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from bindsearch.arguments import to_integer, to_number
from bindsearch.encoders.base import Encoder
from bindsearch.errors import UsageError, VectorError
from bindsearch.operations.classify.vectors import logit_scale
from bindsearch.operations.locate.dense import MAX_DETAIL
from bindsearch.search.engine import compose_query, labels_of
from bindsearch.search.query import Searchable, Term, make_query, text
from bindsearch.search.query_encoding import is_text
from bindsearch.types import Modality

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from bindsearch.search.query_encoding import EncodedTerm

EncodeTerms: TypeAlias = "Callable[[Sequence[Term]], list[EncodedTerm]]"

NEGATIVES = ("object", "things", "stuff", "texture", "background", "a photo")
"""Texts that a query is compared with: the four canonical phrases of LERF, and two for the rest of a picture."""

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
        against: What the query is compared with in place of NEGATIVES: texts, terms or compositions.
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
        against = [self.against] if isinstance(self.against, Searchable) else [*self.against]
        if len(against) > MAX_NEGATIVES:
            raise UsageError(f"{len(against)} negatives are given: give at most {MAX_NEGATIVES}")
        object.__setattr__(self, "against", tuple(against))


@dataclass(frozen=True)
class UsedTerm:
    """A term of a query as it was used: modality, text, path or item, and weight."""

    modality: Modality
    source: str
    weight: float


@dataclass(frozen=True)
class Probe:
    """An encoded query with its negatives.

    Attributes:
        encoder: The encoder.
        options: Options of locating.
        terms: The terms of the query.
        against: Names of the negatives.
        vectors: Unit vectors of the query and, below it, of its negatives, by what is searched, as of `EncodedTerm`;
            None has the usual ones: float32 (1 + n, d), n >= 1.
        notices: What of the query's files is not used, and negatives that are left out.
    """

    encoder: Encoder
    options: LocateOptions
    terms: tuple[UsedTerm, ...]
    against: tuple[str, ...]
    vectors: Mapping[Modality | None, NDArray[np.float32]]
    notices: tuple[str, ...] = ()

    def for_target(self, target: Modality) -> NDArray[np.float32]:
        """Return the vectors to locate in a modality with, float32 (1 + n, d)."""
        return self.vectors.get(target, self.vectors[None])

    def relevance(self, cosines: NDArray[np.float32], target: Modality) -> NDArray[np.float32]:
        """Return the relevance of parts of a medium; see `relevance`."""
        return relevance(cosines, self._scale(target))

    def _scale(self, target: Modality) -> float:
        """Return the scale of cosines: of several terms, the mean by their weights."""
        weights = np.abs([term.weight for term in self.terms])
        scales = [relevance_scale(self.encoder, term.modality, target) for term in self.terms]
        return float(np.average(scales, weights=weights))


def relevance(cosines: NDArray[np.float32], scale: float) -> NDArray[np.float32]:
    """Return the relevance of parts of a medium, 0..1.

    Relevance is min over i of exp(s q) / (exp(s q) + exp(s c_i)), with the cosine q of a part with the query, c_i with
    negative i, and the scale s (LERF, Kerr et al., ICCV 2023, arXiv 2303.09553, section 3.4).

    Args:
        cosines: Cosines with the query and, below it, with its negatives, float32 (1 + n, ...), n >= 1.
        scale: The scale s.

    Returns:
        float32 (...).
    """
    margin = (cosines[0] - cosines[1:].max(axis=0)).astype(np.float64)
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


def make_probe(query: Searchable, options: LocateOptions, encoder: Encoder, encode: EncodeTerms) -> Probe:
    """Return an encoded query with its negatives.

    Args:
        query: A text, a term or a composition.
        options: Options of locating.
        encoder: The encoder.
        encode: Encodes terms.

    Raises:
        UsageError: the query or a negative is empty or cannot be used, its terms cancel each other, or none of the
            negatives differs from the query.
        VectorError: a vector holds NaN.
    """
    if not options.against and Modality.TEXT not in encoder.modalities:
        raise UsageError(
            f"the encoder {encoder.name} has no text tower for the built-in negatives: give files to compare with, "
            "such as --against image:FILE"
        )
    against = options.against or tuple(map(text, NEGATIVES))
    queries = [make_query(one) for one in (query, *against)]
    encoded = iter(encode([term for one in queries for term in one.terms]))
    own = [[next(encoded) for _ in one.terms] for one in queries]
    composed = [compose_query(one, terms) for one, terms in zip(queries, own, strict=True)]
    targets = {None, *(target for _, vector in composed for target in vector.by_target)}
    vectors = {
        target: np.stack([(one if target is None else one.for_target(target)).vector for _, one in composed])
        for target in targets
    }
    if not all(np.isfinite(rows).all() for rows in vectors.values()):
        raise VectorError("a vector of the query or of a negative is not finite: give another one")
    same = vectors[None][1:] @ vectors[None][0] >= SAME
    names = [
        one.terms[0].source if len(one.terms) == 1 and is_text(one.terms[0]) else " ".join(labels_of(one))
        for one in queries[1:]
    ]
    if same.all():
        raise UsageError("the query is what it is compared with: give other negatives by --against")
    notices = [
        f"not compared with {name}, which is the query" for name, equal in zip(names, same, strict=True) if equal
    ]
    kept = np.concatenate([[True], ~same])
    resolved = composed[0][0]
    return Probe(
        encoder,
        options,
        tuple(
            UsedTerm(term.modality, term.source, float(weight))
            for term, weight in zip(own[0], resolved.weights, strict=True)
        ),
        tuple(name for name, equal in zip(names, same, strict=True) if not equal),
        {target: rows[kept] for target, rows in vectors.items()},
        tuple(dict.fromkeys([*(notice for terms in own for term in terms for notice in term.notices), *notices])),
    )
