"""A picture of what was located: heat and boxes over a picture or a frame, the relevance over a recording."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from contextlib import suppress
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
from bindsearch.operations.locate.located import (
    Asked,
    Box,
    Curve,
    Located,
    Peak,
    RelevantSpan,
    asked_data,
    located_data,
    place_data,
)
from bindsearch.operations.locate.words import at_in_words, relevance_in_words
from bindsearch.operations.recording import png_info
from bindsearch.operations.segment_media import INSTANT_S, LARGE, Place, read_segment
from bindsearch.operations.show.curves import DYNAMIC_RANGE_DB, curves_of, spectrogram_db
from bindsearch.operations.show.drawing import (
    AXIS_LEFT,
    BAR_WIDTH,
    CHARACTER_PX,
    GRID,
    INFERNO,
    INK,
    LINE,
    MAX_HEIGHT,
    PAPER,
    colour_map,
    coloured,
    plot,
    round_values,
    stacked,
    under_heading,
    write,
    write_times,
)
from bindsearch.types import Modality

MARGIN = 16
RECORDING_WIDTH, MIN_WIDTH = 928, 480
"""Width of the drawing of a recording, and least width of that of a picture, without margins."""

SCALE_SPACE = 140
ROOM, MIN_SIDE = (RECORDING_WIDTH - SCALE_SPACE, MAX_HEIGHT), 480
"""Largest width and height of a picture, and its longer side if it is enlarged."""

HEAT_SHARE, HEAT_FROM = 0.38, 0.5
"""Greatest opacity of the heat over a picture, and the relevance from which there is heat, if the threshold is above:
below, the picture is nearer to others than to the query."""

HEAT_COLOURS = ((255, 240, 0), (255, 140, 0), (255, 0, 60))
GREYS = ((20, 20, 20), (235, 235, 235))
BOX_COLOUR, SHADE = (0, 255, 120), (255, 226, 160)
CURVE_HEIGHT, SPECTROGRAM_HEIGHT = 180, 200
MAX_LEGEND_LINES, MAX_LINES_A_TEXT = 14, 4


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
    data = {**place_data(file.place), **located_data(file.located)}
    del data["curve"]  # it is drawn, as the heat map is
    record = {**asked_data(file.asked), "file": data}
    with atomic_write(path) as target:
        picture.save(target, "PNG", pnginfo=png_info(record))


def draw_located(located: Located, place: Place, asked: Asked, decode: DecodeOptions) -> Image.Image:
    """Return a picture, RGB, of what was located, with a legend above.

    Raises:
        MediaError: the file cannot be read now.
    """
    if located.curve is None:
        panel = draw_over(located, _shown(located, place, decode), asked.threshold)
    else:
        panel = _recording(located, place, decode, asked.threshold)
    width = max(MIN_WIDTH, panel.width)
    return under_heading(_legend(located, asked, int(width / CHARACTER_PX)), panel, width, MARGIN)


def _legend(located: Located, asked: Asked, columns: int) -> list[str]:
    query = " + ".join(f"{term.weight:.3g}*{term.modality}:{term.source}" for term in asked.terms)
    if len(asked.terms) == 1:
        query = f"{asked.terms[0].modality}: {asked.terms[0].source}"
    frame = "" if located.peak is None or located.peak.at_s is None else f", frame{at_in_words(located.peak.at_s)}"
    against = f" against {', '.join(asked.against)}" if asked.against else ""
    marks = [f"{'boxes' if located.curve is None else 'shaded'}: relevance of at least {asked.threshold:g}{against}"]
    if located.peak is not None:
        marks.append(f"+ best point, relevance {relevance_in_words(located.peak.relevance)}")
    lines = [f"{located.path.name}{frame}", f"query: {query}", *marks, located.method]
    wrapped = (textwrap.wrap(line, columns, max_lines=MAX_LINES_A_TEXT, placeholder=" ...") for line in lines)
    return [part for parts in wrapped for part in parts][:MAX_LEGEND_LINES]


def _shown(located: Located, place: Place, decode: DecodeOptions) -> PictureLike:
    """Return the picture, or the frame of a video that answers best."""
    if place.modality is not Modality.VIDEO:
        return read_picture(place, decode, LARGE.picture_side_px)[0]
    at_s = 0.0 if located.peak is None or located.peak.at_s is None else located.peak.at_s
    frame = replace(place, start_s=at_s, end_s=at_s + INSTANT_S)
    media = read_segment(frame, decode, replace(LARGE, frames_per_s=1 / INSTANT_S)).media
    return Picture(media.rgb[0])  # type: ignore[union-attr]  # frames, as the modality says


def draw_over(located: Located, media: PictureLike, threshold: float) -> Image.Image:
    """Return a picture under its heat map, with the boxes and the peak; of a heat map also the scale."""
    rgb = _pixels(media)
    height, width = rgb.shape[:2]
    scale = min(ROOM[0] / width, ROOM[1] / height, max(1.0, MIN_SIDE / max(width, height)))
    size = max(1, round(width * scale)), max(1, round(height * scale))
    method = Image.Resampling.BICUBIC if scale > 1 else Image.Resampling.BOX
    picture = Image.fromarray(np.ascontiguousarray(rgb)).resize(size, method)
    lowest = min(HEAT_FROM, threshold)
    if located.heat is not None:
        shares = np.clip((enlarged(np.nan_to_num(located.heat)) - lowest) / (1 - lowest), 0, 1)
        shade = Image.fromarray(coloured(shares, HEAT_COLOURS)).resize(picture.size, Image.Resampling.BILINEAR)
        opacity = Image.fromarray((255 * HEAT_SHARE * shares).astype(np.uint8))
        picture = Image.composite(shade, picture, opacity.resize(picture.size, Image.Resampling.BILINEAR))
    at_s = None if located.peak is None else located.peak.at_s
    drawing = ImageDraw.Draw(picture)
    for box in reversed(located.boxes):
        if box.at_s == at_s:
            _draw_box(drawing, box, picture.size)
    if located.peak is not None:
        _draw_peak(drawing, located.peak, picture.size)
    return picture if located.heat is None else _with_scale(picture, lowest, threshold)


def _with_scale(picture: Image.Image, lowest: float, threshold: float) -> Image.Image:
    """Return a picture with the colours of its heat over grey on its right, from the lowest relevance to 1."""
    height = max(picture.height, 120)
    panel = Image.new("RGB", (picture.width + SCALE_SPACE, height + LINE), PAPER)
    panel.paste(picture, (0, LINE // 2))
    shares = np.linspace(1, 0, height)[:, None, None]
    bar = 128 + HEAT_SHARE * shares * (coloured(shares[..., 0], HEAT_COLOURS) - 128.0)
    left, top = picture.width + 12, LINE // 2
    panel.paste(Image.fromarray(np.repeat(bar.astype(np.uint8), BAR_WIDTH, 1)), (left, top))
    drawing = ImageDraw.Draw(panel)

    def mark(value: float, text: str) -> float:
        y = top + (1 - value) / (1 - lowest) * (height - 1)
        write(drawing, (left + BAR_WIDTH + 6, y - LINE // 2), text)
        return y

    at = mark(threshold, f"{threshold:.3g} threshold")
    drawing.line((left - 3, at, left + BAR_WIDTH + 3, at), INK, 2)
    for value in round_values(lowest, 1.0):
        if abs(value - threshold) / (1 - lowest) * height >= LINE:
            mark(value, f"{value:.3g}")
    return panel


def _pixels(media: PictureLike) -> np.ndarray:
    """Return the pixels of a picture; depth and heat are grey, so that colours are those of the relevance."""
    match media:
        case Picture(rgb=rgb):
            return rgb
        case DepthMap(depth_m=depth_m, valid=valid):
            known = depth_m[valid]
            return colour_map(depth_m, valid, (float(known.min()), float(known.max())), GREYS, ROOM)
        case ThermalPicture(values=values):
            grey = (255 * np.clip(values, 0, 1)).astype(np.uint8)
            return np.repeat(grey[..., None], 3, axis=2)


def _draw_box(drawing: ImageDraw.ImageDraw, box: Box, size: tuple[int, int]) -> None:
    width, height = size
    left, top = round(box.left * (width - 1)), round(box.top * (height - 1))
    right, bottom = max(left, round(box.right * (width - 1))), max(top, round(box.bottom * (height - 1)))
    drawing.rectangle((left, top, right, bottom), outline=BOX_COLOUR, width=2)
    down = top - LINE if top >= LINE else top + 2
    drawing.rectangle((left, down, left + 34, down + LINE - 1), fill=INK)
    write(drawing, (left + 3, down + 1), relevance_in_words(box.relevance), BOX_COLOUR)


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
    panels: list[Image.Image] = []
    if end_s - start_s <= LONGEST_SPAN_S:
        whole = Place(place.path, place.root, place.modality, start_s, end_s)
        with suppress(MediaError):  # the relevance alone is drawn, as of a long recording
            media = read_segment(whole, decode, LARGE).media
            assert isinstance(media, Sound | Motion)
            end_s = start_s + len(media.samples) / media.sample_rate_hz
            panels = _media_panels(media, (start_s, end_s))
    return stacked([*panels, _relevance_panel(curve, located.spans, (start_s, max(end_s, start_s + 1e-3)), threshold)])


def _media_panels(media: Sound | Motion, span_s: tuple[float, float]) -> list[Image.Image]:
    if isinstance(media, Motion):
        curves = curves_of(media)
        return [plot(three, span_s, RECORDING_WIDTH) for three in (curves[:3], curves[3:])]
    left, right = AXIS_LEFT, RECORDING_WIDTH - 10
    levels = spectrogram_db(media, right - left)
    rgb = coloured(np.clip(levels[::-1] / DYNAMIC_RANGE_DB + 1, 0, 1), INFERNO)
    panel = Image.new("RGB", (RECORDING_WIDTH, SPECTROGRAM_HEIGHT + LINE), PAPER)
    panel.paste(Image.fromarray(rgb).resize((right - left, SPECTROGRAM_HEIGHT), Image.Resampling.NEAREST), (left, 0))
    return [panel]


def _relevance_panel(
    curve: Curve, spans: Sequence[RelevantSpan], span_s: tuple[float, float], threshold: float
) -> Image.Image:
    """Return the relevance over time, with the threshold and shaded spans."""
    panel = Image.new("RGB", (RECORDING_WIDTH, CURVE_HEIGHT), PAPER)
    drawing = ImageDraw.Draw(panel)
    left, top, right, bottom = AXIS_LEFT, 6, RECORDING_WIDTH - 10, CURVE_HEIGHT - LINE - 6

    def place(time_s: float, value: float) -> tuple[float, float]:
        share = min(1.0, max(0.0, (time_s - span_s[0]) / (span_s[1] - span_s[0])))
        return left + share * (right - left), bottom - value * (bottom - top)

    for one in spans:
        (x, _), (end, _) = place(one.span.start_s, 0), place(one.span.end_s, 0)
        drawing.rectangle((x, top, end, bottom), fill=SHADE)
    for value in (0.0, 0.5, 1.0, threshold):
        _, y = place(span_s[0], value)
        drawing.line((left, y, right, y), INK if value == threshold else GRID)
        if value == threshold or abs(value - threshold) * (bottom - top) >= LINE - 4:
            write(drawing, (2, y - 8), f"{value:.3g}")
    points = [place(*point) for point in zip(curve.times_s.tolist(), curve.relevance.tolist(), strict=True)]
    drawing.line([(left, points[0][1]), *points, (right, points[-1][1])], (200, 40, 40), 2)
    write_times(drawing, span_s, (left, right), bottom + 4)
    drawing.rectangle((left, top, right, bottom), outline=INK)
    return panel
