"""Video frames, sampled in one pass over the file, reduced while decoding, in spans.

Animated images (GIF, WebP, PNG) are videos without sound. Time is divided into cells of 1 / frames_per_s from the
beginning of the file; each yields one frame: the first at or after the cell's middle, else the last before it. A cell
without a frame of its own yields none, so a still image of ten minutes is one frame, not hundreds.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from bindsearch.errors import MediaError
from bindsearch.ingest.media.options import DecodeOptions
from bindsearch.ingest.media.pictures.animation import picture_rgb, timed_frames
from bindsearch.ingest.media.recordings.av_container import (
    decoded,
    open_container,
    origin_s,
    recording_kind,
    seek_before,
)
from bindsearch.ingest.media.recordings.segmenting import check_span, shortest_tail_s
from bindsearch.ingest.media.sniff import ANIMATIONS, VIDEOS, one_of
from bindsearch.media import DecodeHints, Frames, Note, drop_note
from bindsearch.types import Span

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.stream import VideoStream

Timed = tuple[float, Any]
"""(time_s, av.VideoFrame or PIL.Image.Image), or (end_s, None) once after the last frame."""


@dataclass(frozen=True, slots=True)
class VideoSpan:
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
    if kind is None or kind not in VIDEOS | ANIMATIONS | {"m4a"}:
        content = f": the content is {kind}" if kind else ""
        raise MediaError(f"not a video: expected {one_of(VIDEOS)}, or an animated {one_of(ANIMATIONS)}{content}")
    return kind


def read_video(
    path: Path, wants: DecodeHints, options: DecodeOptions, span: Span | None = None, note: Note = drop_note
) -> Iterator[VideoSpan]:
    """Yield the frames of the video or animation at `path` in spans; nothing if it has only sound.

    Frames are upright, square-pixelled, and reduced so that the shorter side is 2 * wants.picture_side_px.

    Raises:
        MediaError: not a video, damaged, larger than `options.max_pixels`, or `span` is after its end.
    """
    check_span(span)
    kind, floor_px = video_kind(path), 2 * wants.picture_side_px
    if kind in ANIMATIONS:
        to_rgb = partial(picture_rgb, floor_px=floor_px)
        yield from _spans(timed_frames(path, kind, options), to_rgb, wants.frames_per_s, options.video_segment_s, span)
        return
    with open_container(path, kind) as container:
        stream = picture_stream(container)
        if stream is None:
            if not container.streams.audio:
                raise MediaError("the file has neither a video nor a sound track")
            return
        _prepare(stream, options)
        seek_before(container, span.start_s if span else 0.0)
        to_rgb = partial(frame_rgb, floor_px=floor_px, ratio=_pixel_ratio(stream))
        yield from _spans(_timed(container, stream), to_rgb, wants.frames_per_s, options.video_segment_s, span)


def _spans(
    frames: Iterator[Timed],
    to_rgb: Callable[[Any], NDArray[np.uint8]],
    frames_per_s: float,
    segment_s: float,
    span: Span | None,
) -> Iterator[VideoSpan]:
    """Yield the spans inside `span`, sampled and cut."""
    start_s = span.start_s if span else 0.0
    is_empty = True
    for piece in _cut(sample(_inside(frames, span), frames_per_s), start_s, segment_s, to_rgb):
        is_empty = False
        yield piece
    if is_empty:
        raise MediaError(f"the video ends before {start_s:g} s" if span else "no frame of the video can be decoded")


def picture_stream(container: InputContainer) -> VideoStream | None:
    """Return the first video stream that is not a cover image; None if there is none."""
    for stream in container.streams.video:
        if not stream.disposition & stream.disposition.attached_pic:
            return stream
    return None


def _prepare(stream: VideoStream, options: DecodeOptions) -> None:
    """Check the size of a video, and set the limits of its decoder."""
    codec = stream.codec_context
    if codec is None:
        raise MediaError("the video codec is unknown")
    if codec.width * codec.height > options.max_pixels:
        raise MediaError(
            f"the video is {codec.width}x{codec.height} pixels: "
            f"more than {options.max_pixels} are not decoded (--limit pixels=N)"
        )
    codec.options = {"max_pixels": str(options.max_pixels)}
    codec.thread_type = "AUTO"
    codec.thread_count = 2


def _timed(container: InputContainer, stream: VideoStream) -> Iterator[Timed]:
    """Yield every intact frame with its time from the beginning of the file, then the end."""
    begin_s = origin_s(container)
    step_s = float(1 / stream.average_rate) if stream.average_rate else 0.04
    end_s = 0.0
    for frame in decoded(container, stream):
        time_s = end_s if frame.time is None else max(0.0, frame.time - begin_s)
        end_s = max(end_s, time_s + step_s)
        if not frame.is_corrupt:
            yield time_s, frame
    yield end_s, None


def _inside(frames: Iterator[Timed], span: Span | None) -> Iterator[Timed]:
    """Yield the frames inside `span`; if there are none, the frame shown at its start."""
    if span is None:
        yield from frames
        return
    previous: Timed | None = None
    is_empty = True
    for time_s, frame in frames:
        if frame is not None and time_s < span.start_s - 1e-6:
            previous = time_s, frame
            continue
        if frame is None or time_s >= span.end_s - 1e-6:
            if is_empty and previous is not None and time_s > span.start_s:
                yield span.start_s, previous[1]
            yield min(time_s, span.end_s), None
            return
        is_empty = False
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
    shape = entries[0][1].shape
    same_size = [entry for entry in entries if entry[1].shape == shape]  # the frame size of a stream may change
    frames = Frames(np.stack([rgb for _, rgb in same_size]), np.array([time_s for time_s, _ in same_size], np.float64))
    return VideoSpan(frames, start_s, end_s)


def frame_rgb(frame: Any, floor_px: int, ratio: float = 1.0) -> NDArray[np.uint8]:
    """Return a frame as uint8 (height, width, 3): square pixels, upright, shorter side at most about `floor_px`.

    `ratio`: width over height of a pixel.
    """
    width, height = frame.width * max(ratio, 1.0), frame.height / min(ratio, 1.0)
    scale = min(1.0, floor_px / min(width, height))
    size = max(1, math.ceil(width * scale)), max(1, math.ceil(height * scale))
    rgb: NDArray[np.uint8] = frame.reformat(width=size[0], height=size[1], format="rgb24", threads=1).to_ndarray()
    turns = round(frame.rotation / 90) % 4
    return np.ascontiguousarray(np.rot90(rgb, turns)) if turns else rgb


def _pixel_ratio(stream: VideoStream) -> float:
    """Return width over height of a pixel; 1 if unknown, implausible or almost 1."""
    value = float(stream.sample_aspect_ratio or 1)
    return value if 0.25 <= value <= 4 and abs(value - 1) > 0.01 else 1.0
