"""Videos for tests of streams, display matrices, colours and times, with the four colours of known places."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from bindsearch.ingest.media.decode import DecodedSegment, pieces
from bindsearch.ingest.media.options import DecodeOptions
from bindsearch.ingest.media.sidecar import Sidecar
from bindsearch.media import NO_READING, DecodeHints, Reading, merge_readings
from bindsearch.types import Modality

RED, GREEN, BLUE, YELLOW = (220, 30, 30), (30, 200, 30), (30, 30, 220), (230, 220, 40)
CORNERS = (RED, GREEN, BLUE, YELLOW)
"""Colours of the corners: top left, top right, bottom left, bottom right."""


@dataclass(frozen=True, slots=True)
class StreamPlan:
    """A video stream to write.

    Attributes:
        codec: name of the encoder.
        size: width and height in pixels.
        frames: number of frames, at 10 a second.
        pixel_format: of the encoder.
        disposition: name of a disposition; empty for the container's.
        turn: degrees counter-clockwise and horizontal flip.
    """

    codec: str = "mpeg4"
    size: tuple[int, int] = (64, 48)
    frames: int = 10
    pixel_format: str = "yuv420p"
    disposition: str = ""
    turn: tuple[int, bool] = (0, False)


def four_colours(width: int, height: int, colours: Sequence[tuple[int, ...]] = CORNERS) -> NDArray[np.uint8]:
    """Return a picture of one colour per quarter, uint8 (height, width, channels)."""
    rgb = np.zeros((height, width, len(colours[0])), np.uint8)
    rgb[: height // 2, : width // 2], rgb[: height // 2, width // 2 :] = colours[0], colours[1]
    rgb[height // 2 :, : width // 2], rgb[height // 2 :, width // 2 :] = colours[2], colours[3]
    return rgb


def corners(rgb: NDArray[np.uint8]) -> list[tuple[int, ...]]:
    """Return the colours in the middle of the quarters of a frame, as `CORNERS`."""
    height, width = rgb.shape[:2]
    return [tuple(map(int, rgb[int(height * y), int(width * x)])) for y in (0.25, 0.75) for x in (0.25, 0.75)]


def are_near(seen: Sequence[tuple[int, ...]], wanted: Sequence[tuple[int, ...]], tolerance: int = 14) -> bool:
    """Return whether all colours are within a tolerance."""
    return bool((np.abs(np.subtract(seen, wanted)) <= tolerance).all())


def write_streams(
    path: Path,
    plans: Sequence[StreamPlan],
    picture: Callable[[int, StreamPlan], NDArray[np.uint8]] | None = None,
    **options: Any,
) -> Path:
    """Write a file of several video streams, of `picture(frame, plan)`, else of the four colours."""
    with av.open(str(path), "w", **options) as container:
        streams = []
        for plan in plans:
            stream: Any = container.add_stream(plan.codec, rate=10)
            (stream.width, stream.height), stream.pix_fmt = plan.size, plan.pixel_format
            if plan.codec not in ("png", "qtrle", "ffv1"):
                stream.bit_rate = 2_000_000
            if plan.disposition:
                stream.disposition = av.stream.Disposition[plan.disposition]
            if plan.turn != (0, False):
                stream.set_display_rotation(plan.turn[0], hflip=plan.turn[1])
            streams.append(stream)
        for index in range(max(plan.frames for plan in plans)):
            for plan, stream in zip(plans, streams, strict=True):
                if index < plan.frames:
                    rgb = four_colours(*plan.size) if picture is None else picture(index, plan)
                    frame = av.VideoFrame.from_ndarray(rgb, format="rgba" if rgb.shape[2] == 4 else "rgb24")
                    frame.pts, frame.time_base = index, Fraction(1, 10)
                    container.mux(stream.encode(frame))
        for stream in streams:
            container.mux(stream.encode(None))
    return path


def decode_video(path: Path) -> tuple[list[DecodedSegment], Reading]:
    """Return the segments of a video, and all that decoding finds out about it."""
    found, reading = [], NO_READING
    for piece in pieces(
        path,
        Modality.VIDEO,
        wants=DecodeHints(24, 1.0),
        options=DecodeOptions(),
        sidecar=Sidecar(),
        count_tokens=len,
        max_tokens=100,
    ):
        found.append(piece)
        reading = merge_readings(reading, piece.reading)
    return found, reading
