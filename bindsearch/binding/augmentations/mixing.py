"""Mixing of two media of one kind (mixup, Zhang et al. 2018, arXiv 1710.09412)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from bindsearch.errors import UsageError

if TYPE_CHECKING:
    from numpy.typing import NDArray


def mixing_shares(rng: np.random.Generator, count: int, alpha: float, chance: float) -> NDArray[np.float32]:
    """Return the share of the first medium in each of `count` mixtures; 1 where nothing is mixed in.

    Args:
        rng: Source of all randomness.
        count: Number of mixtures.
        alpha: Both parameters of the Beta distribution of the share, above 0; small ones give shares near 0 and 1.
        chance: Probability that something is mixed in.

    Returns:
        Shares, float32 (count,), in 0..1.
    """
    is_mixed = rng.random(count) < chance
    return np.where(is_mixed, rng.beta(alpha, alpha, count), 1.0).astype(np.float32)


def mix(
    first: NDArray[np.float32], second: NDArray[np.float32], share: NDArray[np.float32] | float
) -> NDArray[np.float32]:
    """Return `share` of the first media and the rest of the second.

    Args:
        first: Media, float32 (n, ...), or one of any shape.
        second: As many of the same shape: samples, signals, or targets.
        share: Share of the first in 0..1: (n,), or one for all.

    Raises:
        UsageError: the shapes differ.
    """
    if first.shape != second.shape:
        raise UsageError(f"media of shapes {first.shape} and {second.shape} cannot be mixed: make them equal first")
    shares = np.asarray(share, dtype=np.float32)
    shares = shares.reshape(shares.shape + (1,) * (first.ndim - shares.ndim))
    mixed: NDArray[np.float32] = shares * first + (1 - shares) * second
    return mixed
