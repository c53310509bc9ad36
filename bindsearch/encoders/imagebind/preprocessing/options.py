"""Options of ImageBind's preprocessing, with their published values."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from bindsearch.errors import UsageError


@dataclass(frozen=True, slots=True)
class Preprocessing:
    """Options that determine the vectors; a store records all of them (`dataclasses.asdict`).

    Attributes:
        spatial_crops: Number of squares per picture or frame, 1 (the middle) or 3 (along the longer side; paper,
            appendix B.1).
        view_s: Length of a view of sound or video in seconds; the log-mel has space for 2.05 s of sound (204 frames).
        frames_per_s: Sampling rate of video; two frames per view are used.
        audio_mean: Mean of log-mel values (published code).
        audio_std: Standard deviation of log-mel values (published code).
        depth_min_m: Lower bound that depth is clipped to, in metres.
        depth_max_m: Upper bound that depth is clipped to, in metres.
        disparity_max: Disparity is divided by this and clamped to 1.
        depth_mean: Mean of that disparity (paper, appendix B.1; Omnivore, Girdhar et al. 2022, arXiv 2201.08377).
        depth_std: Standard deviation of that disparity (same sources).
        thermal_mean: Mean of thermal values; 0, with a deviation of 1: no normalisation. Users measured 62.4% on LLVIP
            without normalisation and 55.2% with the values that they tried (paper: 63.4%).
        thermal_std: Standard deviation of thermal values.
        imu_rate_hz: Rate that motion is resampled to, in Hz; a view is 2000 samples (paper, section 3.3: 5 s).

    Raises:
        UsageError: a value is out of range; the message has the option, the value and the range.
    """

    spatial_crops: int = 1
    view_s: float = 2.0
    frames_per_s: float = 1.0
    audio_mean: float = -4.268
    audio_std: float = 9.138
    depth_min_m: float = 0.01
    depth_max_m: float = 50.0
    disparity_max: float = 75.0
    depth_mean: float = 0.0418
    depth_std: float = 0.0295
    thermal_mean: float = 0.0
    thermal_std: float = 1.0
    imu_rate_hz: float = 400.0

    def __post_init__(self) -> None:
        if self.spatial_crops not in (1, 3):
            raise UsageError(f"spatial_crops is {self.spatial_crops}: expected 1 or 3")
        for name, (low, high) in _RANGES.items():
            value = getattr(self, name)
            if not low <= value <= high:
                raise UsageError(f"{name} is {value:g}: expected {low:g} to {high:g}")
        least, most = self.depth_min_m, self.depth_max_m
        if least >= most:
            raise UsageError(f"depth_min_m is {least:g}: expected less than depth_max_m, {most:g}")


_RANGES: Mapping[str, tuple[float, float]] = {
    "view_s": (0.1, 2.05),
    "frames_per_s": (0.05, 60.0),
    "audio_mean": (-100.0, 100.0),
    "audio_std": (0.01, 100.0),
    "depth_min_m": (1e-4, 1e5),
    "depth_max_m": (1e-4, 1e5),
    "disparity_max": (1e-6, 1e6),
    "depth_mean": (-100.0, 100.0),
    "depth_std": (1e-4, 100.0),
    "thermal_mean": (-100.0, 100.0),
    "thermal_std": (1e-4, 100.0),
    "imu_rate_hz": (10.0, 2_000.0),
}
"""Minimum and maximum of each option; values outside are not useful, values inside cannot overflow."""


def parse_preprocessing(options: Mapping[str, str | int | float | bool]) -> Preprocessing:
    """Parse options by name; options that are not given have their published values.

    Args:
        options: Values from a store, or texts from a command line such as "3".

    Raises:
        UsageError: an option is unknown, is not a number, or is out of range.
    """
    kinds = {field.name: type(field.default) for field in fields(Preprocessing)}
    numbers: dict[str, Any] = {}
    for name, value in options.items():
        if name not in kinds:
            raise UsageError(f"unknown preprocessing option {name!r}: expected {', '.join(kinds)}")
        numbers[name] = _number(name, value, whole=kinds[name] is int)
    return Preprocessing(**numbers)


def _number(name: str, value: str | int | float | bool, *, whole: bool) -> int | float:
    """Return the number in a value; raise UsageError if it is not finite, or not an integer if `whole`."""
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (ValueError, TypeError, OverflowError):
        number = math.nan
    if not math.isfinite(number) or (whole and number != int(number)):
        expected = "a whole number" if whole else "a number"
        raise UsageError(f"{name} is {str(value)[:40]!r}: expected {expected}")
    return int(number) if whole else number
