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
_BIG = 43
"""Magic number of BigTIFF, whose counts and offsets have 8 bytes (the BigTIFF design of libtiff)."""
_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 7: 1, 10: 8, 13: 4, 16: 8, 18: 8}
"""Bytes per element by type: BYTE, ASCII, SHORT, LONG, RATIONAL, UNDEFINED, SRATIONAL (TIFF 6.0, section 2); IFD; of
BigTIFF LONG8 and IFD8."""
_INTEGERS = (3, 4, 13, 16, 18)
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


@dataclass(frozen=True, slots=True)
class Layout:
    """Byte order of a TIFF file (of `struct`: "<" or ">"), and whether it is BigTIFF."""

    order: str
    is_big: bool = False


def read_exif(file: IO[bytes], page_offset: int | None = None) -> Exif:
    """Read the tags of a file that is TIFF from its first byte; of a damaged file those that can be read.

    The magic number is not checked: cameras' raw files have others. `page_offset`: offset of a page's directory; None:
    the first.
    """
    if (header := read_header(file)) is None:
        return Exif()
    layout, first = header
    picture, _ = read_directory(file, layout, first if page_offset is None else page_offset, _PICTURE_TAGS)
    below = (picture.get(_PHOTO), _PHOTO_TAGS), (picture.get(_GPS), _GPS_TAGS)
    photo, gps = (read_directory(file, layout, place, tags)[0] for place, tags in below)
    return Exif(picture, photo, gps)


def read_header(file: IO[bytes]) -> tuple[Layout, int] | None:
    """Read the layout of a TIFF file and the offset of its first directory; None if it has no byte order."""
    head = file.read(8)
    order = _ORDERS.get(head[:2])
    if order is None or len(head) < 8:
        return None
    if struct.unpack(order + "H", head[2:4])[0] == _BIG:
        offset = file.read(8)
        return (Layout(order, is_big=True), _integer(offset, order)) if len(offset) == 8 else None
    return Layout(order), _integer(head[4:], order)


def read_directory(
    file: IO[bytes], layout: Layout, offset: Value | None, wanted: Collection[int]
) -> tuple[Directory, int]:
    """Return the requested tags of the directory at an offset, and the offset of the next one (0: none)."""
    if not isinstance(offset, int) or offset >= 1 << 63:
        return {}, 0
    order, width = layout.order, 8 if layout.is_big else 4
    file.seek(offset)
    count = _integer(file.read(8 if layout.is_big else 2), order)
    entry = f"{order}HHQ8s" if layout.is_big else f"{order}HHL4s"
    size = struct.calcsize(entry)
    entries = file.read(size * min(count, MAX_TAGS))
    after = file.read(width) if count <= MAX_TAGS else b""
    tags: dict[int, Value] = {}
    for tag, kind, parts, content in struct.iter_unpack(entry, entries[: len(entries) // size * size]):
        if tag in wanted and kind in _SIZES:
            length = min(parts * _SIZES[kind], MAX_VALUE_BYTES)
            if length > width:
                if (place := _integer(content, order)) >= 1 << 63:
                    continue
                file.seek(place)
                content = file.read(length)
            value = _value(content[:length], kind, order)
            if value is not None:
                tags[tag] = value
    return tags, _integer(after, order) if len(after) == width else 0


def _integer(raw: bytes, order: str) -> int:
    return int.from_bytes(raw, "little" if order == "<" else "big")


def _value(raw: bytes, kind: int, order: str) -> Value | None:
    """Return the value of a tag; None if its bytes are missing."""
    whole = raw[: len(raw) // _SIZES[kind] * _SIZES[kind]]
    if not whole:
        return None
    if kind in _PAIRS:
        pairs = struct.iter_unpack(order + _PAIRS[kind], whole)
        return tuple(above / below if below else math.nan for above, below in pairs)
    return _integer(whole[: _SIZES[kind]], order) if kind in _INTEGERS else whole
