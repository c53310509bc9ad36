"""The embedding space: normalising, temperature scaling, composing and calibrating. Arrays in, arrays out.

Letters: n vectors, d dimensions, t terms, r rank of a covariance factor.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from bindsearch.errors import UsageError, VectorError

if TYPE_CHECKING:
    from numpy.typing import NDArray

MIN_SUM_NORM = 1e-3
"""A sum shorter than this share of its weights has cancelled: what is left is rounding, not meaning."""

PRIOR_VECTORS = 16
"""A partition's variance is mixed with that of all partitions, which counts as this many vectors."""

PRIOR_MEAN_VECTORS = 1
"""Likewise for its mean, mixed with the mean over the other partitions: it decides for a partition of one vector."""

DEFAULT_DEVIATION = 0.1
"""The deviation assumed where all partitions together hold few vectors."""

MIN_DEVIATION = 0.02
"""Floor of a calibrated score's deviation: below it, near-equal vectors would turn rounding into large scores."""


def l2_normalize(vectors: NDArray[np.floating]) -> NDArray[np.float32]:
    """Scale each row of (n, d), or one (d,), to unit L2 norm: float32.

    Raises:
        VectorError: a row holds NaN or infinity, or is all zeros.
    """
    vectors = np.asarray(vectors, np.float32)
    norms = np.linalg.norm(vectors, axis=-1, keepdims=True)
    if not np.isfinite(norms).all() or (norms == 0).any():
        raise VectorError("a vector is zero or not finite, so it has no direction")
    return np.asarray(vectors / norms, np.float32)


def scale_features(embeddings: NDArray[np.float32], temperature: float) -> NDArray[np.float32]:
    """Temperature-scaled features, as ImageBind's heads give them (paper, section 3.3): float32, same shape."""
    return embeddings * np.float32(temperature)


def compose(features: NDArray[np.float32], weights: Sequence[float]) -> NDArray[np.float32]:
    """One query vector from scaled term features (t, d): normalise each, weight, sum, normalise (paper, B.4): (d,).

    Normalising each term first makes the result independent of the temperatures.

    Raises:
        UsageError: the weighted terms cancel.
    """
    total = np.asarray(weights, np.float32) @ l2_normalize(features)
    if np.linalg.norm(total) <= MIN_SUM_NORM * np.abs(weights).sum():
        raise UsageError("the query's terms cancel: nothing is left to search for; change a weight or drop a term")
    return l2_normalize(total)


def softmax_scores(
    queries: NDArray[np.float32], targets: NDArray[np.float32], temperature: float
) -> NDArray[np.float32]:
    """Probabilities over m targets for nq queries: softmax(temperature * queries @ targets.T), float32 (nq, m)."""
    logits = np.float32(temperature) * (queries @ targets.T)
    logits -= logits.max(axis=1, keepdims=True)
    exponentials = np.exp(logits)
    return np.asarray(exponentials / exponentials.sum(axis=1, keepdims=True), np.float32)


@dataclass(frozen=True)
class PartitionStatistics:
    """Mean and covariance of the n vectors of a partition: Sigma = factor.T @ factor.

    `mu` float32 (d,), `factor` float32 (r, d) with r = min(n, d).
    """

    n: int
    mu: NDArray[np.float32]
    factor: NDArray[np.float32]

    def moments(self, query: NDArray[np.float32]) -> tuple[float, float]:
        """Mean and variance of the cosine of `query` (d,), unit norm, over the partition."""
        projected = self.factor @ query
        return float(self.mu @ query), float(projected @ projected)


def partition_statistics(vectors: NDArray[np.floating]) -> PartitionStatistics:
    """Statistics of (n, d) vectors, n >= 1. Few vectors are their own factor; many are folded into d rows."""
    rows = np.asarray(vectors, np.float32)
    n, d = rows.shape
    mu = rows.mean(axis=0)
    deviations = (rows - mu) / np.float32(np.sqrt(n))
    if n > d:
        covariance = (deviations.T @ deviations).astype(np.float64)
        jitter = 1e-9 * np.eye(d)  # rounding must not make it indefinite
        deviations = np.linalg.cholesky(covariance + jitter).T.astype(np.float32)
    return PartitionStatistics(n, mu, deviations)


def calibrate(
    cosines: Sequence[NDArray[np.float32]], query: NDArray[np.float32], partitions: Sequence[PartitionStatistics]
) -> list[NDArray[np.float32]]:
    """Scores that can be compared between modalities: z = (cosine - mean) / deviation of this query over a partition.

    `cosines` holds one array a partition, each cosine that of a vector of the partition, and so does the result. Each
    vector is held against the others of its partition, not against itself, and small partitions, which say little of
    their own spread, lean on the rest: a lone exact match must not look average.
    """
    moments = [partition.moments(query) for partition in partitions]
    counts = np.array([partition.n for partition in partitions], np.float64)
    means, variances = (np.array(values, np.float64) for values in zip(*moments, strict=True))
    degrees = (counts - 1).sum()
    assumed = PRIOR_VECTORS * DEFAULT_DEVIATION**2
    prior_variance = float((((counts - 1) * variances).sum() + assumed) / (degrees + PRIOR_VECTORS))
    scores = []
    for number, cosine in enumerate(cosines):
        elsewhere = np.delete(means, number)
        prior_mean = float(elsewhere.mean()) if len(elsewhere) else float(means[number])
        others = counts[number] - 1
        total = counts[number] * means[number] - cosine
        squares = counts[number] * (variances[number] + means[number] ** 2) - cosine**2
        spread = np.maximum(squares / others - (total / others) ** 2, 0.0) if others else np.zeros_like(cosine)
        mean = (total + PRIOR_MEAN_VECTORS * prior_mean) / (others + PRIOR_MEAN_VECTORS)
        variance = (others * spread + PRIOR_VECTORS * prior_variance) / (others + PRIOR_VECTORS)
        scores.append(((cosine - mean) / np.maximum(np.sqrt(variance), MIN_DEVIATION)).astype(np.float32))
    return scores
