"""Turning stored pixels upright by EXIF orientation."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray
from PIL import Image

from bindsearch.ingest.media.pictures.pillow import ORIENTATION_TAG


def orientation_of(picture: Image.Image) -> int:
    """Return the EXIF orientation 1..8 of an image that is loaded; 1 if there is none or the EXIF block is damaged.

    Before loading, the orientation of a TIFF is still the stored one, which Pillow applies itself.
    """
    try:
        value = picture.getexif().get(ORIENTATION_TAG, 1)
    except Exception:  # damaged metadata must not fail the picture
        return 1
    return value if isinstance(value, int) else 1


def upright(values: NDArray[Any], orientation: int) -> NDArray[Any]:
    """Return stored pixels (height, width, ...) turned upright, as a view.

    An orientation says where the first row and the first column are seen (Exif 2.32, tag 0x0112): from 5 on the rows
    are seen as columns; other numbers than 1..8 leave the pixels unchanged.
    """
    if orientation in (5, 6, 7, 8):
        values = values.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):  # the first row is seen at the bottom
        values = values[::-1]
    if orientation in (2, 3, 6, 7):  # the first column is seen at the right
        values = values[:, ::-1]
    return values
