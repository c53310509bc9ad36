"""Vector operations of the embedding space: normalise, scale by temperature, compose."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from bindsearch.errors import UsageError, VectorError

MIN_SUM_NORM = 1e-3
"""Minimum norm of a weighted sum, as a share of its weights: below it the terms cancel and only rounding remains."""

COSINE_DECIMALS = 6
"""Decimals of the cosines that figures of quality are computed from."""


def l2_normalize(vectors: NDArray[np.floating]) -> NDArray[np.float32]:
    """Scale vectors to unit L2 norm.

    Args:
        vectors: (..., d).

    Returns:
        The unit vectors: float32, same shape.

    Raises:
        VectorError: a vector holds NaN or infinity, or is all zeros.
    """
    vectors = np.asarray(vectors, np.float32)
    norms = np.sqrt(np.add.reduce(vectors * vectors, axis=-1, keepdims=True))  # as np.linalg.norm, in less time
    if not ((norms > 0) & (norms < np.inf)).all():
        raise VectorError("a vector is zero or not finite, so it has no direction")
    return np.asarray(vectors / norms, np.float32)


def scale_features(embeddings: NDArray[np.float32], temperature: float) -> NDArray[np.float32]:
    """Return embeddings times a temperature, like ImageBind's heads (paper, section 3.3): float32, same shape."""
    return embeddings * np.float32(temperature)


def scale_weights(weights: Sequence[float]) -> NDArray[np.float32]:
    """Return weights divided by a power of two, so that the largest is 0.5 to 1: float32 has neither 1e300 nor 1e-300.

    The direction of a weighted sum is the same.
    """
    _, exponent = np.frexp(np.abs(weights).max())
    return np.asarray(np.ldexp(np.asarray(weights, np.float64), -exponent), np.float32)


def compose(features: NDArray[np.float32], weights: Sequence[float]) -> NDArray[np.float32]:
    """Return one query vector: each term normalised and weighted, their sum normalised (ImageBind paper, B.4).

    Normalising each term first makes the result independent of the temperatures.

    Args:
        features: Term features, scaled or not: float32 (t, d).
        weights: One weight per term.

    Returns:
        The unit query vector: float32 (d,).

    Raises:
        UsageError: the weighted terms cancel.
    """
    scaled = scale_weights(weights)
    total = scaled @ l2_normalize(features)
    if np.linalg.norm(total) <= MIN_SUM_NORM * np.abs(scaled).sum():
        raise UsageError("the query's terms cancel each other: change a weight or remove a term")
    return l2_normalize(total)


def cosines(rows: NDArray[np.float32], columns: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the cosines of unit vectors (n, d) and (m, d), rounded to COSINE_DECIMALS: float64 (n, m).

    Cosines of float32 vectors differ by up to about 1e-6 with the size of a batch, the kernel of the matrix product and
    the order of a sum. Rounded, copies have equal scores, as ties must have, and figures are the same on every machine.
    """
    return np.asarray(np.round(rows.astype(np.float64) @ columns.astype(np.float64).T, COSINE_DECIMALS), np.float64)
