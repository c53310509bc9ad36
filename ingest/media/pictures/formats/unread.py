"""Valid pictures of kinds that no library here reads, told apart from damaged ones."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import IO

from bindsearch.ingest.media.pictures.formats.tiff import not_read, unread_tiff

_UNREAD = re.compile(r"unsupported|not (?:yet )?supported|cannot handle|not implemented|no codec", re.IGNORECASE)
"""Words with which libraries refuse valid files."""
_MAX_SEGMENTS = 4096
_FRAMES = frozenset((*range(0xC0, 0xD0), 0xF7)) - {0xC4, 0xC8, 0xCC}
"""Markers of a frame's header (ITU T.81, table B.1); 0xF7 of JPEG-LS (ITU T.87)."""
_HIERARCHICAL = frozenset((0xC5, 0xC6, 0xC7, 0xCD, 0xCE, 0xCF))


def refusal(file: IO[bytes], kind: str, reason: str) -> str | None:
    """Return the message for a valid file of a kind that is not read; None if the file seems to be damaged.

    Args:
        file: the file, positioned anywhere.
        kind: its kind by `sniff`.
        reason: the message of the library that refused it.
    """
    file.seek(0)
    test = _TESTS.get(kind)
    what = None if test is None else test(file)
    if test is None and _UNREAD.search(reason):
        what = " ".join(reason.split())
    return None if what is None else not_read(kind.upper(), what)


def _unread_psd(file: IO[bytes]) -> str | None:
    """Return what a Photoshop file is that Pillow does not read, by its header (Adobe Photoshop File Formats, 2019)."""
    header = file.read(26)
    if len(header) < 26:
        return None
    version, bits = (int.from_bytes(header[place : place + 2], "big") for place in (4, 22))
    if version == 2:
        return "large document, PSB"
    if bits in (16, 32):
        return f"{bits} bits per channel"
    return None


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
