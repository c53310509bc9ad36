"""Depth: disparity in one channel, 224 pixels (paper, section 3.3 and B.1, after Omnivore, arXiv 2201.08377)."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from bindsearch.encoders.imagebind.preprocessing.image import SIDE_PX
from bindsearch.encoders.imagebind.preprocessing.options import Preprocessing
from bindsearch.encoders.preprocessing.crops import centre_strip, fill_nearest, square_crop_plane
from bindsearch.errors import MediaError
from bindsearch.media import DepthMap

LARGEST_MAP = 1 << 22
"""Maximum number of pixels of a map; the middle of a larger map is averaged down first, which bounds memory."""
_LARGE_MAP_ASPECT = 4
_MAX_SCALE = 1e30  # keeps scale / depth finite in float32


def prepare_depth(depth: DepthMap, options: Preprocessing, side_px: int = SIDE_PX) -> NDArray[np.float32]:
    """Convert depth to normalised disparity; thread-safe.

    Pixels without a value get the value of the nearest pixel that has one. disparity = baseline * fx / depth, with
    depth clipped to depth_min_m..depth_max_m, divided by disparity_max and clamped to 0..1 (again after resizing, since
    bicubic interpolation overshoots).

    Args:
        depth: Depth map (height, width); `fx_px` in pixels of the file itself, before any resizing. Zero, NaN and
            infinity are missing values, regardless of `valid`.
        options: Bounds and scale of disparity, its mean and standard deviation.
        side_px: Side of the square in pixels.

    Returns:
        Normalised disparity, float32 (1, 1, side_px, side_px).

    Raises:
        MediaError: no pixel has a value, shapes differ, or focal length or baseline is not a number above 0.
    """
    depth_m, valid = depth.depth_m, depth.valid
    if depth_m.ndim != 2 or valid.shape != depth_m.shape:
        raise MediaError(f"depth of shape {depth_m.shape} with a mask of shape {valid.shape}: both are (height, width)")
    fx_px, baseline_m = depth.fx_px, depth.baseline_m
    scale = fx_px * baseline_m / options.disparity_max
    if not (fx_px > 0 and baseline_m > 0 and math.isfinite(scale)):
        raise MediaError(f"focal length {fx_px:g} px and baseline {baseline_m:g} m: both must be numbers above 0")
    known = valid & (depth_m > 0) & np.isfinite(depth_m)
    if not known.any():
        raise MediaError("no pixel of the depth map has a value above 0")
    disparity, known = _disparity_of_map(depth_m, known, scale, options)
    square = square_crop_plane(fill_nearest(disparity, known), side_px).clip(0.0, 1.0)
    normalized: NDArray[np.float32] = (square - np.float32(options.depth_mean)) / np.float32(options.depth_std)
    return normalized[None, None]


def _disparity_of_map(
    depth_m: NDArray[np.float32], known: NDArray[np.bool_], scale: float, options: Preprocessing
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Return disparity in 0..1 and its mask of known pixels; the middle of a large map is averaged down."""
    if depth_m.size <= LARGEST_MAP:
        return _disparity(depth_m, known, scale, options), known
    height, width = depth_m.shape
    part = centre_strip(height, width, _LARGE_MAP_ASPECT)
    depth_m, known = depth_m[part], known[part]
    if not known.any():
        raise MediaError("no pixel in the middle of the depth map has a value above 0")
    step = max(1, min(height, width) // (2 * SIDE_PX))
    columns = np.arange(0, depth_m.shape[1], step)
    sums, counts = [], []
    for top in range(0, len(depth_m), step):
        rows = slice(top, top + step)
        disparity = _disparity(depth_m[rows], known[rows], scale, options)
        sums.append(np.add.reduceat(disparity, columns, axis=1).sum(axis=0))
        counts.append(np.add.reduceat(known[rows], columns, axis=1, dtype=np.int32).sum(axis=0))
    count = np.stack(counts)
    return (np.stack(sums) / np.maximum(count, 1)).astype(np.float32), count > 0


def _disparity(
    depth_m: NDArray[np.float32], known: NDArray[np.bool_], scale: float, options: Preprocessing
) -> NDArray[np.float32]:
    """Return min(1, scale / depth) for known pixels, else 0: float32 (height, width)."""
    disparity = np.zeros(depth_m.shape, np.float32)
    clipped = np.clip(depth_m, np.float32(options.depth_min_m), np.float32(options.depth_max_m))
    np.divide(np.float32(min(scale, _MAX_SCALE)), clipped, out=disparity, where=known)
    return np.minimum(disparity, np.float32(1.0), out=disparity)
