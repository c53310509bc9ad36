"""TIFF files of 16- and 64-bit floating-point values, which Pillow does not read: phones save depth as half floats."""

from __future__ import annotations

import os
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from bindsearch.errors import MediaError
from bindsearch.ingest.media.options import DecodeOptions
from bindsearch.ingest.media.pictures.exif import integers, read_directory, read_header
from bindsearch.ingest.media.pictures.stored_values import check_pixels

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


def read_float_tiff(path: Path, options: DecodeOptions) -> tuple[NDArray[Any], int] | None:
    """Read the first picture of a TIFF file of 16- or 64-bit floating-point values; None if it is of another kind.

    Returns:
        Values (height, width) and the orientation 1..8.

    Raises:
        MediaError: it is damaged, too large, or in strips of a compression other than deflate.
    """
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        header = read_header(file)
        if header is None or header[0].is_big:
            return None
        tags, _ = read_directory(file, *header, _TAGS, convert=integers, max_bytes=_MAX_TAG_BYTES)
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
    values = np.frombuffer(raw[:needed], f"{header[0].order}f{bits // 8}").reshape(height, width)
    return values, _one(tags, _ORIENTATION, 1)


def _one(tags: Mapping[int, tuple[int, ...]], tag: int, default: int) -> int:
    return tags[tag][0] if tags.get(tag) else default


def _strips(
    file: IO[bytes], tags: Mapping[int, tuple[int, ...]], size: int, needed: int, deflated: bool
) -> list[bytes]:
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
