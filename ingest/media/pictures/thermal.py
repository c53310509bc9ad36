"""Thermal images, scaled to values in 0..1; brighter is hotter.

Eight bits are divided by 255; 16-bit and floating-point images and .npy arrays (any unit) are stretched so that the
image's 1st percentile is 0 and its 99th is 1.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bindsearch.errors import MediaError
from bindsearch.ingest.media.numpy_files import read_npy
from bindsearch.ingest.media.options import DecodeOptions
from bindsearch.ingest.media.pictures.depth import picture_values, plane, turned
from bindsearch.ingest.media.pictures.image import to_rgb
from bindsearch.ingest.media.pictures.pillow import open_picture
from bindsearch.ingest.media.recordings.av_container import kind_of
from bindsearch.ingest.media.sidecar import Sidecar
from bindsearch.media import NO_READING, Reading, ThermalPicture


def read_thermal(path: Path, sidecar: Sidecar, options: DecodeOptions) -> tuple[ThermalPicture, Reading]:
    """Read the thermal image at `path`, and what was found out; a colour image by its brightness (ITU-R 601 luma).

    Raises:
        MediaError: not an image or array, damaged, too large, or no finite value in it.
    """
    return ThermalPicture(turned(_read_values(path, options), sidecar.rotate)), NO_READING


def _read_values(path: Path, options: DecodeOptions) -> NDArray[np.float32]:
    """Return the values (height, width) in 0..1."""
    if kind_of(path) == "npy":
        return stretch(plane(read_npy(path, max_bytes=options.max_array_bytes), options))
    with open_picture(path, max_pixels=options.max_pixels, max_bytes=options.max_array_bytes) as picture:
        values = picture_values(picture)
        if picture.mode == "F" or picture.mode.startswith("I"):
            return stretch(values)
        grey = picture if picture.mode == "L" and not picture.has_transparency_data else to_rgb(picture).convert("L")
        return np.asarray(grey, np.float32) / np.float32(255)


def stretch(values: NDArray[Any]) -> NDArray[np.float32]:
    """Map percentiles 1..99 of `values` (height, width) to 0..1; equal values give 0, missing values give 0.

    Raises:
        MediaError: no value is finite.
    """
    finite = np.isfinite(values)
    if not finite.any():
        raise MediaError("no pixel of the thermal image has a value")
    low, high = (float(edge) for edge in np.percentile(values[finite].astype(np.float64), (1, 99)))
    if not high > low:  # nearly all pixels are equal: the full range keeps the others visible
        low, high = float(values[finite].min()), float(values[finite].max())
    if not high > low:
        return np.zeros(values.shape, np.float32)
    with np.errstate(over="ignore", invalid="ignore"):
        scaled = (values.astype(np.float64) - low) / (high - low)
    return np.where(finite, np.clip(scaled, 0, 1), 0).astype(np.float32)
