"""An encoder in about thirty lines: texts by the colours they name, images and video frames by the colours they show.

An encoder maps media of several modalities to vectors of one embedding space, so that related media are close to each
other. Here, each dimension is one of the eleven basic colour terms of English (Berlin and Kay, 1969). A text is encoded
by how often it names each colour, an image by the share of each colour: "a red car" and a red image have similar
vectors.

`bindsearch.encoders.Encoder` documents every member. `prepare` runs in threads, one file at a time, and should be
cheap; `encode` receives its results for many files, and is where a network would run.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from bindsearch.errors import MediaError
from bindsearch.media import DecodeHints, Frames, Media, Passage, Picture
from bindsearch.types import Modality
from bindsearch.vectors import l2_normalize

COLOURS = {
    "black": (0, 0, 0), "white": (255, 255, 255), "grey": (128, 128, 128), "red": (220, 30, 30),
    "orange": (255, 140, 0), "yellow": (250, 225, 40), "green": (40, 160, 60), "blue": (40, 80, 210),
    "purple": (130, 50, 160), "pink": (250, 160, 190), "brown": (120, 75, 40),
}  # fmt: skip


class ColoursEncoder:
    """An encoder of colours; see `bindsearch.encoders.Encoder`."""

    name = "colours"  # the name of the entry point, by which a store finds its encoder
    dim = len(COLOURS)
    digest = "colours-1"  # change it whenever the vectors change: a store accepts vectors of one digest only
    options: Mapping[str, str | int | float | bool] = {}  # preprocessing options that a store records
    modalities = frozenset({Modality.TEXT, Modality.IMAGE, Modality.VIDEO})
    temperatures: Mapping[Modality, float] = dict.fromkeys(modalities, 1.0)  # logit scales for softmax
    wants = DecodeHints(picture_side_px=64, frames_per_s=1.0)  # larger images are not needed
    max_tokens = 1000  # longer texts are split into passages, measured by count_tokens

    def count_tokens(self, text: str) -> int:
        """Return the number of words of `text`."""
        return len(text.split())

    def prepare(self, media: Media) -> NDArray[np.float32]:
        """Return the amount of each colour, with one row per view: float32 (views, 11).

        Raises:
            MediaError: the modality is not supported, or a text names no colour.
        """
        match media:
            case Passage(text=text):
                words = re.findall("[a-z]+", text.lower().replace("gray", "grey"))
                amounts = np.array([[words.count(colour) for colour in COLOURS]], np.float32)
            case Picture(rgb=rgb):
                amounts = _shares(rgb)[None]
            case Frames(rgb=frames):
                amounts = np.stack([_shares(frame) for frame in frames])
            case _:
                raise MediaError(f"{self.name} supports text, images and video only")
        if not amounts.any():  # a zero vector has no direction: report the reason in one line
            raise MediaError(f"the text names no colour: write one of {', '.join(COLOURS)}")
        return amounts

    def features(self, modality: Modality, prepared: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
        """Return unit vectors averaged over the views of each of n files, times the temperature: float32 (n, 11)."""
        return np.stack([l2_normalize(views).mean(axis=0) for views in prepared]) * self.temperatures[modality]

    def encode(self, modality: Modality, prepared: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
        """Return `features` with unit L2 norm: float32 (n, 11)."""
        return l2_normalize(self.features(modality, prepared))


def _shares(rgb: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return the share of pixels of an image (height, width, 3) that are nearest to each colour: float32 (11,)."""
    height, width, _ = rgb.shape
    pixels = rgb[:: max(1, height // 64), :: max(1, width // 64)].reshape(-1, 1, 3).astype(np.float32)
    nearest = np.square(pixels - np.array(list(COLOURS.values()), np.float32)).sum(axis=2).argmin(axis=1)
    return np.asarray(np.bincount(nearest, minlength=len(COLOURS)) / len(nearest), np.float32)
