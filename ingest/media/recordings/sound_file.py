"""Sounds that libsndfile (soundfile) reads: those without compression, and FLAC; FFmpeg reads what it does not."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from bindsearch.errors import MediaError
from bindsearch.ingest.media.damage import check_damage
from bindsearch.ingest.media.recordings.av_container import open_container
from bindsearch.ingest.media.recordings.ogg import recording_edges
from bindsearch.ingest.media.recordings.sound_stream import Block, SoundStream, check_rate, make_mixer
from bindsearch.ingest.media.recordings.sound_track import open_track
from bindsearch.media import Note

_BY_LIBSNDFILE = frozenset({"wav", "w64", "flac", "aiff", "caf", "au", "sph", "voc"})
_PLAIN = ("PCM_", "FLOAT", "DOUBLE", "ULAW", "ALAW")
"""Encodings that libsndfile decodes to their end; MPEG and ALAC in wav and caf it does not."""
_BLOCK_SAMPLES = 1 << 18
_MAX_CHUNKS = 10_000
_NO_LENGTH = 0x7FFFF000
"""Sizes from here to 2^32 are written by recorders that do not know the length."""
_UNKNOWN_FRAMES = 1 << 62
_NO_SAMPLES = "the file contains no sound samples"


@dataclass(frozen=True, slots=True)
class _WavData:
    """The samples of a wav: their size in bytes by the header, and in the file."""

    stated: int
    existing: int


@contextmanager
def open_sound(path: Path, kind: str, start_s: float, note: Note) -> Iterator[SoundStream]:
    """Open the sound of a file with libsndfile if possible, else with FFmpeg.

    Raises:
        MediaError: there is no sound, or most of it is missing.
    """
    file = _open_plain(path, kind)
    if file is not None:
        with file:
            wav = _wav_data(path) if kind == "wav" else None
            if wav is None or wav.stated:
                yield _file_stream(file, path, kind, start_s, wav, note)
                return
    edges = recording_edges(path) if kind == "ogg" else []
    with open_container(path, kind, part=(edges[0], edges[1]) if edges else None) as container:
        stream = open_track(container, path, kind, start_s, note)
        if stream is None:
            raise MediaError(_NO_SAMPLES if container.streams.audio else "the file has no sound track")
        if len(edges) > 2:
            blocks = _with_others(path, kind, edges[1:], start_s, stream, note)
            first = round(start_s * stream.sample_rate_hz)
            stream = SoundStream(stream.sample_rate_hz, first, blocks)
        yield stream


def _with_others(
    path: Path, kind: str, edges: list[int], start_s: float, first: SoundStream, note: Note
) -> Iterator[Block]:
    """Yield the blocks of the first recording in a file, then of those behind it, at the rate of the first."""
    end = 0
    for place, block in first.blocks:
        yield place, block
        end = place + block.size
    for part in pairwise(edges):
        begin = end
        with open_container(path, kind, part=part) as container:
            rest_s = max(0.0, start_s - begin / first.sample_rate_hz)
            stream = open_track(container, path, kind, rest_s, note, first.sample_rate_hz)
            for place, block in stream.blocks if stream is not None else ():
                yield begin + place, block
                end = begin + place + block.size


def _open_plain(path: Path, kind: str) -> Any:
    """Return the open soundfile.SoundFile, None if FFmpeg has to read it."""
    import soundfile

    if kind not in _BY_LIBSNDFILE:
        return None
    try:
        file = soundfile.SoundFile(os.fsencode(path))
    except soundfile.LibsndfileError:
        return None
    if file.subtype.startswith(_PLAIN):
        return file
    file.close()
    return None


def _file_stream(file: Any, path: Path, kind: str, start_s: float, wav: _WavData | None, note: Note) -> SoundStream:
    """Return the stream of a file opened by libsndfile, from `start_s` on."""
    import soundfile

    rate_hz = check_rate(file.samplerate)
    frames = file.frames if file.frames < _UNKNOWN_FRAMES else 0
    first = min(round(start_s * rate_hz), frames or _UNKNOWN_FRAMES)
    size = max(1024, _BLOCK_SAMPLES // file.channels)
    mix_down = make_mixer(note)

    def blocks() -> Iterator[Block]:
        read = first
        try:
            if first:
                file.seek(first)
            while len(block := file.read(size, dtype="float32", always_2d=True)):
                yield read, mix_down(block)
                read += len(block)
        except soundfile.LibsndfileError:
            pass
        if read < frames:
            yield from _rest(path, kind, read, frames / rate_hz, note)
        elif wav is not None and wav.stated < _NO_LENGTH:
            shares = f"{frames / rate_hz:.1f} of {frames / rate_hz * wav.stated / max(1, wav.existing):.1f} s of sound"
            check_damage(min(1.0, wav.existing / wav.stated), shares, note)

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


def _wav_data(path: Path) -> _WavData | None:
    """Return the size of the samples of a wav; `stated` is 0 if the header says none although there are some.

    None if the file is another kind of wav, or has no data chunk.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(36)
        if head[:4] not in (b"RIFF", b"RF64"):
            return None
        long_size = int.from_bytes(head[28:36], "little") if head[:4] == b"RF64" and head[12:16] == b"ds64" else None
        offset = 12
        for _ in range(_MAX_CHUNKS):
            if offset + 8 > size:
                return None
            file.seek(offset)
            header = file.read(16)
            length = int.from_bytes(header[4:8], "little")
            if header[:4] == b"data":
                existing = size - offset - 8
                if length == 0xFFFFFFFF and long_size is not None:
                    length = long_size
                if length == 0 and _is_chunk(header[8:], existing):
                    return _WavData(_NO_LENGTH, existing)  # no samples, and another chunk behind them
                return _WavData(length if length or existing else _NO_LENGTH, existing)
            offset += 8 + length + length % 2
    return None


def _is_chunk(header: bytes, existing: int) -> bool:
    """Return whether the bytes behind an empty data chunk are another chunk that ends inside the file."""
    return header[:4].isalnum() and int.from_bytes(header[4:8], "little") + 8 <= existing
