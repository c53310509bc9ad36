"""Elements of Matroska files (RFC 9559) read without decoding: turns, texts, and the end of the file."""

from __future__ import annotations

import itertools
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

_SEGMENT, _TRACKS, _TRACK_ENTRY, _VIDEO = 0x18538067, 0x1654AE6B, 0xAE, 0xE0
_PROJECTION, _POSE_ROLL, _CODEC_ID = 0x7670, 0x7675, 0x86
"""IDs of elements, with their markers (RFC 9559, 5.1)."""

_TEXT_CODECS = (b"S_TEXT/", b"S_ASS", b"S_SSA", b"D_WEBVTT/")
"""Beginnings of codecs of text; FFmpeg writes WebVTT as data of the WebM project."""

_MAX_ELEMENTS = 256
"""Maximum elements of one parent that are read."""


def turned_tracks(path: Path) -> frozenset[int]:
    """Return the places among the video tracks, from 0, of those that are shown turned by 90 or 270 degrees.

    That is ProjectionPoseRoll (RFC 9559, 5.1.4.1.28.45) as FFmpeg writes it: the counter-clockwise angle.
    """
    with path.open("rb") as file:
        for segment in _elements(file, (0, file.seek(0, 2)), _SEGMENT):
            for tracks in _elements(file, segment, _TRACKS):
                entries = _elements(file, tracks, _TRACK_ENTRY)
                videos = [video for entry in entries for video in itertools.islice(_elements(file, entry, _VIDEO), 1)]
                return frozenset(place for place, video in enumerate(videos) if _is_turned(file, video))
    return frozenset()


def has_text_track(path: Path) -> bool:
    """Return whether a track is one of words as text, by its CodecID (RFC 9559, 5.1.4.1.21)."""
    with path.open("rb") as file:
        for segment in _elements(file, (0, file.seek(0, 2)), _SEGMENT):
            for tracks in _elements(file, segment, _TRACKS):
                for entry in _elements(file, tracks, _TRACK_ENTRY):
                    for start, end in itertools.islice(_elements(file, entry, _CODEC_ID), 1):
                        file.seek(start)
                        if file.read(min(end - start, 32)).startswith(_TEXT_CODECS):
                            return True
                return False
    return False


def last_segment_end(file: BinaryIO) -> int:
    """Return where the first segment ends by its own size; 0 if that is unknown. It may be beyond the file's end."""
    last = file.seek(0, 2)
    start = 0
    for _ in range(_MAX_ELEMENTS):
        element = _element(file, start)
        if element is None or start >= last:
            return 0
        number, body, size = element
        if number == _SEGMENT:
            return 0 if size is None else body + size
        start = last if size is None else body + size
    return 0


def _is_turned(file: BinaryIO, video: tuple[int, int]) -> bool:
    for projection in _elements(file, video, _PROJECTION):
        for start, end in _elements(file, projection, _POSE_ROLL):
            file.seek(start)
            # a float element has 4 or 8 bytes, or none for 0 (RFC 8794, 7.3)
            content = file.read(min(end - start, 8))
            formats = {4: ">f", 8: ">d"}
            angle = float(struct.unpack(formats[len(content)], content)[0]) if len(content) in formats else 0.0
            return 45 < abs(angle) % 180 < 135  # False for NaN
    return False


def _elements(file: BinaryIO, parent: tuple[int, int], wanted: int) -> Iterator[tuple[int, int]]:
    """Yield start and end of the contents of the elements of one ID, directly inside `parent`."""
    start, last = parent
    for _ in range(_MAX_ELEMENTS):
        element = _element(file, start)
        if element is None or element[1] > last:
            return
        number, body, size = element
        end = last if size is None else min(body + size, last)
        if number == wanted:
            yield body, end
        start = end


def _element(file: BinaryIO, start: int) -> tuple[int, int, int | None] | None:
    """Return ID, start of the content, and size (None: unknown, of live recordings) of the element at a place."""
    file.seek(start)
    head = file.read(12)
    id_bytes = _length_of_number(head[:1])
    size_bytes = _length_of_number(head[id_bytes : id_bytes + 1])
    if not 1 <= id_bytes <= 4 or not size_bytes or len(head) < id_bytes + size_bytes:
        return None
    unknown = (1 << 7 * size_bytes) - 1
    size = int.from_bytes(head[id_bytes : id_bytes + size_bytes]) & unknown
    return int.from_bytes(head[:id_bytes]), start + id_bytes + size_bytes, None if size == unknown else size


def _length_of_number(first: bytes) -> int:
    """Return the number of bytes of a variable-size number by its first one (RFC 8794, 4.4); 0 if there is none."""
    return 9 - first[0].bit_length() if first and first[0] else 0
