"""TIFF files of 16- and 64-bit floating-point values, which Pillow does not read: phones save depth as half floats."""

from __future__ import annotations

import os
import struct
import zlib
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from bindsearch.errors import MediaError
from bindsearch.ingest.media.options import DecodeOptions
from bindsearch.ingest.media.pictures.stored_values import check_pixels

_ORDERS = {b"II": "<", b"MM": ">"}
_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _STRIPS, _ORIENTATION, _SAMPLES, _ROWS = 256, 257, 258, 259, 273, 274, 277, 278
_BYTES, _PREDICTOR, _FORMAT = 279, 317, 339
_SIZES = {3: "H", 4: "L"}
_MAX_TAGS = 1024
_MAX_STRIPS = 1 << 20
_NONE, _DEFLATE = (1,), (8, 32946)
_IEEE = 3
"""SampleFormat of floating-point values (TIFF 6.0, section 19)."""


def read_float_tiff(path: Path, options: DecodeOptions) -> tuple[NDArray[Any], int] | None:
    """Read the first picture of a TIFF file of 16- or 64-bit floating-point values; None if it is of another kind.

    Returns:
        Values (height, width) and the orientation 1..8.

    Raises:
        MediaError: it is damaged, too large, or in strips of a compression other than deflate.
    """
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        order = _ORDERS.get(file.read(2), "")
        if not order:
            return None
        tags = _tags(file, order)
        bits = _one(tags, _BITS, 1)
        if _one(tags, _FORMAT, 1) != _IEEE or bits not in (16, 64):
            return None
        width, height = _one(tags, _WIDTH, 0), _one(tags, _HEIGHT, 0)
        check_pixels(width, height, options)
        needed = width * height * bits // 8
        if needed > options.max_array_bytes:
            raise MediaError(f"the array has {needed} bytes: more than {options.max_array_bytes} are not read")
        compression = _one(tags, _COMPRESSION, 1)
        is_plain = _one(tags, _SAMPLES, 1) == 1 and _one(tags, _PREDICTOR, 1) == 1 and _STRIPS in tags
        if not is_plain or compression not in (*_NONE, *_DEFLATE):
            raise MediaError(
                f"TIFF of {bits}-bit floating-point values, compression {compression}: only plain and deflated strips "
                "of one channel are read; save it as 32-bit TIFF or .npy"
            )
        raw = b"".join(_strips(file, tags, size, needed, compression in _DEFLATE))
    if len(raw) < needed:
        raise MediaError(f"truncated: the picture needs {needed} bytes, only {len(raw)} exist")
    values = np.frombuffer(raw[:needed], f"{order}f{bits // 8}").reshape(height, width)
    return values, _one(tags, _ORIENTATION, 1)


def _one(tags: dict[int, tuple[int, ...]], tag: int, default: int) -> int:
    return tags[tag][0] if tags.get(tag) else default


def _tags(file: IO[bytes], order: str) -> dict[int, tuple[int, ...]]:
    """Return the whole-number tags of the first directory (TIFF 6.0, section 2)."""
    try:
        magic, offset = struct.unpack(f"{order}HL", file.read(6))
        if magic != 42:
            return {}
        file.seek(offset)
        (count,) = struct.unpack(f"{order}H", file.read(2))
        entries = file.read(12 * min(count, _MAX_TAGS))
    except struct.error:
        return {}
    tags = {}
    for tag, kind, parts, content in struct.iter_unpack(f"{order}HHL4s", entries[: len(entries) // 12 * 12]):
        if kind in _SIZES and 0 < parts <= _MAX_STRIPS:
            needed = parts * struct.calcsize(f"{order}{_SIZES[kind]}")
            if needed > 4:
                file.seek(struct.unpack(f"{order}L", content)[0])
                content = file.read(needed)
            whole = content[:needed]
            if len(whole) == needed:
                tags[tag] = struct.unpack(f"{order}{parts}{_SIZES[kind]}", whole)
    return tags


def _strips(file: IO[bytes], tags: dict[int, tuple[int, ...]], size: int, needed: int, deflated: bool) -> list[bytes]:
    """Return the bytes of the strips, at most `needed` in total."""
    strips: list[bytes] = []
    missing = needed
    for offset, length in zip(tags[_STRIPS], tags.get(_BYTES, ()), strict=False):
        if missing <= 0:
            break
        file.seek(offset)
        raw = file.read(min(length, size))
        if deflated:
            try:
                raw = zlib.decompressobj().decompress(raw, missing)
            except zlib.error as error:
                raise MediaError(f"damaged TIFF strip ({error})") from error
        strips.append(raw[:missing])
        missing -= len(strips[-1])
    return strips
