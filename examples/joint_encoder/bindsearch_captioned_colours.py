"""An encoder with roles and joint inputs: queries have an encoder of their own, and captions are read with pictures.

It adds two optional parts of the protocol to the encoder of examples/custom_encoder, whose comments explain the others:

* `as_query` returns the encoder of queries. Here, what a query says after "without" counts against a colour; in a text
  that is indexed, the same words are words like others.
* `captioned` and `wants.joint`: a picture comes with its caption, and both make one vector. Here they are averaged,
  which any encoder could do afterwards; a network would read them together.

`bindsearch.encoders.base` documents them, and two more: `shorter_dims` for vectors that may be truncated, and
`DecodeHints.longest_s` for the longest span that is embedded whole.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from bindsearch.errors import MediaError
from bindsearch.media import DecodeHints, Media, Passage, Picture
from bindsearch.types import Modality
from bindsearch.vectors import l2_normalize

COLOURS = {
    "black": (0, 0, 0),
    "white": (255, 255, 255),
    "red": (220, 30, 30),
    "green": (40, 160, 60),
    "blue": (40, 80, 210),
}


class CaptionedColoursEncoder:
    """An encoder of colours that are shown and named; see `bindsearch.encoders.Encoder`."""

    name = "captioned-colours"
    dim = len(COLOURS)
    digest = "captioned-colours-1"
    options: Mapping[str, str | int | float | bool] = {}
    modalities = frozenset({Modality.TEXT, Modality.IMAGE})
    temperatures: Mapping[Modality, float] = dict.fromkeys(modalities, 1.0)
    captioned = frozenset({Modality.IMAGE})  # a query may be a picture with a text: image:cat.jpg & "in red"
    wants = DecodeHints(
        picture_side_px=64, frames_per_s=1.0, joint=frozenset({Modality.TEXT})
    )  # so may what is indexed
    max_tokens = 1000

    def __init__(self, *, asks: bool = False) -> None:
        """Create the encoder of what is indexed, or (`asks`) that of queries."""
        self._asks = asks
        self._query = self if asks else CaptionedColoursEncoder(asks=True)

    def as_query(self, target: Modality | None) -> CaptionedColoursEncoder:  # noqa: ARG002
        """Return the encoder of queries; it is the same for all targets, so each query is embedded once."""
        return self._query

    def count_tokens(self, text: str) -> int:
        """Return the number of words of `text`."""
        return len(text.split())

    def prepare(self, media: Media) -> NDArray[np.float32]:
        """Return the amount of each colour: float32 (1, 5).

        Raises:
            MediaError: the modality is not supported, or no colour is named.
        """
        match media:
            case Passage(text=text):
                amounts = self._named(text)
            case Picture(rgb=rgb, caption=caption):
                amounts = _shares(rgb) + self._named(caption)
            case _:
                raise MediaError(f"{self.name} supports text and images only")
        if not amounts.any():
            raise MediaError(f"the text names no colour: write one of {', '.join(COLOURS)}")
        return amounts[None]

    def features(self, modality: Modality, prepared: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
        """Return unit vectors times the temperature: float32 (n, 5)."""
        return self.encode(modality, prepared) * self.temperatures[modality]

    def encode(self, modality: Modality, prepared: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:  # noqa: ARG002
        """Return unit vectors: float32 (n, 5)."""
        return l2_normalize(np.concatenate(prepared))

    def _named(self, text: str) -> NDArray[np.float32]:
        """Return the share of each colour in the words of a text: float32 (5,), zeros if it names none."""
        wanted, _, unwanted = text.lower().partition("without") if self._asks else (text.lower(), "", "")
        counts = _counts(wanted) - _counts(unwanted)
        return counts / max(np.abs(counts).sum(), 1.0)


def _counts(text: str) -> NDArray[np.float32]:
    """Return how often a text names each colour: float32 (5,)."""
    words = re.findall("[a-z]+", text)
    return np.array([words.count(colour) for colour in COLOURS], np.float32)


def _shares(rgb: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return the share of pixels of an image (height, width, 3) that are nearest to each colour: float32 (5,)."""
    pixels = rgb[:: max(1, rgb.shape[0] // 64), :: max(1, rgb.shape[1] // 64)].reshape(-1, 1, 3).astype(np.float32)
    nearest = np.square(pixels - np.array(list(COLOURS.values()), np.float32)).sum(axis=2).argmin(axis=1)
    return np.asarray(np.bincount(nearest, minlength=len(COLOURS)) / len(nearest), np.float32)
