"""Squares out of pictures: the shorter side resized, then cropped, as torchvision's Resize and CenterCrop do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from bindsearch.errors import MediaError, UsageError

if TYPE_CHECKING:
    from numpy.typing import NDArray

LONGEST_ASPECT = 64
"""Of a longer picture only a part this many times as long as wide is resized: 1 x 100,000 pixels would take 15 GB."""

_CENTRE = 0.5
_PLACES: dict[int, tuple[float, ...]] = {1: (_CENTRE,), 3: (0.0, _CENTRE, 1.0)}
"""Places of the squares along the longer side, by their number: 0 is left or top, 1 right or bottom."""


def square_crops(
    rgb: NDArray[np.uint8],
    side_px: int,
    *,
    crops: int = 1,
    resample: Image.Resampling = Image.Resampling.BICUBIC,
) -> NDArray[np.uint8]:
    """The middle square of a picture, or three along its longer side.

    Args:
        rgb: uint8 (height, width, 3).
        side_px: of the squares. The shorter side is resized to it, antialiased.
        crops: 1: the middle; 3: left or top, middle, right or bottom (the spatial crops of ImageBind, appendix B.1).
        resample: Pillow's filter.

    Returns:
        uint8 (crops, side_px, side_px, 3).

    Raises:
        MediaError: the picture has no pixels.
        UsageError: `crops` is neither 1 nor 3.
    """
    if crops not in _PLACES:
        raise UsageError(f"crops is {crops}: expected 1 or 3")
    return np.stack(_squares(rgb, side_px, _PLACES[crops], resample))


def square_crop_plane(values: NDArray[np.float32], side_px: int) -> NDArray[np.float32]:
    """The middle square of one channel float32 (height, width), resized bicubically: float32 (side_px, side_px).

    At edges the result overshoots the values by a few percent, as bicubic interpolation does.

    Raises:
        MediaError: there are no pixels.
    """
    (square,) = _squares(values.astype(np.float32, copy=False), side_px, (_CENTRE,), Image.Resampling.BICUBIC)
    return np.array(square)


def centre_strip(height: int, width: int, longest_aspect: int) -> tuple[slice, slice]:
    """Rows and columns of the middle part that is at most `longest_aspect` times as long as it is wide."""
    return _strip(height, width, _CENTRE, longest_aspect)


def _strip(height: int, width: int, place: float, longest_aspect: int) -> tuple[slice, slice]:
    keep = longest_aspect * min(height, width)
    top, left = _offset(height, keep, place), _offset(width, keep, place)
    return slice(top, top + keep), slice(left, left + keep)


def _offset(length: int, keep: int, place: float) -> int:
    """Return where `keep` of `length` pixels begin; in the middle it rounds half to even, as torchvision's
    center_crop."""
    return max(0, round((length - keep) * place))


def _squares(
    pixels: NDArray[Any], side_px: int, places: tuple[float, ...], resample: Image.Resampling
) -> list[NDArray[Any]]:
    """One square (side_px, side_px[, 3]) a place, of pixels (height, width[, 3])."""
    height, width = pixels.shape[:2]
    if min(height, width) == 0:
        raise MediaError(f"the picture has no pixels (height {height}, width {width})")
    if max(height, width) <= LONGEST_ASPECT * min(height, width):
        resized = _resized(pixels, side_px, resample)
        return [_square(resized, side_px, place) for place in places]
    strips = [pixels[_strip(height, width, place, LONGEST_ASPECT)] for place in places]
    return [
        _square(_resized(strip, side_px, resample), side_px, place) for strip, place in zip(strips, places, strict=True)
    ]


def _resized(pixels: NDArray[Any], side_px: int, resample: Image.Resampling) -> NDArray[Any]:
    """The shorter side brought to `side_px`, the longer one rounded down as torchvision's Resize does."""
    height, width = pixels.shape[:2]
    shorter, longer = min(height, width), int(side_px * max(height, width) / min(height, width))
    size = (side_px, longer) if width == shorter else (longer, side_px)
    return np.asarray(Image.fromarray(np.ascontiguousarray(pixels)).resize(size, resample))


def _square(pixels: NDArray[Any], side_px: int, place: float) -> NDArray[Any]:
    height, width = pixels.shape[:2]
    top, left = _offset(height, side_px, place), _offset(width, side_px, place)
    return pixels[top : top + side_px, left : left + side_px]
