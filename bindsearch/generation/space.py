"""Check that the vectors of an encoder are in the space that a decoder was trained with."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from bindsearch.encoders.base import Encoder, encode_media
from bindsearch.errors import UsageError
from bindsearch.media import Picture
from bindsearch.types import Modality

if TYPE_CHECKING:
    from numpy.typing import NDArray

MIN_COSINE = 0.98
"""Least cosine of the vectors that two copies of an encoder give the same picture: number formats and interpolations
change them by less than 0.01, other spaces have cosines near 0."""

ANY_SPACE = "--any-space makes a picture nevertheless"


def probe_pictures(side_px: int) -> list[NDArray[np.uint8]]:
    """Return three pictures of the size of the input, which is thus not resized: uint8 (side, side, 3) each.

    A gradient of colours, rings, and smooth noise.
    """
    y, x = np.mgrid[0:side_px, 0:side_px] / max(1, side_px - 1)
    gradient = np.stack([x, y, 1 - x], axis=-1)
    rings = 0.5 + 0.5 * np.cos(20 * np.hypot(x - 0.5, y - 0.4))[..., None] * np.array([1.0, -0.5, 0.2])
    coarse = np.random.default_rng(0).random((8, 8, 3))
    noise = np.kron(coarse, np.ones((-(-side_px // 8), -(-side_px // 8), 1)))[:side_px, :side_px]
    return [(255 * picture).round().astype(np.uint8) for picture in (gradient, rings, noise)]


def probe_vectors(encoder: Encoder, side_px: int) -> NDArray[np.float32]:
    """Return the vectors that an encoder gives the probe pictures: float32 (3, d), unit length.

    Raises:
        UsageError: the encoder embeds no pictures.
    """
    if Modality.IMAGE not in encoder.modalities:
        raise UsageError(
            f"the encoder {encoder.name} embeds no pictures, so that its space cannot be compared with the decoder's: "
            f"use another encoder; {ANY_SPACE}"
        )
    return encode_media(encoder, [Picture(picture) for picture in probe_pictures(side_px)])


def check_dim(encoder: Encoder, model: str, dim: int) -> None:
    """Check that vectors of an encoder have the dimensions that a decoder takes.

    Raises:
        UsageError: they have others.
    """
    if encoder.dim != dim:
        raise UsageError(
            f"the encoder {encoder.name} has {encoder.dim} dimensions, the decoder {model} takes {dim}: "
            "use an encoder bound to the picture encoder of the decoder"
        )


def check_space(name: str, model: str, of_encoder: NDArray[np.float32], of_decoder: NDArray[np.float32]) -> float:
    """Check that an encoder and the picture encoder of a decoder give the probe pictures the same vectors.

    Args:
        name: Name of the encoder.
        model: Name of the decoder.
        of_encoder: Vectors of the encoder: float32 (n, d), unit length.
        of_decoder: Vectors of the decoder's picture encoder: float32 (n, d), unit length.

    Returns:
        The least cosine of the two vectors of a picture.

    Raises:
        UsageError: it is below MIN_COSINE.
    """
    least = float(np.sum(of_encoder * of_decoder, axis=1, dtype=np.float64).min())
    if not least >= MIN_COSINE:
        raise UsageError(
            f"the encoder {name} is not in the space of the decoder {model}: of test pictures their vectors have the "
            f"cosine {least:.3f}, not {MIN_COSINE} or more; {ANY_SPACE}"
        )
    return least
