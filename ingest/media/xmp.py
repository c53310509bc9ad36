"""Title, creator, date and place in XMP and IPTC, which photo programs write beside EXIF or instead of it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from xml.etree import ElementTree

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
