"""Single-channel pictures and arrays as they are stored, turned upright; for depth maps and thermal pictures."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from bindsearch.errors import MediaError
from bindsearch.ingest.media.options import DecodeOptions
from bindsearch.ingest.media.pictures.formats.tiff import TiffPicture


def picture_values(picture: Any) -> NDArray[Any]:
    """Return a picture's stored values (height, width), or (height, width, channels).

    Raises:
        MediaError: the image is damaged.
    """
    try:
        picture.load()
    except (SyntaxError, IndexError, EOFError, ValueError) as error:
        raise MediaError(f"damaged image ({error})") from error
    return values_of(picture)


def values_of(picture: Image.Image) -> NDArray[Any]:
    """Return the stored values of a picture whose pixels are loaded; Pillow gives unsigned 32-bit ones as signed."""
    values = np.asarray(picture)
    return values.view(np.uint32) if isinstance(picture, TiffPicture) and picture.is_unsigned else values


def turned(values: NDArray[Any], rotate: int | None) -> NDArray[Any]:
    """Return a picture (height, width) turned clockwise by a multiple of 90 degrees; None: unchanged."""
    return np.rot90(values, -(rotate or 0) // 90)


def upright(values: NDArray[Any], orientation: int) -> NDArray[Any]:
    """Return a picture (height, width) upright by its EXIF orientation 1..8 (Exif 2.32, tag 0x0112); else unchanged."""
    if orientation in (5, 6, 7, 8):
        values = values.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        values = values[::-1]
    if orientation in (2, 3, 6, 7):
        values = values[:, ::-1]
    return values


def plane(array: NDArray[Any], options: DecodeOptions) -> NDArray[Any]:
    """Return an array as (height, width); axes of length 1 are dropped.

    Raises:
        MediaError: it is not two-dimensional, has no pixel, or more than `options.max_pixels`.
    """
    flat = array if array.ndim == 2 else array.squeeze()
    if flat.ndim != 2 or not flat.size:
        raise MediaError(f"the array has the shape {array.shape}: expected (height, width)")
    check_pixels(flat.shape[1], flat.shape[0], options)
    return flat


def check_pixels(width: int, height: int, options: DecodeOptions) -> None:
    """Check the size of an array before it is read.

    Raises:
        MediaError: it has no pixel, or more than `options.max_pixels`.
    """
    if width < 1 or height < 1:
        raise MediaError(f"the array is {width}x{height} pixels")
    if width * height > options.max_pixels:
        raise MediaError(
            f"the array is {width}x{height} pixels: more than {options.max_pixels} are not decoded (--limit pixels=N)"
        )
