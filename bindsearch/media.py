"""Decoded media as plain arrays with units: the output of decoders and the input of encoders."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from bindsearch.types import Modality

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Passage:
    """A passage of text that fits the encoder's context window."""

    text: str


@dataclass(frozen=True, slots=True)
class Picture:
    """An image.

    Attributes:
        rgb: uint8 (height, width, 3), upright, alpha composited on white.
    """

    rgb: NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Frames:
    """Sampled frames of a span of video.

    Attributes:
        rgb: uint8 (n, height, width, 3).
        times_s: float64 (n,), time of each frame in seconds.
    """

    rgb: NDArray[np.uint8]
    times_s: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Sound:
    """Mono sound.

    Attributes:
        samples: float32 (n,), nominally in -1..1.
        sample_rate_hz: Samples per second.
    """

    samples: NDArray[np.float32]
    sample_rate_hz: int


@dataclass(frozen=True, slots=True)
class DepthMap:
    """A depth map.

    Attributes:
        depth_m: float32 (height, width) in metres.
        valid: bool (height, width), False where the sensor has no measurement.
        fx_px: Focal length in pixels of this file.
        baseline_m: Stereo baseline in metres for computing disparity.
    """

    depth_m: NDArray[np.float32]
    valid: NDArray[np.bool_]
    fx_px: float
    baseline_m: float


@dataclass(frozen=True, slots=True)
class ThermalPicture:
    """A thermal image.

    Attributes:
        values: float32 (height, width) in 0..1; higher is hotter.
    """

    values: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Motion:
    """A motion (IMU) recording.

    Attributes:
        samples: float32 (n, 6): accelerometer x, y, z in m/s^2 including gravity, then gyroscope x, y, z in rad/s.
        sample_rate_hz: Samples per second.
    """

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
    """Hints of an encoder to the decoders, so that no more pixels and frames are decoded than it uses.

    Attributes:
        picture_side_px: Minimum length of an image's shorter side in pixels (JPEGs are decoded at a reduced scale).
        frames_per_s: Sampling rate of video frames.
        motion_s: Duration in seconds below which the encoder pads motion; a notice reports it to the user.
    """

    picture_side_px: int
    frames_per_s: float
    motion_s: float = 0.0


Wants = DecodeHints
"""The former name of `DecodeHints`, for encoders in other packages."""
