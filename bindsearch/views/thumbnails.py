"""Pictures of segments: thumbnails that say at a glance what a file holds, figures with axes, units and scales."""

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
from bindsearch.operations.show import drawing
from bindsearch.operations.show.curves import (
    BANDS,
    DYNAMIC_RANGE_DB,
    band_hz,
    curves_of,
    envelope,
    spectrogram_db,
)
from bindsearch.operations.show.drawing import AXIS_LEFT, INFERNO, LINE, MAX_HEIGHT, PAPER, VIRIDIS
from bindsearch.types import Modality

if TYPE_CHECKING:
    from numpy.typing import NDArray

MIN_SIDE_PX, MAX_SIDE_PX = 16, 1024
_STRIP = 0.625
"""Height of thumbnails of sounds, motion and texts, as a share of their width."""

_WAVEFORM_SHARE = 0.35
_WAVEFORM_COLOUR = (40, 80, 200)

MIN_WIDTH_PX, MAX_WIDTH_PX = 320, 2048
_FRAMES = 10
_WAVEFORM_HEIGHT, _SPECTROGRAM_HEIGHT = 90, 220
_BAR_SPACE = 100
_TICKS_HZ = (100, 500, 1000, 2000, 4000, 8000, 16_000)


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
        return _thumbnail(_middle_frame(place, options, hints), side_px)
    return _thumbnail(read_segment(place, options, hints), side_px)


def thumbnail_of(media: Media, side_px: int) -> Image.Image:
    """Return a thumbnail of a decoded medium, as `thumbnail` does of a segment; MIN_SIDE_PX to MAX_SIDE_PX."""
    return _thumbnail(SegmentMedia(media), side_px)


def _middle_frame(place: Place, options: DecodeOptions, hints: DecodeHints) -> SegmentMedia:
    """Return the frame shown in the middle of a span of video; of a whole video, of its first segment."""
    start_s = place.start_s or 0.0
    end_s = options.video_segment_s if place.end_s is None else place.end_s
    middle_s = (start_s + end_s) / 2
    try:
        return read_segment(replace(place, start_s=middle_s, end_s=middle_s + INSTANT_S), options, hints)
    except MediaError:  # it ends before: its last frame is shown longer, or it is shorter than a segment
        if middle_s == start_s:
            raise
        return read_segment(replace(place, start_s=start_s, end_s=start_s + INSTANT_S), options, hints)


def _thumbnail(found: SegmentMedia, side_px: int) -> Image.Image:
    """Return a decoded segment as a thumbnail."""
    strip, room = (side_px, max(1, round(_STRIP * side_px))), (side_px, side_px)
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
            return _motion(motion, strip)
        case DepthMap(depth_m=depth_m, valid=valid):
            low, high = np.percentile(depth_m[valid], (1, 99)).tolist()  # one far pixel does not hide all
            return _reduced(drawing.colour_map(depth_m, valid, (low, high), VIRIDIS, room), side_px)
        case ThermalPicture(values=values):
            valid = np.ones(values.shape, np.bool_)
            return _reduced(drawing.colour_map(values, valid, (0.01, 0.99), INFERNO, room), side_px)
        case Passage(text=text):
            panel = drawing.text_panel(text[: 64 * side_px], max(1, side_px - 8), max(1, strip[1] // LINE))
            canvas = Image.new("RGB", strip, PAPER)
            canvas.paste(panel, (4, 2))
            return canvas


def _reduced(rgb: NDArray[np.uint8], side_px: int) -> Image.Image:
    picture = Image.fromarray(np.ascontiguousarray(rgb))
    picture.thumbnail((side_px, side_px), Image.Resampling.BICUBIC)
    return picture


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
    pixels = drawing.coloured(levels[::-1] / DYNAMIC_RANGE_DB + 1, INFERNO)
    return Image.fromarray(pixels).resize(size, Image.Resampling.BILINEAR)


def _motion(motion: Motion, size: tuple[int, int]) -> Image.Image:
    """Return the three curves of the accelerometer above those of the gyroscope."""
    curves, (width, height) = curves_of(motion), size
    canvas = Image.new("RGB", size, PAPER)
    pen = ImageDraw.Draw(canvas)
    middle = height // 2
    pen.line((0, middle, width, middle), drawing.GRID)
    for three, (top, bottom) in zip((curves[:3], curves[3:]), ((2, middle - 3), (middle + 3, height - 3)), strict=True):
        span = drawing.range_of(three)
        for curve, colour in zip(three, drawing.AXIS_COLOURS, strict=True):
            pen.line(drawing.curve_points(curve.values, (0, width - 1), (bottom, top), span), colour)
    return canvas


def figure(place: Place, width_px: int, options: DecodeOptions | None = None) -> Image.Image:
    """Return a figure of a segment, RGB, `width_px` wide or less.

    Motion: accelerometer and gyroscope, three channels each (figure 7 of Girdhar et al. 2023, ImageBind). Depth in
    metres and thermal pictures in degrees Celsius, where these are known, with a scale. Sound: waveform and
    spectrogram. Video: frames with their times.

    Args:
        place: The segment; without a span, of a recording its first segment.
        width_px: Width in pixels.
        options: Limits and lengths of segments; None: the defaults.

    Raises:
        MediaError: the file is gone, has changed, or is damaged.
        UsageError: the width is not MIN_WIDTH_PX to MAX_WIDTH_PX.
    """
    expected = f"give {MIN_WIDTH_PX} to {MAX_WIDTH_PX} pixels"
    width_px = round(to_number(width_px, "width_px", expected, MIN_WIDTH_PX, MAX_WIDTH_PX))
    options = options or DecodeOptions()
    if place.modality is Modality.VIDEO:
        span = place.span
        length_s = options.video_segment_s if span is None else span.end_s - span.start_s
        hints = DecodeHints(picture_side_px=width_px // 10, frames_per_s=min(10.0, _FRAMES / length_s))
    else:
        hints = DecodeHints(picture_side_px=min(width_px, MAX_HEIGHT) // 2, frames_per_s=1.0)
    return _figure(read_segment(place, options, hints), place.start_s or 0.0, width_px)


def _figure(found: SegmentMedia, start_s: float, width_px: int) -> Image.Image:
    """Return a decoded segment as a figure."""
    match found.media:
        case Motion(samples=samples, sample_rate_hz=rate_hz) as motion:
            span_s, curves = (start_s, start_s + len(samples) / rate_hz), curves_of(motion)
            return drawing.stacked([drawing.plot(three, span_s, width_px) for three in (curves[:3], curves[3:])])
        case DepthMap(depth_m=depth_m, valid=valid):
            known = depth_m[valid]
            unit = "(relative)" if found.is_relative else "m"
            return drawing.scaled_map(depth_m, valid, (float(known.min()), float(known.max())), VIRIDIS, unit, width_px)
        case ThermalPicture(values=values):
            return _thermal(found, values, width_px)
        case Sound() as sound:
            return _sound(sound, start_s, width_px)
        case Frames(rgb=frames, times_s=times_s):
            return drawing.sheet(frames, times_s, width_px)
        case Picture(rgb=rgb):
            return drawing.fitted(rgb, (width_px, MAX_HEIGHT))
        case Passage(text=text):
            return drawing.text_panel(text, width_px)


def _thermal(found: SegmentMedia, values: np.ndarray, width_px: int) -> Image.Image:
    """Return a thermal picture in degrees Celsius, cut to the 1st and 99th percentile, else as it is read, in 0..1."""
    degrees = found.degrees_c
    if degrees is None or not np.isfinite(degrees).any():
        return drawing.scaled_map(values, np.ones(values.shape, np.bool_), (0.0, 1.0), INFERNO, "", width_px)
    known = np.isfinite(degrees)
    low, high = np.percentile(degrees[known], (1, 99)).tolist()
    return drawing.scaled_map(np.where(known, degrees, low), known, (low, high), INFERNO, "\N{DEGREE SIGN}C", width_px)


def _sound(sound: Sound, start_s: float, width_px: int) -> Image.Image:
    """Return the waveform of a sound above its spectrogram, with time, frequency and level."""
    across = width_px - AXIS_LEFT - _BAR_SPACE
    right = AXIS_LEFT + across - 1
    wave = Image.new("RGB", (width_px, _WAVEFORM_HEIGHT + LINE), PAPER)
    wave.paste(waveform(sound, (across, _WAVEFORM_HEIGHT)), (AXIS_LEFT, LINE // 2))
    pen = ImageDraw.Draw(wave)
    pen.rectangle((AXIS_LEFT, LINE // 2, right, LINE // 2 + _WAVEFORM_HEIGHT - 1), outline=drawing.INK)
    peak = float(np.abs(sound.samples).max())
    for label, y in ((f"{peak:.2g}", 0), ("0", _WAVEFORM_HEIGHT // 2), (f"{-peak:.2g}", _WAVEFORM_HEIGHT - 1)):
        drawing.write(pen, (2, y), label)
    picture = spectrogram(sound, (across, _SPECTROGRAM_HEIGHT))
    level = Image.new("RGB", (width_px, _SPECTROGRAM_HEIGHT + LINE), PAPER)
    bar = drawing.with_bar(picture, (-DYNAMIC_RANGE_DB, 0.0), INFERNO, "dB", width_px - AXIS_LEFT)
    level.paste(bar, (AXIS_LEFT, 0))
    pen = ImageDraw.Draw(level)
    centres = band_hz(sound.sample_rate_hz)
    for hz in _TICKS_HZ:
        if hz <= centres[-1]:
            share = float(np.interp(hz, centres, np.arange(BANDS))) / (BANDS - 1)
            drawing.write(pen, (2, (1 - share) * (_SPECTROGRAM_HEIGHT - 1)), f"{hz:g} Hz")
    times = Image.new("RGB", (width_px, LINE + 4), PAPER)
    end_s = start_s + len(sound.samples) / sound.sample_rate_hz
    drawing.write_times(ImageDraw.Draw(times), (start_s, end_s), (AXIS_LEFT, right), 2)
    return drawing.stacked([wave, level, times])
