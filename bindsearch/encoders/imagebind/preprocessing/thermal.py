"""Thermal pictures: one channel in 0..1, 224 pixels, by default not normalised (paper, section 3.3)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from bindsearch.encoders.imagebind.preprocessing.image import SIDE_PX
from bindsearch.encoders.imagebind.preprocessing.options import Preprocessing
from bindsearch.encoders.preprocessing.crops import square_crop_plane
from bindsearch.errors import MediaError

if TYPE_CHECKING:
    from numpy.typing import NDArray


def prepare_thermal(values: NDArray[np.float32], options: Preprocessing, side_px: int = SIDE_PX) -> NDArray[np.float32]:
    """Return the middle square of a thermal picture, resized bicubically and clamped to 0..1; thread-safe.

    Args:
        values: Thermal picture, float32 (height, width) in 0..1, brighter is hotter.
        options: Mean and standard deviation.
        side_px: Side of the square in pixels.

    Returns:
        (value - thermal_mean) / thermal_std, float32 (1, 1, side_px, side_px).

    Raises:
        MediaError: the picture has no pixels, another shape, or holds NaN or infinity.
    """
    if values.ndim != 2:
        raise MediaError(f"thermal picture of shape {values.shape}: expected (height, width)")
    if not np.isfinite(values).all():
        raise MediaError("thermal picture holds NaN or infinite values; replace them")
    square = square_crop_plane(values.clip(0.0, 1.0), side_px).clip(0.0, 1.0)
    normalized: NDArray[np.float32] = (square - np.float32(options.thermal_mean)) / np.float32(options.thermal_std)
    return normalized[None, None]
