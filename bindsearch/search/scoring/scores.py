"""Scores of candidates: standard deviations above chance (z), rarity, and the log odds of a match.

docs/ranking.md derives the formulas. Letters: n vectors of a partition, m candidates, d dimensions, t terms, r rank of
a covariance factor.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import numpy as np

from bindsearch.errors import StoreError
from bindsearch.search.plan import TermStep
from bindsearch.search.scoring.probability import DEFAULT_MODEL, Coefficients, ProbabilityModel, tower_of
from bindsearch.types import Modality

if TYPE_CHECKING:
    from numpy.typing import NDArray

FACTOR_RANK = 128
"""Maximum rank of a partition's covariance factor.

At d = 1024, over six modalities, the standard deviation of a query's cosines then has an error of 0.7% (median) and 5%
(worst of 7,200 queries), relative to that of the 4,096 vectors it is computed from. With 64 directions the errors are
2% and 8%. More directions gain less than the error of so small a sample. For a query in directions of little variance
the error can be larger, because one variance is used for all remaining directions."""

PRIOR_VECTORS = 16
"""Weight, in vectors, of the pooled variance of all partitions when it is mixed into a partition's variance."""

PRIOR_DEVIATION = 0.1
"""Prior standard deviation for partitions with few vectors in total; its weight is PRIOR_VECTORS, too."""

MEAN_DEVIATION = 0.05
"""Standard deviation of a partition's mean cosine from the expected mean."""

PRIOR_OTHER_MEAN = 0.1
"""Prior mean cosine of a query and vectors of another modality; its weight is that of a partition of one vector."""

PRIOR_OWN_MEAN = 0.4
"""Prior mean cosine of a query and vectors of its own modality, with the same weight.

The difference is the modality gap; with ImageBind, means are 0.36..0.49 within a modality and 0.05 across."""

MIN_DEVIATION = 0.02
"""Minimum standard deviation of a calibrated score; avoids large scores from rounding of near-equal vectors."""

MAX_COSINE = 0.9995
"""Greatest cosine that is told from 1."""

CERTAIN_LOG_ODDS = 50.0
"""Log odds of an item with the same content as the query; its probability is 1.0 in floating point."""

MAX_LOG_ODDS = 30.0
"""Greatest log odds of any other item; the probability is below 1."""

COPY_COSINE = 0.96
"""Least cosine of a picture that was compressed again to its original.

With `mini`, 95% of 30 pictures saved again at quality 60 reach 0.969; no two of 1,590 different pictures reach 0.95."""

_ERFC = (
    0.17087277,
    -0.82215223,
    1.48851587,
    -1.13520398,
    0.27886807,
    -0.18628806,
    0.09678418,
    0.37409196,
    1.00002368,
    -1.26551223,
)


@dataclass(frozen=True)
class PartitionStatistics:
    """Mean and covariance of the vectors of a partition: Sigma = factor.T @ factor + residual_variance * identity.

    With v_i the strongest variances and u_i their directions, the rows of the factor are
    sqrt(v_i - residual_variance) u_i. This is the maximum-likelihood covariance of that form (Tipping & Bishop 1999,
    equations 7 and 8).

    Attributes:
        n: Number of vectors.
        mu: Mean: float32 (d,).
        factor: float32 (r, d), r <= FACTOR_RANK.
        residual_variance: Mean variance of the remaining directions.
    """

    n: int
    mu: NDArray[np.float32]
    factor: NDArray[np.float32]
    residual_variance: float

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]], dim: int) -> Self:
        """Restore statistics from the result of `to_arrays`.

        Args:
            arrays: Arrays by name, as `to_arrays` returns them.
            dim: Dimensions of the embedding space.

        Raises:
            StoreError: an array is missing, has another shape or type, or has invalid values.
        """
        try:
            n, mu, factor, rest = (arrays[name] for name in ("n", "mu", "factor", "rest"))
        except KeyError as error:
            raise StoreError(f"partition statistics lack {error}: run `bindsearch optimize`") from None
        shapes = (n.shape, mu.shape, factor.shape, rest.shape)
        factor_fits = factor.ndim == 2 and len(factor) <= FACTOR_RANK and factor.shape[1] == dim
        if not factor_fits or (n.shape, mu.shape, rest.shape) != ((1,), (dim,), (1,)):
            raise StoreError(f"partition statistics have the shapes {shapes}, d = {dim}: run `bindsearch optimize`")
        types_fit = n.dtype == np.int64 and rest.dtype == np.float64 and mu.dtype == factor.dtype == np.float32
        if not types_fit or n[0] < 1 or not (np.isfinite(mu).all() and np.isfinite(factor).all() and 0 <= rest[0] < 1):
            raise StoreError("partition statistics are damaged: run `bindsearch optimize`")
        return cls(int(n[0]), mu, factor, float(rest[0]))

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """Return arrays for storage: n int64 (1,), mu float32 (d,), factor float32 (r, d), rest float64 (1,)."""
        return {
            "n": np.array([self.n], np.int64),
            "mu": self.mu,
            "factor": self.factor,
            "rest": np.array([self.residual_variance]),
        }

    @cached_property
    def pair_cosine(self) -> float:
        """Mean cosine of two different vectors of the partition; PRIOR_OWN_MEAN if it has only one."""
        return pair_cosine(self.n, self.mu)

    def moments(self, query: NDArray[np.float32]) -> Moments:
        """Return what the scores of `query`, float32 (d,) of unit norm, depend on."""
        projected = self.factor @ query
        variance = float(projected @ projected) + self.residual_variance
        return Moments(self.n, self.pair_cosine, float(self.mu @ query), variance)


def pair_cosine(n: int, mu: NDArray[np.float32]) -> float:
    """Return the mean cosine of two different ones of n unit vectors with the mean `mu` (d,); one: PRIOR_OWN_MEAN."""
    return PRIOR_OWN_MEAN if n == 1 else (n * float(mu @ mu) - 1.0) / (n - 1)


@dataclass(frozen=True)
class QueryVector:
    """A composed query vector.

    Attributes:
        vector: float32 (d,), unit norm.
        parts: Weighted share of each term: float32 (t, d); their sum is `vector`.
        by_target: Query vectors of the modalities that the encoder embeds queries apart for.
    """

    vector: NDArray[np.float32]
    parts: NDArray[np.float32]
    by_target: Mapping[Modality, QueryVector] = field(default_factory=dict)

    def for_target(self, modality: Modality) -> QueryVector:
        """Return the query vector to search a modality with."""
        return self.by_target.get(modality, self)


class Moments(NamedTuple):
    """Statistics of the vectors of a partition, as far as the scores of one query depend on them.

    Attributes:
        n: Number of vectors.
        pair_cosine: Mean cosine of two different vectors.
        mean: Mean of their cosines with the query.
        variance: Variance of their cosines with the query.
    """

    n: int
    pair_cosine: float
    mean: float
    variance: float


class TargetScale(NamedTuple):
    """Properties of a partition that the scale of a query depends on besides vectors.

    Attributes:
        own: Share of the query, 0..1, that has the modality of the partition; None if unknown.
        coefficients: Coefficients of the log odds of a match.
        items: Number of items of the partition that match the filter, or an estimate, at least 1.
    """

    own: float | None
    coefficients: Coefficients
    items: float


class PartitionScale(NamedTuple):
    """Scale of one query's cosines over a partition.

    For a cosine that exceeds `mean` by e, the score is (e lift + shift) / sqrt(max(squares - share e^2, floor) scale).
    Each value is a number, or with candidates of several partitions, float64 (m,).

    Attributes:
        mean: Mean cosine over the partition.
        shift: Difference of `mean` to the mean that is mixed with the prior.
        lift: Factor of the excess over the mean: a vector is not compared with itself.
        squares: Sum of squares about the mean, the prior's included.
        share: Share of the excess's square in that sum.
        floor: The least sum of squares.
        scale: Factor from the sum of squares to the variance.
        intercept: Log odds of a match at cosine 0 and E = 1; see `probability.Coefficients`.
        cosine: Factor of the cosine.
        fisher: Factor of atanh(cosine).
        rarity: Factor of the rarity.
        items: Number of items of the partition that match the filter.
    """

    mean: float | NDArray[np.float64]
    shift: float | NDArray[np.float64]
    lift: float | NDArray[np.float64]
    squares: float | NDArray[np.float64]
    share: float | NDArray[np.float64]
    floor: float | NDArray[np.float64]
    scale: float | NDArray[np.float64]
    intercept: float | NDArray[np.float64]
    cosine: float | NDArray[np.float64]
    fisher: float | NDArray[np.float64]
    rarity: float | NDArray[np.float64]
    items: float | NDArray[np.float64]


class Candidates(NamedTuple):
    """Segments found in one partition.

    Attributes:
        modality: Modality of the partition.
        rows: Row of each segment's vector in the partition: int64 (m,).
        segment_rows: Row of each segment in the snapshot: int64 (m,).
        item_ids: Item of each segment: int64 (m,).
        cosines: float32 (m,).
        chances: Number of segments in the partition of each segment's item: int64 (m,).
        added: Number of them, the last, that words alone found.
    """

    modality: Modality
    rows: NDArray[np.int64]
    segment_rows: NDArray[np.int64]
    item_ids: NDArray[np.int64]
    cosines: NDArray[np.float32]
    chances: NDArray[np.int64]
    added: int = 0

    def take(self, mask: NDArray[np.bool_]) -> Candidates:
        """Return the segments where a mask is true: bool (m,); none of them may be `added`."""
        columns: Any = self[1:-1]
        return Candidates(self.modality, *(column[mask] for column in columns))


class Scored(NamedTuple):
    """The candidates of a query over all partitions, with their scores: (m,) each.

    Attributes:
        modalities: Modality of each partition.
        owner: Number of the partition: int64.
        rows: Row of the vector in its partition: int64.
        segment_rows: Row of the segment in the snapshot: int64.
        item_ids: Item: int64.
        cosines: float32.
        chances: Number of segments of the item in its partition: int64.
        is_added: Whether words alone found it: bool.
        z: float32.
        log_odds: Log odds of a match: float64.
        word_chances: Probability of a match that words give: float64; 0 without such a match.
    """

    modalities: tuple[Modality, ...]
    owner: NDArray[np.int64]
    rows: NDArray[np.int64]
    segment_rows: NDArray[np.int64]
    item_ids: NDArray[np.int64]
    cosines: NDArray[np.float32]
    chances: NDArray[np.int64]
    is_added: NDArray[np.bool_]
    z: NDArray[np.float32]
    log_odds: NDArray[np.float64]
    word_chances: NDArray[np.float64]

    def take(self, numbers: NDArray[np.int64]) -> Scored:
        """Return the candidates with these numbers: int64 (m,)."""
        columns: Any = self[1:]
        return Scored(self.modalities, *(column[numbers] for column in columns))


def joined(parts: Sequence[tuple[Any, ...]]) -> Any:
    """Return the columns of several `Candidates` or `Scored`, one after the other; the first field is no column."""
    return tuple(np.concatenate(column) for column in zip(*(part[1:] for part in parts), strict=True))


def target_scales(
    terms: Iterable[TermStep], items: Mapping[Modality, float], model: ProbabilityModel
) -> dict[Modality, TargetScale]:
    """Return what the scales of queries with these terms depend on besides vectors, for each partition.

    Images and videos count as one modality: every encoder embeds them with one tower, without a modality gap.

    Args:
        terms: The terms of the query.
        items: Number of items of each partition that is searched, or an estimate.
        model: Model of the probability of a match.
    """
    terms = tuple(terms)
    total = sum(abs(term.weight) for term in terms)
    shares: dict[Modality | None, float] = {}  # of the query that has each modality
    for term in terms:
        share = abs(term.weight) / total if total else 1.0 / len(terms)
        shares[term.source] = shares.get(term.source, 0.0) + share
    return {
        to: TargetScale(
            None
            if None in shares
            else sum(share for one, share in shares.items() if one and tower_of(one) is tower_of(to)),
            model.mixture(shares, to),
            max(1.0, number),
        )
        for to, number in items.items()
    }


def make_scales(targets: Mapping[Modality, TargetScale], moments: Sequence[Moments]) -> dict[Modality, PartitionScale]:
    """Return the scale of each partition for scores that are comparable between modalities.

    The score is z = (cosine - mean) / standard deviation of this query's cosines over the partition. Each vector is
    compared with the other vectors of its partition, not with itself: without a vector whose cosine exceeds the mean
    by e, the mean of the others is mean - e / (n - 1), and the sum of squares about it n variance - n / (n - 1) e^2.
    Mean and variance of small partitions are uncertain, so both are shrunk towards priors:

    * the variance is mixed with the pooled variance of all partitions, with the weight of PRIOR_VECTORS vectors;
    * the mean is mixed with the mean over partitions of other modalities or, by `own`, with the mean cosine of two
      vectors of one modality. Its weight is the number of vectors whose mean has the same variance: about one, and less
      if it is uncertain which of the two applies;
    * the variance of the resulting mean is added.

    So the score of a single vector in a partition depends on the other partitions: an exact match gets a high score, a
    vector that is near only because it has the query's modality does not.

    Args:
        targets: The partitions that are searched.
        moments: Moments of each of them.
    """
    if not targets:
        return {}
    pooled = sum((part.n - 1) * part.variance for part in moments) + PRIOR_VECTORS * PRIOR_DEVIATION**2
    prior_variance = pooled / (sum(part.n - 1 for part in moments) + PRIOR_VECTORS)
    scales = {}
    priors = _prior_means(targets.values(), moments)
    for (modality, target), part, (prior_mean, prior_mean_variance) in zip(
        targets.items(), moments, priors, strict=True
    ):
        others = part.n - 1
        prior_weight = prior_variance / prior_mean_variance
        weight = others + prior_weight
        floor = PRIOR_VECTORS * prior_variance
        scales[modality] = PartitionScale(
            part.mean,
            part.mean - (others * part.mean + prior_weight * prior_mean) / weight,
            1.0 + (1.0 / weight if others else 0.0),
            part.n * part.variance + floor,
            part.n / others if others else 0.0,
            floor,
            (1.0 + 1.0 / weight) / (others + PRIOR_VECTORS),
            *target.coefficients,
            target.items,
        )
    return scales


def _prior_means(targets: Collection[TargetScale], moments: Sequence[Moments]) -> list[tuple[float, float]]:
    """Return prior mean and variance of each partition's mean cosine, from the other partitions.

    If it is unknown which modalities the query has, their shares are estimated: a query is in a partition's modality if
    its mean cosine equals that of the partition's own vectors. The share that large partitions do not account for is
    distributed over small ones.
    """
    trust = [part.n / (part.n + PRIOR_VECTORS) for part in moments]
    own = [target.own for target in targets if target.own is not None]
    if not own:
        own = [
            t
            * min(
                max((part.mean - PRIOR_OTHER_MEAN) / max(part.pair_cosine - PRIOR_OTHER_MEAN, MEAN_DEVIATION), 0.0), 1.0
            )
            for t, part in zip(trust, moments, strict=True)
        ]
        remainder = (1.0 - max(own)) / 2
        own = [share + (1.0 - t) * remainder for share, t in zip(own, trust, strict=True)]
    weights = [t * (1.0 - share) for t, share in zip(trust, own, strict=True)]  # only other modalities
    assumed = 1.0 / (1 + PRIOR_VECTORS)
    other_sum = sum(map(operator.mul, weights, [part.mean for part in moments])) + assumed * PRIOR_OTHER_MEAN
    own_sum = sum(map(operator.mul, trust, [part.pair_cosine for part in moments])) + assumed * PRIOR_OWN_MEAN
    other_weight, own_weight = sum(weights) + assumed, sum(trust) + assumed
    priors = []
    for w, t, part, share in zip(weights, trust, moments, own, strict=True):
        other_mean = (other_sum - w * part.mean) / (other_weight - w)
        own_mean = (own_sum - t * part.pair_cosine) / (own_weight - t)
        doubt = share * (1.0 - share) * (own_mean - other_mean) ** 2
        priors.append((other_mean + share * (own_mean - other_mean), MEAN_DEVIATION**2 + doubt))
    return priors


def score_candidates(
    present: Sequence[Candidates],
    scales: Sequence[PartitionScale] | None,
    identical: NDArray[np.int64],
    copied: Callable[[Modality], bool],
) -> Scored:
    """Return the candidates of all partitions with their scores.

    Args:
        present: The candidates of each partition.
        scales: Scale of each partition; None: the query has no vector, z is 0, and nothing is probable.
        identical: Ids of items that certainly match: int64.
        copied: Returns whether a cosine of COPY_COSINE shows a copy, for a modality. A calibration by pictures of the
            same things says little about copies: their log odds are at least those of DEFAULT_MODEL for equal
            modalities, 1.8 or more.
    """
    modalities = tuple(one.modality for one in present)
    if len(present) == 1:
        rows, segment_rows, item_ids, cosines, chances = present[0][1:-1]
        owner = np.zeros(len(rows), np.int64)
    else:
        rows, segment_rows, item_ids, cosines, chances = joined([one[:-1] for one in present])
        owner = np.repeat(np.arange(len(present)), [len(one.rows) for one in present])
    if scales is None:
        z, log_odds = np.zeros(len(cosines), np.float32), np.full(len(cosines), -CERTAIN_LOG_ODDS)
    else:
        scale = scales[0]
        if len(scales) > 1:
            scale = PartitionScale(*np.array(scales, np.float64).T[:, owner])
        z, _, log_odds = log_odds_of(cosines.astype(np.float64), chances, scale)
    if len(identical):
        same = np.isin(item_ids, identical)
        log_odds[same] = CERTAIN_LOG_ODDS + cosines[same]
    if cosines.max() >= COPY_COSINE and any(shows := [copied(modality) for modality in modalities]):
        near = (cosines >= COPY_COSINE) & np.array(shows)[owner]
        intercept, _, fisher, _ = DEFAULT_MODEL.same
        as_copies = intercept + fisher * np.arctanh(np.minimum(cosines.astype(np.float64), MAX_COSINE))
        log_odds = np.where(near, np.maximum(log_odds, as_copies), log_odds)
    is_added = np.zeros(len(owner), np.bool_)
    end = 0
    for one in present:
        end += len(one.rows)
        is_added[end - one.added : end] = True
    word_chances = np.zeros(len(owner))
    return Scored(
        modalities, owner, rows, segment_rows, item_ids, cosines, chances, is_added, z, log_odds, word_chances
    )


def log_odds_of(
    cosines: NDArray[np.floating], chances: NDArray[np.int64], scale: PartitionScale
) -> tuple[NDArray[np.float32], NDArray[np.float64], NDArray[np.float64]]:
    """Return scores z, rarities and log odds of a match of candidates (m,): float32, float64 and float64 (m,)."""
    excess = cosines - scale.mean
    variance = np.maximum(scale.squares - scale.share * excess * excess, scale.floor) * scale.scale
    z = ((excess * scale.lift + scale.shift) / np.maximum(np.sqrt(variance), MIN_DEVIATION)).astype(np.float32)
    cosine, fisher, rarity = features_of(cosines, rarities(z, chances, scale.items))
    log_odds = scale.intercept + (scale.cosine * cosine + scale.fisher * fisher + scale.rarity * rarity)
    return z, rarity, np.minimum(log_odds, MAX_LOG_ODDS)


def features_of(
    cosines: NDArray[np.floating], rarity: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Return what the log odds of a match are linear in: cosine, atanh(cosine) and rarity, float64 (m,) each.

    atanh is Fisher's transformation of correlations. It tells near copies, with cosines of 0.99, from what is only
    similar, with 0.9. Its argument is cut at MAX_COSINE, where the rounding of stored vectors begins.
    """
    values = cosines.astype(np.float64, copy=False)
    return values, np.arctanh(np.minimum(np.maximum(values, -MAX_COSINE), MAX_COSINE)), rarity


def rarities(
    z: NDArray[np.floating], chances: NDArray[np.integer], items: NDArray[np.floating] | float
) -> NDArray[np.float64]:
    """Return how rare candidates are: ln(1 / E), where E is the number of items that chance makes as good.

    An item counts by the best of its n segments. If their scores are chance, the best exceeds z with the probability
    p = 1 - (1 - S(z))^n, where S is the survival function of the normal distribution. With N items, E = N p items are
    as good by chance; sequence search ranks by the same number (Karlin & Altschul 1990).

    Args:
        z: Score of each candidate: (m,).
        chances: Number n of segments of each candidate's item: (m,).
        items: Number N of items searched: (m,).

    Returns:
        float64 (m,).
    """
    survival = log_survival(z)
    if chances.max() == 1:  # in most partitions: p = S(z)
        return -(survival + np.log(items))
    few = survival + np.log(chances)  # the limit for a small survival, where 1 - S(z) is 1 in floating point
    with np.errstate(divide="ignore"):
        exact = np.log(-np.expm1(chances * np.log1p(-np.exp(np.minimum(survival, -1e-12)))))
    return np.asarray(-(np.where(few < -20.0, few, exact) + np.log(items)), np.float64)


def log_survival(z: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return the logarithm of the probability that a standard normal value exceeds z: float64 (m,).

    By the Chebyshev fit of the complementary error function of Press et al., Numerical Recipes, 6.2 (`erfcc`), with a
    relative error below 1.2e-7 everywhere.
    """
    x = np.abs(z).astype(np.float64) / math.sqrt(2.0)
    t = 1.0 / (1.0 + 0.5 * x)
    polynomial = _ERFC[0] * t
    for coefficient in _ERFC[1:-1]:  # as np.polyval, in half the time
        polynomial += coefficient
        polynomial *= t
    upper = np.log(0.5 * t) - x * x + (polynomial + _ERFC[-1])
    return np.asarray(np.where(z >= 0, upper, np.log1p(-np.exp(upper))), np.float64)


def probabilities(log_odds: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return probabilities, given log odds (m,)."""
    bounded = np.minimum(np.maximum(log_odds, -CERTAIN_LOG_ODDS), CERTAIN_LOG_ODDS)
    return np.asarray(1.0 / (1.0 + np.exp(-bounded)), np.float64)
