"""Video frames, sampled in one pass over the file, reduced while decoding, in spans.

Animated images (GIF, WebP, PNG) are videos without sound. Time is divided into cells of 1 / frames_per_s from the
beginning of the file; each yields one frame: the first at or after the cell's middle, else the last before it. A cell
without a frame of its own yields none, so a still image of ten minutes is one frame, not hundreds.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bindsearch.errors import MediaError
from bindsearch.ingest.media.kinds import ANIMATIONS, VIDEOS, one_of
from bindsearch.ingest.media.options import DecodeOptions
from bindsearch.ingest.media.pictures.animation import picture_rgb, timed_frames
from bindsearch.ingest.media.recordings.av_container import open_container, recording_kind
from bindsearch.ingest.media.recordings.segmenting import check_span, shortest_tail_s
from bindsearch.ingest.media.recordings.video.display import (
    frame_rgb,
    in_one_size,
    note_streams,
    packet_decoder,
    picture_stream,
    pixel_ratio,
    prepare,
)
from bindsearch.ingest.media.recordings.video.frames import Timed, VideoSource, timed_video
from bindsearch.media import DecodeHints, Frames, Measure, Note, drop_measure, drop_note
from bindsearch.types import Span


class VideoSpan(NamedTuple):
    """A span of a video: its sampled frames, and its start and end in seconds."""

    frames: Frames
    start_s: float
    end_s: float


def video_kind(path: Path) -> str:
    """Return the kind of container at `path`, or of image that can be animated.

    Raises:
        MediaError: it cannot contain video.
    """
    kind = recording_kind(path)
    if kind is None or kind not in VIDEOS | ANIMATIONS | {"m4a", "ogg"}:
        content = f": the content is {kind}" if kind else ""
        raise MediaError(f"not a video: expected {one_of(VIDEOS)}, or an animated {one_of(ANIMATIONS)}{content}")
    return kind


def read_video(
    path: Path,
    wants: DecodeHints,
    options: DecodeOptions,
    span: Span | None = None,
    note: Note = drop_note,
    measure: Measure = drop_measure,
) -> Iterator[VideoSpan]:
    """Yield the frames of the video or animation at `path` in spans; nothing if it has only sound.

    Frames are upright, square-pixelled, and reduced so that the shorter side is 2 * wants.picture_side_px.

    `measure` takes its length and size where the headers are wrong (not with `span`).

    Raises:
        MediaError: not a video, damaged, larger than `options.max_pixels`, or `span` is after its end.
    """
    check_span(span)
    kind, floor_px = video_kind(path), 2 * wants.picture_side_px
    rate, segment_s = wants.frames_per_s, options.video_segment_s
    if kind in ANIMATIONS:
        frames, to_rgb = timed_frames(path, kind, options, note), partial(picture_rgb, floor_px=floor_px)
        yield from _spans(frames, to_rgb, rate, segment_s, span)
        return
    with open_container(path, kind) as container:
        stream = picture_stream(container)
        if stream is None:
            if not container.streams.audio:
                raise MediaError("the file has neither a video nor a sound track")
            return
        prepare(stream, options)
        note_streams(container, stream, note)
        coded_px = stream.codec_context.width, stream.codec_context.height
        source = VideoSource(path, kind, container, stream, coded_px, note, measure)
        cell_start_s = None if span is None else math.floor(span.start_s * rate) / rate
        frames = timed_video(source, cell_start_s, packet_decoder(stream))
        to_rgb = partial(frame_rgb, floor_px=floor_px, ratio=pixel_ratio(stream))
        yield from _spans(frames, to_rgb, rate, segment_s, span)


def _spans(
    frames: Iterator[Timed],
    to_rgb: Callable[[Any], NDArray[np.uint8]],
    frames_per_s: float,
    segment_s: float,
    span: Span | None,
) -> Iterator[VideoSpan]:
    """Yield the spans inside `span`, sampled and cut."""
    start_s = span.start_s if span else 0.0
    samples = sample(frames, frames_per_s) if span is None else _inside(frames, frames_per_s, span)
    is_empty = True
    for piece in _cut(samples, start_s, segment_s, to_rgb):
        is_empty = False
        yield piece
    if is_empty:
        raise MediaError(f"the video ends before {start_s:g} s" if span else "no frame of the video can be decoded")


def _inside(frames: Iterator[Timed], frames_per_s: float, span: Span) -> Iterator[Timed]:
    """Yield the frames inside `span` that are sampled of the whole; if there are none, the frame shown at its start.

    `frames`: from the cell on in which the span starts, or from an earlier one.
    """
    cell_end_s = math.ceil(span.end_s * frames_per_s - 1e-6) / frames_per_s
    shown: list[Any] = []
    for time_s, frame in sample(_until(frames, cell_end_s, span, shown), frames_per_s):
        if frame is None:
            if shown and time_s > span.start_s:
                yield span.start_s, shown[0]
            yield min(time_s, span.end_s), None
        elif span.start_s - 1e-6 <= time_s < span.end_s - 1e-6:
            shown.clear()
            yield time_s, frame


def _until(frames: Iterator[Timed], end_s: float, span: Span, shown: list[Any]) -> Iterator[Timed]:
    """Yield frames up to a time, then that or the earlier end; `shown` gets the frame shown at a span's start."""
    is_found = False
    for time_s, frame in frames:
        if frame is None or time_s >= end_s - 1e-6:
            yield min(time_s, end_s), None
            return
        if not is_found and time_s < span.end_s - 1e-6:
            is_found = time_s >= span.start_s - 1e-6
            if not is_found or not shown:
                shown[:] = [frame]
        yield time_s, frame


def sample(frames: Iterator[Timed], frames_per_s: float) -> Iterator[Timed]:
    """Yield one frame per cell of 1 / frames_per_s seconds (see the module docstring), then the end."""
    cell, is_done, candidate = -1, False, None
    for time_s, frame in frames:
        frame_cell = math.floor(time_s * frames_per_s + 1e-6)
        if frame is None or frame_cell > cell:
            if candidate is not None:
                yield candidate
            cell, is_done, candidate = frame_cell, False, None
        if frame is None:
            yield time_s, None
        elif frame_cell == cell and not is_done:
            candidate = time_s, frame
            if time_s * frames_per_s - frame_cell >= 0.5 - 1e-6:
                yield candidate
                is_done, candidate = True, None


def _cut(
    samples: Iterator[Timed], start_s: float, segment_s: float, to_rgb: Callable[[Any], NDArray[np.uint8]]
) -> Iterator[VideoSpan]:
    """Yield sampled frames in spans of `segment_s`; a span without frames is skipped."""
    tail_s = shortest_tail_s(segment_s)
    gathered: list[tuple[float, NDArray[np.uint8]]] = []
    for time_s, frame in samples:
        while gathered:
            index = math.floor((gathered[0][0] - start_s) / segment_s + 1e-9)
            first_s, end_s = start_s + index * segment_s, start_s + (index + 1) * segment_s
            if time_s < end_s + tail_s - 1e-6:
                break
            span_entries = [entry for entry in gathered if entry[0] < end_s - 1e-9]
            yield _video_span(span_entries, first_s, end_s)
            gathered = gathered[len(span_entries) :]
        if frame is not None:
            gathered.append((time_s, to_rgb(frame)))
        elif gathered:
            yield _video_span(gathered, first_s, max(time_s, gathered[-1][0]))


def _video_span(entries: list[tuple[float, NDArray[np.uint8]]], start_s: float, end_s: float) -> VideoSpan:
    """Return the span of frames with their times."""
    rgb = np.stack(in_one_size([rgb for _, rgb in entries]))
    return VideoSpan(Frames(rgb, np.array([time_s for time_s, _ in entries], np.float64)), start_s, end_s)
