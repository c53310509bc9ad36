"""Sound files and sound tracks, decoded to mono float32 at their own rate, streamed span by span.

libsndfile (soundfile) reads wav, flac, ogg, opus, aiff, caf and au; FFmpeg (PyAV) reads m4a, aac, sound tracks, what
libsndfile refuses, and mp3, because libsndfile's mp3 decoder writes messages to stderr. Channels are averaged.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from bindsearch.errors import MediaError
from bindsearch.ingest.media.recordings.av_container import (
    decoded,
    open_container,
    origin_s,
    recording_kind,
    seek_before,
)
from bindsearch.ingest.media.recordings.segmenting import check_span, shortest_tail_s
from bindsearch.ingest.media.sniff import SOUNDS, VIDEOS, one_of
from bindsearch.media import Note, Sound, drop_note
from bindsearch.types import Span

if TYPE_CHECKING:
    from av.container import InputContainer

_BY_LIBSNDFILE = frozenset({"wav", "flac", "ogg", "aiff", "caf", "au"})
_PLAIN = ("PCM_", "FLOAT", "DOUBLE", "ULAW", "ALAW", "VORBIS", "OPUS")
"""Encodings that libsndfile decodes to their end; MPEG and ALAC in wav and caf it does not."""
_BLOCK_SAMPLES = 1 << 18
_MAX_CHUNKS = 10_000
_RATES_HZ = (1_000, 1_000_000)
_FULL_SCALE = {"uint8": 128.0, "int16": 32768.0, "int32": 2147483648.0, "int64": 9223372036854775808.0}


@dataclass(frozen=True, slots=True)
class SoundStream:
    """An open sound.

    Attributes:
        sample_rate_hz: samples per second.
        start_s: start of the first block in the recording, in seconds.
        blocks: mono samples, float32 (n,) each.
        length_s: length of the whole recording by its header, in seconds; 0 if unknown.
    """

    sample_rate_hz: int
    start_s: float
    blocks: Iterator[NDArray[np.float32]]
    length_s: float = 0.0


@dataclass(frozen=True, slots=True)
class SoundSpan:
    """A span of a recording: its sound, and its start and end in seconds."""

    sound: Sound
    start_s: float
    end_s: float


def read_sound(
    path: Path, segment_s: float, span: Span | None = None, *, max_s: float = math.inf, note: Note = drop_note
) -> Iterator[SoundSpan]:
    """Yield the recording at `path` in spans of `segment_s` seconds; only those inside `span` if it is given.

    Raises:
        MediaError: no sound, damaged, truncated, NaN, no samples, longer than `max_s` seconds (without a span), or
            `span` is after its end.
    """
    check_span(span)
    kind = recording_kind(path)
    if kind not in SOUNDS | VIDEOS:
        content = f": the content is {kind}" if kind else ""
        raise MediaError(f"not a sound: expected {one_of(SOUNDS)}{content}")
    with _open_sound(path, str(kind), span.start_s if span else 0.0) as stream:
        yield from cut_sound(stream, segment_s, span, max_s=max_s)


def read_sound_track(
    path: Path,
    kind: str,
    segment_s: float,
    span: Span | None = None,
    *,
    max_s: float = math.inf,
    note: Note = drop_note,
) -> Iterator[SoundSpan]:
    """Yield the first sound track of a video as `read_sound`; nothing without a track, or if it ends before `span`.

    Spans of digital silence are skipped.
    """
    with open_container(path, kind) as container:
        if not container.streams.audio:
            return
        stream = _container_stream(container, span.start_s if span else 0.0)
        for piece in cut_sound(stream, segment_s, span, may_be_empty=True, max_s=max_s):
            if piece.sound.samples.any():
                yield piece


def cut_sound(
    stream: SoundStream,
    segment_s: float,
    span: Span | None = None,
    *,
    may_be_empty: bool = False,
    max_s: float = math.inf,
) -> Iterator[SoundSpan]:
    """Yield the spans of a stream; at most one span and its tail are in memory."""
    rate_hz = stream.sample_rate_hz
    length, tail = round(segment_s * rate_hz), round(shortest_tail_s(segment_s) * rate_hz)
    done, buffer = 0, np.empty(0, np.float32)
    blocks: list[NDArray[np.float32]] = []
    size = 0

    def piece(samples: NDArray[np.float32]) -> SoundSpan:
        start_s = stream.start_s + done / rate_hz
        return SoundSpan(Sound(samples, rate_hz), start_s, start_s + samples.size / rate_hz)

    for block in _bounded(stream, span, max_s):
        blocks.append(block)
        size += block.size
        if size < length + tail:
            continue
        buffer = np.concatenate(blocks)
        while buffer.size >= length + tail:
            yield piece(buffer[:length].copy())
            done, buffer = done + length, buffer[length:]
        blocks, size = [buffer], buffer.size
    if size:
        yield piece(np.concatenate(blocks))
    elif not done and not may_be_empty:
        raise MediaError(f"the sound ends before {span.start_s:g} s" if span else "the file contains no sound samples")


def _bounded(stream: SoundStream, span: Span | None, max_s: float) -> Iterator[NDArray[np.float32]]:
    """Yield blocks up to the end of `span`, all samples finite; without a span at most `max_s` seconds."""
    remaining = None if span is None else max(0, round((span.end_s - stream.start_s) * stream.sample_rate_hz))
    length_s = stream.length_s
    read = 0
    for block in stream.blocks:
        read += block.size
        length_s = max(length_s, read / stream.sample_rate_hz)
        if span is None and length_s > max_s:
            raise MediaError(
                f"the sound is {length_s:.0f} s long: more than {max_s:g} are not decoded (--limit sound=N)"
            )
        if remaining is not None:
            block = block[:remaining]
            remaining -= block.size
        if not np.isfinite(block).all():
            raise MediaError("the sound contains NaN or infinite samples")
        if block.size:
            yield block
        if remaining == 0:
            return


@contextmanager
def _open_sound(path: Path, kind: str, start_s: float) -> Iterator[SoundStream]:
    """Open the sound of a file with libsndfile if possible, else with FFmpeg."""
    if kind in _BY_LIBSNDFILE:
        import soundfile

        try:
            file = soundfile.SoundFile(os.fsencode(path))
        except soundfile.LibsndfileError:
            file = None
        if file is not None and file.subtype.startswith(_PLAIN):
            with file:
                _check_wav_size(path, kind)
                yield _file_stream(file, start_s)
            return
    with open_container(path, kind) as container:
        if not container.streams.audio:
            raise MediaError("the file has no sound track")
        yield _container_stream(container, start_s)


def _file_stream(file: Any, start_s: float) -> SoundStream:
    """Return the stream of a file opened by libsndfile, from `start_s` on."""
    rate_hz = _check_rate(file.samplerate)
    first = min(round(start_s * rate_hz), file.frames)
    if first:
        file.seek(first)
    size = max(1024, _BLOCK_SAMPLES // file.channels)

    def blocks() -> Iterator[NDArray[np.float32]]:
        read = first
        while True:
            block = file.read(size, dtype="float32", always_2d=True)
            if not len(block):
                break
            read += len(block)
            yield _mix_down(block)
        if read < file.frames and file.frames < 1 << 62:
            raise MediaError(f"truncated or damaged: {read} of {file.frames} samples can be read")

    length_s = file.frames / rate_hz if file.frames < 1 << 62 else 0.0
    return SoundStream(rate_hz, first / rate_hz, blocks(), length_s)


def _mix_down(block: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the mean (n,) of channels (n, channels)."""
    if block.shape[1] == 1:
        return block[:, 0].copy()
    with np.errstate(over="ignore", invalid="ignore"):  # values that are not finite are refused later
        mixed: NDArray[np.float32] = block.mean(axis=1, dtype=np.float32)
    return mixed


def _check_wav_size(path: Path, kind: str) -> None:
    """Check that a wav is not truncated: it would be read like a shorter one, so compare its data chunk with the file.

    Sizes near 2^32 and 0 are written by recorders that do not know the length: these are read to the end.
    """
    if kind != "wav":
        return
    size = path.stat().st_size
    with path.open("rb") as file:
        offset = 12
        if file.read(4) != b"RIFF":
            return
        for _ in range(_MAX_CHUNKS):
            if offset + 8 > size:
                return
            file.seek(offset)
            header = file.read(8)
            length = int.from_bytes(header[4:8], "little")
            if header[:4] == b"data":
                if offset + 8 + length > size and length < 0x7FFFF000:
                    raise MediaError(f"truncated: {size - offset - 8} of {length} bytes of sound exist")
                return
            offset += 8 + length + length % 2


def _container_stream(container: InputContainer, start_s: float) -> SoundStream:
    """Return the first sound track of a container from `start_s` on."""
    track = container.streams.audio[0]
    seek_before(container, start_s)
    frames = decoded(container, track)
    first = next((frame for frame in frames if frame.samples), None)
    if first is None:
        return SoundStream(_check_rate(track.rate or 48_000), start_s, iter(()))
    rate_hz = _check_rate(first.sample_rate)
    first_s = start_s if first.time is None else first.time - origin_s(container)
    first_s = first_s if first_s > 0.001 else 0.0  # the container's beginning is rounded to microseconds
    skip = max(0, round((start_s - first_s) * rate_hz))

    def blocks() -> Iterator[NDArray[np.float32]]:
        skip_left = skip
        for frame in _with_first(first, frames):
            if frame.sample_rate != rate_hz:
                raise MediaError(f"the sample rate changes from {rate_hz} to {frame.sample_rate} Hz")
            block = _frame_samples(frame)
            yield block[skip_left:]
            skip_left = max(0, skip_left - block.size)

    return SoundStream(rate_hz, first_s + skip / rate_hz, blocks(), (container.duration or 0) / 1_000_000)


def _with_first(first: Any, rest: Iterator[Any]) -> Iterator[Any]:
    """Yield `first`, then `rest`."""
    yield first
    yield from rest


def _frame_samples(frame: Any) -> NDArray[np.float32]:
    """Return a decoded frame's samples, averaged over channels, integers scaled to -1..1."""
    raw = frame.to_ndarray()
    channels = len(frame.layout.channels)
    block = raw.T if frame.format.is_planar else raw.reshape(-1, channels)
    if block.dtype.kind == "f":
        return _mix_down(block.astype(np.float32))
    scale = _FULL_SCALE[block.dtype.name]
    centred = block.astype(np.float64) - (scale if block.dtype == np.uint8 else 0.0)
    return _mix_down((centred / scale).astype(np.float32))


def _check_rate(rate_hz: int) -> int:
    """Return the sample rate in Hz after checking its range."""
    low, high = _RATES_HZ
    if not low <= rate_hz <= high:
        raise MediaError(f"the sample rate is {rate_hz} Hz: expected {low} to {high}")
    return int(rate_hz)
