"""Boxes of MP4 and MOV files: header fields that FFmpeg only exposes with decoded frames."""

from __future__ import annotations

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


@dataclass(frozen=True, slots=True)
class SampleTable:
    """Samples of a track.

    Attributes:
        offsets: int64 (n,), places of the samples in the file in bytes.
        sizes: int64 (n,), in bytes.
        times_s: float64 (n + 1,), start of each sample and end of the last one, in seconds.
    """

    offsets: NDArray[np.int64]
    sizes: NDArray[np.int64]
    times_s: NDArray[np.float64]


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
            start, _ = next(_boxes(file, stbl, b"stsd"), (0, 0))
            file.seek(start + 12)  # behind version, number of entries and size of the first one (8.5.2)
            if start and file.read(4) in codecs:
                return True
    return False


def _tracks(file: BinaryIO) -> Iterator[tuple[tuple[int, int], tuple[int, int]]]:
    """Yield start and end of the contents of the boxes mdia and stbl of each track, (0, 0) where there is none."""
    moov = next(_boxes(file, (0, file.seek(0, 2)), b"moov"), (0, 0))
    for trak in _boxes(file, moov, b"trak"):
        mdia = next(_boxes(file, trak, b"mdia"), (0, 0))
        minf = next(_boxes(file, mdia, b"minf"), (0, 0))
        yield mdia, next(_boxes(file, minf, b"stbl"), (0, 0))


def _sample_table(file: BinaryIO, mdia: tuple[int, int], stbl: tuple[int, int]) -> SampleTable:
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
    before = np.concatenate([[0], np.cumsum(sizes)])
    firsts = np.concatenate([[0], np.cumsum(samples_a_chunk)])[of_chunk]
    times_s = np.concatenate([[0.0], np.cumsum(lengths)]) / scale
    return SampleTable(chunks[of_chunk] + before[:-1] - before[firsts], sizes, times_s)


def _repeated(values: NDArray[np.int64], repeats: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """Return each value as often as `repeats` says, at most `count` values in all, in memory of that order."""
    before = np.concatenate([[0], np.cumsum(np.minimum(repeats, count))])[:-1]
    needed = before < count
    return np.repeat(values[needed], np.minimum(repeats[needed], count))[:count]


def _content(file: BinaryIO, parent_range: tuple[int, int], wanted: bytes) -> bytes:
    """Return the content of the first box of a kind in `parent_range`; empty if there is none.

    Raises:
        MediaError: it is too large.
    """
    start, end = next(_boxes(file, parent_range, wanted), (0, 0))
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
