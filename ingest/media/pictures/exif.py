"""EXIF, read tag by tag: only the requested tags, with a maximum size for each.

Pillow's reader loads every value of a directory into memory, where a few thousand tags may share the same bytes.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import IO

MAX_TAGS = 1024
MAX_VALUE_BYTES = 8192
_ORDERS = {b"II": "<", b"MM": ">"}
_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 7: 1, 10: 8}
"""Bytes per element by type: BYTE, ASCII, SHORT, LONG, RATIONAL, UNDEFINED, SRATIONAL (TIFF 6.0, section 2)."""
_PAIRS = {5: "LL", 10: "ll"}

_PHOTO, _GPS = 0x8769, 0x8825
_PICTURE_TAGS = frozenset((_PHOTO, _GPS, 0x010E, 0x010F, 0x0110, 0x0112, 0x0132, 0x013B, 0x9C9B, 0x9C9D))
_PHOTO_TAGS = frozenset((0x9003, 0x9004, 0x9010, 0x9011, 0x9012, 0x9290, 0x9291, 0x9292))
_GPS_TAGS = frozenset((1, 2, 3, 4))

Value = bytes | int | tuple[float, ...]
"""Texts and bytes; the first of several integers; rationals, NaN if the denominator is zero."""
Directory = Mapping[int, Value]


@dataclass(frozen=True, slots=True)
class Exif:
    """The tags of an image that are read, by directory (Exif 2.32, section 4.6)."""

    picture: Directory = field(default_factory=dict)
    photo: Directory = field(default_factory=dict)
    gps: Directory = field(default_factory=dict)


def read_exif(file: IO[bytes]) -> Exif:
    """Read the tags of a file that is TIFF from its first byte; of a damaged file those that can be read.

    The magic number is not checked: cameras' raw files have others.
    """
    head = file.read(8)
    order = _ORDERS.get(head[:2])
    if order is None or len(head) < 8:
        return Exif()
    picture = _directory(file, order, struct.unpack(order + "L", head[4:])[0], _PICTURE_TAGS)
    return Exif(
        picture,
        _directory(file, order, picture.get(_PHOTO), _PHOTO_TAGS),
        _directory(file, order, picture.get(_GPS), _GPS_TAGS),
    )


def _directory(file: IO[bytes], order: str, offset: Value | None, wanted: Collection[int]) -> Directory:
    """Return the requested tags of the directory at an offset."""
    if not isinstance(offset, int):
        return {}
    file.seek(offset)
    count = int.from_bytes(file.read(2), "little" if order == "<" else "big")
    entries = file.read(12 * min(count, MAX_TAGS))
    tags: dict[int, Value] = {}
    for tag, kind, parts, content in struct.iter_unpack(order + "HHL4s", entries[: len(entries) // 12 * 12]):
        if tag in wanted and kind in _SIZES:
            size = min(parts * _SIZES[kind], MAX_VALUE_BYTES)
            if size > 4:
                file.seek(struct.unpack(order + "L", content)[0])
                content = file.read(size)
            value = _value(content[:size], kind, order)
            if value is not None:
                tags[tag] = value
    return tags


def _value(raw: bytes, kind: int, order: str) -> Value | None:
    """Return the value of a tag; None if its bytes are missing."""
    whole = raw[: len(raw) // _SIZES[kind] * _SIZES[kind]]
    if not whole:
        return None
    if kind in _PAIRS:
        pairs = struct.iter_unpack(order + _PAIRS[kind], whole)
        return tuple(above / below if below else math.nan for above, below in pairs)
    if kind in (3, 4):
        return int.from_bytes(whole[: _SIZES[kind]], "little" if order == "<" else "big")
    return whole
