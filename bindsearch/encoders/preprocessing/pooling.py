"""Views to media: several views of one medium become one embedding."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


def mean_of_views(features: NDArray[np.float32], prepared: Sequence[NDArray[Any]]) -> NDArray[np.float32]:
    """Average the features (all views, d) of the views of each of n media, `prepared` (views, ...) each: (n, d).

    The mean is not normalised again, as in ImageBind's published model, where it is taken over scaled features.
    """
    if len(features) == len(prepared):
        return features
    counts = np.array([len(views) for views in prepared])
    starts = np.cumsum([0, *counts[:-1]])
    return np.asarray(np.add.reduceat(features, starts, axis=0) / counts[:, None], np.float32)
