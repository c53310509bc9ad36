"""A picture of what was located: heat and boxes over a picture or a frame, the relevance over a recording."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from bindsearch.atomic import atomic_write
from bindsearch.errors import MediaError
from bindsearch.ingest.media.options import LONGEST_SPAN_S, DecodeOptions
from bindsearch.media import DepthMap, Motion, Picture, Sound, ThermalPicture
from bindsearch.operations.locate.boxes import enlarged
from bindsearch.operations.locate.dense import PictureLike
from bindsearch.operations.locate.locate import LocatedFile, read_picture
from bindsearch.operations.locate.located import Box, Curve, Located, Peak, RelevantSpan
from bindsearch.operations.locate.record import Asked, picture_record
from bindsearch.operations.recording import png_info
from bindsearch.operations.segment_media import INSTANT_S, LARGE, Place, read_segment
from bindsearch.operations.show.curves import curves_of
from bindsearch.operations.show.drawing import (
    AXIS_LEFT,
    GRID,
    INFERNO,
    INK,
    LINE,
    PAPER,
    VIRIDIS,
    colour_map,
    coloured,
    fitted,
    picture_room,
    plot,
    stacked,
    with_bar,
    write,
    write_times,
)
from bindsearch.operations.show.spectrogram import DYNAMIC_RANGE_DB, spectrogram_db
from bindsearch.types import Modality

WIDTH, MARGIN = 960, 16
PANEL_WIDTH = WIDTH - 2 * MARGIN
ROOM = picture_room(PANEL_WIDTH)
HEAT_SHARE = 0.6
"""Greatest opacity of the heat over a picture; it is 0 where the picture is no nearer to the query than to others."""

BOX_COLOUR, SHADE = (0, 255, 120), (255, 226, 160)
CURVE_HEIGHT, SPECTROGRAM_HEIGHT = 180, 200
MAX_LEGEND_LINES = 12
WRAP_CHARACTERS = 128


def write_drawing(file: LocatedFile, path: Path, decode: DecodeOptions) -> None:
    """Draw what was located in a file into a PNG file, with its record in a text chunk.

    Args:
        file: A file with a result.
        path: The PNG file; an existing one is replaced at once or not at all.
        decode: Limits of decoders.

    Raises:
        MediaError: the file cannot be read now.
        OSError: the PNG file cannot be written.
    """
    assert file.located is not None
    assert file.place is not None
    picture = draw_located(file.located, file.place, file.asked, decode)
    record = picture_record(file.asked, file.place, file.located)
    with atomic_write(path) as target:
        picture.save(target, "PNG", pnginfo=png_info(record))


def draw_located(located: Located, place: Place, asked: Asked, decode: DecodeOptions) -> Image.Image:
    """Return a picture, RGB, WIDTH pixels wide, of what was located, with a legend above.

    Raises:
        MediaError: the file cannot be read now.
    """
    legend = _legend(located, asked)
    if located.curve is None:
        panel = _over(located, _shown(located, place, decode))
    else:
        panel = _recording(located, place, decode, asked.threshold)
    canvas = Image.new("RGB", (WIDTH, len(legend) * LINE + panel.height + 3 * MARGIN), PAPER)
    drawing = ImageDraw.Draw(canvas)
    for row, text in enumerate(legend):
        write(drawing, (MARGIN, MARGIN + row * LINE), text)
    canvas.paste(panel, (MARGIN, 2 * MARGIN + len(legend) * LINE))
    return canvas


def _legend(located: Located, asked: Asked) -> list[str]:
    query = " + ".join(f"{term.weight:.3g}*{term.modality}:{term.source}" for term in asked.terms)
    if len(asked.terms) == 1:
        query = f"{asked.terms[0].modality}: {asked.terms[0].source}"
    at_s = None if located.peak is None else located.peak.at_s
    frame = "" if at_s is None else f", frame at {at_s:.2f} s"
    against = f" against {', '.join(asked.against)}" if asked.against else ""
    lines = [
        f"{located.path.name}{frame}",
        f"query: {query}",
        f"relevance of at least {asked.threshold:g}{against}",
        f"{located.method}",
    ]
    wrapped = [part for line in lines for part in textwrap.wrap(line, WRAP_CHARACTERS)[:3]]
    return wrapped[:MAX_LEGEND_LINES]


def _shown(located: Located, place: Place, decode: DecodeOptions) -> PictureLike:
    """Return the picture, or the frame of a video that answers best."""
    if place.modality is not Modality.VIDEO:
        return read_picture(place, decode, LARGE.picture_side_px)[0]
    at_s = 0.0 if located.peak is None or located.peak.at_s is None else located.peak.at_s
    frame = replace(place, start_s=at_s, end_s=at_s + INSTANT_S)
    media = read_segment(frame, decode, replace(LARGE, frames_per_s=1 / INSTANT_S)).media
    return Picture(media.rgb[0])  # type: ignore[union-attr]  # frames, as the modality says


def _over(located: Located, media: PictureLike) -> Image.Image:
    """Return a picture under its heat map, with the boxes and the peak."""
    picture = fitted(_pixels(media), ROOM)
    if located.heat is not None:
        heat = enlarged(np.nan_to_num(located.heat))
        shade = Image.fromarray(coloured(heat, INFERNO)).resize(picture.size, Image.Resampling.BILINEAR)
        opacity = Image.fromarray((255 * HEAT_SHARE * np.clip(2 * heat - 1, 0, 1)).astype(np.uint8))
        picture = Image.composite(shade, picture, opacity.resize(picture.size, Image.Resampling.BILINEAR))
    at_s = None if located.peak is None else located.peak.at_s
    drawing = ImageDraw.Draw(picture)
    for box in reversed(located.boxes):
        if box.at_s == at_s:
            _draw_box(drawing, box, picture.size)
    if located.peak is not None:
        _draw_peak(drawing, located.peak, picture.size)
    return with_bar(picture, (0.0, 1.0), INFERNO, "", PANEL_WIDTH)


def _pixels(media: PictureLike) -> np.ndarray:
    match media:
        case Picture(rgb=rgb):
            return rgb
        case DepthMap(depth_m=depth_m, valid=valid):
            known = depth_m[valid]
            return colour_map(depth_m, valid, (float(known.min()), float(known.max())), VIRIDIS, ROOM)
        case ThermalPicture(values=values):
            grey = (255 * np.clip(values, 0, 1)).astype(np.uint8)
            return np.repeat(grey[..., None], 3, axis=2)


def _draw_box(drawing: ImageDraw.ImageDraw, box: Box, size: tuple[int, int]) -> None:
    width, height = size
    left, top = round(box.left * (width - 1)), round(box.top * (height - 1))
    right, bottom = max(left, round(box.right * (width - 1))), max(top, round(box.bottom * (height - 1)))
    drawing.rectangle((left, top, right, bottom), outline=BOX_COLOUR, width=2)
    label = f"{box.relevance:.2f}"
    down = top - LINE if top >= LINE else top + 2
    drawing.rectangle((left, down, left + 34, down + LINE - 1), fill=INK)
    write(drawing, (left + 3, down + 1), label, BOX_COLOUR)


def _draw_peak(drawing: ImageDraw.ImageDraw, peak: Peak, size: tuple[int, int]) -> None:
    x, y = peak.x * size[0], peak.y * size[1]
    for colour, width in ((INK, 3), (PAPER, 1)):
        drawing.line((x - 7, y, x + 7, y), colour, width)
        drawing.line((x, y - 7, x, y + 7), colour, width)


def _recording(located: Located, place: Place, decode: DecodeOptions, threshold: float) -> Image.Image:
    """Return the spectrogram or the curves of a recording above its relevance; of a long one the relevance alone."""
    assert located.curve is not None
    curve, start_s = located.curve, place.start_s or 0.0
    half_s = float(curve.times_s[0]) - start_s  # of the first view, as of the last
    end_s = float(curve.times_s[-1]) + half_s if place.end_s is None else place.end_s
    panels = []
    try:
        if end_s - start_s <= LONGEST_SPAN_S:
            whole = Place(place.path, place.root, place.modality, start_s, end_s)
            media = read_segment(whole, decode, LARGE).media
            assert isinstance(media, Sound | Motion)
            end_s = start_s + len(media.samples) / media.sample_rate_hz
            panels = _media_panels(media, (start_s, end_s))
    except MediaError:  # the relevance alone is drawn, as of a long recording
        panels = []
    return stacked([*panels, _relevance_panel(curve, located.spans, (start_s, max(end_s, start_s + 1e-3)), threshold)])


def _media_panels(media: Sound | Motion, span_s: tuple[float, float]) -> list[Image.Image]:
    if isinstance(media, Motion):
        curves = curves_of(media)
        return [plot(three, span_s, PANEL_WIDTH) for three in (curves[:3], curves[3:])]
    left, right = AXIS_LEFT, PANEL_WIDTH - 10
    levels = spectrogram_db(media, right - left)
    rgb = coloured(np.clip(levels[::-1] / DYNAMIC_RANGE_DB + 1, 0, 1), INFERNO)
    panel = Image.new("RGB", (PANEL_WIDTH, SPECTROGRAM_HEIGHT + LINE), PAPER)
    panel.paste(Image.fromarray(rgb).resize((right - left, SPECTROGRAM_HEIGHT), Image.Resampling.NEAREST), (left, 0))
    return [panel]


def _relevance_panel(
    curve: Curve, spans: Sequence[RelevantSpan], span_s: tuple[float, float], threshold: float
) -> Image.Image:
    """Return the relevance over time, with the threshold and shaded spans."""
    panel = Image.new("RGB", (PANEL_WIDTH, CURVE_HEIGHT), PAPER)
    drawing = ImageDraw.Draw(panel)
    left, top, right, bottom = AXIS_LEFT, 6, PANEL_WIDTH - 10, CURVE_HEIGHT - LINE - 6

    def place(time_s: float, value: float) -> tuple[float, float]:
        share = min(1.0, max(0.0, (time_s - span_s[0]) / (span_s[1] - span_s[0])))
        return left + share * (right - left), bottom - value * (bottom - top)

    for one in spans:
        (x, _), (end, _) = place(one.span.start_s, 0), place(one.span.end_s, 0)
        drawing.rectangle((x, top, end, bottom), fill=SHADE)
    for value in (0.0, 0.5, threshold, 1.0):
        _, y = place(span_s[0], value)
        drawing.line((left, y, right, y), INK if value == threshold else GRID)
        write(drawing, (2, min(y, bottom) - 8), f"{value:.3g}")
    points = [place(*point) for point in zip(curve.times_s.tolist(), curve.relevance.tolist(), strict=True)]
    ends = [(left, points[0][1]), *points, (right, points[-1][1])]
    drawing.line(ends, (200, 40, 40), 2)
    write_times(drawing, span_s, (left, right), bottom + 4)
    drawing.rectangle((left, top, right, bottom), outline=INK)
    return panel
