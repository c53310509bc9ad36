"""Files of depth maps, read to their stored values by the kind of the content."""

from __future__ import annotations

import os
import re
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from bindsearch.errors import MediaError
from bindsearch.ingest.media.numpy_files import read_npy, read_npz
from bindsearch.ingest.media.options import DecodeOptions
from bindsearch.ingest.media.pictures.depth_map.exr import read_exr_channel
from bindsearch.ingest.media.pictures.depth_map.units import DEPTH_ARRAYS, mask_of
from bindsearch.ingest.media.pictures.exif import integers, orientation_of, read_directory, read_header
from bindsearch.ingest.media.pictures.pillow import check_size, open_picture, picture_values, plane
from bindsearch.ingest.media.recordings.av_container import kind_of


@dataclass(frozen=True, slots=True)
class StoredDepth:
    """Values (height, width) of a depth map as its file holds them, and notes on what was chosen or converted.

    `unit` is the one that the format implies (None: it has none), and `kind` what implies it, such as "16-bit
    integers". `mask` is bool (height, width), False where the file itself has no value; None: it does not say.
    """

    raw: NDArray[Any]
    unit: str | None
    kind: str
    orientation: int = 1
    mask: NDArray[np.bool_] | None = None
    notes: tuple[str, ...] = ()


def stored(raw: NDArray[Any], *, orientation: int = 1, notes: tuple[str, ...] = ()) -> StoredDepth:
    """Return stored values without a unit of their own: floating-point values are metres, integers have no unit."""
    is_float = raw.dtype.kind == "f"
    kind = "floating-point values" if is_float else f"{8 * raw.dtype.itemsize}-bit integers"
    return StoredDepth(raw, "m" if is_float else None, kind, orientation, notes=notes)


_MASK_NAMES = ("mask", "valid", "valid_mask", "depth_mask", "validity")

_PFM = re.compile(rb"(P[Ff])[ \t\r\n]+(\d{1,9})[ \t\r\n]+(\d{1,9})[ \t\r\n]+([+-]?[0-9.]{1,40}(?:[eE][+-]?\d{1,3})?)\s")
_PFM_HEADER_BYTES = 128


def _read_npz(path: Path, options: DecodeOptions) -> StoredDepth:
    """Read the depth map in a .npz file: the array of a name in DEPTH_ARRAYS, else the only one of two axes."""
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


def _read_pfm(path: Path, options: DecodeOptions) -> StoredDepth:
    """Read a PFM file: rows from the bottom to the top, little-endian if the scale is negative.

    The absolute value of the scale is not applied: Middlebury's files have 1/255 or 1/maximum there, and their values
    are disparities in pixels all the same. (Format: netpbm's pfm(5).)
    """
    with path.open("rb") as file:
        match = _PFM.match(file.read(_PFM_HEADER_BYTES))
        if match is None:
            raise MediaError("not a PFM file: its header is damaged")
        if match[1] == b"PF":
            raise MediaError("a PFM of three channels (PF) is not a depth map")
        width, height = int(match[2]), int(match[3])
        needed = _array_bytes(width, height, 4, options)
        file.seek(match.end())
        raw = file.read(needed)
    if len(raw) < needed:
        raise MediaError(f"truncated: the PFM of {width}x{height} needs {needed} bytes, only {len(raw)} exist")
    order = "<" if match[4].startswith(b"-") else ">"
    return stored(np.frombuffer(raw, f"{order}f4").reshape(height, width)[::-1])


def _array_bytes(width: int, height: int, item_bytes: int, options: DecodeOptions) -> int:
    """Return the size of an array in bytes; raise MediaError if it is above the limits."""
    check_size((width, height), options.max_pixels, what="the array")
    needed = width * height * item_bytes
    if needed > options.max_array_bytes:
        raise MediaError(f"the array has {needed} bytes: more than {options.max_array_bytes} are not read")
    return needed


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
        depth = _read_npz(path, options)
    elif kind == "pfm":
        depth = _read_pfm(path, options)
    elif kind == "exr":
        values, note = read_exr_channel(path, options)
        depth = stored(values, notes=note)
    elif kind == "heif":
        depth = _read_heif(path, options)
    elif kind == "tiff" and (floats := _read_float_tiff(path, options)) is not None:
        depth = stored(floats[0], orientation=floats[1])
    else:
        depth = _read_picture(path, options)
    if (mask_path := mask_of(path)) is None:
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


def _read_picture(path: Path, options: DecodeOptions) -> StoredDepth:
    with open_picture(path, max_pixels=options.max_pixels, max_bytes=options.max_array_bytes) as picture:
        mode = picture.mode
        if mode in ("P", "1"):
            raise MediaError("a palette or black-and-white image is not a depth map")
        if mode not in (*_GREY_MODES, *_COLOUR_MODES) and not mode.startswith("I;16"):
            raise MediaError(f"depth must have one channel, not {mode}: index it with --modality-rule image=...")
        values = picture_values(picture)
        orientation = orientation_of(picture)
    first = values if values.ndim == 2 else values[..., 0]
    if mode in _COLOUR_MODES and not all(np.array_equal(first, values[..., channel]) for channel in (1, 2)):
        raise MediaError(
            f"depth must have one channel, not {mode}: false colours have no distances; "
            "index the depth itself, or this picture with --modality-rule image=..."
        )
    notes = ("three equal channels: one is read",) if mode in _COLOUR_MODES else ()
    depth = stored(first, orientation=orientation, notes=notes)
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


def _read_mask(path: Path, options: DecodeOptions) -> NDArray[np.bool_]:
    """Return where a mask is above 0: bool (height, width)."""
    if kind_of(path) == "npy":
        return plane(read_npy(path, max_bytes=options.max_array_bytes), options) > 0
    with open_picture(path, max_pixels=options.max_pixels, max_bytes=options.max_array_bytes) as picture:
        values = picture_values(picture)
    return (values if values.ndim == 2 else values[..., 0]) > 0


_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _STRIPS, _ORIENTATION, _SAMPLES, _ROWS = 256, 257, 258, 259, 273, 274, 277, 278
_BYTES, _PREDICTOR, _FORMAT = 279, 317, 339
_TAGS = frozenset(
    (_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _STRIPS, _ORIENTATION, _SAMPLES, _ROWS, _BYTES, _PREDICTOR, _FORMAT)
)
_MAX_TAG_BYTES = 4 << 20
"""Places of a million strips."""
_NONE, _DEFLATE = (1,), (8, 32946)
_IEEE = 3
"""SampleFormat of floating-point values (TIFF 6.0, section 19)."""


def _read_float_tiff(path: Path, options: DecodeOptions) -> tuple[NDArray[Any], int] | None:
    """Read the values (height, width) and the orientation 1..8 of the first picture of a TIFF file.

    None if its values are not floating-point numbers of 16 or 64 bits.
    """

    def one(tag: int, default: int) -> int:
        return tags[tag][0] if tags.get(tag) else default

    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        header = read_header(file)
        if header is None or header[0].is_big:
            return None
        tags: Mapping[int, tuple[int, ...]]
        tags, _ = read_directory(file, *header, _TAGS, convert=integers, max_bytes=_MAX_TAG_BYTES)
        bits = one(_BITS, 1)
        if one(_FORMAT, 1) != _IEEE or bits not in (16, 64):
            return None
        width, height, compression = one(_WIDTH, 0), one(_HEIGHT, 0), one(_COMPRESSION, 1)
        needed = _array_bytes(width, height, bits // 8, options)
        is_plain = one(_SAMPLES, 1) == 1 and one(_PREDICTOR, 1) == 1 and _STRIPS in tags
        if not is_plain or compression not in (*_NONE, *_DEFLATE):
            raise MediaError(
                f"TIFF of {bits}-bit floating-point values, compression {compression}: only plain and deflated strips "
                "of one channel are read; save it as 32-bit TIFF or .npy"
            )
        places = zip(tags[_STRIPS], tags.get(_BYTES, ()), strict=False)
        raw = _read_strips(file, ((place, min(length, size)) for place, length in places), needed, compression)
    if len(raw) < needed:
        raise MediaError(f"truncated: the picture needs {needed} bytes, only {len(raw)} exist")
    values = np.frombuffer(raw, f"{header[0].order}f{bits // 8}").reshape(height, width)
    return values, one(_ORIENTATION, 1)


def _read_strips(file: IO[bytes], places: Iterable[tuple[int, int]], needed: int, compression: int) -> bytes:
    """Return the bytes of strips at (offset, length), at most `needed` in total."""
    content = bytearray()
    for offset, length in places:
        if (missing := needed - len(content)) <= 0:
            break
        file.seek(offset)
        raw = file.read(length)
        if compression in _DEFLATE:
            try:
                raw = zlib.decompressobj().decompress(raw, missing)
            except zlib.error as error:
                raise MediaError(f"damaged TIFF strip ({error})") from error
        content += raw[:missing]
    return bytes(content)
