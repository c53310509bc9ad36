"""Calibrated scores: statistics of partitions, and scores that are comparable between modalities.

Letters: n vectors of a partition, m vectors in a sample of it, d dimensions, r rank of a covariance factor.
"""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, Self

import numpy as np

from bindsearch.device import one_blas_thread
from bindsearch.errors import StoreError

if TYPE_CHECKING:
    from numpy.typing import NDArray

FACTOR_RANK = 128
"""Maximum rank of a partition's covariance factor.

At d = 1024, over six modalities, the standard deviation of a query's cosines then has an error of 0.7% (median) and 5%
(worst of 7,200 queries), relative to that of the 4,096 vectors it is computed from. With 64 directions the errors are
2% and 8%. More directions gain less than the error of so small a sample. For a query in directions of little variance
the error can be larger, because one variance is used for all remaining directions."""

SPARE_DIRECTIONS = 64
"""Oversampling of the range finder: extra directions, which improve the strongest ones (Halko et al. 2011, 4.3)."""

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


class Statistics(Protocol):
    """Statistics of the vectors of a partition, as far as scores depend on them."""

    @property
    def n(self) -> int:
        """Number of vectors."""

    @property
    def pair_cosine(self) -> float:
        """Mean cosine of two different vectors of the partition."""

    def moments(self, query: NDArray[np.float32]) -> tuple[float, float]:
        """Return mean and variance over the partition of the cosine with `query`: float32 (d,), unit norm."""


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

    def moments(self, query: NDArray[np.float32]) -> tuple[float, float]:
        """Return mean and variance over the partition of the cosine with `query`: float32 (d,), unit norm."""
        projected = self.factor @ query
        return float(self.mu @ query), float(projected @ projected) + self.residual_variance


def pair_cosine(n: int, mu: NDArray[np.float32]) -> float:
    """Return the mean cosine of two different ones of n unit vectors with the mean `mu` (d,); one: PRIOR_OWN_MEAN."""
    return PRIOR_OWN_MEAN if n == 1 else (n * float(mu @ mu) - 1.0) / (n - 1)


def partition_statistics(vectors: NDArray[np.floating], n: int | None = None) -> PartitionStatistics:
    """Compute the statistics of a partition.

    The result is deterministic, and exact for m <= FACTOR_RANK. m = 4000 takes 17 ms on one core at d = 384, 35 ms at
    d = 1024.

    Args:
        vectors: Unit vectors (m, d), 1 <= m <= n: all vectors of the partition or a uniform sample of them.
        n: Number of vectors in the partition (None: m).
    """
    rows = np.asarray(vectors, np.float32)
    m, d = rows.shape
    mu = rows.mean(axis=0)
    if m <= min(FACTOR_RANK, d):
        return PartitionStatistics(n or m, mu, (rows - mu) / np.float32(np.sqrt(m)), 0.0)
    with one_blas_thread():
        variances, directions = _strongest_directions(rows, mu)
    total = float(np.einsum("md,md->m", rows, rows).mean(dtype=np.float64)) - float(mu @ mu)
    remaining = d - len(variances)
    rest = max(total - float(variances.sum()), 0.0) / remaining if remaining else 0.0
    scales = np.sqrt(np.maximum(variances - rest, 0.0)).astype(np.float32)
    return PartitionStatistics(n or m, mu, scales[:, None] * directions, rest)


def _strongest_directions(
    rows: NDArray[np.float32], mu: NDArray[np.float32]
) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
    """Approximate the strongest variances (r,) of rows (m, d) about their mean `mu`, and their directions (r, d).

    A range finder with one power step (Halko et al. 2011, 4.3). It starts from rows instead of random directions: they
    span directions of large variance, and need no matrix product.
    """
    m, d = rows.shape
    chosen = np.linspace(0, m - 1, min(FACTOR_RANK + SPARE_DIRECTIONS, m, d)).astype(np.int64)
    basis = _orthonormal((rows[chosen] - mu).T)
    basis = _orthonormal(rows.T @ _centred(rows @ basis))
    projected = _centred(rows @ basis)
    variances, rotation = np.linalg.eigh((projected.T @ projected).astype(np.float64) / m)
    strongest = slice(None, -FACTOR_RANK - 1, -1)
    return np.maximum(variances[strongest], 0.0), (basis @ rotation[:, strongest].astype(np.float32)).T


def _centred(columns: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray(columns - columns.mean(axis=0), np.float32)


def _orthonormal(columns: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return an orthonormal basis (d, <= l) of the span of columns (d, l); for small l far cheaper than QR."""
    if not columns.shape[1]:  # all vectors are equal
        return columns
    doubles = columns.astype(np.float64)
    squares, rotation = np.linalg.eigh(doubles.T @ doubles)
    spanned = squares > squares[-1] * 1e-12  # smaller values are rounding errors of float32
    return np.asarray(doubles @ (rotation[:, spanned] / np.sqrt(squares[spanned])), np.float32)


class ScoreScale(NamedTuple):
    """Mean and variance of one query's cosines over a partition, shrunk towards priors; see `score_scales`.

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
    """

    mean: float | NDArray[np.float64]
    shift: float | NDArray[np.float64]
    lift: float | NDArray[np.float64]
    squares: float | NDArray[np.float64]
    share: float | NDArray[np.float64]
    floor: float | NDArray[np.float64]
    scale: float | NDArray[np.float64]


def score_scales(
    queries: Sequence[NDArray[np.float32]],
    partitions: Sequence[Statistics],
    own: Sequence[float] | None = None,
) -> list[ScoreScale]:
    """Return the scale of each partition for scores that are comparable between modalities.

    The score is z = (cosine - mean) / standard deviation of this query's cosines over the partition. Each vector is
    compared with the other vectors of its partition, not with itself. Mean and variance of small partitions are
    uncertain, so both are shrunk towards priors:

    * the variance is mixed with the pooled variance of all partitions, with the weight of PRIOR_VECTORS vectors;
    * the mean is mixed with the mean over partitions of other modalities or, by `own`, with the mean cosine of two
      vectors of one modality. Its weight is the number of vectors whose mean has the same variance: about one, and less
      if it is uncertain which of the two applies;
    * the variance of the resulting mean is added.

    So the score of a single vector in a partition depends on the other partitions: an exact match gets a high score, a
    vector that is near only because it has the query's modality does not.

    Args:
        queries: Vector that each partition is searched with: float32 (d,), unit norm.
        partitions: Statistics of each partition.
        own: Share of the query, 0..1, that has the modality of each partition; None if unknown.
    """
    moments = [partition.moments(query) for partition, query in zip(partitions, queries, strict=True)]
    prior_variance = _pooled_variance(partitions, moments)
    priors = _prior_means(partitions, [mean for mean, _ in moments], own)
    return [
        _score_scale(partition.n, *moment, prior_variance, *prior)
        for partition, moment, prior in zip(partitions, moments, priors, strict=True)
    ]


def z_scores(cosines: NDArray[np.floating], scale: ScoreScale) -> NDArray[np.float32]:
    """Return the scores of cosines (m,): float32 (m,)."""
    excess = cosines - scale.mean
    variance = np.maximum(scale.squares - scale.share * excess * excess, scale.floor) * scale.scale
    scores = (excess * scale.lift + scale.shift) / np.maximum(np.sqrt(variance), MIN_DEVIATION)
    return scores.astype(np.float32)


def _score_scale(
    n: int, mean: float, variance: float, prior_variance: float, prior_mean: float, prior_mean_variance: float
) -> ScoreScale:
    """Return the scale of a partition of n vectors with these moments.

    Without a vector whose cosine exceeds the mean by e, the mean of the others is mean - e / (n - 1), and the sum of
    squares about it is n variance - n / (n - 1) e^2.
    """
    others = n - 1
    prior_weight = prior_variance / prior_mean_variance
    weight = others + prior_weight
    mixed_mean = (others * mean + prior_weight * prior_mean) / weight
    return ScoreScale(
        mean=mean,
        shift=mean - mixed_mean,
        lift=1.0 + (1.0 / weight if others else 0.0),
        squares=n * variance + PRIOR_VECTORS * prior_variance,
        share=n / others if others else 0.0,
        floor=PRIOR_VECTORS * prior_variance,
        scale=(1.0 + 1.0 / weight) / (others + PRIOR_VECTORS),
    )


def _pooled_variance(partitions: Sequence[Statistics], moments: Sequence[tuple[float, float]]) -> float:
    degrees = [partition.n - 1 for partition in partitions]
    squares = sum(degree * variance for degree, (_, variance) in zip(degrees, moments, strict=True))
    return (squares + PRIOR_VECTORS * PRIOR_DEVIATION**2) / (sum(degrees) + PRIOR_VECTORS)


def _prior_means(
    partitions: Sequence[Statistics], means: Sequence[float], own: Sequence[float] | None
) -> list[tuple[float, float]]:
    """Return prior mean and variance of each partition's mean cosine, from the other partitions."""
    trust = [partition.n / (partition.n + PRIOR_VECTORS) for partition in partitions]
    pairs = [partition.pair_cosine for partition in partitions]
    if own is None:
        own = _guess_own(trust, pairs, means)
    weights = [t * (1.0 - share) for t, share in zip(trust, own, strict=True)]  # only other modalities
    assumed = 1.0 / (1 + PRIOR_VECTORS)
    other_sum = sum(map(operator.mul, weights, means)) + assumed * PRIOR_OTHER_MEAN
    own_sum = sum(map(operator.mul, trust, pairs)) + assumed * PRIOR_OWN_MEAN
    other_weight, own_weight = sum(weights) + assumed, sum(trust) + assumed
    priors = []
    for w, t, mean, pair, share in zip(weights, trust, means, pairs, own, strict=True):
        other_mean = (other_sum - w * mean) / (other_weight - w)
        own_mean = (own_sum - t * pair) / (own_weight - t)
        doubt = share * (1.0 - share) * (own_mean - other_mean) ** 2
        priors.append((other_mean + share * (own_mean - other_mean), MEAN_DEVIATION**2 + doubt))
    return priors


def _guess_own(trust: Sequence[float], pairs: Sequence[float], means: Sequence[float]) -> list[float]:
    """Estimate the share of a query that has each partition's modality, from its mean cosines.

    A query is in a partition's modality if its mean cosine equals that of the partition's own vectors. The share that
    large partitions do not account for is distributed over small ones.
    """
    shares = [
        t * min(max((mean - PRIOR_OTHER_MEAN) / max(pair - PRIOR_OTHER_MEAN, MEAN_DEVIATION), 0.0), 1.0)
        for t, pair, mean in zip(trust, pairs, means, strict=True)
    ]
    remainder = (1.0 - max(shares)) / 2
    return [share + (1.0 - t) * remainder for share, t in zip(shares, trust, strict=True)]
