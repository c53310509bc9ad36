"""Pictures that are not read as they are: damaged and truncated ones, of which some rows decode, and unread kinds.

A picture is decoded twice, over two different backgrounds: what differs has not been decoded. So no format's decoder
has to tell how far it came, and black rows are not taken for missing ones.
"""

from __future__ import annotations

import io
import os
import re
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import IO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, JpegImagePlugin

from bindsearch.errors import MediaError
from bindsearch.ingest.media.damage import check_damage
from bindsearch.ingest.media.pictures.formats.tiff import not_read, unread_tiff
from bindsearch.media import Note

BACKGROUNDS = (0, 255)
JPEG_ENDS = (b"\xff\xd9", b"\x55\xaa" * 32 + b"\xff\xd9")
"""An end, and one with bytes before it: they change the picture if its decoder still needs some, and only then."""
NO_ENDS = (b"", b"")
_BAND_ROWS = 256
_SCANS = "scans"
"""Key of Pillow's `info` of the number of scans that begin."""
_MOST_BYTES = 1 << 28
_PROGRESSIVE, _START_OF_SCAN = b"\xff\xc2", b"\xff\xda"
_BLANK = 64
"""Least number of zero bytes at the end of a JPEG that are no part of it: of an interrupted copy, for example."""


def check_end(picture: Image.Image) -> None:
    """Raise MediaError if a JPEG ends with blank bytes, which decode to pixels of one colour; it may be whole."""
    if isinstance(picture, JpegImagePlugin.JpegImageFile) and picture.fp is not None:
        size = picture.fp.seek(0, os.SEEK_END)
        picture.fp.seek(max(0, size - _BLANK))
        if not any(picture.fp.read(_BLANK)):
            raise MediaError("the data end with blank bytes")


def decode_over(
    picture: Image.Image, background: int, end: bytes, load: Callable[[Image.Image], None]
) -> tuple[int, int]:
    """Decode what can be decoded of a picture whose header is read, over a background of a level.

    Args:
        picture: the picture.
        background: one of `BACKGROUNDS`.
        end: bytes to add to a JPEG's data; see `JPEG_ENDS`.
        load: decodes it, and raises MediaError for damage.

    Returns:
        First and last row, exclusive, that the picture covers.
    """
    boxes = [tile[1] for tile in getattr(picture, "tile", ()) if tile[1] is not None]
    prepare = getattr(picture, "load_prepare", None)
    if prepare is None or not boxes:
        load(picture)  # of such formats, all or nothing decodes
        return 0, picture.height

    def prepare_over() -> None:
        prepare()
        bands = Image.getmodebands(picture.im.mode)  # of Photoshop files they are decoded one by one
        picture.im.paste(background if bands == 1 else (background,) * bands, (0, 0, *picture.im.size))

    picture.load_prepare = prepare_over  # type: ignore[attr-defined]
    if isinstance(picture, JpegImagePlugin.JpegImageFile):
        picture.load_read = _jpeg_reader(picture, end)  # type: ignore[method-assign, assignment]
    try:
        load(picture)
    except MediaError:
        picture.tile = []  # type: ignore[attr-defined]
        picture.load()
    return min(box[1] for box in boxes), max(box[3] for box in boxes)


def check_rows(
    first: Image.Image, second: Image.Image, covered: tuple[int, int], reason: str, note: Note
) -> NDArray[np.intp]:
    """Return the rows to take of a damaged picture that was decoded over both backgrounds.

    They are those that decode; where decoded and missing ones alternate, a missing one is its neighbour above.
    `covered` are the first and last row, exclusive, of the picture. Raise MediaError, with the library's `reason`, if
    less than half of the rows decode.
    """
    top, bottom = covered
    is_whole = np.concatenate([_equal_rows(first, second, row) for row in range(top, bottom, _BAND_ROWS)])
    is_whole = is_whole[: bottom - top]
    count, rows = int(is_whole.sum()), np.flatnonzero(is_whole)
    if not count:
        raise MediaError(f"damaged or truncated: no row of pixels can be decoded ({reason})")
    check_damage(count / len(is_whole), f"{count} of {len(is_whole)} rows of pixels", note)
    if rows[-1] - rows[0] + 1 == count:
        return rows + top
    above = np.maximum.accumulate(np.where(is_whole, np.arange(len(is_whole)), -1))
    return np.where(above < 0, rows[0], above) + top


def are_equal(first: Image.Image, second: Image.Image) -> bool:
    """Return whether two pictures of one size and mode have the same pixels."""
    return all(_equal_rows(first, second, row).all() for row in range(0, first.height, _BAND_ROWS))


def note_scans(picture: Image.Image, note: Note) -> bool:
    """Note how much of a truncated progressive JPEG decodes: each of its scans adds details to all rows.

    Return False for a JPEG that stores row by row; raise MediaError if not even the first scan is complete.
    """
    if not picture.info.get("progressive"):
        return False
    whole = int(picture.info.get(_SCANS, 1)) - 1
    if whole < 1:
        raise MediaError("damaged or truncated: not even the first scan of a progressive JPEG is complete")
    scans = "scan is" if whole == 1 else "scans are"
    note(f"damaged or truncated: {whole} {scans} complete of a progressive JPEG, finer details are missing")
    return True


def take_rows(picture: Image.Image, rows: NDArray[np.intp]) -> Image.Image:
    """Return a picture of the given rows of another."""
    first, last = int(rows[0]), int(rows[-1])
    if last - first + 1 == len(rows) and (np.diff(rows) == 1).all():
        return picture.crop((0, first, picture.width, last + 1))
    taken = picture.crop((0, 0, picture.width, len(rows)))
    for place, row in enumerate(rows.tolist()):
        if place != row:
            taken.paste(picture.crop((0, row, picture.width, row + 1)), (0, place))
    return taken


def missing_bytes(file: IO[bytes], kind: str) -> str | None:
    """Return how much of a truncated WebP, AVIF or HEIF file exists, in words; None if it is not truncated."""
    size = file.seek(0, os.SEEK_END)
    end = 0
    file.seek(0)
    if kind == "webp":
        end = 8 + int.from_bytes(file.read(8)[4:], "little")
    elif kind in ("avif", "heif"):
        for _ in range(64):
            file.seek(end)
            head = file.read(16)
            length = int.from_bytes(head[:4], "big")
            length = int.from_bytes(head[8:], "big") if length == 1 else length
            if len(head) < 8 or length < 8:
                break
            end += length
    return f"damaged or truncated: {size} of {end} bytes exist" if end > size else None


def _equal_rows(first: Image.Image, second: Image.Image, row: int) -> NDArray[np.bool_]:
    """Return which rows of a band that begins at `row` are equal."""
    box = (0, row, first.width, min(row + _BAND_ROWS, first.height))
    differs = np.asarray(first.crop(box)) != np.asarray(second.crop(box))
    is_equal: NDArray[np.bool_] = ~differs.reshape(differs.shape[0], -1).any(axis=1)
    return is_equal


def _jpeg_reader(picture: JpegImagePlugin.JpegImageFile, end: bytes) -> Callable[[int], bytes]:
    """Return the function that reads a JPEG from its first byte, with other bytes at its end instead of blank ones."""
    file = picture.fp
    assert file is not None
    file.seek(0)
    data = file.read(_MOST_BYTES)
    rest = data.rstrip(b"\0")
    data = (rest if len(data) - len(rest) >= _BLANK else data).rstrip(b"\xff")  # half a mark
    picture.info[_SCANS] = data.count(_START_OF_SCAN, data.find(_PROGRESSIVE))
    return io.BytesIO(data + end).read


_UNREAD = re.compile(r"unsupported|not (?:yet )?supported|cannot handle|not implemented|no codec", re.IGNORECASE)
"""Words with which libraries refuse valid files."""
_MAX_SEGMENTS = 4096
_FRAMES = frozenset((*range(0xC0, 0xD0), 0xF7)) - {0xC4, 0xC8, 0xCC}
"""Markers of a frame's header (ITU T.81, table B.1); 0xF7 of JPEG-LS (ITU T.87)."""
_HIERARCHICAL = frozenset((0xC5, 0xC6, 0xC7, 0xCD, 0xCE, 0xCF))


def refusal(file: IO[bytes], kind: str, reason: str) -> str | None:
    """Return the message for a valid file of a kind that is not read; None if the file seems to be damaged.

    `kind` is that of `sniff`, `reason` the message of the library that refused the file.
    """
    file.seek(0)
    if (test := _TESTS.get(kind)) is not None:
        what = test(file)
    else:
        what = " ".join(reason.split()) if _UNREAD.search(reason) else None
    return None if what is None else not_read(kind.upper(), what)


def _unread_psd(file: IO[bytes]) -> str | None:
    """Return what a Photoshop file is that Pillow does not read, by its header (Adobe Photoshop File Formats, 2019)."""
    header = file.read(26)
    if len(header) < 26:
        return None
    version, bits = (int.from_bytes(header[place : place + 2], "big") for place in (4, 22))
    if version == 2:
        return "large document, PSB"
    return f"{bits} bits per channel" if bits in (16, 32) else None


def _unread_jpeg(file: IO[bytes]) -> str | None:
    """Return what a JPEG is that libjpeg does not read, by the header of its frame."""
    file.seek(2)
    for _ in range(_MAX_SEGMENTS):
        mark, start = file.read(1), file.read(1)
        while start == b"\xff":
            start = file.read(1)
        size = int.from_bytes(file.read(2), "big")
        if mark != b"\xff" or not start or size < 2 or start == b"\xda":
            return None
        if start[0] not in _FRAMES:
            file.seek(size - 2, 1)
            continue
        header = file.read(6)
        return None if len(header) < 6 else _unread_frame(start[0], header[0], header[5])
    return None


def _unread_frame(marker: int, bits: int, channels: int) -> str | None:
    """Return what a frame of a JPEG is that is not read (ITU T.81, B.2.2); None: such frames are read."""
    if marker == 0xF7:
        return "JPEG-LS"
    if marker in _HIERARCHICAL:
        return "hierarchical"
    if bits != 8 and 2 <= bits <= 16:
        return f"{bits}-bit"
    if marker == 0xCB:
        return "lossless, arithmetic-coded"
    return f"{channels} channels" if channels == 2 or 4 < channels < 128 else None


_TESTS: Mapping[str, Callable[[IO[bytes]], str | None]] = MappingProxyType(
    {"tiff": unread_tiff, "jpeg": _unread_jpeg, "psd": _unread_psd}
)
"""Tests of the header by kind; for other kinds the words of the library decide."""
