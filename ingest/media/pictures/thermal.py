"""Thermal pictures, as values in 0..1; brighter is hotter.

Eight bits are divided by 255. Values of many levels (16-bit and floating-point images, .npy arrays, tables of numbers,
what the sensor saw inside a radiometric JPEG) are stretched so that the 1st percentile is 0 and the 99th is 1, in any
unit; of a radiometric JPEG the sensor's values themselves, so that it is the same picture as its raw data. False
colours are inverted where the palette is known (palettes.py), else a coloured picture is read by its brightness. Pixels
without a value are 0.

The picture is turned upright by its EXIF orientation, then by the sidecar's `rotate`. Degrees Celsius, where they are
known (temperatures.py), are facts of the file; the picture does not depend on them.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, TiffImagePlugin

from bindsearch.errors import MediaError
from bindsearch.ingest.media.numpy_files import read_npy
from bindsearch.ingest.media.options import DecodeOptions
from bindsearch.ingest.media.pictures.exif import orientation_of
from bindsearch.ingest.media.pictures.image import has_data_in_alpha, to_rgb
from bindsearch.ingest.media.pictures.palettes import from_colours, is_black_hot, is_coloured, palette_names
from bindsearch.ingest.media.pictures.pillow import open_picture, picture_values, plane, turned, upright
from bindsearch.ingest.media.pictures.radiometric import RadiometricData, read_radiometric
from bindsearch.ingest.media.pictures.temperatures import (
    ABSOLUTE_ZERO_C,
    EXTENSIONS,
    degrees_of,
    read_temperatures,
    without_missing,
)
from bindsearch.ingest.media.recordings.av_container import kind_of
from bindsearch.ingest.media.sidecar import Sidecar
from bindsearch.media import Reading, ThermalPicture

_GDAL_NODATA = 42113
"""TIFF tag of the value for no data, as text (GDAL, GTiff driver)."""
_CLEAR = 0.3
"""Least difference of correlation that tells which way the values of a radiometric JPEG are turned."""


@dataclass(frozen=True, slots=True)
class Scene:
    """A thermal picture: levels in 0..1, float32 (height, width), degrees, float64, NaN where missing, and notes."""

    levels: NDArray[np.float32]
    degrees_c: NDArray[np.float64] | None = None
    notes: tuple[str, ...] = ()


def read_thermal(path: Path, sidecar: Sidecar, options: DecodeOptions) -> tuple[ThermalPicture, Reading]:
    """Read the thermal picture at `path`, and what was found out: notes, and the least, mean and greatest degrees.

    Raises:
        MediaError: as for `read_scene`.
    """
    scene = read_scene(path, sidecar, options)
    degrees = np.empty(0) if scene.degrees_c is None else scene.degrees_c
    known = degrees[np.isfinite(degrees) & (degrees > ABSOLUTE_ZERO_C)]
    values = (("min", known.min()), ("mean", known.mean()), ("max", known.max())) if known.size else ()
    facts = {f"temperature_{name}_c": float(value) for name, value in values}
    return ThermalPicture(scene.levels), Reading(scene.notes, facts)


def read_scene(path: Path, sidecar: Sidecar, options: DecodeOptions) -> Scene:
    """Read the thermal picture at `path`, upright, with its degrees where they are known.

    Raises:
        MediaError: not an image, array or table of numbers, damaged, too large, without any value; or a field of the
            sidecar is wrong or has no effect on such a file.
    """
    is_black_hot(sidecar.palette)  # a wrong name fails in any file
    kind = kind_of(path)
    if kind == "npy":
        scene = _of_numbers(plane(read_npy(path, max_bytes=options.max_array_bytes), options), sidecar)
    elif kind is None and path.suffix.lower() in EXTENSIONS:
        values, unit, note = read_temperatures(path, options)
        scene = _of_numbers(values, replace(sidecar, temperature_unit=sidecar.temperature_unit or unit), note=note)
    else:
        scene = _of_picture(path, sidecar, options)
    degrees = None if scene.degrees_c is None else turned(scene.degrees_c, sidecar.rotate)
    return Scene(turned(scene.levels, sidecar.rotate), degrees, tuple(note for note in scene.notes if note))


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


def _of_numbers(raw: NDArray[Any], sidecar: Sidecar, no_data: float | None = None, note: str = "") -> Scene:
    """Return the scene of values of many levels."""
    _check_grey(sidecar)
    values, missing = without_missing(raw, sidecar.invalid, no_data)
    levels = _polarised(stretch(values), np.isfinite(values), sidecar)
    degrees, unit = degrees_of(values, sidecar.temperature_unit, are_integers=raw.dtype.kind in "iub")
    return Scene(levels, degrees, (note, missing, unit))


def _of_levels(grey: NDArray[np.uint8], known: NDArray[np.bool_], sidecar: Sidecar, no_data: float | None) -> Scene:
    """Return the scene of an 8-bit picture, which has values where `known`; its degrees only if their unit is said."""
    _check_grey(sidecar)
    for number in (*sidecar.invalid, *(() if no_data is None else (no_data,))):
        known = known & (grey != number)
    if not known.any():
        raise MediaError("no pixel of the thermal image has a value")
    count = int(known.size - known.sum())
    missing = f"{count} of {known.size} pixels have no value" if count else ""
    levels = _polarised(np.where(known, grey / np.float32(255), 0).astype(np.float32), known, sidecar)
    if sidecar.temperature_unit is None:
        return Scene(levels, None, (missing,))
    degrees, unit = degrees_of(np.where(known, grey, np.nan), sidecar.temperature_unit, are_integers=True)
    return Scene(levels, degrees, (missing, unit))


def _polarised(levels: NDArray[np.float32], known: NDArray[np.bool_], sidecar: Sidecar) -> NDArray[np.float32]:
    """Return levels with hot bright, where the sidecar says that dark is hot."""
    return np.where(known, 1 - levels, 0).astype(np.float32) if is_black_hot(sidecar.palette) else levels


def _check_grey(sidecar: Sidecar) -> None:
    """Raise MediaError if the sidecar has a palette of colours, for a picture without any."""
    if sidecar.palette in palette_names() and sidecar.palette not in ("grey", "black-hot"):
        raise MediaError(f"palette is {sidecar.palette!r}, but the picture has no colours: take it out of its sidecar")


def _of_picture(path: Path, sidecar: Sidecar, options: DecodeOptions) -> Scene:
    """Return the scene of an image file, upright by its EXIF orientation."""
    with open_picture(path, max_pixels=options.max_pixels, max_bytes=options.max_array_bytes) as picture:
        inside, note = None, ""
        if picture.format in ("JPEG", "MPO"):
            try:
                inside = read_radiometric(path, picture.size, options)
            except MediaError as error:
                note = f"its radiometric values cannot be read ({error}): the picture is read instead"
        no_data = _no_data(picture)
        values = picture_values(picture)
        if inside is not None:
            scene = _of_sensor(inside, picture, sidecar)
        elif picture.mode == "F" or picture.mode.startswith("I"):
            scene = _of_numbers(values, sidecar, no_data)
        else:
            scene = _of_eight_bits(picture, sidecar, no_data)
        orientation = orientation_of(picture)
    degrees = None if scene.degrees_c is None else upright(scene.degrees_c, orientation)
    return Scene(upright(scene.levels, orientation), degrees, (note, *scene.notes))


def _of_sensor(inside: RadiometricData, picture: Image.Image, sidecar: Sidecar) -> Scene:
    """Return the scene of a radiometric JPEG, in the direction in which its picture is stored."""
    values, missing = without_missing(inside.raw, sidecar.invalid, None)
    quarter, turn = _quarter_turns(inside.raw, picture)
    levels = np.rot90(stretch(values), quarter)
    degrees = inside.degrees_c
    if degrees is not None:
        degrees = np.rot90(np.where(np.isfinite(values), degrees, np.nan), quarter)
    ignored = "temperature_unit has no effect on it" if sidecar.temperature_unit else ""
    return Scene(levels, degrees, (inside.note, missing, turn, ignored))


def _quarter_turns(raw: NDArray[np.uint16], picture: Image.Image) -> tuple[int, str]:
    """Return the quarter turns, counter-clockwise, that lay the sensor's values over the picture, and a note.

    Cameras may store an upright picture but the values as the sensor was held: portrait and landscape. Which way is
    found by comparing the two.
    """
    height, width = raw.shape
    if (height - width) * (picture.size[1] - picture.size[0]) >= 0:
        return 0, ""
    brightness = np.asarray(picture.convert("L").resize((height, width)), np.float64).ravel()
    likeness = [_correlation(np.rot90(raw, quarter).ravel().astype(np.float64), brightness) for quarter in (1, 3)]
    if abs(likeness[0] - likeness[1]) < _CLEAR:
        return 0, "its radiometric values are landscape where its picture is portrait, or the reverse: see rotate"
    quarter = 1 if likeness[0] > likeness[1] else 3
    return quarter, f"its radiometric values are turned by {360 - 90 * quarter} degrees clockwise, as its picture is"


def _correlation(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    a, b = a - a.mean(), b - b.mean()
    return float(a @ b / max(float(np.sqrt((a @ a) * (b @ b))), 1e-9))


def _of_eight_bits(picture: Image.Image, sidecar: Sidecar, no_data: float | None) -> Scene:
    """Return the scene of a grey or coloured picture; transparent pixels have no value, unless alpha is data."""
    if has_data_in_alpha(picture):
        alpha = np.asarray(picture.getchannel("A"))
        scene = _of_levels(alpha, np.ones(alpha.shape, np.bool_), sidecar, no_data)
        return replace(scene, notes=("the fourth channel is read: it is data, not transparency", *scene.notes))
    known = np.ones(picture.size[::-1], np.bool_)
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        known = np.asarray(picture.getchannel("A")) > 0
    if picture.mode == "L":
        return _of_levels(np.asarray(picture), known, sidecar, no_data)
    colours = picture.convert("RGB") if picture.mode == "RGBA" else to_rgb(picture)
    rgb = np.asarray(colours)
    if not is_coloured(rgb):
        return _of_levels(np.asarray(colours.convert("L")), known, sidecar, no_data)
    if sidecar.invalid or sidecar.temperature_unit:
        field = "invalid" if sidecar.invalid else "temperature_unit"
        raise MediaError(f"{field} is for stored values, but the picture is coloured: take it out of its sidecar")
    if (found := from_colours(rgb, sidecar.palette)) is not None:
        return Scene(np.where(known, found[0], np.float32(0)), None, (found[1],))
    scene = _of_levels(np.asarray(colours.convert("L")), known, sidecar, None)
    note = "coloured, read by its brightness: if these are false colours, give palette in its sidecar"
    return replace(scene, notes=(*(() if sidecar.palette else (note,)), *scene.notes))


def _no_data(picture: Image.Image) -> float | None:
    """Return the value for no data in a TIFF's tags (GDAL's); None: there is none."""
    text = picture.tag_v2.get(_GDAL_NODATA) if isinstance(picture, TiffImagePlugin.TiffImageFile) else None
    with suppress(ValueError):
        return float(text) if isinstance(text, str) and len(text) < 64 else None
    return None
