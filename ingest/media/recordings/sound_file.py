"""Sounds that libsndfile (soundfile) reads: those without compression, and FLAC; FFmpeg reads what it does not."""

from __future__ import annotations

import io
import os
import struct
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from itertools import pairwise
from pathlib import Path
from typing import Any, BinaryIO, Literal, NamedTuple

from bindsearch.errors import MediaError
from bindsearch.ingest.media.damage import check_damage
from bindsearch.ingest.media.kinds import LIBSNDFILE, SOUND_KINDS
from bindsearch.ingest.media.recordings.av_container import open_container
from bindsearch.ingest.media.recordings.containers import recording_edges
from bindsearch.ingest.media.recordings.sound_track import Block, SoundStream, check_rate, make_mixer, open_track
from bindsearch.media import Note

_BY_LIBSNDFILE = frozenset(kind.name for kind in SOUND_KINDS if kind.module == LIBSNDFILE)
_PLAIN = ("PCM_", "FLOAT", "DOUBLE", "ULAW", "ALAW")
"""Encodings that libsndfile decodes to their end; MPEG and ALAC in wav and caf it does not."""
_BLOCK_SAMPLES = 1 << 18
_MAX_CHUNKS = 10_000
_NO_LENGTH = 0x7FFFF000
"""Sizes from here to 2^32 are written by recorders that do not know the length."""
_UNKNOWN_FRAMES = 1 << 62
_NO_SAMPLES = "the file contains no sound samples"


class _DataSize(NamedTuple):
    """Size of the samples in bytes: by the header, 0 if it does not say, and in the file; and their offset there."""

    stated: int
    existing: int
    offset: int

    @property
    def is_cut(self) -> bool:
        """True if bytes are missing at the end."""
        return 0 < self.existing < self.stated


class _Layout(NamedTuple):
    """Chunks of a format, sizes in bytes: of the head of the file, of a chunk's name, and of its name and size."""

    first: int
    name: int
    header: int
    order: Literal["little", "big"]
    align: int
    data: bytes
    counts_header: bool = False


_LAYOUTS = {
    b"RIFF": _Layout(12, 4, 8, "little", 2, b"data"),
    b"RF64": _Layout(12, 4, 8, "little", 2, b"data"),
    b"BW64": _Layout(12, 4, 8, "little", 2, b"data"),
    b"RIFX": _Layout(12, 4, 8, "big", 2, b"data"),
    b"FORM": _Layout(12, 4, 8, "big", 2, b"SSND"),
    b"caff": _Layout(8, 4, 12, "big", 1, b"data"),
    b"riff": _Layout(40, 16, 24, "little", 8, b"data", counts_header=True),
}
"""By the first letters of a file: wav, AIFF, CAF and W64."""
_LONG = (b"RF64", b"BW64")
"""First letters of wav files with sizes of 64 bits (EBU Tech 3306, ITU-R BS.2088)."""


class _Overlaid(io.RawIOBase):
    """A file, some bytes of which are read as others."""

    def __init__(self, file: BinaryIO, others: Mapping[int, bytes]) -> None:
        self._file, self._others = file, others

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._file.seek(offset, whence)

    def readinto(self, buffer: Any) -> int:
        start = self._file.tell()
        raw = bytearray(self._file.read(len(buffer)))
        for place, other in self._others.items():
            for number in range(max(place, start), min(place + len(other), start + len(raw))):
                raw[number - start] = other[number - place]
        buffer[: len(raw)] = raw
        return len(raw)


@contextmanager
def open_sound(path: Path, kind: str, start_s: float, note: Note) -> Iterator[SoundStream]:
    """Open the sound of a file with libsndfile if possible, else with FFmpeg.

    Raises:
        MediaError: there is no sound, or most of it is missing.
    """
    data = _data_size(path)
    with path.open("rb") as raw:
        sizes = {} if data is None or data.stated else _true_sizes(raw, data)
        raw.seek(0)
        file = _open_plain(_Overlaid(raw, sizes) if sizes else os.fsencode(path), kind)
        if file is not None:
            with file:
                if kind != "wav" or data is None or data.stated or file.frames:
                    yield _file_stream(file, path, kind, start_s, data, note)
                    return
    edges = recording_edges(path) if kind == "ogg" else []
    with open_container(path, kind, part=(edges[0], edges[1]) if edges else None) as container:
        stream = open_track(container, path, kind, start_s, note)
        if stream is None:
            raise MediaError(_NO_SAMPLES if container.streams.audio else "the file has no sound track")
        if kind != "wav" and data is not None and data.is_cut:  # of others, FFmpeg's length is what is left
            check_damage(data.existing / data.stated, f"{data.existing} of {data.stated} bytes of sound", note)
        if len(edges) > 2:
            rate_hz, blocks = stream.sample_rate_hz, _with_others(path, kind, edges[1:], start_s, stream, note)
            stream = SoundStream(rate_hz, round(start_s * rate_hz), blocks)
        yield stream


def _with_others(
    path: Path, kind: str, edges: list[int], start_s: float, first: SoundStream, note: Note
) -> Iterator[Block]:
    """Yield the blocks of the first recording in a file, then of those behind it, at the rate of the first."""
    import av

    end = lost = 0
    for place, block in first.blocks:
        yield place, block
        end = place + block.size
    for part in pairwise(edges):
        begin = end
        try:
            with open_container(path, kind, part=part) as container:
                rest_s = max(0.0, start_s - begin / first.sample_rate_hz)
                stream = open_track(container, path, kind, rest_s, note, first.sample_rate_hz)
                for place, block in stream.blocks if stream is not None else ():
                    yield begin + place, block
                    end = begin + place + block.size
        except (MediaError, av.FFmpegError):
            lost += part[1] - part[0]
    size = edges[-1]
    check_damage(1 - lost / size, f"{size - lost} of {size} bytes of sound", note)


def _true_sizes(file: BinaryIO, data: _DataSize) -> dict[int, bytes]:
    """Return the bytes of the right sizes by their offsets, for a header without any that libsndfile needs."""
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    head = file.read(16)
    begin = head[:4]
    if begin == b".snd":
        return {8: b"\xff" * 4}
    if begin in _LONG and head[12:] == b"ds64":
        return {0: b"RF64", 20: struct.pack("<QQ", size - 8, data.existing), data.offset - 4: b"\xff" * 4}
    if begin not in (*_LONG, b"RIFF", b"RIFX") or size >= _NO_LENGTH:
        return {}
    order, riff = _LAYOUTS[begin].order, b"RIFX" if begin == b"RIFX" else b"RIFF"
    return {0: riff + (size - 8).to_bytes(4, order), data.offset - 4: data.existing.to_bytes(4, order)}


def _open_plain(source: Any, kind: str) -> Any:
    """Return the open soundfile.SoundFile of a path or file, None if FFmpeg has to read it."""
    import soundfile

    if kind in _BY_LIBSNDFILE:
        with suppress(soundfile.LibsndfileError):
            file = soundfile.SoundFile(source)
            if file.subtype.startswith(_PLAIN):
                return file
            file.close()
    return None


def _file_stream(file: Any, path: Path, kind: str, start_s: float, data: _DataSize | None, note: Note) -> SoundStream:
    """Return the stream of a file opened by libsndfile, from `start_s` on."""
    import soundfile

    rate_hz = check_rate(file.samplerate)
    frames = file.frames if file.frames < _UNKNOWN_FRAMES else 0
    first = min(round(start_s * rate_hz), frames or _UNKNOWN_FRAMES)
    size = max(1024, _BLOCK_SAMPLES // file.channels)
    mix_down = make_mixer(note)

    def blocks() -> Iterator[Block]:
        read = first
        with suppress(soundfile.LibsndfileError):
            if first:
                file.seek(first)
            while len(block := file.read(size, dtype="float32", always_2d=True)):
                yield read, mix_down(block)
                read += len(block)
        if read < frames:
            yield from _rest(path, kind, read, frames / rate_hz, note)
        elif data is not None and data.is_cut:
            share, here_s = data.existing / data.stated, frames / rate_hz
            check_damage(share, f"{here_s:.1f} of {here_s / share:.1f} s of sound", note)

    return SoundStream(rate_hz, first, blocks(), frames / rate_hz)


def _rest(path: Path, kind: str, read: int, length_s: float, note: Note) -> Iterator[Block]:
    """Yield the samples from number `read` on, where libsndfile stopped: FFmpeg goes on behind damage."""
    with open_container(path, kind) as container:
        stream = open_track(container, path, kind, 0.0, note)
        if stream is None:
            check_damage(0.0, f"0.0 of {length_s:.1f} s of sound", note)
            return
        for place, block in stream.blocks:
            if place + block.size > read:
                yield max(place, read), block[max(0, read - place) :]


def _data_size(path: Path) -> _DataSize | None:
    """Return the size of the samples; `stated` is 0 if the header says none although there are some.

    None if the file is of another kind, or has no samples in their place.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(36)
        if head[:4] == b".snd":
            offset = int.from_bytes(head[4:8])
            return _known(int.from_bytes(head[8:12]), size - offset, offset, b"")
        if (layout := _LAYOUTS.get(head[:4])) is None:
            return None
        long_size = int.from_bytes(head[28:36], "little") if head[:4] in _LONG and head[12:16] == b"ds64" else None
        offset = layout.first
        for _ in range(_MAX_CHUNKS):
            if offset + layout.header > size:
                return None
            file.seek(offset)
            header = file.read(layout.header + 8)
            length = int.from_bytes(header[layout.name : layout.header], layout.order)
            if layout.counts_header:
                length = max(0, length - layout.header)
            offset += layout.header
            if header[:4] == layout.data:
                if length == 0xFFFFFFFF and long_size is not None:
                    length = long_size
                return _known(length, size - offset, offset, header[layout.header :])
            offset += length + -length % layout.align
    return None


def _known(stated: int, existing: int, offset: int, behind: bytes) -> _DataSize:
    """Return a size, with those that mean "not known" as 0; `behind`: the bytes after an empty chunk."""
    is_chunk = behind[:4].isalnum() and int.from_bytes(behind[4:8], "little") + 8 <= existing
    if stated == 0 and (existing <= 0 or is_chunk):
        return _DataSize(1, 1, offset)  # no samples, and none are missing
    return _DataSize(stated if stated < _NO_LENGTH or 1 << 32 <= stated < 1 << 63 else 0, existing, offset)
