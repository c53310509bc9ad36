"""TIFF files written by hand (TIFF 6.0; BigTIFF by libtiff's design): any tags, any numbers, any pages."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from numpy.typing import NDArray

SHORT, LONG, LONG8 = 3, 4, 16
DEFLATE = 8
_LETTERS = {1: "B", 2: "B", SHORT: "H", LONG: "L", 7: "B", LONG8: "Q"}
_SAMPLE_FORMATS = {"u": 1, "i": 2, "f": 3, "c": 6}


@dataclass(frozen=True, slots=True)
class Page:
    """Pixels (height, width) or (height, width, channels), and tags beside or instead of the usual ones."""

    pixels: NDArray[Any]
    tags: Mapping[int, int | bytes | Sequence[int]] = field(default_factory=dict)


def write_tiff(path: Path, *pages: Page | NDArray[Any], is_big: bool = False, order: Literal["<", ">"] = "<") -> Path:
    """Write pages in one strip each, without compression or with DEFLATE; `order`: "<" or ">"."""
    width = 8 if is_big else 4
    mark = b"II" if order == "<" else b"MM"
    out = bytearray(mark + struct.pack(order + ("HHH" if is_big else "H"), *((43, 8, 0) if is_big else (42,))))
    link = len(out)
    out += bytes(width)
    for page in pages:
        page = page if isinstance(page, Page) else Page(page)
        strip = len(out)
        stored = page.pixels.astype(page.pixels.dtype.newbyteorder(order)).tobytes()
        stored = zlib.compress(stored) if page.tags.get(259) == DEFLATE else stored
        out += stored + bytes(len(stored) % 2)
        entries = []
        for tag, value in sorted({**_all_tags(page, strip), 279: len(stored)}.items()):
            kind = 7 if isinstance(value, bytes) else LONG if tag in (256, 257, 273, 279, 254) else SHORT
            values = list(value) if isinstance(value, bytes) else [value] if isinstance(value, int) else list(value)
            content = struct.pack(f"{order}{len(values)}{_LETTERS[kind]}", *values)
            if len(content) > width:
                place = len(out)
                out += content
                content = struct.pack(order + ("Q" if is_big else "L"), place)
            head = struct.pack(order + ("HHQ" if is_big else "HHL"), tag, kind, len(values))
            entries.append(head + content.ljust(width, b"\0"))
        out[link : link + width] = struct.pack(order + ("Q" if is_big else "L"), len(out))
        out += struct.pack(order + ("Q" if is_big else "H"), len(entries)) + b"".join(entries)
        link = len(out)
        out += bytes(width)
    path.write_bytes(out)
    return path


def _all_tags(page: Page, strip: int) -> dict[int, int | bytes | Sequence[int]]:
    pixels = page.pixels
    channels = pixels.shape[2] if pixels.ndim == 3 else 1
    tags: dict[int, int | bytes | Sequence[int]] = {
        256: pixels.shape[1], 257: pixels.shape[0], 258: [8 * pixels.dtype.itemsize] * channels, 259: 1,
        262: 2 if channels in (3, 4) else 1, 273: strip, 277: channels, 278: pixels.shape[0],
        339: [_SAMPLE_FORMATS[pixels.dtype.kind]] * channels,
    }  # fmt: skip
    return {**tags, **page.tags}
