"""Random changes of a decoded medium, by its kind."""

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
