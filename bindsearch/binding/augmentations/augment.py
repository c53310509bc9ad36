"""Random changes of a decoded medium, by its kind; and mixtures of two (mixup, Zhang et al. 2018, arXiv 1710.09412)."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from bindsearch.binding.augmentations.motion import augment_motion
from bindsearch.binding.augmentations.options import (
    DepthOptions,
    MotionOptions,
    Options,
    PictureOptions,
    SoundOptions,
    ThermalOptions,
)
from bindsearch.binding.augmentations.picture import augment_depth, augment_picture, augment_thermal
from bindsearch.binding.augmentations.sound import augment_sound
from bindsearch.errors import UsageError
from bindsearch.media import DepthMap, Media, Motion, Picture, Sound, ThermalPicture

if TYPE_CHECKING:
    from numpy.typing import NDArray

    M = TypeVar("M", bound=Media)


def augment(media: M, options: Options, rng: np.random.Generator) -> M:
    """Return a medium with random changes; its crop is not among them, since both media of a pair share it.

    Args:
        media: Picture, thermal picture, depth map, sound or motion; it is not changed.
        options: Options of its modality; see `parse_options`.
        rng: Source of all randomness.

    Returns:
        A medium of the same kind, with arrays of the same shapes and dtypes.

    Raises:
        MediaError: the medium is empty.
        UsageError: the options are those of another modality, or the medium has no augmentations.
    """
    match media, options:
        case Picture(), PictureOptions():
            return replace(media, rgb=augment_picture(media.rgb, rng, options))
        case ThermalPicture(), ThermalOptions():
            return replace(media, values=augment_thermal(media.values, rng, options))
        case DepthMap(), DepthOptions():
            depth_m, valid = augment_depth(media.depth_m, media.valid, rng, options)
            return replace(media, depth_m=depth_m, valid=valid)
        case Sound(), SoundOptions():
            return replace(media, samples=augment_sound(media.samples, media.sample_rate_hz, rng, options))
        case Motion(), MotionOptions():
            return replace(media, samples=np.ascontiguousarray(augment_motion(media.samples.T, rng, options).T))
    raise UsageError(
        f"{type(options).__name__} do not apply to {type(media).__name__}: give the options of its modality"
    )


def mixing_shares(rng: np.random.Generator, count: int, alpha: float, chance: float) -> NDArray[np.float32]:
    """Return the share of the first medium in each of `count` mixtures; 1 where nothing is mixed in.

    Args:
        rng: Source of all randomness.
        count: Number of mixtures.
        alpha: Both parameters of the Beta distribution of the share, above 0; small ones give shares near 0 and 1.
        chance: Probability that something is mixed in.

    Returns:
        Shares, float32 (count,), in 0..1.
    """
    is_mixed = rng.random(count) < chance
    return np.where(is_mixed, rng.beta(alpha, alpha, count), 1.0).astype(np.float32)


def mix(
    first: NDArray[np.float32], second: NDArray[np.float32], share: NDArray[np.float32] | float
) -> NDArray[np.float32]:
    """Return `share` of the first media and the rest of the second.

    Args:
        first: Media, float32 (n, ...), or one of any shape.
        second: As many of the same shape: samples, signals, or targets.
        share: Share of the first in 0..1: (n,), or one for all.

    Raises:
        UsageError: the shapes differ.
    """
    if first.shape != second.shape:
        raise UsageError(f"media of shapes {first.shape} and {second.shape} cannot be mixed: make them equal first")
    shares = np.asarray(share, dtype=np.float32)
    shares = shares.reshape(shares.shape + (1,) * (first.ndim - shares.ndim))
    mixed: NDArray[np.float32] = shares * first + (1 - shares) * second
    return mixed
