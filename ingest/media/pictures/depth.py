"""Depth maps: 16-bit PNG or TIFF in millimetres, floating-point .npy or TIFF in metres; 0, NaN or infinity = no value.

Other scales need the sidecar's `depth_unit`, and so do 8-bit images and integers in a .npy, which have no default unit.
"sunrgbd" is SUN RGB-D's own format: 16-bit PNGs whose bits are rotated.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bindsearch.errors import MediaError
from bindsearch.ingest.media.numpy_files import npy_header, read_npy
from bindsearch.ingest.media.options import DecodeOptions
from bindsearch.ingest.media.pictures.pillow import open_picture
from bindsearch.ingest.media.recordings.av_container import kind_of
from bindsearch.ingest.media.sidecar import Sidecar
from bindsearch.media import NO_READING, DepthMap, Reading

FOCAL_LENGTH_SHARE = 0.81
"""Default focal length over width: a Kinect's 519 px at 640 px (NYU Depth v2 calibration)."""

BASELINE_M = 0.075
"""Baseline of a Kinect in metres, with which ImageBind computes disparity (Girdhar et al. 2023, appendix B.1)."""

SUNRGBD = "sunrgbd"
SUNRGBD_FARTHEST_M = 8.0
"""Maximum depth; SUN RGB-D's toolbox clamps larger values (Song et al. 2015, SUNRGBDtoolbox, read3dPoints.m)."""

_METRES = {"m": 1.0, "dm": 0.1, "cm": 0.01, "mm": 0.001, "um": 1e-6, "µm": 1e-6, "ft": 0.3048, "in": 0.0254}
_UNIT = re.compile(r"(?:([0-9.eE+-]+)\s*)?([a-zµ]+)")


def read_depth(path: Path, sidecar: Sidecar, options: DecodeOptions) -> tuple[DepthMap, Reading]:
    """Read the depth map at `path` in metres, with its mask, focal length and baseline; and what was found out.

    Raises:
        MediaError: not a single-channel image or array, unit unknown, or no values.
    """
    raw, unit = _read_raw(path, options)
    raw = turned(raw, sidecar.rotate)
    if _is_sunrgbd(sidecar):
        depth_m = sunrgbd_metres(raw)
    else:
        step_m = _metres_per_step(sidecar.depth_unit, unit, raw.dtype)
        with np.errstate(over="ignore", invalid="ignore"):
            depth_m = (raw.astype(np.float64) * step_m).astype(np.float32)
    valid = np.isfinite(depth_m) & (depth_m > 0)
    if not valid.any():
        raise MediaError("no pixel of the depth map has a value above 0")
    fx_px, baseline_m = camera(depth_m.shape[1], sidecar)
    return DepthMap(np.where(valid, depth_m, np.float32(0)), valid, fx_px, baseline_m), NO_READING


def camera(width_px: int, sidecar: Sidecar) -> tuple[float, float]:
    """Return focal length in pixels and baseline in metres: the sidecar's, else the defaults above."""
    fx_px = FOCAL_LENGTH_SHARE * width_px if sidecar.fx is None else sidecar.fx
    return fx_px, BASELINE_M if sidecar.baseline_m is None else sidecar.baseline_m


def describe_depth(path: Path, sidecar: Sidecar, options: DecodeOptions) -> str:
    """Return the parameters of a depth map, from its header alone: "fx 259 px (0.81 x width), ...".

    Raises:
        MediaError: the header cannot be read.
    """
    if kind_of(path) == "npy":
        with path.open("rb") as file:
            width_px = npy_header(file)[0][-1]
        unit = "m"
    else:
        with open_picture(path, max_pixels=options.max_pixels, max_bytes=options.max_array_bytes) as picture:
            width_px, mode = picture.size[0], picture.mode
        unit = "m" if mode == "F" else "mm" if mode.startswith("I;16") else "unknown unit"
    fx_px, baseline_m = camera(width_px, sidecar)
    fx_source = f"{FOCAL_LENGTH_SHARE} x width" if sidecar.fx is None else "sidecar"
    unit = "SUN RGB-D's rotated mm" if _is_sunrgbd(sidecar) else sidecar.depth_unit or unit
    return f"{unit}, fx {fx_px:.0f} px ({fx_source}), baseline {baseline_m:g} m"


def _read_raw(path: Path, options: DecodeOptions) -> tuple[NDArray[Any], str | None]:
    """Return the stored values (height, width) and the unit that the format implies; None: no unit."""
    if kind_of(path) == "npy":
        raw = plane(read_npy(path, max_bytes=options.max_array_bytes), options)
        return raw, "m" if raw.dtype.kind == "f" else None
    with open_picture(path, max_pixels=options.max_pixels, max_bytes=options.max_array_bytes) as picture:
        if picture.mode not in ("L", "I", "F", "P", "1") and not picture.mode.startswith("I;16"):
            raise MediaError(
                f"depth must have one channel, not {picture.mode}: index it with --modality-rule image=..."
            )
        if picture.mode in ("P", "1"):
            raise MediaError("a palette or black-and-white image is not a depth map")
        raw = picture_values(picture)
        return raw, {"F": "m", "L": None, "I": None}.get(picture.mode, "mm")


def picture_values(picture: Any) -> NDArray[Any]:
    """Return a single-channel image's stored values (height, width).

    Raises:
        MediaError: the image is damaged.
    """
    try:
        picture.load()
    except (SyntaxError, IndexError, EOFError, ValueError) as error:
        raise MediaError(f"damaged image ({error})") from error
    return np.asarray(picture)


def turned(values: NDArray[Any], rotate: int | None) -> NDArray[Any]:
    """Return a picture (height, width) turned clockwise by a multiple of 90 degrees; None: unchanged."""
    return np.rot90(values, -(rotate or 0) // 90)


def plane(array: NDArray[Any], options: DecodeOptions) -> NDArray[Any]:
    """Return an array as (height, width); axes of length 1 are dropped.

    Raises:
        MediaError: it is not two-dimensional, has no pixel, or more than `options.max_pixels`.
    """
    flat = array if array.ndim == 2 else array.squeeze()
    if flat.ndim != 2 or not flat.size:
        raise MediaError(f"the array has the shape {array.shape}: expected (height, width)")
    if flat.size > options.max_pixels:
        height, width = flat.shape
        raise MediaError(
            f"the array is {width}x{height} pixels: more than {options.max_pixels} are not decoded (--limit pixels=N)"
        )
    return flat


def _is_sunrgbd(sidecar: Sidecar) -> bool:
    return sidecar.depth_unit is not None and sidecar.depth_unit.strip().lower() == SUNRGBD


def sunrgbd_metres(raw: NDArray[Any]) -> NDArray[np.float32]:
    """Return metres, float32 (height, width), of SUN RGB-D's 16-bit values: millimetres rotated left by three bits.

    From SUNRGBDtoolbox, read3dPoints.m: bitor(bitshift(depth, -3), bitshift(depth, 16 - 3)) / 1000, at most 8 m.

    Raises:
        MediaError: the values are not 16-bit integers.
    """
    if raw.dtype.kind not in "iu" or raw.dtype.itemsize != 2:
        raise MediaError(f'depth_unit is "{SUNRGBD}", which is for 16-bit integers: these are {raw.dtype.name}')
    bits = raw.astype(np.uint16)
    depth_m: NDArray[np.float32] = ((bits >> 3) | (bits << 13)).astype(np.float32) / np.float32(1000)
    return np.minimum(depth_m, np.float32(SUNRGBD_FARTHEST_M), out=depth_m)


def _metres_per_step(declared: str | None, implied: str | None, dtype: np.dtype[Any]) -> float:
    """Return metres per step of the declared unit, else of the unit that the format implies."""
    if declared is not None:
        return parse_unit(declared)
    if implied is None:
        raise MediaError(
            f'{8 * dtype.itemsize}-bit integer depth has no unit: put {{"depth_unit": "mm"}} '
            "(or m, cm, sunrgbd, or metres per step as a number) into its sidecar <file>.json"
        )
    return _METRES[implied]


def parse_unit(text: str) -> float:
    """Return metres per step of "m", "cm", "mm" or a multiple such as "0.0002 m".

    Raises:
        MediaError: it is not a unit of length.
    """
    match = _UNIT.fullmatch(text.strip().lower())
    unit = _METRES.get(match[2]) if match else None
    try:
        factor = float(match[1] or 1) if match else 0.0
    except ValueError:
        factor = 0.0
    if unit is None or not 0 < factor < 1e9:
        raise MediaError(f"depth_unit is {text[:40]!r}: expected m, cm, mm, sunrgbd, or metres per step as a number")
    return factor * unit
