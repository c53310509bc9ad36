"""RandAugment's operations on tones (Cubuk et al. 2020, arXiv 1909.13719), without those that move pixels."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL import Image

    from bindsearch.binding.augmentations.options import PictureOptions

STRONGEST = 10.0
"""Largest magnitude."""

ENHANCED = 0.9
"""Largest relative change of colour, contrast, brightness or sharpness (Cubuk et al. 2019, table 6)."""

FEWEST_BITS = 4
"""Bits of a colour that are left at the largest magnitude (Cubuk et al. 2019, table 6)."""


def random_tones(rgb: NDArray[np.uint8], rng: np.random.Generator, options: PictureOptions) -> NDArray[np.uint8]:
    """Return a picture after a number of random operations.

    Args:
        rgb: Picture, uint8 (height, width, 3).
        rng: Source of all randomness.
        options: Number of operations, and mean and deviation of their magnitude.

    Returns:
        Picture, uint8 (height, width, 3); the one given if no operation is drawn.
    """
    if not options.operations:
        return rgb
    from PIL import Image

    picture = Image.fromarray(rgb)
    for number in rng.integers(len(OPERATIONS), size=options.operations):
        magnitude = min(max(rng.normal(options.magnitude, options.magnitude_std), 0.0), STRONGEST)
        sign = 1.0 if rng.random() < 0.5 else -1.0
        picture = OPERATIONS[number](picture, sign * magnitude / STRONGEST)
    return np.array(picture)


def _autocontrast(picture: Image.Image, _strength: float) -> Image.Image:
    from PIL import ImageOps

    return ImageOps.autocontrast(picture)


def _equalize(picture: Image.Image, _strength: float) -> Image.Image:
    from PIL import ImageOps

    return ImageOps.equalize(picture)


def _posterize(picture: Image.Image, strength: float) -> Image.Image:
    from PIL import ImageOps

    return ImageOps.posterize(picture, 8 - round(abs(strength) * (8 - FEWEST_BITS)))


def _solarize(picture: Image.Image, strength: float) -> Image.Image:
    from PIL import ImageOps

    return ImageOps.solarize(picture, 256 - round(abs(strength) * 256))


def _colour(picture: Image.Image, strength: float) -> Image.Image:
    from PIL import ImageEnhance

    return ImageEnhance.Color(picture).enhance(1.0 + ENHANCED * strength)


def _contrast(picture: Image.Image, strength: float) -> Image.Image:
    from PIL import ImageEnhance

    return ImageEnhance.Contrast(picture).enhance(1.0 + ENHANCED * strength)


def _brightness(picture: Image.Image, strength: float) -> Image.Image:
    from PIL import ImageEnhance

    return ImageEnhance.Brightness(picture).enhance(1.0 + ENHANCED * strength)


def _sharpness(picture: Image.Image, strength: float) -> Image.Image:
    from PIL import ImageEnhance

    return ImageEnhance.Sharpness(picture).enhance(1.0 + ENHANCED * strength)


OPERATIONS: tuple[Callable[[Image.Image, float], Image.Image], ...] = (
    _autocontrast,
    _equalize,
    _posterize,
    _solarize,
    _colour,
    _contrast,
    _brightness,
    _sharpness,
)
"""Functions of a picture and a strength in -1..1; 0 leaves it as it is, except where there is no strength."""
