"""Video: evenly placed views of 2 s with two frames each, prepared like pictures (paper, appendix B.1)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from bindsearch.encoders.imagebind.preprocessing.image import SIDE_PX, to_pixels
from bindsearch.encoders.imagebind.preprocessing.options import Preprocessing
from bindsearch.encoders.imagebind.preprocessing.views import even_views
from bindsearch.encoders.preprocessing.crops import square_crops
from bindsearch.errors import MediaError

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray

FRAME_POSITIONS = (0.25, 0.75)
"""Positions of the two frames in a view: the middles of its halves. At one frame per second, all frames are used."""


def prepare_frames(rgb: NDArray[np.uint8], times_s: NDArray[np.float64], options: Preprocessing) -> NDArray[np.uint8]:
    """Return pairs of frames of evenly placed views over the span of the frames; thread-safe.

    A frame covers 1 / frames_per_s around its time. Each view uses the sampled frames nearest to a quarter and to three
    quarters of it; a single frame is used twice.

    Args:
        rgb: Sampled frames, uint8 (n, height, width, 3).
        times_s: Times of the frames in seconds, float64 (n,), ascending.
        options: Length of a view, sampling rate and number of squares.

    Returns:
        Pairs of squares, uint8 (views * spatial_crops, 2, 224, 224, 3), the crops of a view together.

    Raises:
        MediaError: there are no frames or no pixels, the times do not fit, or the span is too long.
    """
    if rgb.ndim != 4 or len(rgb) == 0 or times_s.shape != (len(rgb),):
        raise MediaError(
            f"video of shape {rgb.shape} with times of shape {times_s.shape}: give frames with one time each"
        )
    if not np.isfinite(times_s).all() or (np.diff(times_s) < 0).any():
        raise MediaError("the times of the video's frames are not ascending numbers; sort the frames by time")
    pairs = _pairs(times_s, options)
    used_frames, inverse = np.unique(pairs, return_inverse=True)
    squares = np.stack([square_crops(rgb[frame], SIDE_PX, crops=options.spatial_crops) for frame in used_frames])
    # (views, 2, crops, side, side, 3): both frames of a pair are cropped to the same square.
    return squares[inverse.reshape(pairs.shape)].swapaxes(1, 2).reshape(-1, 2, SIDE_PX, SIDE_PX, 3)


def _pairs(times_s: NDArray[np.float64], options: Preprocessing) -> NDArray[np.int64]:
    """Return the indices of the two frames of each view, int64 (views, 2)."""
    frame_s = 1.0 / options.frames_per_s  # span of one frame
    begin_s = float(times_s[0]) - frame_s / 2
    views = np.array(even_views(float(times_s[-1] - times_s[0]) + frame_s, options.view_s))
    targets_s = begin_s + views[:, :1] + np.diff(views, axis=1) * np.array(FRAME_POSITIONS)
    if len(times_s) == 1:
        return np.zeros(targets_s.shape, np.int64)
    after = np.searchsorted(times_s, targets_s).clip(1, len(times_s) - 1)
    nearer_before = targets_s - times_s[after - 1] <= times_s[after] - targets_s
    pairs: NDArray[np.int64] = np.where(nearer_before, after - 1, after)
    return pairs


def to_frames(pairs: torch.Tensor) -> torch.Tensor:
    """Convert pairs, uint8 (n, 2, 224, 224, 3) on any device, to the tower's input, float32 (n, 3, 2, 224, 224)."""
    return to_pixels(pairs).movedim(1, 2)
