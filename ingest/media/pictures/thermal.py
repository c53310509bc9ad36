"""Thermal pictures to values in 0..1, brighter is hotter.

Eight bits are divided by 255; 16-bit and floating-point pictures and .npy arrays (any unit) are stretched so that the
picture's 1st percentile is 0 and its 99th is 1.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bindsearch.errors import MediaError
from bindsearch.ingest.media.numpy_files import read_npy
from bindsearch.ingest.media.options import DecodeOptions
from bindsearch.ingest.media.pictures.depth import picture_values, plane
from bindsearch.ingest.media.pictures.image import to_rgb
from bindsearch.ingest.media.pictures.pillow import open_picture
from bindsearch.ingest.media.recordings.av_container import kind_of
from bindsearch.media import ThermalPicture


def read_thermal(path: Path, options: DecodeOptions) -> ThermalPicture:
    """The thermal picture at `path`; a colour picture by its brightness (ITU-R 601 luma).

    Raises:
        MediaError: no picture or array, damaged, too large, or no finite value in it.
    """
    if kind_of(path) == "npy":
        return ThermalPicture(stretch(plane(read_npy(path, max_bytes=options.max_array_bytes), options)))
    with open_picture(path, max_pixels=options.max_pixels, max_bytes=options.max_array_bytes) as picture:
        values = picture_values(picture)
        if picture.mode == "F" or picture.mode.startswith("I"):
            return ThermalPicture(stretch(values))
        grey = picture if picture.mode == "L" and not picture.has_transparency_data else to_rgb(picture).convert("L")
        return ThermalPicture(np.asarray(grey, np.float32) / np.float32(255))


def stretch(values: NDArray[Any]) -> NDArray[np.float32]:
    """`values` (height, width) with percentiles 1..99 laid onto 0..1; all equal gives 0, no value gives 0.

    Raises:
        MediaError: no value is finite.
    """
    known = np.isfinite(values)
    if not known.any():
        raise MediaError("no pixel of the thermal picture has a value")
    low, high = (float(edge) for edge in np.percentile(values[known].astype(np.float64), (1, 99)))
    if not high > low:  # nearly all pixels alike: the few others show
        low, high = float(values[known].min()), float(values[known].max())
    if not high > low:
        return np.zeros(values.shape, np.float32)
    with np.errstate(over="ignore", invalid="ignore"):
        scaled = (values.astype(np.float64) - low) / (high - low)
    return np.where(known, np.clip(scaled, 0, 1), 0).astype(np.float32)
