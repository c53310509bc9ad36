"""An encoder with known answers: a space of eight axes, in which figures follow by hand.

The classes dog, cat, bird and fish are the first four axes. Phrases around a name move its vector along the fifth axis:
"a photo of a dog" by +0.5, "the sound of a dog" by -0.5 before it is normalised, so that their mean is the axis of the
name. Media are numbers: the vector of number i is that of the table with which the encoder is made.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bindsearch.errors import MediaError
from bindsearch.media import DecodeHints, DepthMap, Frames, Media, Motion, Passage, Picture, Sound, ThermalPicture
from bindsearch.types import Modality
from bindsearch.vectors import l2_normalize

DIM = 8
NAMES = ("dog", "cat", "bird", "fish")
PHRASES = {"photo": 0.5, "sound": -0.5}
SIDE_AXIS = 4


def direction(**parts: float) -> NDArray[np.float32]:
    """Return the unit vector with these parts along the axes of the names, such as `direction(dog=0.6, cat=0.8)`."""
    vector = np.zeros(DIM, np.float32)
    for name, part in parts.items():
        vector[NAMES.index(name)] = part
    return l2_normalize(vector)


def picture(number: int) -> Picture:
    """Return a grey picture that stands for a number, 0 to 255."""
    return Picture(np.full((8, 8, 3), number, np.uint8))


def sound(number: int) -> Sound:
    """Return a constant sound that stands for a number, 0 to 255."""
    return Sound(np.full(64, number / 256, np.float32), 16_000)


class ConstructedEncoder:
    """Encoder whose vectors are those of a table; see `Encoder`.

    Args:
        tables: For each modality but text, the vector of each number: float32 (n, DIM), unit norm.
        temperature: Logit scale of all modalities.
    """

    name = "constructed"
    dim = DIM
    digest = "constructed-1"
    options: Mapping[str, str | int | float | bool] = MappingProxyType({})
    wants = DecodeHints(picture_side_px=8, frames_per_s=1.0)
    max_tokens = 16

    def __init__(self, tables: Mapping[Modality, NDArray[np.float32]], temperature: float = 10.0) -> None:
        self._tables = dict(tables)
        self.modalities = frozenset({Modality.TEXT, *tables})
        self.temperatures = dict.fromkeys(self.modalities, temperature)

    def count_tokens(self, text: str) -> int:
        """Return the number of words."""
        return len(text.split())

    def prepare(self, media: Media) -> NDArray[Any]:
        """Return the vector of the medium: float32 (1, DIM)."""
        match media:
            case Passage(text=text):
                return _of_text(text)[None]
            case Picture(rgb=rgb):
                return self._tables[Modality.IMAGE][None, int(rgb[0, 0, 0])]
            case Frames(rgb=rgb):
                return self._tables[Modality.VIDEO][None, int(rgb[0, 0, 0, 0])]
            case Sound(samples=samples):
                return self._tables[Modality.AUDIO][None, round(float(samples[0]) * 256)]
            case DepthMap(depth_m=depth):
                return self._tables[Modality.DEPTH][None, round(float(depth[0, 0]))]
            case ThermalPicture(values=values):
                return self._tables[Modality.THERMAL][None, round(float(values[0, 0]) * 256)]
            case Motion(samples=samples):
                return self._tables[Modality.IMU][None, round(float(samples[0, 0]))]

    def features(self, modality: Modality, prepared: Sequence[NDArray[Any]]) -> NDArray[np.float32]:
        """Return temperature times vectors: float32 (n, DIM)."""
        return self.encode(modality, prepared) * np.float32(self.temperatures[modality])

    def encode(self, modality: Modality, prepared: Sequence[NDArray[Any]]) -> NDArray[np.float32]:
        """Return the vectors: float32 (n, DIM), unit norm."""
        return np.concatenate(list(prepared))


def _of_text(text: str) -> NDArray[np.float32]:
    words = text.rstrip(".").split()
    found = [NAMES.index(word) for word in words if word in NAMES]
    if not found:
        raise MediaError(f"no class in {text!r}")
    vector = np.zeros(DIM, np.float32)
    vector[found] = 1.0
    vector[SIDE_AXIS] = sum(PHRASES.get(word, 0.0) for word in words)
    return l2_normalize(vector)
