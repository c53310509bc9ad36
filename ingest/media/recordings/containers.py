"""Boxes of MP4 and MOV, elements of Matroska, pages of Ogg: header fields that FFmpeg gives only with frames."""

from __future__ import annotations

import itertools
import struct
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from bindsearch.errors import MediaError

MAX_BOXES = 256
"""Maximum boxes of one parent that are read."""

MAX_TABLE_BYTES = 16 << 20
"""Maximum size of a table of samples: 2,000,000 entries."""


_Range = tuple[int, int]
"""Start and end of a content in bytes."""


@dataclass(frozen=True, slots=True)
class SampleTable:
    """The n samples of a track."""

    offsets: NDArray[np.int64]  # (n,), places in the file in bytes
    sizes: NDArray[np.int64]  # (n,), in bytes
    times_s: NDArray[np.float64]  # (n + 1,), start of each sample and end of the last one


def read_sample_table(path: Path, codec: bytes) -> SampleTable | None:
    """Read the samples of the first track with a codec (four letters) from its headers; None if there is no such track.

    The boxes are those of ISO 14496-12: mdhd (8.4.2), stsd (8.5.2), stts (8.6.1.2), stsz (8.7.3), stsc (8.7.4), stco
    and co64 (8.7.5).

    Raises:
        MediaError: the headers of the track are damaged or too large.
    """
    with path.open("rb") as file:
        for mdia, stbl in _tracks(file):
            if _content(file, stbl, b"stsd")[12:16] != codec:
                continue
            try:
                return _sample_table(file, mdia, stbl)
            except (IndexError, ValueError) as error:
                raise MediaError(f"damaged sample table of the {codec.decode()} track") from error
    return None


def has_track(path: Path, codecs: Collection[bytes]) -> bool:
    """Return whether the headers have a track with one of some codecs (four letters); False if they are damaged."""
    with path.open("rb") as file:
        for _, stbl in _tracks(file):
            start, _ = _box(file, stbl, b"stsd")
            file.seek(start + 12)  # behind version, number of entries and size of the first one (8.5.2)
            if start and file.read(4) in codecs:
                return True
    return False


def _tracks(file: BinaryIO) -> Iterator[tuple[_Range, _Range]]:
    """Yield the contents of the boxes mdia and stbl of each track."""
    for trak in _boxes(file, _box(file, (0, file.seek(0, 2)), b"moov"), b"trak"):
        mdia = _box(file, trak, b"mdia")
        yield mdia, _box(file, _box(file, mdia, b"minf"), b"stbl")


def _sample_table(file: BinaryIO, mdia: _Range, stbl: _Range) -> SampleTable:
    """Return the samples of a track. IndexError or ValueError: a table is damaged."""
    mdhd = _content(file, mdia, b"mdhd")
    scale = int.from_bytes(mdhd[20:24] if mdhd[:1] == b"\1" else mdhd[12:16])
    stsz, stts = _content(file, stbl, b"stsz"), _content(file, stbl, b"stts")
    equal_size, count = int.from_bytes(stsz[4:8]), int.from_bytes(stsz[8:12])
    if not scale > 0 or not 0 < count <= MAX_TABLE_BYTES // 4:
        raise ValueError
    sizes = np.full(count, equal_size, np.int64) if equal_size else _numbers(stsz, 12, ">u4")[:count]
    runs = _numbers(stts, 8, ">u4").reshape(-1, 2)
    lengths = _repeated(runs[:, 1], runs[:, 0], count)
    co64 = _content(file, stbl, b"co64")
    chunks = _numbers(co64, 8, ">u8") if co64 else _numbers(_content(file, stbl, b"stco"), 8, ">u4")
    rules = _numbers(_content(file, stbl, b"stsc"), 8, ">u4").reshape(-1, 3)
    edges = np.clip([*(rules[:, 0] - 1), len(chunks)], 0, len(chunks))
    if (np.diff(edges) < 0).any():
        raise ValueError
    samples_a_chunk = np.repeat(np.minimum(rules[:, 1], count), np.diff(edges))
    of_chunk = _repeated(np.arange(len(samples_a_chunk)), samples_a_chunk, count)
    if not len(sizes) == len(lengths) == len(of_chunk) == count:
        raise ValueError
    before, firsts = _sums(sizes), _sums(samples_a_chunk)[of_chunk]
    return SampleTable(chunks[of_chunk] + before[:-1] - before[firsts], sizes, _sums(lengths) / scale)


def _sums(values: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the sums of the values before each one, and of all, int64 (n + 1,)."""
    return np.concatenate([[0], np.cumsum(values)])


def _repeated(values: NDArray[np.int64], repeats: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """Return each value as often as `repeats` says, at most `count` values in all, in memory of that order."""
    before = _sums(np.minimum(repeats, count))[:-1]
    needed = before < count
    return np.repeat(values[needed], np.minimum(repeats[needed], count))[:count]


def _content(file: BinaryIO, parent: _Range, wanted: bytes) -> bytes:
    """Return the content of the first box of a kind in `parent`, empty without one; MediaError: it is too large."""
    start, end = _box(file, parent, wanted)
    if end - start > MAX_TABLE_BYTES:
        raise MediaError(f"box {wanted.decode()} of {end - start} bytes: more than {MAX_TABLE_BYTES} are not read")
    file.seek(start)
    return file.read(end - start)


def _numbers(content: bytes, start: int, kind: str) -> NDArray[np.int64]:
    """Return the unsigned numbers of a table from a byte on, int64 (n,)."""
    size = np.dtype(kind).itemsize
    usable = content[start : start + (len(content) - start) // size * size]
    return np.frombuffer(usable, kind).astype(np.int64)


def rotated_tracks(path: Path) -> frozenset[int]:
    """Return the ids of tracks that are shown rotated by 90 degrees (ISO 14496-12, 8.3.2: matrix of tkhd)."""
    track_ids: set[int] = set()
    with path.open("rb") as file:
        for trak in _boxes(file, _box(file, (0, file.seek(0, 2)), b"moov"), b"trak"):
            for start, _ in _boxes(file, trak, b"tkhd"):
                file.seek(start)
                header = file.read(96)
                number, matrix = (20, 52) if header[:1] == b"\1" else (12, 40)  # version 1 has times of 8 bytes
                parts = (header[matrix + i : matrix + i + 4] for i in (0, 4, 12, 16))
                a, b, c, d = (abs(int.from_bytes(part, signed=True)) for part in parts)
                if b > a and c > d:
                    track_ids.add(int.from_bytes(header[number : number + 4]))
    return frozenset(track_ids - {0})


def _box(file: BinaryIO, parent: _Range, wanted: bytes) -> _Range:
    """Return the content of the first box of one kind, (0, 0) without one."""
    return next(_boxes(file, parent, wanted), (0, 0))


def _boxes(file: BinaryIO, parent: _Range, wanted: bytes) -> Iterator[_Range]:
    """Yield the contents of the boxes of one kind, directly inside `parent`."""
    start, last = parent
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
        videos = _of_tracks(file, _VIDEO)
        return frozenset(place for place, video in enumerate(videos) if _is_turned(file, video))


def has_text_track(path: Path) -> bool:
    """Return whether a track is one of words as text, by its CodecID (RFC 9559, 5.1.4.1.21)."""
    with path.open("rb") as file:
        for start, end in _of_tracks(file, _CODEC_ID):
            file.seek(start)
            if file.read(min(end - start, 32)).startswith(_TEXT_CODECS):
                return True
    return False


def _of_tracks(file: BinaryIO, wanted: int) -> Iterator[_Range]:
    """Yield the first element of an ID in each track that the first list of tracks has."""
    segments = _elements(file, (0, file.seek(0, 2)), _SEGMENT)
    lists = (tracks for segment in segments for tracks in _elements(file, segment, _TRACKS))
    for entry in _elements(file, next(lists, (0, 0)), _TRACK_ENTRY):
        yield from itertools.islice(_elements(file, entry, wanted), 1)


def last_segment_end(file: BinaryIO) -> int:
    """Return where the first segment ends by its own size; 0 if that is unknown. It may be beyond the file's end."""
    last = file.seek(0, 2)
    start = 0
    for _ in range(_MAX_ELEMENTS):
        element = _element(file, start)
        if element is None or start >= last:
            return 0
        number, body, size = element
        if size is None or number == _SEGMENT:
            return 0 if size is None else body + size
        start = body + size
    return 0


def _is_turned(file: BinaryIO, video: _Range) -> bool:
    for projection in _elements(file, video, _PROJECTION):
        for start, end in _elements(file, projection, _POSE_ROLL):
            file.seek(start)
            # a float element has 4 or 8 bytes, or none for 0 (RFC 8794, 7.3)
            content = file.read(min(end - start, 8))
            formats = {4: ">f", 8: ">d"}
            angle = float(struct.unpack(formats[len(content)], content)[0]) if len(content) in formats else 0.0
            return 45 < abs(angle) % 180 < 135  # False for NaN
    return False


def _elements(file: BinaryIO, parent: _Range, wanted: int) -> Iterator[_Range]:
    """Yield the contents of the elements of one ID, directly inside `parent`."""
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


_MOST_RECORDINGS = 10_000
_BEGINS = 2
"""Flag of the first page of a stream."""
_BLOCK_BYTES = 1 << 16


def recording_edges(path: Path) -> list[int]:
    """Return the offsets in bytes at which the recordings ("links") of an Ogg file begin, and its size.

    A recording begins with the first pages of all its streams; only headers of pages are read.
    """
    edges: list[int] = []
    was_beginning = False
    with path.open("rb") as file:
        place = searched = _next_page(file, 0)
        while place >= 0 and len(edges) < _MOST_RECORDINGS:
            file.seek(place)
            header = file.read(27 + 255)
            if header[:4] != b"OggS" or len(header) < 27:  # the page before is cut off: others begin inside its size
                place = searched = _next_page(file, searched + 1)
                continue
            searched = place
            is_beginning = bool(header[5] & _BEGINS)
            if is_beginning and not was_beginning:
                edges.append(place)
            was_beginning = is_beginning
            place += _page_size(header)
    return [*(edges or [0]), path.stat().st_size]


def is_chained(path: Path) -> bool:
    """Return whether the last page of a file is of another recording than the first ones, by their serial numbers."""
    with path.open("rb") as file:
        first = file.read(_BLOCK_BYTES)
        file.seek(max(0, path.stat().st_size - _BLOCK_BYTES))
        last = file.read()
    serials = {first[place + 14 : place + 18] for place in _first_pages(first)}
    place = last.rfind(b"OggS")
    return place >= 0 and last[place + 14 : place + 18] not in serials


def _first_pages(head: bytes) -> Iterator[int]:
    """Yield the offsets of the pages in the first bytes of a file that begin the streams of the first recording."""
    place = head.find(b"OggS")
    while place >= 0 and len(head) > place + 27 and head[place + 5] & _BEGINS:
        yield place
        place += _page_size(head[place : place + 27 + 255])


def _page_size(header: bytes) -> int:
    return 27 + header[26] + sum(header[27 : 27 + header[26]])


def _next_page(file: BinaryIO, start: int) -> int:
    """Return the offset of the first page at or behind `start`; -1 if there is none."""
    file.seek(start)
    held = b""
    while block := file.read(_BLOCK_BYTES):
        held = held[-3:] + block
        if (found := held.find(b"OggS")) >= 0:
            return file.tell() - len(held) + found
    return -1
