"""Cameras' raw images: the JPEG or bitmap preview that the camera stored with the sensor's values."""

from __future__ import annotations

from importlib.util import find_spec
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from bindsearch.environment import installation_faults
from bindsearch.errors import MediaError

_ORIENTATION_OF = {0: 1, 3: 3, 5: 8, 6: 6}
"""EXIF orientation of LibRaw's `flip` (libraw_image_sizes_t: 3 half a turn, 5 to the left, 6 to the right)."""


def read_preview(file: BinaryIO) -> tuple[bytes | NDArray[np.uint8], int]:
    """Read the largest preview in a raw image, as JPEG or as uint8 (height, width, 3), and its EXIF orientation.

    Raises:
        MediaError: the extra [raw] is not installed, not a raw image, damaged, or without a preview.
    """
    if find_spec("rawpy") is None:
        raise MediaError("raw images need the extra [raw]: pip install 'bindsearch[raw]'")
    with installation_faults():
        import rawpy
    try:
        with rawpy.imread(file) as raw:
            preview = raw.extract_thumb()
            orientation = _ORIENTATION_OF.get(raw.sizes.flip, 1)
            if isinstance(preview.data, bytes):
                return preview.data, orientation
            return np.array(preview.data, np.uint8), orientation
    except (rawpy.LibRawNoThumbnailError, rawpy.LibRawUnsupportedThumbnailError) as error:
        raise MediaError("the raw image contains no readable preview: convert it to JPEG") from error
    except (rawpy.LibRawError, rawpy.NotSupportedError, NotImplementedError) as error:
        reason = error.args[0] if error.args else type(error).__name__
        text = reason.decode(errors="replace") if isinstance(reason, bytes) else str(reason)
        raise MediaError(f"damaged or unknown raw image ({text})") from error
