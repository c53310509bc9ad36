"""Depth maps and thermal pictures as grey pictures, for a tower of pictures: ImageBind's baseline."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from bindsearch.errors import MediaError
from bindsearch.media import DepthMap, Media, Picture, ThermalPicture

if TYPE_CHECKING:
    from numpy.typing import NDArray

NEAREST_M, FARTHEST_M = 0.01, 50.0
"""Depth is clipped to these metres before it is inverted (ImageBind's preprocessing has the same bounds)."""

DISPARITY_PERCENTILES = (1.0, 99.0)
"""Percentiles of disparity that become black and white."""


def as_picture(media: Media) -> Picture:
    """Return a depth map or thermal picture as a grey picture; a picture as it is.

    Raises:
        MediaError: the medium is of another kind, or no pixel of a depth map is valid.
    """
    match media:
        case Picture():
            return media
        case DepthMap():
            return Picture(_grey(_depth_brightness(media)))
        case ThermalPicture(values=values):
            return Picture(_grey(values))
    raise MediaError(f"{type(media).__name__} cannot be shown as a grey picture")


def _grey(values: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Convert brightness, float32 (h, w) in 0..1, to a grey picture, uint8 (h, w, 3)."""
    grey = np.rint(np.clip(values, 0.0, 1.0) * 255.0).astype(np.uint8)
    return np.repeat(grey[:, :, None], 3, axis=2)


def _depth_brightness(depth: DepthMap) -> NDArray[np.float32]:
    """Return disparity scaled by its percentiles: float32 (h, w) in 0..1; near is bright, unknown is 0."""
    if not depth.valid.any():
        raise MediaError("no pixel of the depth map has a value above 0")
    disparity = np.zeros(depth.depth_m.shape, np.float32)
    np.divide(1.0, np.clip(depth.depth_m, NEAREST_M, FARTHEST_M), out=disparity, where=depth.valid)
    low, high = np.percentile(disparity[depth.valid], DISPARITY_PERCENTILES)
    stretched = (disparity - low) / max(float(high - low), 1e-6)
    return np.where(depth.valid, np.clip(stretched, 0.0, 1.0), 0.0).astype(np.float32)
