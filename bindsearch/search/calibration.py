"""Calibrated scores: statistics of a partition, and cosines turned into scores that compare between modalities.

Letters: n vectors of a partition, m of them at hand, d dimensions, r rank of a covariance factor.
"""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from bindsearch.errors import StoreError

if TYPE_CHECKING:
    from numpy.typing import NDArray

FACTOR_RANK = 128
"""Directions a partition's covariance is kept in. At d = 1024, over six modalities, the deviation of a query's cosines
is then right to 0.7% (median) and 5% (worst of 7,200 queries) of that of the 4,096 vectors it is made from. More
directions gain less than so small a sample loses; 64 are right to 2% and 8%. A query that lies where a partition varies
little can be off by more: one deviation is taken for all directions beside these."""

SPARE_DIRECTIONS = 64
"""More directions looked at than kept, so that those kept are nearly the strongest (Halko et al. 2011, 4.3)."""

PRIOR_VECTORS = 16
"""A partition's variance is mixed with that of all partitions, which counts as this many vectors."""

PRIOR_DEVIATION = 0.1
"""The deviation assumed where all partitions together hold few vectors: it counts as PRIOR_VECTORS too."""

MEAN_DEVIATION = 0.05
"""Deviation of a partition's mean cosine from the one expected of it."""

PRIOR_OTHER_MEAN = 0.1
"""The mean cosine assumed of queries over a partition of another modality; it counts as a partition of one vector."""

PRIOR_OWN_MEAN = 0.4
"""Likewise over a partition of their own modality: the modality gap (with ImageBind 0.36..0.49 within
a modality, 0.05 across)."""

MIN_DEVIATION = 0.02
"""Floor of a calibrated score's deviation: below it, near-equal vectors would turn rounding into large scores."""


@dataclass(frozen=True)
class PartitionStatistics:
    """Mean and covariance of the n vectors of a partition: Sigma = factor.T @ factor + rest * identity.

    `mu` float32 (d,), `factor` float32 (r, d) with r <= FACTOR_RANK. With v_i the strongest variances and u_i their
    directions, the factor's rows are sqrt(v_i - rest) u_i, and `residual_variance` is the mean variance of a direction
    beside them (the likeliest covariance of that form: Tipping & Bishop 1999, equations 7 and 8)."""

    n: int
    mu: NDArray[np.float32]
    factor: NDArray[np.float32]
    residual_variance: float

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]], dim: int) -> Self:
        """The statistics that `to_arrays` gave, of a space of `dim` dimensions.

        Raises:
            StoreError: an array is missing, of another shape or type, or holds what cannot be.
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
        """Plain arrays to be stored: n int64 (1,), mu float32 (d,), factor float32 (r, d), rest float64 (1,)."""
        return {
            "n": np.array([self.n], np.int64),
            "mu": self.mu,
            "factor": self.factor,
            "rest": np.array([self.residual_variance]),
        }

    @cached_property
    def pair_cosine(self) -> float:
        """Mean cosine of two different vectors of the partition; PRIOR_OWN_MEAN where there is only one."""
        if self.n == 1:
            return PRIOR_OWN_MEAN
        return (self.n * float(self.mu @ self.mu) - 1.0) / (self.n - 1)

    def moments(self, query: NDArray[np.float32]) -> tuple[float, float]:
        """Mean and variance of the cosine of `query` (d,), unit norm, over the partition."""
        projected = self.factor @ query
        return float(self.mu @ query), float(projected @ projected) + self.residual_variance


def partition_statistics(vectors: NDArray[np.floating], n: int | None = None) -> PartitionStatistics:
    """Statistics of a partition of n unit vectors from all of them or a fair sample of them, (m, d), 1 <= m <= n.

    Exact for m <= FACTOR_RANK. Deterministic. m = 4000 takes 17 ms of one core at d = 384, 35 ms at d = 1024.
    """
    rows = np.asarray(vectors, np.float32)
    m, d = rows.shape
    mu = rows.mean(axis=0)
    if m <= min(FACTOR_RANK, d):
        return PartitionStatistics(n or m, mu, (rows - mu) / np.float32(np.sqrt(m)), 0.0)
    variances, directions = _strongest_directions(rows, mu)
    total = float(np.einsum("md,md->m", rows, rows).mean(dtype=np.float64)) - float(mu @ mu)
    beside = d - len(variances)
    rest = max(total - float(variances.sum()), 0.0) / beside if beside else 0.0
    scales = np.sqrt(np.maximum(variances - rest, 0.0)).astype(np.float32)
    return PartitionStatistics(n or m, mu, scales[:, None] * directions, rest)


def _strongest_directions(
    rows: NDArray[np.float32], mu: NDArray[np.float32]
) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
    """The strongest variances (r,) of rows (m, d) about their mean `mu`, nearly, and their directions (r, d).

    A range finder with one power step (Halko et al. 2011, 4.3), started from rows rather than from random directions:
    they lie where the variance is, and cost no product.
    """
    m, d = rows.shape
    chosen = np.linspace(0, m - 1, min(FACTOR_RANK + SPARE_DIRECTIONS, m, d)).astype(np.int64)
    basis = _orthonormal((rows[chosen] - mu).T)
    basis = _orthonormal(rows.T @ _centred(rows @ basis))
    projected = _centred(rows @ basis)
    variances, turn = np.linalg.eigh((projected.T @ projected).astype(np.float64) / m)
    strongest = slice(None, -FACTOR_RANK - 1, -1)
    return np.maximum(variances[strongest], 0.0), (basis @ turn[:, strongest].astype(np.float32)).T


def _centred(columns: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray(columns - columns.mean(axis=0), np.float32)


def _orthonormal(columns: NDArray[np.float32]) -> NDArray[np.float32]:
    """An orthonormal basis (d, <= l) of what the columns (d, l) span; for small l far cheaper than QR."""
    if not columns.shape[1]:  # all vectors are the same
        return columns
    wide = columns.astype(np.float64)
    squares, turn = np.linalg.eigh(wide.T @ wide)
    spanned = squares > squares[-1] * 1e-12  # below lies the rounding of float32
    return np.asarray(wide @ (turn[:, spanned] / np.sqrt(squares[spanned])), np.float32)


def calibrate(
    cosines: Sequence[NDArray[np.float32]],
    query: NDArray[np.float32],
    partitions: Sequence[PartitionStatistics],
    own: Sequence[float] | None = None,
) -> list[NDArray[np.float32]]:
    """Scores that can be compared between modalities: z = (cosine - mean) / deviation of this query over a partition.

    `cosines` holds one array a partition, each cosine that of a vector of the partition, and so does the result.
    `own`: which share of the query, 0..1, is of each partition's modality; None where that is not known.

    Each vector is held against the others of its partition, not against itself. Small partitions say little of their
    own mean and spread, so both lean on what is expected of them:

    * the variance is mixed with that of all partitions together, which counts as PRIOR_VECTORS vectors;
    * the mean is mixed with that over partitions of other modalities or, by `own`, with the mean cosine of two vectors
      of one modality; it counts as the vectors whose mean would be as sure, about one, and less where it is not known
      which of the two applies;
    * the variance of the mean so found is added.

    So a vector alone in its partition is judged by what is usual elsewhere: an exact match stands out, and a vector
    that is near only because it is of the query's modality does not.
    """
    moments = [partition.moments(query) for partition in partitions]
    prior_variance = _pooled_variance(partitions, moments)
    priors = _prior_means(partitions, [mean for mean, _ in moments], own)
    columns = [
        _coefficients(partition.n, *moment, prior_variance, *prior)
        for partition, moment, prior in zip(partitions, moments, priors, strict=True)
    ]
    lengths = [len(cosine) for cosine in cosines]
    mean, shift, lift, squares, share, scale = np.repeat(np.array(columns).T, lengths, axis=1)
    excess = np.concatenate(cosines) - mean
    variance = np.maximum(squares - share * excess * excess, PRIOR_VECTORS * prior_variance) * scale
    scores = (excess * lift + shift) / np.maximum(np.sqrt(variance), MIN_DEVIATION)
    return np.split(scores.astype(np.float32), np.cumsum(lengths)[:-1])


def _coefficients(
    n: int, mean: float, variance: float, prior_variance: float, prior_mean: float, prior_mean_variance: float
) -> tuple[float, ...]:
    """Return what `calibrate` needs of a partition, for cosines that lie `excess` above its `mean`.

    Without such a vector the mean of the others is mean - excess / (n - 1), and the sum of squares about it
    n variance - n / (n - 1) excess^2.
    """
    others = n - 1
    prior_weight = prior_variance / prior_mean_variance
    weight = others + prior_weight
    mixed_mean = (others * mean + prior_weight * prior_mean) / weight
    return (
        mean,
        mean - mixed_mean,
        1.0 + (1.0 / weight if others else 0.0),
        n * variance + PRIOR_VECTORS * prior_variance,
        n / others if others else 0.0,
        (1.0 + 1.0 / weight) / (others + PRIOR_VECTORS),
    )


def _pooled_variance(partitions: Sequence[PartitionStatistics], moments: Sequence[tuple[float, float]]) -> float:
    degrees = [partition.n - 1 for partition in partitions]
    squares = sum(degree * variance for degree, (_, variance) in zip(degrees, moments, strict=True))
    return (squares + PRIOR_VECTORS * PRIOR_DEVIATION**2) / (sum(degrees) + PRIOR_VECTORS)


def _prior_means(
    partitions: Sequence[PartitionStatistics], means: Sequence[float], own: Sequence[float] | None
) -> list[tuple[float, float]]:
    """Return what is expected of each partition's mean before its own vectors are seen, and the variance of that."""
    trust = [partition.n / (partition.n + PRIOR_VECTORS) for partition in partitions]
    pairs = [partition.pair_cosine for partition in partitions]
    if own is None:
        own = _guess_own(trust, pairs, means)
    weights = [t * (1.0 - share) for t, share in zip(trust, own, strict=True)]  # own vectors say nothing of others
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
    """Return which share of a query is of each partition's modality, from where it lies: it is inside a partition when
    its mean cosine is that of the partition's own vectors. What no large partition holds may belong to any small
    one."""
    inside = [
        t * min(max((mean - PRIOR_OTHER_MEAN) / max(pair - PRIOR_OTHER_MEAN, MEAN_DEVIATION), 0.0), 1.0)
        for t, pair, mean in zip(trust, pairs, means, strict=True)
    ]
    left = (1.0 - max(inside)) / 2
    return [held + (1.0 - t) * left for held, t in zip(inside, trust, strict=True)]
