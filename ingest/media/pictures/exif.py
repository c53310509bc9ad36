"""EXIF, read tag by tag: only the requested tags, with a maximum size for each; XMP and IPTC.

Pillow's `getexif` loads every value of a directory into memory, where a few thousand tags may share the same bytes: it
is not used.
"""

from __future__ import annotations

import io
import math
import re
import struct
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING, Any
from xml.etree import ElementTree

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


_MAX_XMP_BYTES = 1 << 20
_MAX_DATASETS = 512
_DECLARATIONS = re.compile(rb"<!(?:DOCTYPE|ENTITY)", re.IGNORECASE)
"""XMP has none (ISO 16684-1, 7.1); they could expand without limit."""
_RDF = "{http://www.w3.org/1999/02/22-rdf-syntax-ns#}"
_DC, _EXIF = "{http://purl.org/dc/elements/1.1/}", "{http://ns.adobe.com/exif/1.0/}"
_PHOTOSHOP, _XMP = "{http://ns.adobe.com/photoshop/1.0/}", "{http://ns.adobe.com/xap/1.0/}"
_TITLES = (f"{_DC}title", f"{_DC}description")
_DATES = (f"{_EXIF}DateTimeOriginal", f"{_PHOTOSHOP}DateCreated", f"{_XMP}CreateDate")
_ANGLE = re.compile(r"(\d{1,3}),(\d{1,2}(?:\.\d+)?)(?:,(\d{1,2}(?:\.\d+)?))?([NSEW])", re.ASCII)
"""Degrees, minutes and perhaps seconds, then the hemisphere (XMP specification, part 2, GPSCoordinate)."""
_IPTC_BLOCK = 0x0404
"""Photoshop's image resource of IPTC-NAA."""
_TITLE, _CAPTION, _BYLINE, _DATE, _TIME = 5, 120, 80, 55, 60
"""Datasets of record 2 (IPTC IIM 4.2, chapter 6)."""


@dataclass(frozen=True, slots=True)
class Described:
    """Statements about a picture as they are written; None: there is none."""

    title: str | None = None
    creator: str | None = None
    date: str | None = None
    latitude: float | None = None
    longitude: float | None = None


def read_xmp(raw: bytes) -> Described:
    """Read an XMP packet; nothing of one that is damaged, larger than 1 MB, or declares entities."""
    raw = raw.strip(b"\0 \t\r\n")
    if not raw or len(raw) > _MAX_XMP_BYTES or _DECLARATIONS.search(raw.replace(b"\0", b"")):
        return Described()
    try:
        root = ElementTree.fromstring(raw)
    except (ElementTree.ParseError, ValueError, LookupError):
        return Described()
    values: dict[str, str] = {}
    for description in root.iter(f"{_RDF}Description"):
        for name, text in (*description.attrib.items(), *((child.tag, _text_of(child)) for child in description)):
            if text.strip():
                values.setdefault(name, text.strip())
    return Described(
        next((values[name] for name in _TITLES if name in values), None),
        values.get(f"{_DC}creator"),
        next((values[name] for name in _DATES if name in values), None),
        _angle(values.get(f"{_EXIF}GPSLatitude", ""), "NS"),
        _angle(values.get(f"{_EXIF}GPSLongitude", ""), "EW"),
    )


def xmp_of(info: Mapping[Any, Any]) -> bytes:
    """Return the XMP packet of an image by Pillow's `info`; empty if there is none."""
    raw = info.get("xmp") or info.get("XML:com.adobe.xmp") or b""
    raw = raw.encode(errors="replace") if isinstance(raw, str) else raw
    return raw if isinstance(raw, bytes) else b""


def read_iptc(photoshop: Any) -> Described:
    """Read the IPTC of a JPEG in the Photoshop resources that Pillow gives, by number."""
    raw = photoshop.get(_IPTC_BLOCK) if isinstance(photoshop, Mapping) else None
    if not isinstance(raw, bytes):
        return Described()
    values: dict[int, str] = {}
    for number, content in _datasets(raw):
        values.setdefault(number, content.decode("latin-1"))
    date, time = values.get(_DATE, ""), values.get(_TIME, "")
    day = f"{date[:4]}-{date[4:6]}-{date[6:8]}" if re.fullmatch(r"\d{8}", date, re.ASCII) else None
    clock = re.fullmatch(r"(\d\d)(\d\d)(\d\d)([+-]\d{4})?", time, re.ASCII)
    if day and clock:
        day += f"T{clock[1]}:{clock[2]}:{clock[3]}{clock[4] or ''}"
    return Described(values.get(_TITLE) or values.get(_CAPTION), values.get(_BYLINE), day)


def _text_of(element: ElementTree.Element) -> str:
    """Return the text of a property; of a list, its items; of alternatives by language, the first."""
    items = [item.text.strip() for item in element.iter(f"{_RDF}li") if item.text and item.text.strip()]
    if items and element.find(f"{_RDF}Alt") is not None:
        return items[0]
    return ", ".join(items) or element.text or ""


def _angle(text: str, signs: str) -> float | None:
    parts = _ANGLE.fullmatch(text)
    if parts is None or parts[4] not in signs:
        return None
    degrees = int(parts[1]) + float(parts[2]) / 60 + float(parts[3] or 0) / 3600
    return -degrees if parts[4] == signs[1] else degrees


def _datasets(raw: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield number and content of the datasets of record 2 (IPTC IIM 4.2, 1.5)."""
    place = 0
    for _ in range(_MAX_DATASETS):
        head = raw[place : place + 5]
        if len(head) < 5 or head[0] != 0x1C or head[3] & 0x80:
            return
        size = int.from_bytes(head[3:], "big")
        if head[1] == 2:
            yield head[2], raw[place + 5 : place + 5 + size]
        place += 5 + size
