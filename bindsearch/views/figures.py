"""Figures of segments: the large form, with axes, units and scales."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw

from bindsearch.arguments import to_number
from bindsearch.ingest.media.options import DecodeOptions
from bindsearch.media import DecodeHints, DepthMap, Frames, Motion, Passage, Picture, Sound, ThermalPicture
from bindsearch.operations.segment_media import Place, SegmentMedia, read_segment
from bindsearch.operations.show.curves import BANDS, DYNAMIC_RANGE_DB, band_hz, curves_of
from bindsearch.operations.show.drawing import (
    AXIS_LEFT,
    INFERNO,
    INK,
    LINE,
    MAX_HEIGHT,
    PAPER,
    VIRIDIS,
    fitted,
    plot,
    scaled_map,
    sheet,
    stacked,
    text_panel,
    with_bar,
    write,
    write_times,
)
from bindsearch.types import Modality
from bindsearch.views.thumbnails import spectrogram, waveform

MIN_WIDTH_PX, MAX_WIDTH_PX = 320, 2048
_FRAMES = 10
_WAVEFORM_HEIGHT, _SPECTROGRAM_HEIGHT = 90, 220
_BAR_SPACE = 100
_TICKS_HZ = (100, 500, 1000, 2000, 4000, 8000, 16_000)


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
    return _drawn(read_segment(place, options, hints), place.start_s or 0.0, width_px)


def _drawn(found: SegmentMedia, start_s: float, width_px: int) -> Image.Image:
    """Return a decoded segment as a figure."""
    match found.media:
        case Motion(samples=samples, sample_rate_hz=rate_hz) as motion:
            span_s, curves = (start_s, start_s + len(samples) / rate_hz), curves_of(motion)
            return stacked([plot(three, span_s, width_px) for three in (curves[:3], curves[3:])])
        case DepthMap(depth_m=depth_m, valid=valid):
            known = depth_m[valid]
            unit = "(relative)" if found.is_relative else "m"
            return scaled_map(depth_m, valid, (float(known.min()), float(known.max())), VIRIDIS, unit, width_px)
        case ThermalPicture(values=values):
            return _thermal(found, values, width_px)
        case Sound() as sound:
            return _sound(sound, start_s, width_px)
        case Frames(rgb=frames, times_s=times_s):
            return sheet(frames, times_s, width_px)
        case Picture(rgb=rgb):
            return fitted(rgb, (width_px, MAX_HEIGHT))
        case Passage(text=text):
            return text_panel(text, width_px)


def _thermal(found: SegmentMedia, values: np.ndarray, width_px: int) -> Image.Image:
    """Return a thermal picture in degrees Celsius, cut to the 1st and 99th percentile, else as it is read, in 0..1."""
    degrees = found.degrees_c
    if degrees is None or not np.isfinite(degrees).any():
        return scaled_map(values, np.ones(values.shape, np.bool_), (0.0, 1.0), INFERNO, "", width_px)
    known = np.isfinite(degrees)
    low, high = (float(edge) for edge in np.percentile(degrees[known], (1, 99)))
    return scaled_map(np.where(known, degrees, low), known, (low, high), INFERNO, "\N{DEGREE SIGN}C", width_px)


def _sound(sound: Sound, start_s: float, width_px: int) -> Image.Image:
    """Return the waveform of a sound above its spectrogram, with time, frequency and level."""
    across = width_px - AXIS_LEFT - _BAR_SPACE
    right = AXIS_LEFT + across - 1
    wave = Image.new("RGB", (width_px, _WAVEFORM_HEIGHT + LINE), PAPER)
    wave.paste(waveform(sound, (across, _WAVEFORM_HEIGHT)), (AXIS_LEFT, LINE // 2))
    drawing = ImageDraw.Draw(wave)
    drawing.rectangle((AXIS_LEFT, LINE // 2, right, LINE // 2 + _WAVEFORM_HEIGHT - 1), outline=INK)
    peak = float(np.abs(sound.samples).max())
    for label, y in ((f"{peak:.2g}", 0), ("0", _WAVEFORM_HEIGHT // 2), (f"{-peak:.2g}", _WAVEFORM_HEIGHT - 1)):
        write(drawing, (2, y), label)
    picture = spectrogram(sound, (across, _SPECTROGRAM_HEIGHT))
    level = Image.new("RGB", (width_px, _SPECTROGRAM_HEIGHT + LINE), PAPER)
    bar = with_bar(picture, (-DYNAMIC_RANGE_DB, 0.0), INFERNO, "dB", width_px - AXIS_LEFT)
    level.paste(bar, (AXIS_LEFT, 0))
    drawing = ImageDraw.Draw(level)
    centres = band_hz(sound.sample_rate_hz)
    for hz in _TICKS_HZ:
        if hz <= centres[-1]:
            share = float(np.interp(hz, centres, np.arange(BANDS))) / (BANDS - 1)
            write(drawing, (2, (1 - share) * (_SPECTROGRAM_HEIGHT - 1)), f"{hz:g} Hz")
    times = Image.new("RGB", (width_px, LINE + 4), PAPER)
    end_s = start_s + len(sound.samples) / sound.sample_rate_hz
    write_times(ImageDraw.Draw(times), (start_s, end_s), (AXIS_LEFT, right), 2)
    return stacked([wave, level, times])
