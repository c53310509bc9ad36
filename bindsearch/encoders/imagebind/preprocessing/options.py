"""Every option of ImageBind's preprocessing, with the value it was published with."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from bindsearch.errors import UsageError


@dataclass(frozen=True, slots=True)
class Preprocessing:
    """Options that decide what a vector means; a store records them all (`dataclasses.asdict`).

    `spatial_crops`: squares a picture or video is looked at by, 1 (the middle) or 3 (along the longer side; paper,
    appendix B.1). `view_s`: length of a view of sound or video; sound has room for 2.05 s (204 frames).
    `frames_per_s`: how densely video is sampled; two frames a view are used.
    `audio_mean`, `audio_std`: of log-mel values (published code).
    `depth_min_m`, `depth_max_m`: depth is clipped to these; `disparity_max`: disparity is divided by this and clamped
    to 1; `depth_mean`, `depth_std`: of that (paper, appendix B.1; Omnivore, Girdhar et al. 2022, arXiv 2201.08377).
    `thermal_mean`, `thermal_std`: 0 and 1, that is none: users measured 62.4% on LLVIP without, 55.2% with those that
    were tried (the paper: 63.4%).
    `imu_rate_hz`: motion is resampled to this; a view is 2000 samples (paper, section 3.3: 5 s).

    Raises:
        UsageError: a value is out of range; names the option, the value and the range.
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
        if self.depth_min_m >= self.depth_max_m:
            raise UsageError(
                f"depth_min_m is {self.depth_min_m:g}: expected less than depth_max_m, {self.depth_max_m:g}"
            )


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
"""Lowest and highest value of each number; outside nothing sensible comes out, inside nothing overflows."""


def parse_preprocessing(options: Mapping[str, str | int | float | bool]) -> Preprocessing:
    """Options by name, as a store or a command line ("3") gives them; what is absent keeps its published value.

    Raises:
        UsageError: an option is not known, is no number, or out of range.
    """
    kinds = {field.name: type(field.default) for field in fields(Preprocessing)}
    numbers: dict[str, Any] = {}
    for name, value in options.items():
        if name not in kinds:
            raise UsageError(f"unknown preprocessing option {name!r}: expected {', '.join(kinds)}")
        numbers[name] = _number(name, value, whole=kinds[name] is int)
    return Preprocessing(**numbers)


def _number(name: str, value: str | int | float | bool, *, whole: bool) -> int | float:
    expected = "a whole number" if whole else "a number"
    wrong = UsageError(f"{name} is {str(value)[:40]!r}: expected {expected}")
    if isinstance(value, bool):
        raise wrong
    try:
        number = float(value)
    except (ValueError, TypeError, OverflowError):
        raise wrong from None
    if not math.isfinite(number) or (whole and number != int(number)):
        raise wrong
    return int(number) if whole else number
