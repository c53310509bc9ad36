"""EXIF, read tag by tag: only the requested tags, with a maximum size for each.

Pillow's `getexif` loads every value of a directory into memory, where a few thousand tags may share the same bytes: it
is not used.
"""

from __future__ import annotations

import io
import math
import re
import struct
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING, Any

from bindsearch.ingest.media.xmp import xmp_of

if TYPE_CHECKING:
    from PIL.Image import Image

ORIENTATION = 0x0112
RAW_ORIENTATION = "raw orientation"
"""Key of Pillow's `info` of the orientation of a raw image, for a preview without its own."""

MAX_TAGS = 1024
MAX_VALUE_BYTES = 8192
_ORDERS = {b"II": "<", b"MM": ">"}
_BIG = 43
"""Magic number of BigTIFF, whose counts and offsets have 8 bytes (the BigTIFF design of libtiff)."""
_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 7: 1, 10: 8, 13: 4, 16: 8, 18: 8}
"""Bytes per element by type: BYTE, ASCII, SHORT, LONG, RATIONAL, UNDEFINED, SRATIONAL (TIFF 6.0, section 2); IFD; of
BigTIFF LONG8 and IFD8."""
_INTEGERS = {3: "H", 4: "L", 13: "L", 16: "Q", 18: "Q"}
_PAIRS = {5: "LL", 10: "ll"}

_START = re.compile(rb"(?:Exif\0\0)*")
_XMP_ORIENTATION = re.compile(rb"tiff:Orientation(?:=\"|>)([1-8])")

_PHOTO, _GPS = 0x8769, 0x8825
_PICTURE_TAGS = frozenset((_PHOTO, _GPS, 0x010E, 0x010F, 0x0110, ORIENTATION, 0x0132, 0x013B, 0x9C9B, 0x9C9D))
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


def exif_of(picture: Image) -> Exif:
    """Return the EXIF tags of an opened image; of a TIFF file before its pixels are loaded, when the file is closed."""
    if (tags := getattr(picture, "tag_v2", None)) is not None:
        file: Any = picture.fp  # type: ignore[attr-defined]
        file.seek(0)
        return read_exif(file, tags.offset)
    raw = picture.info.get("exif")
    if raw is None and (profile := picture.info.get("Raw profile type exif")):  # in PNGs of ImageMagick
        with suppress(ValueError):
            raw = bytes.fromhex("".join(profile.split("\n")[3:]))
    return read_exif(io.BytesIO(_START.sub(b"", raw, count=1))) if raw else Exif()


def orientation_of(picture: Image) -> int:
    """Return the orientation 1..8 of an image by EXIF, else XMP; 1 if there is none or the blocks are damaged."""
    tags = getattr(picture, "tag_v2", None)
    value = exif_of(picture).picture.get(ORIENTATION) if tags is None else tags.get(ORIENTATION)
    if value is None and (match := _XMP_ORIENTATION.search(xmp_of(picture.info))):
        value = int(match[1])
    value = picture.info.get(RAW_ORIENTATION) if value is None else value
    return value if isinstance(value, int) else 1


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


def _integer(raw: bytes, order: str) -> int:
    return int.from_bytes(raw, "little" if order == "<" else "big")


def integers(raw: bytes, kind: int, order: str) -> tuple[int, ...]:
    """Return the integers of a tag; none for other types."""
    whole = raw[: len(raw) // _SIZES[kind] * _SIZES[kind]]
    return (
        tuple(number for (number,) in struct.iter_unpack(order + _INTEGERS[kind], whole)) if kind in _INTEGERS else ()
    )


def _value(raw: bytes, kind: int, order: str) -> Value | None:
    """Return the value of a tag; None if its bytes are missing."""
    whole = raw[: len(raw) // _SIZES[kind] * _SIZES[kind]]
    if not whole:
        return None
    if kind in _PAIRS:
        pairs = struct.iter_unpack(order + _PAIRS[kind], whole)
        return tuple(above / below if below else math.nan for above, below in pairs)
    return _integer(whole[: _SIZES[kind]], order) if kind in _INTEGERS else whole


def read_directory(
    file: IO[bytes],
    layout: Layout,
    offset: Value | None,
    wanted: Collection[int],
    *,
    convert: Callable[[bytes, int, str], Any] = _value,
    max_bytes: int = MAX_VALUE_BYTES,
) -> tuple[Mapping[int, Any], int]:
    """Return the requested tags of the directory at an offset, and the offset of the next one (0: none).

    Args:
        file: the file.
        layout: its layout.
        offset: place of the directory.
        wanted: the tags.
        convert: returns the value of a tag by its bytes, type and byte order; None: it has none.
        max_bytes: maximum bytes of a value that are read.
    """
    if not isinstance(offset, int) or offset >= 1 << 63:
        return {}, 0
    order, width = layout.order, 8 if layout.is_big else 4
    file.seek(offset)
    count = _integer(file.read(8 if layout.is_big else 2), order)
    entry = f"{order}HHQ8s" if layout.is_big else f"{order}HHL4s"
    size = struct.calcsize(entry)
    entries = file.read(size * min(count, MAX_TAGS))
    after = file.read(width) if count <= MAX_TAGS else b""
    tags: dict[int, Any] = {}
    for tag, kind, parts, content in struct.iter_unpack(entry, entries[: len(entries) // size * size]):
        if tag in wanted and tag not in tags and kind in _SIZES:
            length = min(parts * _SIZES[kind], max_bytes)
            if length > width:
                if (place := _integer(content, order)) >= 1 << 63:
                    continue
                file.seek(place)
                content = file.read(length)
            value = convert(content[:length], kind, order)
            if value is not None:
                tags[tag] = value
    return tags, _integer(after, order) if len(after) == width else 0
