"""Pictures, 224 pixels, bicubic and antialiased, middle square, CLIP's mean and standard deviation (published code).

Thermal pictures: one channel in 0..1, by default not normalised (paper, section 3.3).
Video: evenly placed views of 2 s with two frames each, prepared like pictures (paper, appendix B.1).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from bindsearch.encoders.imagebind.preprocessing.options import Preprocessing
from bindsearch.encoders.imagebind.preprocessing.views import even_views
from bindsearch.encoders.preprocessing.crops import square_crop_plane, square_crops
from bindsearch.errors import MediaError

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray
    from PIL.Image import Image

SIDE_PX = 224

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
"""Mean of red, green and blue in 0..1 over CLIP's training pictures (Radford et al. 2021, published code)."""

CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
"""Standard deviation, like CLIP_MEAN."""


def to_pixels(squares: torch.Tensor) -> torch.Tensor:
    """Convert squares, uint8 (..., 224, 224, 3) on any device, to the input of the tower, float32 (..., 3, 224, 224).

    The values are (value / 255 - mean) / std, like those of torchvision's ToTensor and Normalize. In memory the
    channels stay last.
    """
    import torch

    mean = torch.tensor(CLIP_MEAN, device=squares.device)
    std = torch.tensor(CLIP_STD, device=squares.device)
    return (squares.float() / 255.0).sub_(mean).div_(std).movedim(-1, -3)


def preprocess_image(image: Image | NDArray[np.uint8]) -> torch.Tensor:
    """Preprocess a picture like the published code, for parity.

    Args:
        image: PIL picture, or array uint8 (height, width, 3).

    Returns:
        Normalised pixels, float32 (1, 3, 224, 224).

    Raises:
        MediaError: the picture has no pixels, or the array has another shape or type.
    """
    import torch

    if not isinstance(image, np.ndarray) and not hasattr(image, "convert"):
        raise MediaError(f"expected a PIL picture or an array, not {type(image).__name__}: open the file first")
    rgb = image if isinstance(image, np.ndarray) else np.asarray(image.convert("RGB"))
    if rgb.dtype != np.uint8 or rgb.ndim != 3 or rgb.shape[2] != 3:
        raise MediaError(f"a picture of shape {rgb.shape} and type {rgb.dtype}: expected uint8 (height, width, 3)")
    return to_pixels(torch.from_numpy(square_crops(rgb, SIDE_PX))).contiguous()


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
    shape, of_times = rgb.shape, times_s.shape
    if rgb.ndim != 4 or len(rgb) == 0 or of_times != (len(rgb),):
        raise MediaError(f"video of shape {shape} with times of shape {of_times}: give frames with one time each")
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
