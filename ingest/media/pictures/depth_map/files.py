"""Files of depth maps, read to their stored values by the kind of the content."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bindsearch.errors import MediaError
from bindsearch.ingest.media.numpy_files import read_npy
from bindsearch.ingest.media.options import DecodeOptions
from bindsearch.ingest.media.pictures.depth_map.arrays import as_grey, read_exr, read_npz_depth, read_pfm
from bindsearch.ingest.media.pictures.depth_map.float_tiff import read_float_tiff
from bindsearch.ingest.media.pictures.depth_map.names import mask_of
from bindsearch.ingest.media.pictures.depth_map.stored_depth import StoredDepth, stored
from bindsearch.ingest.media.pictures.exif import orientation_of
from bindsearch.ingest.media.pictures.pillow import open_picture
from bindsearch.ingest.media.pictures.stored_values import picture_values, plane
from bindsearch.ingest.media.recordings.av_container import kind_of

_GREY_MODES = ("L", "LA", "I", "F")
_COLOUR_MODES = ("RGB", "RGBA")
_UNIFORM_INVERSE_Z, _UNIFORM_Z = 0, 2
"""Representations of depth in HEIF: uniform inverse distance, uniform distance (ISO 23008-2, F.14.3.3)."""


def read_stored(path: Path, options: DecodeOptions) -> StoredDepth:
    """Read the stored values of the depth map at `path`, with the mask in the file beside it, if there is one.

    Raises:
        MediaError: not a depth map of one channel, damaged, truncated, or too large.
    """
    kind = kind_of(path)
    if kind == "npy":
        depth = stored(plane(read_npy(path, max_bytes=options.max_array_bytes), options))
    elif kind == "zip":
        depth = read_npz_depth(path, options)
    elif kind == "pfm":
        depth = read_pfm(path, options)
    elif kind == "exr":
        depth = read_exr(path, options)
    elif kind == "heif":
        depth = _read_heif(path, options)
    elif kind == "tiff" and (floats := read_float_tiff(path, options)) is not None:
        depth = stored(floats[0], orientation=floats[1])
    else:
        depth = _read_picture(path, options)
    return _with_mask(path, depth, options)


def _read_picture(path: Path, options: DecodeOptions) -> StoredDepth:
    with open_picture(path, max_pixels=options.max_pixels, max_bytes=options.max_array_bytes) as picture:
        mode = picture.mode
        if mode in ("P", "1"):
            raise MediaError("a palette or black-and-white image is not a depth map")
        if mode not in (*_GREY_MODES, *_COLOUR_MODES) and not mode.startswith("I;16"):
            raise MediaError(f"depth must have one channel, not {mode}: index it with --modality-rule image=...")
        values = picture_values(picture)
        orientation = orientation_of(picture)
    notes: tuple[str, ...] = ()
    if mode == "LA":
        values = values[..., 0]
    elif mode in _COLOUR_MODES:
        grey = as_grey(values)
        if grey is None:
            raise MediaError(
                f"depth must have one channel, not {mode}: false colours have no distances; "
                "index the depth itself, or this picture with --modality-rule image=..."
            )
        values, notes = grey, ("three equal channels: one is read",)
    depth = stored(values, orientation=orientation, notes=notes)
    return replace(depth, unit="mm") if mode.startswith("I;16") else depth


def _read_heif(path: Path, options: DecodeOptions) -> StoredDepth:
    """Read the depth image that phones store beside the photo; libheif turns it upright.

    The distances at its ends hold if the file tells them; else it is relative: Apple's are disparities, whose unit
    libheif does not tell.
    """
    with open_picture(path, max_pixels=options.max_pixels, max_bytes=options.max_array_bytes) as picture:
        images = picture.info.get("depth_images") or []
        if not images:
            raise MediaError("the HEIC image has no depth image: index it with --modality-rule image=...")
        facts = images[0].info.get("metadata") or {}
        try:
            values = np.array(images[0])
        except (ValueError, RuntimeError, EOFError, SyntaxError) as error:
            raise MediaError(f"damaged depth image ({str(error).strip()})") from error
    raw = plane(values[..., 0] if values.ndim == 3 else values, options)
    depth = stored(raw, notes=("the depth image beside the photo is read",))
    near_m, far_m = (float(facts.get(name) or 0) for name in ("z_near", "z_far"))
    kind = facts.get("representation_type")
    if not 0 < near_m < far_m < np.inf or kind not in (_UNIFORM_INVERSE_Z, _UNIFORM_Z):
        return replace(depth, unit="inverse", kind="a HEIC depth image without distances")
    share = raw.astype(np.float64) / np.iinfo(raw.dtype).max
    if kind == _UNIFORM_Z:
        metres = near_m + share * (far_m - near_m)
    else:
        metres = 1 / (1 / far_m + share * (1 / near_m - 1 / far_m))
    return replace(depth, raw=metres.astype(np.float32), unit="m", kind="the distances in the HEIC file")


def _with_mask(path: Path, depth: StoredDepth, options: DecodeOptions) -> StoredDepth:
    """Return the depth with the mask beside its file: DIODE's x_depth_mask.npy of x_depth.npy, 0: no value."""
    mask_path = mask_of(path)
    if mask_path is None:
        return depth
    name = mask_path.name
    try:
        mask = _read_mask(mask_path, options)
    except MediaError as error:
        raise MediaError(f"its mask {name}: {error}") from error
    if mask.shape != depth.raw.shape:
        raise MediaError(f"its mask {name} has the shape {mask.shape}, the depth {depth.raw.shape}")
    known = mask if depth.mask is None else mask & depth.mask
    notes = (*depth.notes, f"{float((~mask).mean()):.0%} of the pixels are no value by its mask {name}")
    return replace(depth, mask=known, notes=notes)


def _read_mask(path: Path, options: DecodeOptions) -> NDArray[np.bool_]:
    """Return where a mask is above 0: bool (height, width)."""
    if kind_of(path) == "npy":
        return plane(read_npy(path, max_bytes=options.max_array_bytes), options) > 0
    with open_picture(path, max_pixels=options.max_pixels, max_bytes=options.max_array_bytes) as picture:
        values = picture_values(picture)
    return (values if values.ndim == 2 else values[..., 0]) > 0
