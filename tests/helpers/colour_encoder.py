"""Encoder whose vectors are colours and loudness: where things are in a picture or a sound is known exactly."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bindsearch.encoders.base import Encoder
from bindsearch.media import DecodeHints, DepthMap, Frames, Media, Motion, Passage, Picture, Sound, ThermalPicture
from bindsearch.types import Modality
from bindsearch.vectors import l2_normalize

GRID = 8
COLOURS = {"red": (1, 0, 0, 0), "green": (0, 1, 0, 0), "blue": (0, 0, 1, 0), "loud": (0, 0, 0, 1)}
OTHER = (1.0, 1.0, 1.0, 1.0)
"""Of all other texts, so of the built-in negatives."""


class ColourEncoder:
    """Embeds pictures by their mean colour, sounds and motion by whether they are loud, texts by names of colours."""

    name = "colours"
    dim = 4
    digest = "colours-1"
    options: Mapping[str, str | int | float | bool] = MappingProxyType({})
    modalities = frozenset(Modality)
    temperatures: Mapping[Modality, float] = MappingProxyType(dict.fromkeys(Modality, 20.0))
    wants = DecodeHints(picture_side_px=64, frames_per_s=1.0)
    max_tokens = 64

    def count_tokens(self, text: str) -> int:
        return len(text.split())

    def prepare(self, media: Media) -> NDArray[Any]:
        match media:
            case Passage(text=text):
                return np.array([COLOURS.get(text, OTHER)], np.float32)
            case Picture(rgb=rgb):
                return _cells(rgb)
            case Frames(rgb=rgb):
                return np.concatenate([_cells(frame) for frame in rgb])
            case Sound() | Motion():
                heard = media.samples if isinstance(media, Sound) else media.samples[:, 3:]
                loud = float(np.abs(heard).mean() > 0.2)
                return np.array([[1 - loud, 0.01, 0, loud]], np.float32)
            case ThermalPicture(values=values):
                return _cells(np.stack([255 * values, 255 * (1 - values), 0 * values], -1))
            case DepthMap(depth_m=depth):
                near = 255.0 * (depth < 2)
                return _cells(np.stack([near, 255 - near, 0 * near], -1))

    def features(self, modality: Modality, prepared: Sequence[NDArray[Any]]) -> NDArray[np.float32]:
        return 20 * self.encode(modality, prepared)

    def encode(self, modality: Modality, prepared: Sequence[NDArray[Any]]) -> NDArray[np.float32]:
        return l2_normalize(np.stack([one.reshape(-1, 4).mean(0) for one in prepared]) + 1e-6)


class DenseColourEncoder(ColourEncoder):
    """The same with dense features."""

    name = "dense-colours"
    locatable = frozenset({Modality.IMAGE, Modality.DEPTH, Modality.THERMAL})

    def locate(self, modality: Modality, prepared: Sequence[NDArray[Any]]) -> NDArray[np.float32]:
        return l2_normalize(np.concatenate(list(prepared)) + 1e-6)


def encoders() -> list[Encoder]:
    return [ColourEncoder(), DenseColourEncoder()]


def _cells(rgb: NDArray[Any]) -> NDArray[np.float32]:
    """Return the mean colour of each of GRID x GRID cells of the whole picture: float32 (1, GRID, GRID, 4)."""
    height, width = rgb.shape[:2]
    rows, columns = (np.linspace(0, length, GRID + 1) for length in (height, width))
    cells = np.zeros((1, GRID, GRID, 4), np.float32)
    for row in range(GRID):
        for column in range(GRID):
            top, left = int(rows[row]), int(columns[column])
            bottom, right = max(top + 1, int(rows[row + 1])), max(left + 1, int(columns[column + 1]))
            cells[0, row, column, :3] = rgb[top:bottom, left:right].reshape(-1, 3).mean(0) / 255
    return cells
