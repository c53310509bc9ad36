"""TIFF: its pages, kinds of it that Pillow does not read, and decoding without prints of libtiff."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import cache
from typing import IO

from PIL import Image, TiffImagePlugin, _imaging

from bindsearch.errors import MediaError
from bindsearch.ingest.media.pictures.exif import Directory, read_directory, read_header

_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC, _SAMPLES, _EXTRA, _FORMAT = 256, 257, 258, 259, 262, 277, 338, 339
_NEW_SUBFILE, _SUBFILE = 254, 255
_NO_PAGE = 1 | 4 | 8
"""Bits of NewSubfileType: a reduced copy, a mask of another page, a layer of a mixed page (TIFF 6.0; RFC 2301)."""
_REDUCED = 2
"""SubfileType of a reduced copy."""
_MAX_DIRECTORIES = 4096
_TAGS = frozenset((_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC, _SAMPLES, _EXTRA, _FORMAT))
_WHITE_IS_ZERO, _BLACK_IS_ZERO, _CMYK = 0, 1, 5
_SIGNED, _FLOAT = 2, 3
_NATIVE = {"I;32BS": "I;32NS", "I;32S": "I;32NS", "F;32BF": "F;32NF", "F;32F": "F;32NF", "I;16BS": "I;16NS"}
"""Pillow's names of stored values of a byte order, and of the machine's, in which libtiff gives them."""
_ALPHA = (1, 2)
"""ExtraSamples of transparency, with and without premultiplied colours (TIFF 6.0, section 18)."""

_PHOTOMETRICS = {
    0: "grey", 1: "grey", 2: "RGB", 3: "palette", 4: "mask", 5: "CMYK", 6: "YCbCr", 8: "CIELab", 9: "ICCLab",
    10: "ITULab", 32803: "colour filter array", 32844: "LogL", 32845: "LogLuv", 34892: "linear raw",
}  # fmt: skip
_FORMATS = {
    1: "integer", 2: "signed integer", 3: "floating-point", 4: "undefined", 5: "complex integer", 6: "complex",
}  # fmt: skip
_COMPRESSIONS = {
    34661: "JBIG", 34712: "JPEG 2000", 34887: "LERC", 34892: "lossy DNG", 34925: "LZMA", 50000: "Zstandard",
    50001: "WebP", 50002: "JPEG XL", 52546: "JPEG XL",
}  # fmt: skip
"""Names of tags 262, 339 and 259 (TIFF 6.0, DNG 1.7, tiff.h of libtiff)."""
_LARGEST_BITS = 64


class TiffPicture(TiffImagePlugin.TiffImageFile):
    """A TIFF file, with kinds that Pillow refuses: CMYK with transparency, and grey integers of each byte order.

    Of CMYK with transparency, the colours alone are read. Size and pixels are as stored, before turning.

    Attributes:
        is_unsigned: whether its stored values are unsigned, though Pillow gives signed ones of 32 bits.
        is_inverted: whether 0 is white; Pillow inverts values of 8 bits, but not greater ones.
    """

    is_unsigned = False
    is_inverted = False

    def _setup(self) -> None:
        tags = self.tag_v2
        extra = tags.get(_EXTRA)
        if tags.get(_PHOTOMETRIC) == _CMYK and extra and set(extra[:1]) <= set(_ALPHA):
            tags[_EXTRA] = (0,) * len(extra)
        self.is_unsigned = tags.get(_BITS) == (32,) and tags.get(_FORMAT, (1,)) == (1,)
        self.is_inverted = tags.get(_PHOTOMETRIC) == _WHITE_IS_ZERO
        if self.is_unsigned:
            tags[_FORMAT] = (_SIGNED,)  # the same bytes; Pillow lacks one byte order of the other
        if self.is_inverted and tags.get(_BITS) in ((16,), (32,)) and tags.get(_FORMAT) != (_FLOAT,):
            tags[_PHOTOMETRIC] = _BLACK_IS_ZERO
        super()._setup()
        self._size = self._tile_size  # turning is the caller's, as for other formats
        if self.use_load_libtiff:
            self.tile = [
                tile._replace(args=(_NATIVE.get(tile.args[0], tile.args[0]), *tile.args[1:]))
                if isinstance(tile.args, tuple)
                else tile
                for tile in self.tile
            ]

    def load_end(self) -> None:
        """Leave the picture as it is stored: Pillow would read all EXIF tags and turn it."""


def open_tiff(file: IO[bytes], name: str) -> Image.Image:
    """Return the first page of a TIFF file that is no reduced copy or mask; raise MediaError if it is not read."""
    first = full_pages(file)[0]
    file.seek(0)
    picture = TiffPicture(file, name)
    if first:
        picture.seek(first)
    check_compression(picture)
    return picture


def check_compression(picture: TiffImagePlugin.TiffImageFile) -> None:
    """Raise MediaError if the compression of the page is not read."""
    is_configured = _is_configured()
    compression = picture.tag_v2.get(_COMPRESSION, 1)
    if isinstance(compression, int) and not is_configured(compression):
        raise MediaError(not_read("TIFF", f"{_compression(compression)} compression"))


def full_pages(file: IO[bytes]) -> list[int]:
    """Return the numbers, from 0, of a TIFF file's pages that are no reduced copies or masks; the first if none is.

    At most 4096 directories are read. No pixel and no value beyond the directories is.
    """
    file.seek(0)
    if (header := read_header(file)) is None:
        return [0]
    layout, offset = header
    pages, seen = [], set[int]()
    while offset and offset not in seen and len(seen) < _MAX_DIRECTORIES:
        tags, after = read_directory(file, layout, offset, (_NEW_SUBFILE, _SUBFILE))
        if not (_whole(tags, _NEW_SUBFILE, 0) & _NO_PAGE or _whole(tags, _SUBFILE, 0) == _REDUCED):
            pages.append(len(seen))
        seen.add(offset)
        offset = after
    return pages or [0]


def unread_tiff(file: IO[bytes]) -> str | None:
    """Return what a TIFF file is that Pillow does not read, in words; None if it seems to be damaged instead."""
    if (header := read_header(file)) is None:
        return None
    layout = header[0]
    if layout.is_big and layout.order == ">":
        return "BigTIFF of big-endian byte order"
    tags, _ = read_directory(file, *header, _TAGS)
    bits, samples, form, compression = (_whole(tags, tag, 1) for tag in (_BITS, _SAMPLES, _FORMAT, _COMPRESSION))
    photometric = _whole(tags, _PHOTOMETRIC, 0)
    has_size = _whole(tags, _WIDTH, 0) > 0 and _whole(tags, _HEIGHT, 0) > 0
    if not has_size or photometric not in _PHOTOMETRICS or form not in _FORMATS or not 0 < bits <= _LARGEST_BITS:
        return None
    if compression not in TiffImagePlugin.COMPRESSION_INFO:
        return f"{_compression(compression)} compression"
    mark = b"II" if layout.order == "<" else b"MM"
    for prefix, photo, forms, _, all_bits, _ in TiffImagePlugin.OPEN_INFO:
        if (prefix, photo, forms, all_bits) == (mark, photometric, (form,), (bits,) * min(samples, 99)):
            return None  # such files are read
    channels = "1 channel" if samples == 1 else f"{samples} channels"
    return f"{channels} of {bits}-bit {_FORMATS[form]} numbers, {_PHOTOMETRICS[photometric]}"


def not_read(kind: str, what: str) -> str:
    """Return the message for a valid file of a kind that no library here reads, with the way out."""
    return f"this kind of {kind} is not read ({what}): save it as PNG, JPEG or TIFF of 8 bits per channel"


def _whole(tags: Directory, tag: int, default: int) -> int:
    value = tags.get(tag, default)
    return value if isinstance(value, int) else default


def _compression(number: int) -> str:
    return _COMPRESSIONS.get(number, f"number {number}")


@cache
def _is_configured() -> Callable[[int], int]:
    """Return libtiff's test for a compression, after silencing its prints on standard error.

    Pillow has no switch for them, and raises errors as well. libtiff's handlers, which belong to the whole process, are
    removed once. The symbols are found through Pillow's module; where they are not, every compression counts as read.
    """
    try:
        libtiff = ctypes.CDLL(_imaging.__file__)
        for name in ("TIFFSetErrorHandler", "TIFFSetWarningHandler"):
            set_handler = getattr(libtiff, name)
            set_handler.argtypes, set_handler.restype = [ctypes.c_void_p], ctypes.c_void_p
            set_handler(None)
        is_configured: Callable[[int], int] = libtiff.TIFFIsCODECConfigured
    except (OSError, AttributeError):
        return bool
    return is_configured
