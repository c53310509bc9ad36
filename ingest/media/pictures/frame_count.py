"""Number of frames of a GIF, WebP or PNG file, counted by its blocks: nothing is decoded, nothing allocated."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from itertools import islice
from typing import IO

from bindsearch.errors import MediaError

_MAX_BLOCKS = 4_000_000
"""Blocks of a GIF of 1 GB with the usual 255 bytes each; more is treated as an attempt to keep the reader busy."""


def count_frames(file: IO[bytes], kind: str, enough: int | None = None) -> int:
    """Count the frames in the file of a kind that begins here, by its blocks; counting may stop at `enough`.

    Raises:
        MediaError: the file consists of millions of tiny blocks.
    """
    if kind == "png":
        # the acTL chunk precedes the image (PNG, third edition, 11.3.6.1)
        file.seek(8, 1)
        blocks = iter(range(_MAX_BLOCKS))
        while len(header := file.read(8)) == 8 and header[4:] not in (b"IDAT", b"IEND") and _more(blocks):
            if header[4:] == b"acTL":
                return max(1, int.from_bytes(file.read(4), "big"))
            file.seek(int.from_bytes(header[:4], "big") + 4, 1)
        return 1
    if kind in ("gif", "webp"):
        frames = gif_frames(file) if kind == "gif" else _webp_frames(file)
        return max(1, sum(1 for _ in islice(frames, enough)))
    return 1


def gif_frames(file: IO[bytes]) -> Iterator[tuple[int, int]]:
    """Yield right and bottom edge in pixels of each frame of a GIF (GIF89a, section 20); they may exceed its screen.

    Raises:
        MediaError: the file consists of millions of tiny blocks.
    """
    head = file.read(13)
    _skip_colours(file, head[10:11])
    blocks = iter(range(_MAX_BLOCKS))
    while (mark := file.read(1)) and mark != b";" and _more(blocks):
        if mark == b",":
            box = file.read(9)
            if len(box) < 9:
                return
            left, top, width, height = struct.unpack("<4H", box[:8])
            yield left + width, top + height
            _skip_colours(file, box[8:])
        if mark in (b",", b"!"):
            file.read(1)  # code size, or kind of extension
            while (size := file.read(1)) > b"\0" and _more(blocks):
                file.seek(size[0], 1)


def _skip_colours(file: IO[bytes], flags: bytes) -> None:
    """Skip the colour table that the byte `flags` announces."""
    if flags and flags[0] & 0x80:
        file.seek(3 << (flags[0] & 7) + 1, 1)


def _webp_frames(file: IO[bytes]) -> Iterator[None]:
    """Yield once for each ANMF chunk of a WebP file (RIFF container)."""
    file.seek(12, 1)
    blocks = iter(range(_MAX_BLOCKS))
    while len(header := file.read(8)) == 8 and _more(blocks):
        if header[:4] == b"ANMF":
            yield None
        size = int.from_bytes(header[4:], "little")
        file.seek(size + size % 2, 1)


def _more(blocks: Iterator[int]) -> bool:
    """Count one more block."""
    if next(blocks, None) is None:
        raise MediaError(f"the image file has more than {_MAX_BLOCKS} blocks")
    return True
