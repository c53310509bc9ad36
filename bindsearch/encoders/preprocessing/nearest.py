"""Missing pixels of a channel, filled from the nearest ones."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def fill_nearest(values: NDArray[np.float32], known: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Fill unknown pixels with the value of the nearest known one, by Euclidean distance in pixels.

    Args:
        values: Values, float32 (height, width).
        known: Mask of the known pixels, bool (height, width); at least one is True.

    Returns:
        Filled values, float32 (height, width).
    """
    if known.all():
        return values
    from scipy.ndimage import distance_transform_edt

    rows, columns = distance_transform_edt(~known, return_distances=False, return_indices=True)
    filled: NDArray[np.float32] = values[rows, columns]
    return filled
