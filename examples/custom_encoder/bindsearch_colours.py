"""An encoder in some thirty lines: texts by the colours they name, pictures and frames by those they show.

An encoder turns media of several modalities into vectors of one space, so that what belongs together lies close. Here
each dimension is one of the eleven basic colours of English (Berlin and Kay, 1969). A text counts how often it names
each, a picture what share of it each covers: "a red car" and a picture that is red point the same way.

`bindsearch.encoders.Encoder` describes every part. `prepare` runs in threads, one file at a time, and should be cheap;
`encode` gets what it gave for many files, and is where a network would run.
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
    """See `bindsearch.encoders.Encoder`."""

    name = "colours"  # the same as that of the entry point, so that a store finds its encoder again
    dim = len(COLOURS)
    digest = "colours-1"  # change it whenever vectors come to mean something else: stores refuse to mix them
    options: Mapping[str, str | int | float | bool] = {}  # preprocessing that a store should remember
    modalities = frozenset({Modality.TEXT, Modality.IMAGE, Modality.VIDEO})
    temperatures: Mapping[Modality, float] = dict.fromkeys(modalities, 1.0)  # logit scales, for softmaxes
    wants = DecodeHints(picture_side_px=64, frames_per_s=1.0)  # pictures need not be decoded any larger
    max_tokens = 1000  # longer texts are split into passages, by what count_tokens says

    def count_tokens(self, text: str) -> int:
        """Words of `text`."""
        return len(text.split())

    def prepare(self, media: Media) -> NDArray[np.float32]:
        """Amounts of each colour, one row a view: float32 (views, 11)."""
        match media:
            case Passage(text=text):
                words = re.findall("[a-z]+", text.lower().replace("gray", "grey"))
                amounts = np.array([[words.count(colour) for colour in COLOURS]], np.float32)
            case Picture(rgb=rgb):
                amounts = _shares(rgb)[None]
            case Frames(rgb=frames):
                amounts = np.stack([_shares(frame) for frame in frames])
            case _:
                raise MediaError(f"{self.name} sees text, pictures and video only")
        if not amounts.any():  # it would have no direction: say why, in one line
            raise MediaError(f"the text names no colour: write one of {', '.join(COLOURS)}")
        return amounts

    def features(self, modality: Modality, prepared: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
        """Unit vectors times the temperature, averaged over the views of each of n media: float32 (n, 11)."""
        return np.stack([l2_normalize(views).mean(axis=0) for views in prepared]) * self.temperatures[modality]

    def encode(self, modality: Modality, prepared: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
        """The same, of unit length: float32 (n, 11)."""
        return l2_normalize(self.features(modality, prepared))


def _shares(rgb: NDArray[np.uint8]) -> NDArray[np.float32]:
    """The share of a picture (height, width, 3) that is nearest to each colour: float32 (11,)."""
    height, width, _ = rgb.shape
    pixels = rgb[:: max(1, height // 64), :: max(1, width // 64)].reshape(-1, 1, 3).astype(np.float32)
    nearest = np.square(pixels - np.array(list(COLOURS.values()), np.float32)).sum(axis=2).argmin(axis=1)
    return np.asarray(np.bincount(nearest, minlength=len(COLOURS)) / len(nearest), np.float32)
