"""Vector math of the embedding space: normalise, scale by temperature, compose. Arrays in, arrays out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from bindsearch.errors import UsageError, VectorError

if TYPE_CHECKING:
    from numpy.typing import NDArray

MIN_SUM_NORM = 1e-3
"""A sum shorter than this share of its weights has cancelled: what is left is rounding, not meaning."""


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
