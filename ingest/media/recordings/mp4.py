"""Boxes of MP4 and MOV files: header fields that FFmpeg only exposes with decoded frames."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

MAX_BOXES = 256
"""Maximum boxes of one parent that are read."""


def rotated_tracks(path: Path) -> frozenset[int]:
    """Return the ids of tracks that are shown rotated by 90 degrees (ISO 14496-12, 8.3.2: matrix of tkhd)."""
    track_ids: set[int] = set()
    with path.open("rb") as file:
        moov = next(_boxes(file, (0, file.seek(0, 2)), b"moov"), (0, 0))
        for trak in _boxes(file, moov, b"trak"):
            for start, _ in _boxes(file, trak, b"tkhd"):
                file.seek(start)
                track_ids.add(_rotated_track_id(file.read(96)))
    return frozenset(track_ids - {0})


def _rotated_track_id(header: bytes) -> int:
    """Return the track's id if its matrix rotates it by 90 degrees, else 0, which is no track's id."""
    long = header[:1] == b"\1"  # version 1 has times of 8 bytes
    offsets = (20, 52) if long else (12, 40)
    a, b, c, d = (int.from_bytes(header[offsets[1] + i : offsets[1] + i + 4], signed=True) for i in (0, 4, 12, 16))
    return int.from_bytes(header[offsets[0] : offsets[0] + 4]) if abs(b) > abs(a) and abs(c) > abs(d) else 0


def _boxes(file: BinaryIO, parent_range: tuple[int, int], wanted: bytes) -> Iterator[tuple[int, int]]:
    """Yield start and end of the contents of the boxes of one kind, directly inside `parent_range`."""
    start, last = parent_range
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
