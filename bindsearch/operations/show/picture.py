"""A picture of what reaches the encoder: a heading, and a panel that suits the modality. Drawn with Pillow."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from bindsearch.media import DepthMap, Frames, Media, Motion, Passage, Picture, Sound, ThermalPicture
from bindsearch.operations.show.curves import MEASURED_UNITS, Curve, curves_of, size_of

if TYPE_CHECKING:
    from bindsearch.operations.show.show_file import ShownFile

WIDTH, MARGIN, LINE = 960, 16, 18
CURVES_HEIGHT, AXIS_LEFT, BAR_WIDTH = 220, 70, 18
MAX_SIDE = (WIDTH - 2 * MARGIN - 120, 640)
"""Largest width and height in pixels of a picture or map; smaller ones are enlarged by a whole factor."""

MAX_NOTES, MAX_TEXT_LINES, MAX_FRAMES, FRAMES_A_ROW = 12, 60, 20, 5
WRAP_CHARACTERS = 128
INK, PAPER, GRID, NO_VALUE = (20, 20, 20), (255, 255, 255), (225, 225, 225), (128, 128, 128)
AXIS_COLOURS = ((200, 40, 40), (30, 140, 50), (40, 80, 200))
VIRIDIS = ((68, 1, 84), (59, 82, 139), (33, 145, 140), (94, 201, 98), (253, 231, 37))
INFERNO = ((0, 0, 4), (87, 16, 110), (188, 55, 84), (249, 142, 9), (252, 255, 164))
"""Colours at 0, 1/4, ... 1 of the maps of matplotlib (CC0), interpolated linearly here."""

Colours = Sequence[tuple[int, int, int]]


def draw_file(shown: ShownFile) -> Image.Image:
    """Return a picture, RGB, WIDTH pixels wide and at most about 1500 high, of a file's chosen segment.

    Args:
        shown: A file with a chosen segment.
    """
    assert shown.chosen is not None
    heading = _heading(shown)
    panel = _panel(shown.chosen.media, shown.chosen.start_s or 0.0)
    canvas = Image.new("RGB", (WIDTH, len(heading) * LINE + panel.height + 3 * MARGIN), PAPER)
    drawing = ImageDraw.Draw(canvas)
    for row, text in enumerate(heading):
        _write(drawing, (MARGIN, MARGIN + row * LINE), text)
    canvas.paste(panel, (MARGIN, 2 * MARGIN + len(heading) * LINE))
    return canvas


def _heading(shown: ShownFile) -> list[str]:
    """Return the lines above the panel."""
    assert shown.chosen is not None
    piece = shown.chosen
    span = "" if piece.start_s is None or piece.end_s is None else f", {piece.start_s:.6g} s to {piece.end_s:.6g} s"
    total = sum(shown.counts.values())
    lines = [shown.path.name, f"{shown.modality}: {shown.why}"]
    lines.append(f"segment {shown.number} of {total}: {piece.modality}{span}; {size_of(piece.media)}")
    if shown.measured:
        values = (f"{name} {value:.4g} {MEASURED_UNITS.get(name, '')}" for name, value in shown.measured.items())
        lines.append(", ".join(value.strip() for value in values))
    lines += [f"note: {note}" for note in shown.notes[:MAX_NOTES]]
    if len(shown.notes) > MAX_NOTES:
        lines.append(f"... and {len(shown.notes) - MAX_NOTES} more notes")
    return [part for line in lines for part in textwrap.wrap(line, WRAP_CHARACTERS)[:4]]


def _panel(media: Media, start_s: float) -> Image.Image:
    """Return the panel of a medium that starts at `start_s` seconds."""
    match media:
        case Motion(samples=samples, sample_rate_hz=rate_hz):
            end_s, curves = start_s + len(samples) / rate_hz, curves_of(media)
            return _stacked([_plot(curves[:3], (start_s, end_s)), _plot(curves[3:], (start_s, end_s))])
        case DepthMap(depth_m=depth_m, valid=valid):
            known = depth_m[valid]
            return _map(depth_m, valid, (float(known.min()), float(known.max())), VIRIDIS, "m")
        case ThermalPicture(values=values):
            return _map(values, np.ones(values.shape, np.bool_), (0.0, 1.0), INFERNO, "")
        case Sound():
            return _spectrogram(media, start_s)
        case Frames(rgb=frames, times_s=times_s):
            return _sheet(frames, times_s)
        case Picture(rgb=rgb):
            return _fitted(rgb)
        case Passage(text=text):
            return _text(text)


def _plot(curves: Sequence[Curve], span_s: tuple[float, float]) -> Image.Image:
    """Return the curves of one sensor in one diagram, with their range and unit."""
    panel = Image.new("RGB", (WIDTH - 2 * MARGIN, CURVES_HEIGHT), PAPER)
    drawing = ImageDraw.Draw(panel)
    left, top, right, bottom = AXIS_LEFT, LINE + 4, panel.width - 10, CURVES_HEIGHT - LINE - 6
    low, high = min(float(one.values.min()) for one in curves), max(float(one.values.max()) for one in curves)
    if not high > low:
        low, high = low - 1, high + 1
    for step in range(5):
        share = step / 4
        y, x = bottom - share * (bottom - top), left + share * (right - left)
        drawing.line((left, y, right, y), GRID)
        _write(drawing, (2, y - 8), f"{low + share * (high - low):.4g}")
        label = f"{span_s[0] + share * (span_s[1] - span_s[0]):.4g} s"
        _write(drawing, (min(x, right - 50), bottom + 4), label)
    for curve, colour, place in zip(curves, AXIS_COLOURS, (0, 1, 2), strict=True):
        _write(drawing, (left + 200 * place, 0), f"{curve.name} ({curve.unit})", colour)
        drawing.line(_points(curve.values, (left, right), (bottom, top), (low, high)), colour)
    drawing.rectangle((left, top, right, bottom), outline=INK)
    return panel


def _points(
    values: NDArray[np.floating], across: tuple[int, int], along: tuple[int, int], span: tuple[float, float]
) -> list[tuple[float, float]]:
    """Return the points of a curve; of many values, the least and greatest of each column of pixels."""
    width = across[1] - across[0]
    places = np.arange(len(values), dtype=np.float64)
    if len(values) > 4 * width:
        edges = np.linspace(0, len(values), width + 1).astype(np.int64)[:-1]
        ends = [np.minimum.reduceat(values, edges), np.maximum.reduceat(values, edges)]
        values, places = np.stack(ends, 1).ravel(), np.repeat(edges, 2).astype(np.float64)
    shares = (values.astype(np.float64) - span[0]) / (span[1] - span[0])
    x = across[0] + width * places / max(1.0, places[-1])
    y = along[0] + (along[1] - along[0]) * shares
    return [*zip(x.tolist(), y.tolist(), strict=True)]


def _map(
    values: NDArray[np.floating], valid: NDArray[np.bool_], span: tuple[float, float], colours: Colours, unit: str
) -> Image.Image:
    """Return values (height, width) in false colours, with a bar of them; pixels without a value are grey."""
    low, high = span if span[1] > span[0] else (span[0], span[0] + 1)
    step = max(1, values.shape[0] // MAX_SIDE[1], values.shape[1] // MAX_SIDE[0])  # bounds the memory of colours
    values, valid = values[::step, ::step], valid[::step, ::step]
    shares = np.clip((values - low) / (high - low), 0, 1)
    rgb = _coloured(shares, colours)
    rgb[~valid] = NO_VALUE
    return _with_bar(_fitted(rgb), (low, high), colours, unit)


def _with_bar(picture: Image.Image, span: tuple[float, float], colours: Colours, unit: str) -> Image.Image:
    """Return a picture with a bar of colours from the lowest value (below) to the highest on its right."""
    height = max(picture.height, 120)
    panel = Image.new("RGB", (WIDTH - 2 * MARGIN, height + LINE), PAPER)
    panel.paste(picture, (0, LINE // 2))
    bar = np.repeat(_coloured(np.linspace(1, 0, height)[:, None], colours), BAR_WIDTH, 1)
    left = picture.width + 12
    panel.paste(Image.fromarray(bar), (left, LINE // 2))
    drawing = ImageDraw.Draw(panel)
    for step in range(5):
        value = span[0] + step / 4 * (span[1] - span[0])
        _write(drawing, (left + BAR_WIDTH + 6, (1 - step / 4) * (height - 1)), f"{value:.4g} {unit}".strip())
    return panel


def _coloured(shares: NDArray[np.floating], colours: Colours) -> NDArray[np.uint8]:
    """Return the colours of shares in 0..1 (...): uint8 (..., 3)."""
    table = np.array(colours, np.float64)
    steps = np.linspace(0, 1, len(table))
    channels = [np.interp(shares, steps, table[:, channel]) for channel in range(3)]
    return np.stack(channels, -1).round().astype(np.uint8)


def _spectrogram(sound: Sound, start_s: float) -> Image.Image:
    """Return the log-mel spectrogram of a sound, low frequencies below."""
    from bindsearch.encoders.mini.audio import DYNAMIC_RANGE_DB, MEL_HIGH_HZ, MEL_LOW_HZ, sound_levels

    levels = sound_levels(sound.samples, sound.sample_rate_hz)
    high = float(levels.max())
    low = high - DYNAMIC_RANGE_DB
    columns = np.linspace(0, levels.shape[1] - 1, min(MAX_SIDE[0], levels.shape[1])).round().astype(np.int64)
    rgb = _coloured(np.clip((levels[::-1, columns] - low) / (high - low), 0, 1), INFERNO)
    picture = Image.fromarray(rgb).resize((MAX_SIDE[0], 4 * len(levels)), Image.Resampling.NEAREST)
    panel = _with_bar(picture, (low, high), INFERNO, "dB")
    end_s = start_s + len(sound.samples) / sound.sample_rate_hz
    mel = f"{start_s:.4g} s to {end_s:.4g} s; {len(levels)} mel bands from {MEL_LOW_HZ:g} to {MEL_HIGH_HZ:g} Hz"
    return _stacked([panel, _text(mel)])


def _sheet(frames: NDArray[np.uint8], times_s: NDArray[np.float64]) -> Image.Image:
    """Return frames in rows, each above its time; of many frames, MAX_FRAMES evenly spread ones."""
    chosen = np.unique(np.linspace(0, len(frames) - 1, min(len(frames), MAX_FRAMES)).round().astype(np.int64))
    cell = (WIDTH - 2 * MARGIN) // FRAMES_A_ROW
    pictures = [Image.fromarray(frames[index]) for index in chosen]
    for picture in pictures:
        picture.thumbnail((cell - 6, cell - 6))
    step = max(picture.height for picture in pictures) + LINE + 6
    panel = Image.new("RGB", (WIDTH - 2 * MARGIN, step * math.ceil(len(chosen) / FRAMES_A_ROW)), PAPER)
    drawing = ImageDraw.Draw(panel)
    for place, (index, picture) in enumerate(zip(chosen.tolist(), pictures, strict=True)):
        row, column = divmod(place, FRAMES_A_ROW)
        panel.paste(picture, (column * cell, row * step))
        _write(drawing, (column * cell, row * step + picture.height + 2), f"{times_s[index]:.2f} s")
    return panel


def _fitted(rgb: NDArray[np.uint8]) -> Image.Image:
    """Return pixels (height, width, 3) as a picture of at most MAX_SIDE; small ones enlarged by a whole factor."""
    height, width = rgb.shape[:2]
    scale = min(MAX_SIDE[0] / width, MAX_SIDE[1] / height)
    scale = min(8, math.floor(scale)) if scale >= 1 else scale
    size = max(1, round(width * scale)), max(1, round(height * scale))
    method = Image.Resampling.NEAREST if scale >= 1 else Image.Resampling.BOX
    return Image.fromarray(np.ascontiguousarray(rgb)).resize(size, method)


def _text(text: str) -> Image.Image:
    """Return a text, wrapped."""
    lines = [part for line in text.splitlines() for part in textwrap.wrap(line, WRAP_CHARACTERS) or [""]]
    shown = lines[:MAX_TEXT_LINES] + (["..."] if len(lines) > MAX_TEXT_LINES else [])
    panel = Image.new("RGB", (WIDTH - 2 * MARGIN, max(1, len(shown)) * LINE), PAPER)
    drawing = ImageDraw.Draw(panel)
    for row, line in enumerate(shown):
        _write(drawing, (0, row * LINE), line)
    return panel


def _stacked(panels: Sequence[Image.Image]) -> Image.Image:
    """Return panels of one width below each other."""
    stack = Image.new("RGB", (panels[0].width, sum(panel.height for panel in panels)), PAPER)
    top = 0
    for panel in panels:
        stack.paste(panel, (0, top))
        top += panel.height
    return stack


def _write(
    drawing: ImageDraw.ImageDraw, place: tuple[float, float], text: str, colour: tuple[int, int, int] = INK
) -> None:
    """Write one line; control characters are replaced."""
    line = "".join(letter if letter.isprintable() else "?" for letter in text)
    drawing.text(place, line, colour, font=ImageFont.load_default(13))
