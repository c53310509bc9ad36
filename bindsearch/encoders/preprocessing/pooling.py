"""Pooling of the views of a medium to one embedding."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


def mean_of_views(features: NDArray[np.float32], prepared: Sequence[NDArray[Any]]) -> NDArray[np.float32]:
    """Average the features of the views of each medium.

    The mean is not normalised again, like in ImageBind's published model, which averages scaled features.

    Args:
        features: Features of all views, float32 (total number of views, d).
        prepared: Prepared views of n media, (views, ...) each.

    Returns:
        Mean features, float32 (n, d).
    """
    if len(features) == len(prepared):
        return features
    counts = np.array([len(views) for views in prepared])
    starts = np.cumsum([0, *counts[:-1]])
    return np.asarray(np.add.reduceat(features, starts, axis=0) / counts[:, None], np.float32)
