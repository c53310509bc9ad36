"""Thumbnails of segments: a picture that tells at a glance what a file holds, whatever its modality."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw

from bindsearch.arguments import to_number
from bindsearch.errors import MediaError
from bindsearch.ingest.media.options import DecodeOptions
from bindsearch.media import DecodeHints, DepthMap, Frames, Media, Motion, Passage, Picture, Sound, ThermalPicture
from bindsearch.operations.segment_media import INSTANT_S, Place, SegmentMedia, read_segment
from bindsearch.operations.show.curves import DYNAMIC_RANGE_DB, Curve, curves_of, envelope, spectrogram_db
from bindsearch.operations.show.drawing import (
    AXIS_COLOURS,
    GRID,
    INFERNO,
    LINE,
    PAPER,
    VIRIDIS,
    colour_map,
    coloured,
    curve_points,
    range_of,
    text_panel,
)
from bindsearch.types import Modality

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

MIN_SIDE_PX, MAX_SIDE_PX = 16, 1024
_STRIP = 0.625
"""Height of thumbnails of sounds, motion and texts, as a share of their width."""

_WAVEFORM_SHARE = 0.35
_WAVEFORM_COLOUR = (40, 80, 200)


def thumbnail(place: Place, side_px: int, options: DecodeOptions | None = None) -> Image.Image:
    """Return a thumbnail, RGB, whose longer side is at most `side_px` pixels.

    A picture; the frame in the middle of a video's span; the waveform of a sound above its spectrogram; the six curves
    of motion; a depth map or thermal picture in false colours; the first lines of a text.

    Args:
        place: The segment; without a span, of a recording its first segment.
        side_px: Size in pixels.
        options: Limits and lengths of segments; None: the defaults.

    Raises:
        MediaError: the file is gone, has changed, or is damaged.
        UsageError: the size is not MIN_SIDE_PX to MAX_SIDE_PX.
    """
    expected = f"give {MIN_SIDE_PX} to {MAX_SIDE_PX} pixels"
    side_px = round(to_number(side_px, "side_px", expected, MIN_SIDE_PX, MAX_SIDE_PX))
    options = options or DecodeOptions()
    hints = DecodeHints(picture_side_px=(side_px + 1) // 2, frames_per_s=1 / INSTANT_S)
    if place.modality is Modality.VIDEO:
        return _drawn(_middle_frame(place, options, hints), side_px)
    return _drawn(read_segment(place, options, hints), side_px)


def thumbnail_of(media: Media, side_px: int) -> Image.Image:
    """Return a thumbnail of a decoded medium, as `thumbnail` does of a segment; MIN_SIDE_PX to MAX_SIDE_PX."""
    return _drawn(SegmentMedia(media), side_px)


def _middle_frame(place: Place, options: DecodeOptions, hints: DecodeHints) -> SegmentMedia:
    """Return the frame shown in the middle of a span of video; of a whole video, of its first segment."""
    start_s, end_s = place.start_s or 0.0, place.end_s
    if end_s is None:
        end_s = options.video_segment_s
    middle_s = (start_s + end_s) / 2
    try:
        return read_segment(replace(place, start_s=middle_s, end_s=middle_s + INSTANT_S), options, hints)
    except MediaError:  # it ends before: its last frame is shown longer, or it is shorter than a segment
        if middle_s == start_s:
            raise
        return read_segment(replace(place, start_s=start_s, end_s=start_s + INSTANT_S), options, hints)


def _drawn(found: SegmentMedia, side_px: int) -> Image.Image:
    """Return a decoded segment as a thumbnail."""
    strip = side_px, max(1, round(_STRIP * side_px))
    match found.media:
        case Picture(rgb=rgb):
            return _reduced(rgb, side_px)
        case Frames(rgb=frames):
            return _reduced(frames[0], side_px)
        case Sound() as sound:
            canvas, above = Image.new("RGB", strip, PAPER), round(_WAVEFORM_SHARE * strip[1])
            canvas.paste(waveform(sound, (side_px, above)))
            canvas.paste(spectrogram(sound, (side_px, strip[1] - above)), (0, above))
            return canvas
        case Motion() as motion:
            return _motion(curves_of(motion), strip)
        case DepthMap(depth_m=depth_m, valid=valid):
            return _false_colours(depth_m, valid, depth_m[valid], VIRIDIS, side_px)
        case ThermalPicture(values=values):
            return _false_colours(values, np.ones(values.shape, np.bool_), np.array((0.0, 1.0)), INFERNO, side_px)
        case Passage(text=text):
            panel = text_panel(text[: 64 * side_px], max(1, side_px - 8), max(1, strip[1] // LINE))
            canvas = Image.new("RGB", strip, PAPER)
            canvas.paste(panel, (4, 2))
            return canvas


def _reduced(rgb: NDArray[np.uint8], side_px: int) -> Image.Image:
    picture = Image.fromarray(np.ascontiguousarray(rgb))
    picture.thumbnail((side_px, side_px), Image.Resampling.BICUBIC)
    return picture


def _false_colours(
    values: NDArray[np.floating],
    valid: NDArray[np.bool_],
    known: NDArray[np.floating],
    colours: Sequence[tuple[int, int, int]],
    side_px: int,
) -> Image.Image:
    """Return values in colours from the 1st to the 99th percentile of those known: one far pixel does not hide all."""
    low, high = (float(edge) for edge in np.percentile(known, (1, 99)))
    return _reduced(colour_map(values, valid, (low, high), colours, (side_px, side_px)), side_px)


def waveform(sound: Sound, size: tuple[int, int]) -> Image.Image:
    """Return the least and greatest sample of each column of pixels; the loudest sample reaches the edge."""
    width, height = size
    extremes = envelope(sound, width)
    peak = max(float(np.abs(extremes).max()), 1e-9)
    low, high = ((1 - extremes / peak) / 2 * (height - 1)).round().astype(np.int64)
    rows = np.arange(height)[:, None]
    pixels = np.where(((rows >= high) & (rows <= low))[..., None], _WAVEFORM_COLOUR, PAPER).astype(np.uint8)
    return Image.fromarray(pixels)


def spectrogram(sound: Sound, size: tuple[int, int]) -> Image.Image:
    """Return the log-mel spectrogram of a sound, low frequencies below."""
    levels = spectrogram_db(sound, size[0])
    pixels = coloured(levels[::-1] / DYNAMIC_RANGE_DB + 1, INFERNO)
    return Image.fromarray(pixels).resize(size, Image.Resampling.BILINEAR)


def _motion(curves: Sequence[Curve], size: tuple[int, int]) -> Image.Image:
    """Return the three curves of the accelerometer above those of the gyroscope."""
    width, height = size
    canvas = Image.new("RGB", size, PAPER)
    drawing = ImageDraw.Draw(canvas)
    middle = height // 2
    drawing.line((0, middle, width, middle), GRID)
    for three, (top, bottom) in zip((curves[:3], curves[3:]), ((2, middle - 3), (middle + 3, height - 3)), strict=True):
        span = range_of(three)
        for curve, colour in zip(three, AXIS_COLOURS, strict=True):
            drawing.line(curve_points(curve.values, (0, width - 1), (bottom, top), span), colour)
    return canvas
