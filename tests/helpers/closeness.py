"""Comparison of two encoders on the same media, in a way that notices when they embed others."""

import numpy as np
from numpy.typing import NDArray

MEDIA = 6
"""Different media of one modality to compare."""


def check_alike(exact: NDArray[np.float32], other: NDArray[np.float32], *, apart: float = 0.95) -> float:
    """Check unit vectors (n, d) of the same n media, and return the lowest cosine.

    Cosines must be >= 0.999, and >= `apart` for the vectors after their mean is subtracted.
    """
    assert exact.shape == other.shape
    assert np.abs(np.linalg.norm([exact, other], axis=2) - 1).max() < 1e-4
    cosines = (exact * other).sum(axis=1)
    assert cosines.min() >= 0.999
    own, others = exact - exact.mean(axis=0), other - other.mean(axis=0)
    centred = (own * others).sum(axis=1) / np.linalg.norm(own, axis=1) / np.linalg.norm(others, axis=1)
    assert centred.min() >= apart
    swapped = (own * np.roll(others, 1, axis=0)).sum(axis=1)
    assert (swapped / np.linalg.norm(own, axis=1) / np.linalg.norm(others, axis=1)).min() < apart  # it would notice
    return float(cosines.min())
