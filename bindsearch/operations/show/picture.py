"""A picture of what reaches the encoder: a heading, and a panel that suits the modality. Drawn with Pillow."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from bindsearch.media import DepthMap, Frames, Media, Motion, Passage, Picture, Sound, ThermalPicture
from bindsearch.operations.show.curves import MEASURED_UNITS, curves_of, size_of
from bindsearch.operations.show.drawing import (
    BAR_SPACE,
    INFERNO,
    MAX_HEIGHT,
    VIRIDIS,
    coloured,
    fitted,
    plot,
    scaled_map,
    sheet,
    stacked,
    text_panel,
    under_heading,
    with_bar,
)

if TYPE_CHECKING:
    from bindsearch.operations.show.show_file import ShownFile

WIDTH, MARGIN = 960, 16
PANEL_WIDTH = WIDTH - 2 * MARGIN
MAX_SIDE = (PANEL_WIDTH - BAR_SPACE, MAX_HEIGHT)
"""Largest width and height in pixels of a picture or map; smaller ones are enlarged by a whole factor."""

MAX_NOTES = 12
WRAP_CHARACTERS = 128


def draw_file(shown: ShownFile) -> Image.Image:
    """Return a picture, RGB, WIDTH pixels wide and at most about 1500 high, of a file's chosen segment.

    Args:
        shown: A file with a chosen segment.
    """
    assert shown.chosen is not None
    panel = _panel(shown.chosen.media, shown.chosen.start_s or 0.0)
    return under_heading(_heading(shown), panel, PANEL_WIDTH, MARGIN)


def _heading(shown: ShownFile) -> list[str]:
    """Return the lines above the panel."""
    assert shown.chosen is not None
    piece = shown.chosen
    span = "" if piece.start_s is None or piece.end_s is None else f", {piece.start_s:.6g} s to {piece.end_s:.6g} s"
    total = sum(shown.counts.values())
    segment = f"segment {shown.number} of {total}: {piece.modality}{span}; {size_of(piece.media)}"
    lines = [shown.path.name, f"{shown.modality}: {shown.why}", segment]
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
            return stacked([plot(three, (start_s, end_s), PANEL_WIDTH) for three in (curves[:3], curves[3:])])
        case DepthMap(depth_m=depth_m, valid=valid):
            known = depth_m[valid]
            return scaled_map(depth_m, valid, (float(known.min()), float(known.max())), VIRIDIS, "m", PANEL_WIDTH)
        case ThermalPicture(values=values):
            return scaled_map(values, np.ones(values.shape, np.bool_), (0.0, 1.0), INFERNO, "", PANEL_WIDTH)
        case Sound():
            return _spectrogram(media, start_s)
        case Frames(rgb=frames, times_s=times_s):
            return sheet(frames, times_s, PANEL_WIDTH)
        case Picture(rgb=rgb):
            return fitted(rgb, MAX_SIDE)
        case Passage(text=text):
            return text_panel(text, PANEL_WIDTH)


def _spectrogram(sound: Sound, start_s: float) -> Image.Image:
    """Return the log-mel spectrogram of a sound, low frequencies below."""
    from bindsearch.encoders.preprocessing.sound_views import DYNAMIC_RANGE_DB, MEL_HIGH_HZ, MEL_LOW_HZ, sound_levels

    levels = sound_levels(sound.samples, sound.sample_rate_hz)
    high = float(levels.max())
    low = high - DYNAMIC_RANGE_DB
    columns = np.linspace(0, levels.shape[1] - 1, min(MAX_SIDE[0], levels.shape[1])).round().astype(np.int64)
    rgb = coloured(np.clip((levels[::-1, columns] - low) / (high - low), 0, 1), INFERNO)
    picture = Image.fromarray(rgb).resize((MAX_SIDE[0], 4 * len(levels)), Image.Resampling.NEAREST)
    panel = with_bar(picture, (low, high), INFERNO, "dB", PANEL_WIDTH)
    end_s = start_s + len(sound.samples) / sound.sample_rate_hz
    mel = f"{start_s:.4g} s to {end_s:.4g} s; {len(levels)} mel bands from {MEL_LOW_HZ:g} to {MEL_HIGH_HZ:g} Hz"
    return stacked([panel, text_panel(mel, PANEL_WIDTH)])
