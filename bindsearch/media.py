"""Decoded media: what decoders give and encoders take. Plain arrays with their units."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from bindsearch.types import Modality

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Passage:
    """A passage of text that fits the encoder's window."""

    text: str


@dataclass(frozen=True, slots=True)
class Picture:
    """`rgb`: uint8 (height, width, 3), upright, alpha already laid on white."""

    rgb: NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Frames:
    """Sampled frames of a stretch of video: `rgb` uint8 (n, height, width, 3), `times_s` float64 (n,)."""

    rgb: NDArray[np.uint8]
    times_s: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Sound:
    """Mono sound: `samples` float32 (n,), nominally in -1..1, at `sample_rate_hz`."""

    samples: NDArray[np.float32]
    sample_rate_hz: int


@dataclass(frozen=True, slots=True)
class DepthMap:
    """`depth_m` float32 (height, width) in metres; `valid` bool (height, width), False where the sensor saw nothing.

    `fx_px`: focal length in pixels of this file; `baseline_m`: the baseline disparity is computed with.
    """

    depth_m: NDArray[np.float32]
    valid: NDArray[np.bool_]
    fx_px: float
    baseline_m: float


@dataclass(frozen=True, slots=True)
class ThermalPicture:
    """`values` float32 (height, width) in 0..1, brighter is hotter."""

    values: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Motion:
    """`samples` float32 (n, 6): accelerometer x, y, z in m/s^2 with gravity, then gyroscope x, y, z in rad/s."""

    samples: NDArray[np.float32]
    sample_rate_hz: float


Media = Passage | Picture | Frames | Sound | DepthMap | ThermalPicture | Motion

MODALITY_OF: dict[type[Media], Modality] = {
    Passage: Modality.TEXT,
    Picture: Modality.IMAGE,
    Frames: Modality.VIDEO,
    Sound: Modality.AUDIO,
    DepthMap: Modality.DEPTH,
    ThermalPicture: Modality.THERMAL,
    Motion: Modality.IMU,
}


@dataclass(frozen=True, slots=True)
class DecodeHints:
    """Hints of an encoder to the decoders, so that no pixel or frame is decoded for nothing.

    `picture_side_px`: the shorter side may come down to this (JPEGs are decoded at a reduced scale);
    `frames_per_s`: how densely video is sampled; `motion_s`: motion shorter than this is padded by the encoder, which
    the user is told.
    """

    picture_side_px: int
    frames_per_s: float
    motion_s: float = 0.0


Wants = DecodeHints
"""The former name, for encoders of other packages."""
