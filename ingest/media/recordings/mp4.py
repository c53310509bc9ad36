"""The boxes of MP4 and MOV files, as far as headers tell what FFmpeg only tells of decoded frames."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

MAX_BOXES = 256
"""Boxes of one parent that are looked at."""


def rotated_tracks(path: Path) -> frozenset[int]:
    """Ids of the tracks that are shown turned by a quarter, either way (ISO 14496-12, 8.3.2: matrix of tkhd)."""
    found: set[int] = set()
    with path.open("rb") as file:
        moov = next(_boxes(file, (0, file.seek(0, 2)), b"moov"), (0, 0))
        for trak in _boxes(file, moov, b"trak"):
            for start, _ in _boxes(file, trak, b"tkhd"):
                file.seek(start)
                found.add(_turned_id(file.read(96)))
    return frozenset(found - {0})


def _turned_id(header: bytes) -> int:
    """The track's id where its matrix turns it by a quarter, else 0, which no track has."""
    long = header[:1] == b"\1"  # version 1 has times of 8 bytes
    at = (20, 52) if long else (12, 40)
    a, b, c, d = (int.from_bytes(header[at[1] + i : at[1] + i + 4], signed=True) for i in (0, 4, 12, 16))
    return int.from_bytes(header[at[0] : at[0] + 4]) if abs(b) > abs(a) and abs(c) > abs(d) else 0


def _boxes(file: BinaryIO, inside: tuple[int, int], wanted: bytes) -> Iterator[tuple[int, int]]:
    """Yield where the contents of the boxes of a kind begin and end, among those that lie directly between two
    places."""
    start, last = inside
    for _ in range(MAX_BOXES):
        file.seek(start)
        head = file.read(16)
        size, body = int.from_bytes(head[:4]), 8
        if size == 1:
            size, body = int.from_bytes(head[8:]), 16
        end = last if size == 0 else start + size  # 0: up to the end
        if start + 8 > last or end < start + body:
            return
        if head[4:8] == wanted:
            yield start + body, min(end, last)
        start = end
