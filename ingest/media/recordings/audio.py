"""Sound files and sound tracks, decoded to mono float32 at their own rate, streamed span by span.

libsndfile (soundfile) reads wav, flac, aiff, caf, au and the like; FFmpeg (PyAV) reads sound tracks, compressed sound,
and what libsndfile refuses; ogg and opus too, since libsndfile stops after the first of several recordings in a file,
and mp3, since its decoder writes messages to stderr. Channels are averaged.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bindsearch.errors import MediaError
from bindsearch.ingest.media.kinds import SOUNDS, VIDEOS, one_of
from bindsearch.ingest.media.recordings.av_container import open_container, recording_kind
from bindsearch.ingest.media.recordings.segmenting import check_span, shortest_tail_s
from bindsearch.ingest.media.recordings.sound_file import open_sound
from bindsearch.ingest.media.recordings.sound_track import Block, SoundStream, open_track
from bindsearch.media import Note, Sound, drop_note
from bindsearch.types import Span

_MOST_INVALID = 0.001
"""Greatest share of samples that are NaN or infinite and are replaced by 0."""


class SoundSpan(NamedTuple):
    """A span of a recording: its sound, and its start and end in seconds."""

    sound: Sound
    start_s: float
    end_s: float


def read_sound(
    path: Path, segment_s: float, span: Span | None = None, *, max_s: float = math.inf, note: Note = drop_note
) -> Iterator[SoundSpan]:
    """Yield the recording at `path` in spans of `segment_s` seconds; only those inside `span` if it is given.

    Raises:
        MediaError: no sound, mostly damaged or missing, NaN, no samples, longer than `max_s` seconds (without a span),
            or `span` is after its end.
    """
    check_span(span)
    kind = recording_kind(path)
    if kind not in SOUNDS | VIDEOS:
        content = f": the content is {kind}" if kind else ""
        raise MediaError(f"not a sound: expected {one_of(SOUNDS)}{content}")
    with open_sound(path, str(kind), span.start_s if span else 0.0, note) as stream:
        yield from cut_sound(stream, segment_s, span, max_s=max_s, note=note)


def read_sound_track(
    path: Path,
    kind: str,
    segment_s: float,
    span: Span | None = None,
    *,
    max_s: float = math.inf,
    note: Note = drop_note,
) -> Iterator[SoundSpan]:
    """Yield the first sound track of a video that decodes, as `read_sound`; nothing without one or behind its end.

    Spans of digital silence are skipped. A track that does not decode is left out from there on, with a note: the
    pictures do not need it.
    """
    with open_container(path, kind) as container:
        try:
            stream = open_track(container, path, kind, span.start_s if span else 0.0, note)
        except MediaError as error:
            note(f"the sound is not indexed: {error}")
            return
        if stream is None:
            return
        stream = stream._replace(blocks=_as_far_as_possible(stream.blocks, note))
        for piece in cut_sound(stream, segment_s, span, may_be_empty=True, max_s=max_s, note=note):
            if piece.sound.samples.any():
                yield piece


def _as_far_as_possible(blocks: Iterator[Block], note: Note) -> Iterator[Block]:
    """Yield blocks up to the first fault."""
    try:
        yield from blocks
    except MediaError as error:
        note(f"the sound track is indexed as far as it goes: {error}")


def cut_sound(
    stream: SoundStream,
    segment_s: float,
    span: Span | None = None,
    *,
    may_be_empty: bool = False,
    max_s: float = math.inf,
    note: Note = drop_note,
) -> Iterator[SoundSpan]:
    """Yield the spans of a stream but those without a sample; at most one span and its tail are in memory."""
    rate_hz = stream.sample_rate_hz
    length, tail = round(segment_s * rate_hz), round(shortest_tail_s(segment_s) * rate_hz)
    start, end, was_cut = stream.first, stream.first, False
    parts: list[NDArray[np.float32]] = []

    def piece(samples: NDArray[np.float32]) -> SoundSpan:
        return SoundSpan(Sound(samples, rate_hz), start / rate_hz, (start + samples.size) / rate_hz)

    for place, block in _bounded(stream, span, max_s, note):
        if place > end:
            hole = place - end
            if parts and hole >= length + tail:
                parts.append(np.zeros(max(0, start + length - end), np.float32))
                rest = np.concatenate(parts)
                for first in range(0, rest.size, length):
                    samples = rest[first : first + length]
                    yield piece(samples)
                    start, was_cut = start + samples.size, True
                parts = []
            if not parts:
                skipped = (place - start) // length * length
                start, hole = start + skipped, place - start - skipped
            parts.append(np.zeros(hole, np.float32))
        parts.append(block)
        end = place + block.size
        if end - start < length + tail:
            continue
        rest = np.concatenate(parts)
        while rest.size >= length + tail:
            yield piece(rest[:length].copy())
            start, rest, was_cut = start + length, rest[length:], True
        parts = [rest] if rest.size else []
    if parts:
        yield piece(np.concatenate(parts))
    elif not was_cut and not may_be_empty:
        raise MediaError(f"the sound ends before {span.start_s:g} s" if span else "the file contains no sound samples")


def _bounded(stream: SoundStream, span: Span | None, max_s: float, note: Note) -> Iterator[Block]:
    """Yield blocks inside `span`, all samples finite; without a span at most `max_s` seconds."""
    rate_hz, length_s = stream.sample_rate_hz, stream.length_s
    end = None if span is None else round(span.end_s * rate_hz)
    count = invalid = 0
    for first, samples in stream.blocks:
        length_s = max(length_s, (first + samples.size) / rate_hz)
        if span is None and length_s > max_s:
            raise MediaError(
                f"the sound is {length_s:.0f} s long: more than {max_s:g} are not decoded (--limit sound=N)"
            )
        before = max(0, stream.first - first)
        place, block = first + before, samples[before : None if end is None else max(0, end - first)]
        is_valid = np.isfinite(block)
        if not is_valid.all():
            invalid += block.size - int(is_valid.sum())
            block = np.where(is_valid, block, np.float32(0))
        count += block.size
        if block.size:
            yield place, block
        if end is not None and first + samples.size >= end:
            break
    if invalid > _MOST_INVALID * count:
        raise MediaError(f"the sound contains NaN or infinite samples: {invalid} of {count}")
    if invalid:
        note(f"{invalid} of {count} samples are NaN or infinite: replaced by 0")
