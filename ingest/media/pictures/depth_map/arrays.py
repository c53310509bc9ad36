"""Depth maps in array files: .npy, .npz, PFM and OpenEXR."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bindsearch.errors import MediaError
from bindsearch.ingest.media.numpy_files import read_npz
from bindsearch.ingest.media.options import DecodeOptions
from bindsearch.ingest.media.pictures.depth_map.exr import read_exr_channel
from bindsearch.ingest.media.pictures.depth_map.names import DEPTH_ARRAYS
from bindsearch.ingest.media.pictures.depth_map.stored_depth import StoredDepth, stored
from bindsearch.ingest.media.pictures.stored_values import check_pixels, plane

_MASK_NAMES = ("mask", "valid", "valid_mask", "depth_mask", "validity")

_PFM = re.compile(rb"(P[Ff])[ \t\r\n]+(\d{1,9})[ \t\r\n]+(\d{1,9})[ \t\r\n]+([+-]?[0-9.]{1,40}(?:[eE][+-]?\d{1,3})?)\s")
_PFM_HEADER_BYTES = 128


def read_npz_depth(path: Path, options: DecodeOptions) -> StoredDepth:
    """Read the depth map in a .npz file: the array of a name in DEPTH_ARRAYS, else the only one of two axes.

    Raises:
        MediaError: not a .npz file, damaged, too large, or it is not clear which array is the depth.
    """
    arrays = {name: array for name, array in read_npz(path, max_bytes=options.max_array_bytes).items() if array.size}
    lower = {name.lower(): array for name, array in arrays.items() if array.squeeze().ndim == 2}
    named = next((name for name in DEPTH_ARRAYS if name in lower), None)
    masks = {name: array for name, array in lower.items() if name in _MASK_NAMES}
    others = sorted(set(lower) - set(masks))
    if named is None and len(others) != 1:
        found = ", ".join(f"{name} {array.shape}" for name, array in sorted(arrays.items())[:8]) or "nothing"
        raise MediaError(f"no array of the .npz is named depth, and it is not the only one: it contains {found}")
    name = named or others[0]
    depth = stored(plane(lower[name], options))
    mask = next((plane(array, options) != 0 for array in masks.values()), None)
    if mask is not None and mask.shape != depth.raw.shape:
        raise MediaError(f"the depth in the .npz has the shape {depth.raw.shape}, its mask {mask.shape}")
    unit = DEPTH_ARRAYS.get(name) or depth.unit
    kind = f"an array named {name!r}" if DEPTH_ARRAYS.get(name) else depth.kind
    notes = () if len(arrays) == 1 else (f"depth is the array {name!r} of {len(arrays)}",)
    return replace(depth, unit=unit, kind=kind, mask=mask, notes=notes)


def read_pfm(path: Path, options: DecodeOptions) -> StoredDepth:
    """Read a PFM file: rows from the bottom to the top, little-endian if the scale is negative.

    The absolute value of the scale is not applied: Middlebury's files have 1/255 or 1/maximum there, and their values
    are disparities in pixels all the same. (Format: netpbm's pfm(5).)

    Raises:
        MediaError: not a PFM file, in colour, truncated, or too large.
    """
    with path.open("rb") as file:
        match = _PFM.match(file.read(_PFM_HEADER_BYTES))
        if match is None:
            raise MediaError("not a PFM file: its header is damaged")
        if match[1] == b"PF":
            raise MediaError("a PFM of three channels (PF) is not a depth map")
        width, height = int(match[2]), int(match[3])
        check_pixels(width, height, options)
        needed = 4 * width * height
        if needed > options.max_array_bytes:
            raise MediaError(f"the array has {needed} bytes: more than {options.max_array_bytes} are not read")
        file.seek(match.end())
        raw = file.read(needed)
    if len(raw) < needed:
        raise MediaError(f"truncated: the PFM of {width}x{height} needs {needed} bytes, only {len(raw)} exist")
    order = "<" if match[4].startswith(b"-") else ">"
    return stored(np.frombuffer(raw, f"{order}f4").reshape(height, width)[::-1])


def read_exr(path: Path, options: DecodeOptions) -> StoredDepth:
    """Read the depth channel of an OpenEXR file.

    Raises:
        MediaError: not an EXR file of scan lines, damaged, too large, or without depth.
    """
    values, name, n_channels = read_exr_channel(path, options)
    return stored(values, notes=() if n_channels == 1 else (f"depth is the channel {name!r} of the EXR",))


def as_grey(values: NDArray[Any]) -> NDArray[Any] | None:
    """Return one plane of a picture (height, width, channels) whose three colours are equal; None: they differ."""
    if values.ndim != 3 or values.shape[2] < 3:
        return None
    first = values[..., 0]
    is_grey = np.array_equal(first, values[..., 1]) and np.array_equal(first, values[..., 2])
    return first if is_grey else None
