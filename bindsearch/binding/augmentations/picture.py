"""Changes of pictures, thermal pictures and depth maps: tones, noise, and erased rectangles."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from bindsearch.binding.augmentations.crops import check_pixels, random_sides

if TYPE_CHECKING:
    from numpy.random import Generator
    from numpy.typing import NDArray

    from bindsearch.binding.augmentations.options import DepthOptions, PictureOptions, SpatialOptions, ThermalOptions

LEAST_ERASED = 0.02
"""Smallest area of an erased rectangle as a share of the picture's (Zhong et al. 2020)."""

ERASED_RATIO = 1 / 0.3
"""Largest ratio of width to height of an erased rectangle (Zhong et al. 2020)."""

LARGEST_DEPTH = np.float32(1e30)
"""Depth in metres that no change exceeds: it keeps float32 finite."""

STRONGEST = 10.0
"""Largest magnitude of RandAugment's operations."""

ENHANCED = 0.9
"""Largest relative change of colour, contrast, brightness or sharpness (Cubuk et al. 2019, table 6)."""

FEWEST_BITS = 4
"""Bits of a colour that are left at the largest magnitude (Cubuk et al. 2019, table 6)."""

TONES = ("autocontrast", "equalize", "posterize", "solarize", "Color", "Contrast", "Brightness", "Sharpness")
"""RandAugment's operations on tones (Cubuk et al. 2020, arXiv 1909.13719), without those that move pixels, by their
names in Pillow: functions of ImageOps, and classes of ImageEnhance."""

_LUMA = np.array([0.299, 0.587, 0.114])  # ITU-R BT.601, as Pillow's conversion to grey
_TO_YIQ = np.array([_LUMA, [0.596, -0.274, -0.322], [0.211, -0.523, 0.312]])
_FROM_YIQ = np.linalg.inv(_TO_YIQ)


def augment_picture(rgb: NDArray[np.uint8], rng: Generator, options: PictureOptions) -> NDArray[np.uint8]:
    """Return a picture with random colours, and perhaps an erased rectangle.

    Args:
        rgb: Picture, uint8 (height, width, 3).
        rng: Source of all randomness.
        options: Strengths and probabilities.

    Returns:
        Picture, uint8 (height, width, 3); the one given is not changed.

    Raises:
        MediaError: the picture has no pixels.
    """
    check_pixels(rgb.shape)
    changed = jitter_colours(rgb, rng, options)
    changed = random_tones(changed, rng, options)
    if area := random_rectangle(changed.shape[:2], rng, options):
        changed[area] = np.rint(changed.mean(axis=(0, 1), dtype=np.float32)).astype(np.uint8)
    return changed


def jitter_colours(rgb: NDArray[np.uint8], rng: Generator, options: PictureOptions) -> NDArray[np.uint8]:
    """Change hue, saturation, contrast and brightness, in this order, by random amounts.

    Each of them is an affine map of colours, so that all are one: a matrix and an offset. Hue is turned in the plane of
    chrominance of YIQ, which keeps luma.

    Args:
        rgb: Picture, uint8 (height, width, 3).
        rng: Source of all randomness.
        options: Largest changes, and the probability of a grey picture.

    Returns:
        Picture, uint8 (height, width, 3), a copy.
    """
    draws = rng.uniform(-1.0, 1.0, 4)
    brightness, contrast, saturation = 1.0 + draws[:3] * (options.brightness, options.contrast, options.saturation)
    angle = 2.0 * math.pi * options.hue * draws[3]
    if rng.random() < options.grey:
        saturation = 0.0
    if (brightness, contrast, saturation, angle) == (1.0, 1.0, 1.0, 0.0):
        return rgb.copy()
    turned = saturation * np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    chrominance = np.eye(3)
    chrominance[1:, 1:] = turned
    matrix = brightness * contrast * (_FROM_YIQ @ chrominance @ _TO_YIQ)
    mean = float(rgb.mean(axis=(0, 1), dtype=np.float32) @ _LUMA)
    offset = brightness * (1.0 - contrast) * mean + 0.5  # 0.5: the cast below rounds down
    pixels = rgb.reshape(-1, 3).astype(np.float32)
    mixed = pixels @ matrix.T.astype(np.float32)
    mixed += np.float32(offset)
    jittered: NDArray[np.uint8] = np.clip(mixed, 0.0, 255.0, out=mixed).astype(np.uint8).reshape(rgb.shape)
    return jittered


def random_tones(rgb: NDArray[np.uint8], rng: Generator, options: PictureOptions) -> NDArray[np.uint8]:
    """Return a picture (height, width, 3) after a number of random operations; the one given if none is drawn."""
    if not options.operations:
        return rgb
    from PIL import Image, ImageEnhance, ImageOps

    picture = Image.fromarray(rgb)
    for number in rng.integers(len(TONES), size=options.operations):
        magnitude = min(max(rng.normal(options.magnitude, options.magnitude_std), 0.0), STRONGEST)
        sign = 1.0 if rng.random() < 0.5 else -1.0
        strength = sign * magnitude / STRONGEST
        match TONES[number]:
            case "autocontrast" | "equalize" as name:
                picture = getattr(ImageOps, name)(picture)
            case "posterize":
                picture = ImageOps.posterize(picture, 8 - round(abs(strength) * (8 - FEWEST_BITS)))
            case "solarize":
                picture = ImageOps.solarize(picture, 256 - round(abs(strength) * 256))
            case name:
                picture = getattr(ImageEnhance, name)(picture).enhance(1.0 + ENHANCED * strength)
    return np.array(picture)


def augment_thermal(values: NDArray[np.float32], rng: Generator, options: ThermalOptions) -> NDArray[np.float32]:
    """Return a thermal picture with random contrast, brightness and noise, and perhaps an erased rectangle.

    Args:
        values: Thermal picture, float32 (height, width) in 0..1.
        rng: Source of all randomness.
        options: Strengths and probabilities.

    Returns:
        Thermal picture, float32 (height, width) in 0..1; the one given is not changed.

    Raises:
        MediaError: the picture has no pixels.
    """
    check_pixels(values.shape)
    changed: NDArray[np.float32] = np.clip(values, 0.0, 1.0, dtype=np.float32)
    mean = float(changed.mean(dtype=np.float32))
    contrast, brightness = rng.uniform(-1.0, 1.0, 2) * (options.contrast, options.brightness)
    noise = options.noise * rng.random()
    changed *= np.float32(1.0 + contrast)
    changed += np.float32(brightness - contrast * mean)
    if noise:
        changed += np.float32(noise) * rng.standard_normal(changed.shape, dtype=np.float32)
    np.clip(changed, 0.0, 1.0, out=changed)
    if area := random_rectangle(changed.shape, rng, options):
        changed[area] = min(max(mean, 0.0), 1.0)
    return changed


def augment_depth(
    depth_m: NDArray[np.float32], valid: NDArray[np.bool_], rng: Generator, options: DepthOptions
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Return a depth map with random scale and noise, and perhaps with measurements left out.

    Args:
        depth_m: Depth in metres, float32 (height, width); anything, also NaN, where it is not valid.
        valid: Where there is a measurement, bool (height, width).
        rng: Source of all randomness.
        options: Strengths and probabilities.

    Returns:
        Depth, float32 (height, width), 0 where it is not valid, and the mask: never more than `valid`, and never
        empty unless `valid` is. The arrays given are not changed.

    Raises:
        MediaError: the map has no pixels.
    """
    check_pixels(depth_m.shape)
    factor = math.exp(rng.normal() * options.depth_scale)
    noise, holes = rng.random(2) * (options.noise, options.holes)
    changed = np.where(valid, depth_m, np.float32(0.0))
    np.clip(changed, -LARGEST_DEPTH, LARGEST_DEPTH, out=changed)
    changed *= np.float32(factor)
    if noise:
        # a factor below the tenth part would turn depth around, which noise of a sensor does not
        factors = np.float32(noise) * rng.standard_normal(changed.shape, dtype=np.float32)
        factors += np.float32(1.0)
        changed *= np.maximum(factors, np.float32(0.1), out=factors)
    kept = valid.copy()
    if holes:
        kept &= rng.random(kept.shape, dtype=np.float32) >= np.float32(holes)
    if area := random_rectangle(kept.shape, rng, options):
        kept[area] = False
    if not kept.any():
        kept = valid.copy()
    changed[~kept] = 0.0
    return changed, kept


def random_rectangle(shape: tuple[int, ...], rng: Generator, options: SpatialOptions) -> tuple[slice, slice] | None:
    """Return the rows and columns of a random rectangle to erase; None if none is drawn.

    Args:
        shape: Height and width in pixels.
        rng: Source of all randomness.
        options: Probability and largest area.

    Returns:
        Slices that leave at least one pixel of the picture; None for a picture of one pixel.
    """
    if rng.random() >= options.erase:
        return None
    width, height = random_sides(rng, rng.uniform(LEAST_ERASED, options.erase_area), ERASED_RATIO)
    rows, columns = max(1, round(height * shape[0])), max(1, round(width * shape[1]))
    top, left = int(rng.integers(shape[0] - rows + 1)), int(rng.integers(shape[1] - columns + 1))
    if (rows, columns) == tuple(shape):
        return None
    return slice(top, top + rows), slice(left, left + columns)
