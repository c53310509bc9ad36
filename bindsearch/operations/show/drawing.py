"""Diagrams of decoded media, drawn with Pillow: curves, maps in false colours, sheets of frames, texts."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from bindsearch.operations.show.curves import Curve
from bindsearch.types import clock

LINE, FONT_PX = 18, 13
CURVES_HEIGHT, AXIS_LEFT, BAR_WIDTH, BAR_SPACE = 220, 70, 18, 120
MAX_HEIGHT = 640
"""Largest height in pixels of a picture or map; smaller ones are enlarged by a whole factor."""

MAX_TEXT_LINES, MAX_FRAMES, FRAMES_A_ROW = 60, 20, 5
MOST_ROUND = 7
MINUTE_STEPS_S = (15.0, 30.0, 60.0, 120.0, 300.0, 600.0, 900.0, 1800.0, 3600.0, 7200.0, 14400.0, 36000.0)
"""Distances of times on an axis of a minute or more."""

CHARACTER_PX = 7.25
"""Mean width of a letter of the font."""

INK, PAPER, GRID, NO_VALUE = (20, 20, 20), (255, 255, 255), (225, 225, 225), (128, 128, 128)
AXIS_COLOURS = ((200, 40, 40), (30, 140, 50), (40, 80, 200))
VIRIDIS = ((68, 1, 84), (59, 82, 139), (33, 145, 140), (94, 201, 98), (253, 231, 37))
INFERNO = ((0, 0, 4), (87, 16, 110), (188, 55, 84), (249, 142, 9), (252, 255, 164))
"""Colours at 0, 1/4, ... 1 of the maps of matplotlib (CC0), interpolated linearly here."""

Colours = Sequence[tuple[int, int, int]]


def plot(curves: Sequence[Curve], span_s: tuple[float, float], width_px: int) -> Image.Image:
    """Return the curves of one sensor, at most three, in one diagram, with their range and unit."""
    panel = Image.new("RGB", (width_px, CURVES_HEIGHT), PAPER)
    drawing = ImageDraw.Draw(panel)
    left, top, right, bottom = AXIS_LEFT, LINE + 4, panel.width - 10, CURVES_HEIGHT - LINE - 6
    low, high = range_of(curves)
    for value in round_values(low, high):
        y = bottom - (value - low) / (high - low) * (bottom - top)
        drawing.line((left, y, right, y), GRID)
        write(drawing, (2, y - 8), f"{value:.4g}")
    write_times(drawing, span_s, (left, right), bottom + 4)
    for place, (curve, colour) in enumerate(zip(curves, AXIS_COLOURS, strict=False)):
        write(drawing, (left + min(200, (right - left) // 3) * place, 0), f"{curve.name} ({curve.unit})", colour)
        drawing.line(curve_points(curve.values, (left, right), (bottom, top), (low, high)), colour)
    drawing.rectangle((left, top, right, bottom), outline=INK)
    return panel


def write_times(drawing: ImageDraw.ImageDraw, span_s: tuple[float, float], across: tuple[int, int], top: float) -> None:
    """Write round times of a span below the axis between two columns."""
    left, right = across
    start_s, end_s = span_s[0], max(span_s[1], span_s[0] + 1e-3)
    for time_s in round_values(start_s, end_s, MINUTE_STEPS_S if end_s - start_s >= 60 else ()):
        x = left + (time_s - start_s) / (end_s - start_s) * (right - left)
        drawing.line((x, top - 4, x, top), INK)
        text = clock(time_s) if end_s >= 60 and time_s == round(time_s, 1) else f"{time_s:.6g} s"
        write(drawing, (min(x, right - 50), top), text)


def round_values(low: float, high: float, steps: Sequence[float] = ()) -> list[float]:
    """Return the multiples of 1, 2 or 5 times a power of ten in a range, at most MOST_ROUND.

    Args:
        low: Lowest value.
        high: Highest value, above the lowest.
        steps: Distances that are preferred, ascending.
    """
    power = 10.0 ** math.floor(math.log10((high - low) / MOST_ROUND))
    for step in (*steps, *(power * factor for factor in (1, 2, 5, 10, 20))):
        first, last = math.ceil(low / step - 1e-6), math.floor(high / step + 1e-6)
        if last - first < MOST_ROUND:
            break
    return [round(number * step, 12) for number in range(first, last + 1)]


def range_of(curves: Sequence[Curve]) -> tuple[float, float]:
    """Return the least and the greatest value of curves; of equal ones, one below and one above."""
    low, high = min(float(one.values.min()) for one in curves), max(float(one.values.max()) for one in curves)
    return (low, high) if high > low else (low - 1, high + 1)


def curve_points(
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


def colour_map(
    values: NDArray[np.floating],
    valid: NDArray[np.bool_],
    span: tuple[float, float],
    colours: Colours,
    max_size: tuple[int, int],
) -> NDArray[np.uint8]:
    """Return values (height, width) in false colours: uint8 (h, w, 3); pixels without a value are grey.

    Args:
        values: The values.
        valid: bool (height, width), where they are known.
        span: The values that get the first and the last colour.
        colours: The colours.
        max_size: Width and height that are enough; larger maps are thinned by a whole factor, to bound memory.
    """
    low, high = span if span[1] > span[0] else (span[0], span[0] + 1)
    step = max(1, values.shape[0] // max_size[1], values.shape[1] // max_size[0])
    values, valid = values[::step, ::step], valid[::step, ::step]
    rgb = coloured(np.clip((values - low) / (high - low), 0, 1), colours)
    rgb[~valid] = NO_VALUE
    return rgb


def scaled_map(
    values: NDArray[np.floating],
    valid: NDArray[np.bool_],
    span: tuple[float, float],
    colours: Colours,
    unit: str,
    width_px: int,
) -> Image.Image:
    """Return values (height, width) in false colours, with a bar of them; see `colour_map`."""
    low, high = span if span[1] > span[0] else (span[0], span[0] + 1)
    room = max(1, width_px - BAR_SPACE), MAX_HEIGHT
    rgb = colour_map(values, valid, (low, high), colours, room)
    return with_bar(fitted(rgb, room), (low, high), colours, unit, width_px)


def with_bar(
    picture: Image.Image, span: tuple[float, float], colours: Colours, unit: str, width_px: int
) -> Image.Image:
    """Return a picture with a bar of colours from the lowest value (below) to the highest on its right."""
    height = max(picture.height, 120)
    panel = Image.new("RGB", (width_px, height + LINE), PAPER)
    panel.paste(picture, (0, LINE // 2))
    left, bar = picture.width + 12, np.repeat(coloured(np.linspace(1, 0, height)[:, None], colours), BAR_WIDTH, 1)
    panel.paste(Image.fromarray(bar), (left, LINE // 2))
    drawing = ImageDraw.Draw(panel)
    for step in range(5):
        value = span[0] + step / 4 * (span[1] - span[0])
        write(drawing, (left + BAR_WIDTH + 6, (1 - step / 4) * (height - 1)), f"{value:.4g} {unit}".strip())
    return panel


def coloured(shares: NDArray[np.floating], colours: Colours) -> NDArray[np.uint8]:
    """Return the colours of shares in 0..1 (...): uint8 (..., 3)."""
    table = np.array(colours, np.float64)
    steps = np.linspace(0, 1, len(table))
    channels = [np.interp(shares, steps, table[:, channel]) for channel in range(3)]
    return np.stack(channels, -1).round().astype(np.uint8)


def sheet(frames: NDArray[np.uint8], times_s: NDArray[np.float64], width_px: int) -> Image.Image:
    """Return frames in rows, each above its time; of many frames, MAX_FRAMES evenly spread ones."""
    chosen = np.unique(np.linspace(0, len(frames) - 1, min(len(frames), MAX_FRAMES)).round().astype(np.int64))
    cell = width_px // FRAMES_A_ROW
    pictures = [Image.fromarray(frames[index]) for index in chosen]
    for picture in pictures:
        picture.thumbnail((cell - 6, cell - 6))
    step = max(picture.height for picture in pictures) + LINE + 6
    panel = Image.new("RGB", (width_px, step * math.ceil(len(chosen) / FRAMES_A_ROW)), PAPER)
    drawing = ImageDraw.Draw(panel)
    for place, (index, picture) in enumerate(zip(chosen.tolist(), pictures, strict=True)):
        row, column = divmod(place, FRAMES_A_ROW)
        panel.paste(picture, (column * cell, row * step))
        write(drawing, (column * cell, row * step + picture.height + 2), f"{times_s[index]:.2f} s")
    return panel


def fitted(rgb: NDArray[np.uint8], room: tuple[int, int]) -> Image.Image:
    """Return pixels (height, width, 3) as a picture of at most `room`; small ones enlarged by a whole factor."""
    height, width = rgb.shape[:2]
    scale = min(room[0] / width, room[1] / height)
    scale = min(8, math.floor(scale)) if scale >= 1 else scale
    size = max(1, round(width * scale)), max(1, round(height * scale))
    method = Image.Resampling.NEAREST if scale >= 1 else Image.Resampling.BOX
    return Image.fromarray(np.ascontiguousarray(rgb)).resize(size, method)


def text_panel(text: str, width_px: int, max_lines: int = MAX_TEXT_LINES) -> Image.Image:
    """Return a text, wrapped."""
    columns = max(10, int(width_px / CHARACTER_PX))
    lines = [part for line in text.splitlines() for part in textwrap.wrap(line, columns) or [""]]
    shown = lines[:max_lines] + (["..."] if len(lines) > max_lines else [])
    panel = Image.new("RGB", (width_px, max(1, len(shown)) * LINE), PAPER)
    drawing = ImageDraw.Draw(panel)
    for row, line in enumerate(shown):
        write(drawing, (0, row * LINE), line)
    return panel


def under_heading(lines: Sequence[str], panel: Image.Image, width_px: int, margin: int) -> Image.Image:
    """Return a panel below lines of text, with a margin; the width is that between the margins."""
    canvas = Image.new("RGB", (width_px + 2 * margin, len(lines) * LINE + panel.height + 3 * margin), PAPER)
    drawing = ImageDraw.Draw(canvas)
    for row, text in enumerate(lines):
        write(drawing, (margin, margin + row * LINE), text)
    canvas.paste(panel, (margin, 2 * margin + len(lines) * LINE))
    return canvas


def stacked(panels: Sequence[Image.Image]) -> Image.Image:
    """Return panels of one width below each other."""
    stack = Image.new("RGB", (panels[0].width, sum(panel.height for panel in panels)), PAPER)
    top = 0
    for panel in panels:
        stack.paste(panel, (0, top))
        top += panel.height
    return stack


def write(
    drawing: ImageDraw.ImageDraw, place: tuple[float, float], text: str, colour: tuple[int, int, int] = INK
) -> None:
    """Write one line; control characters are replaced."""
    line = "".join(letter if letter.isprintable() else "?" for letter in text)
    drawing.text(place, line, colour, font=ImageFont.load_default(FONT_PX))
