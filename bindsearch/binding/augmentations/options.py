"""Options of the augmentations: one class per modality, with bounds, set from texts such as "erase=0.5"."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from types import MappingProxyType
from typing import Any

from bindsearch.arguments import did_you_mean, shown
from bindsearch.errors import UsageError
from bindsearch.types import Modality


def bounded(default: float, low: float, high: float) -> Any:
    """Return a field with a default and the bounds of its value; a whole default takes whole numbers alone."""
    return field(default=default, metadata={"low": low, "high": high})


@dataclass(frozen=True, slots=True)
class _Bounded:
    """Options that raise UsageError if a value is not a number within its bounds."""

    def __post_init__(self) -> None:
        for option in fields(self):
            value, bounds, whole = getattr(self, option.name), option.metadata, isinstance(option.default, int)
            is_number = isinstance(value, int if whole else int | float) and not isinstance(value, bool)
            if not (is_number and math.isfinite(value) and bounds["low"] <= value <= bounds["high"]):
                raise UsageError(f"{option.name} is {shown(value)}: {_expected(bounds, whole=whole)}")


@dataclass(frozen=True, slots=True)
class SpatialOptions(_Bounded):
    """Options of media with rows and columns.

    A crop and a flip are drawn once for a pair (`crop_box`), the others for each medium (`augment`). Every random
    change is off where its option is 0, and the crop where `crop_scale` is 1 and `crop_ratio` 1.

    Attributes:
        crop_scale: Smallest area of a crop, as a share of the picture's; drawn evenly from there to 1. There are crops
            only where `crops` is not 0.
        crop_ratio: Largest ratio of width to height of a crop relative to the picture's own, and the inverse of the
            smallest; drawn evenly in its logarithm. 4/3 is that of Inception's training (Szegedy et al. 2015).
        flip: Probability of a mirrored crop.
        erase: Probability that a rectangle is erased (random erasing, Zhong et al. 2020): of pictures it gets their
            mean, of depth it has no measurement.
        erase_area: Largest area of that rectangle as a share of the picture's.

    Raises:
        UsageError: a value is out of its bounds.
    """

    crop_scale: float = bounded(0.5, 0.01, 1.0)
    crop_ratio: float = bounded(4 / 3, 1.0, 4.0)
    flip: float = bounded(0.5, 0.0, 1.0)
    erase: float = bounded(0.25, 0.0, 1.0)
    erase_area: float = bounded(1 / 3, 0.02, 0.9)


@dataclass(frozen=True, slots=True)
class PictureOptions(SpatialOptions):
    """Options of pictures in colour.

    Attributes:
        brightness: Largest relative change of brightness.
        contrast: Largest relative change of contrast.
        saturation: Largest relative change of saturation.
        hue: Largest turn of the hue, as a share of the colour circle.
        grey: Probability of a picture without colours.
        operations: Number of operations of RandAugment (Cubuk et al. 2020) on a picture, of those that change tones
            alone: turned or moved pixels would no longer fit the other medium of a pair.
        magnitude: Mean strength of these operations, of 10.
        magnitude_std: Standard deviation of the strength.
    """

    brightness: float = bounded(0.4, 0.0, 0.9)
    contrast: float = bounded(0.4, 0.0, 0.9)
    saturation: float = bounded(0.4, 0.0, 1.0)
    hue: float = bounded(0.0, 0.0, 0.5)
    grey: float = bounded(0.0, 0.0, 1.0)
    operations: int = bounded(0, 0, 8)
    magnitude: float = bounded(9.0, 0.0, 10.0)
    magnitude_std: float = bounded(0.5, 0.0, 5.0)


@dataclass(frozen=True, slots=True)
class ThermalOptions(SpatialOptions):
    """Options of thermal pictures.

    Attributes:
        contrast: Largest relative change of contrast: cameras spread the temperatures of a scene over 0..1.
        brightness: Largest change of all values.
        noise: Largest standard deviation of the noise of a pixel.
    """

    contrast: float = bounded(0.4, 0.0, 0.9)
    brightness: float = bounded(0.1, 0.0, 1.0)
    noise: float = bounded(0.02, 0.0, 1.0)


@dataclass(frozen=True, slots=True)
class DepthOptions(SpatialOptions):
    """Options of depth maps.

    Attributes:
        depth_scale: Standard deviation of the logarithm of a factor of all depths.
        noise: Largest standard deviation of the relative noise of a pixel.
        holes: Largest share of pixels that lose their measurement.
    """

    depth_scale: float = bounded(0.1, 0.0, 1.0)
    noise: float = bounded(0.01, 0.0, 0.5)
    holes: float = bounded(0.0, 0.0, 0.9)


@dataclass(frozen=True, slots=True)
class SoundOptions(_Bounded):
    """Options of sound, as samples and as levels of a mel spectrogram in dB.

    Attributes:
        speed: Largest change of speed, as a natural logarithm; of samples it changes the pitch too.
        gain_db: Largest change of the level of samples in dB.
        noise: Probability of coloured noise.
        snr_db: Smallest ratio of samples to noise in dB; drawn evenly from there to 35 dB more.
        noise_db: Smallest distance in dB of noise below the loudest point of levels; drawn evenly from there to 35 dB
            more.
        low_pass: Probability of a low pass.
        low_pass_hz: Lowest cut-off of a low pass of samples in Hz.
        pitch_bins: Largest shift of the pitch of levels in mel bins.
        mask_bands: Number of masked bands of levels (SpecAugment, Park et al. 2019).
        mask_bins: Largest width of a masked band in mel bins.
        mask_spans: Number of masked spans of time of levels.
        mask_frames: Largest length of a masked span in frames.

    Raises:
        UsageError: a value is out of its bounds.
    """

    speed: float = bounded(0.2, 0.0, 0.7)
    gain_db: float = bounded(6.0, 0.0, 40.0)
    noise: float = bounded(0.4, 0.0, 1.0)
    snr_db: float = bounded(20.0, -20.0, 100.0)
    noise_db: float = bounded(40.0, 0.0, 120.0)
    low_pass: float = bounded(0.2, 0.0, 1.0)
    low_pass_hz: float = bounded(2_000.0, 50.0, 100_000.0)
    pitch_bins: int = bounded(3, 0, 64)
    mask_bands: int = bounded(2, 0, 16)
    mask_bins: int = bounded(8, 0, 512)
    mask_spans: int = bounded(2, 0, 16)
    mask_frames: int = bounded(12, 0, 4_096)


@dataclass(frozen=True, slots=True)
class MotionOptions(_Bounded):
    """Options of motion.

    Attributes:
        tempo: Largest change of tempo, as a natural logarithm.
        tilt_deg: Standard deviation in degrees of a rotation about a random axis: ways to wear a device.
        turn: Probability of a turn by right angles: a device may be in a pocket either way round.
        intensity: Standard deviation of the logarithm of a factor of all that is not gravity.
        noise: Largest standard deviation of the noise, in 0.1 m/s^2 and 0.02 rad/s.

    Raises:
        UsageError: a value is out of its bounds.
    """

    tempo: float = bounded(0.15, 0.0, 0.7)
    tilt_deg: float = bounded(15.0, 0.0, 180.0)
    turn: float = bounded(0.8, 0.0, 1.0)
    intensity: float = bounded(0.15, 0.0, 1.0)
    noise: float = bounded(1.0, 0.0, 100.0)


Options = SpatialOptions | SoundOptions | MotionOptions

OPTIONS: Mapping[Modality, type[Options]] = MappingProxyType(
    {
        Modality.IMAGE: PictureOptions,
        Modality.THERMAL: ThermalOptions,
        Modality.DEPTH: DepthOptions,
        Modality.AUDIO: SoundOptions,
        Modality.IMU: MotionOptions,
    }
)
"""Class of the options of a modality.

Defaults of levels of sound and of motion were chosen for towers of `mini` (benchmarks/QUALITY_SOUNDS.md), others are
customary values of the sources named. They are not taken from ImageBind's table 9 (arXiv 2305.05665).
"""


def parse_options(modality: Modality, settings: Iterable[str] = ()) -> Options:
    """Return the options of a modality with some set from texts such as "erase=0.5".

    Args:
        modality: Modality of the media to change.
        settings: Texts NAME=VALUE; a later one overrides an earlier one of the same name.

    Raises:
        UsageError: the modality has no augmentations, an option is unknown, or a value is not a number within its
            bounds.
    """
    if modality not in OPTIONS:
        raise UsageError(f"{modality} has no augmentations: choose from {', '.join(OPTIONS)}")
    kind = OPTIONS[modality]
    known = {option.name: option for option in fields(kind)}
    values: dict[str, Any] = {}
    for setting in settings:
        name, equals, text = (part.strip() for part in setting.partition("="))
        if not equals:
            raise UsageError(f"the augmentation option {shown(setting)} is not NAME=VALUE: write for example erase=0.5")
        if name not in known:
            hint = f"{did_you_mean(name, known)}choose from {', '.join(known)}"
            raise UsageError(f"unknown augmentation option {shown(name)} of {modality}: {hint}")
        bounds, whole = known[name].metadata, isinstance(known[name].default, int)
        try:
            values[name] = int(text) if whole else float(text)
        except ValueError:
            raise UsageError(f"{name} is {shown(text)}: {_expected(bounds, whole=whole)}") from None
    return kind(**values)


def _expected(bounds: Mapping[str, float], *, whole: bool) -> str:
    """Return the values that an option takes, for messages."""
    return f"expected a {'whole ' if whole else ''}number from {bounds['low']:g} to {bounds['high']:g}"
