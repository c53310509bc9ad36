"""Encoder without a model: vectors are hashes of the content. For tests, and to measure the pipeline itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bindsearch.media import DecodeHints, DepthMap, Frames, Media, Motion, Passage, Picture, Sound, ThermalPicture
from bindsearch.types import Modality


class NullEncoder:
    """Encoder that maps equal media to equal vectors and others to random directions; see `Encoder`. No torch."""

    name = "null"
    dim = 64
    digest = "null-1"
    options: Mapping[str, str | int | float | bool] = MappingProxyType({})
    modalities = frozenset(Modality)
    temperatures: Mapping[Modality, float] = MappingProxyType(dict.fromkeys(Modality, 1.0))
    wants = DecodeHints(picture_side_px=64, frames_per_s=1.0)
    max_tokens = 64

    def count_tokens(self, text: str) -> int:
        """Return the number of words, plus two for start and end."""
        return len(text.split()) + 2

    def prepare(self, media: Media) -> NDArray[Any]:
        """Return a hash of the medium's content, uint64 (1, 1)."""
        import xxhash

        return np.array([[xxhash.xxh3_64_intdigest(_content(media))]], np.uint64)

    def features(self, modality: Modality, prepared: Sequence[NDArray[Any]]) -> NDArray[np.float32]:
        """Return the same as `encode`, since all temperatures are 1: float32 (n, 64)."""
        return self.encode(modality, prepared)

    def encode(
        self,
        modality: Modality,  # noqa: ARG002  (required by the protocol)
        prepared: Sequence[NDArray[Any]],
    ) -> NDArray[np.float32]:
        """Return a random direction seeded by each hash: float32 (n, 64), unit L2 norm."""
        rows = [np.random.default_rng(int(views[0, 0])).standard_normal(self.dim) for views in prepared]
        vectors = np.stack(rows)
        return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), np.float32)


def _content(media: Media) -> bytes:
    """Return the bytes of a medium's content."""
    match media:
        case Passage(text=text):
            return text.encode()
        case Picture(rgb=rgb) | Frames(rgb=rgb):
            return rgb.tobytes()
        case Sound(samples=samples) | Motion(samples=samples):
            return samples.tobytes()
        case DepthMap(depth_m=depth):
            return depth.tobytes()
        case ThermalPicture(values=values):
            return values.tobytes()
