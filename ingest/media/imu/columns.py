"""Roles of the columns of a motion table, by their names: axes, time, and the units in the names."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bindsearch.errors import MediaError

STANDARD_GRAVITY_M_S2 = 9.80665
"""One g in m/s^2 (CGPM 1901)."""

ACCELERATION = {"m/s^2": 1.0, "g": STANDARD_GRAVITY_M_S2, "mg": STANDARD_GRAVITY_M_S2 / 1000}
"""Units of an accelerometer in m/s^2."""

ROTATION = {"rad/s": 1.0, "deg/s": 0.017453292519943295, "mrad/s": 0.001}
"""Units of a gyroscope in rad/s."""

_SEPARATOR = r"[\s_.\-:/]*"
_ACCELEROMETER = re.compile(
    rf"(?:imu|raw|phone|watch|total|linear|sensor)?{_SEPARATOR}"
    rf"(?:a|acc|accel|accelerometer|acceleration){_SEPARATOR}([xyz])((?:[^a-z0-9].*)?)"
)
_GYROSCOPE = re.compile(
    rf"(?:imu|raw|phone|watch|body|sensor)?{_SEPARATOR}"
    rf"(?:g|w|gyr|gyro|gyroscope|omega|angular{_SEPARATOR}(?:velocity|rate|speed)|rotation{_SEPARATOR}rate)"
    rf"{_SEPARATOR}([xyz])((?:[^a-z0-9].*)?)"
)
_TIME = re.compile(r"(?:timestamps?|time_stamp|seconds_elapsed|seconds|elapsed_time|elapsed|time|ts|t)(.*)")
_SPELLINGS = {
    "": None,
    "ms2": "m/s^2", "mss": "m/s^2", "mps2": "m/s^2", "g": "g", "gs": "g", "mg": "mg",
    "rads": "rad/s", "radps": "rad/s", "radsec": "rad/s", "degs": "deg/s", "degps": "deg/s", "dps": "deg/s",
    "degsec": "deg/s", "°s": "deg/s", "mrads": "mrad/s",
}  # fmt: skip
_TIMES_S = {
    "": None, "s": 1.0, "sec": 1.0, "secs": 1.0, "seconds": 1.0, "ms": 1e-3, "msec": 1e-3, "millis": 1e-3,
    "milliseconds": 1e-3, "us": 1e-6, "µs": 1e-6, "usec": 1e-6, "micros": 1e-6, "microseconds": 1e-6, "ns": 1e-9,
    "nsec": 1e-9, "nanos": 1e-9, "nanoseconds": 1e-9,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class MotionColumns:
    """`axes`: the six column names, accelerometer x, y, z, gyroscope x, y, z; `units` of the two, None where unsaid.

    `time`: the name of the time column, with seconds per step in `time_step_s` where its name says the unit.
    """

    axes: tuple[str, ...]
    units: tuple[str | None, str | None]
    time: str | None
    time_step_s: float | None


def find_columns(names: Sequence[str], axes: Sequence[str] | Sequence[int] = ()) -> MotionColumns | None:
    """The motion columns among `names`; `axes` from a sidecar comes first. None where six axes are not found.

    Raises:
        MediaError: `axes` names a column that is not there.
    """
    time, step_s = _time_column(names)
    if axes:
        return MotionColumns(_said(names, axes), (None, None), time, step_s)
    accelerometer, gyroscope = _triple(names, _ACCELEROMETER, ACCELERATION), _triple(names, _GYROSCOPE, ROTATION)
    if accelerometer is None or gyroscope is None:
        return None
    return MotionColumns(accelerometer[0] + gyroscope[0], (accelerometer[1], gyroscope[1]), time, step_s)


def _said(names: Sequence[str], axes: Sequence[str] | Sequence[int]) -> tuple[str, ...]:
    found = []
    for axis in axes:
        if isinstance(axis, int) and axis < len(names):
            found.append(names[axis])
        elif isinstance(axis, str) and axis in names:
            found.append(axis)
        else:
            raise MediaError(f"sidecar axes: no column {axis!r} among {', '.join(names)[:200]}")
    return tuple(found)


def _triple(
    names: Sequence[str], pattern: re.Pattern[str], units: Mapping[str, float]
) -> tuple[tuple[str, ...], str | None] | None:
    """x, y and z columns of one sensor with their unit, which must be the same for all three."""
    found: dict[str, tuple[str, str | None]] = {}
    for name in names:
        match = pattern.fullmatch(name.strip().lower())
        if match is None or match[1] in found:
            continue
        spelling = re.sub(r"[\s_.,\-:/()\[\]^*·⋅{}]", "", match[2].replace("²", "2"))
        unit = _SPELLINGS.get(spelling, "?")
        if unit is None or unit in units:
            found[match[1]] = name, unit
    if set(found) != set("xyz") or len({unit for _, unit in found.values()}) != 1:
        return None
    return tuple(found[axis][0] for axis in "xyz"), found["x"][1]


def _time_column(names: Sequence[str]) -> tuple[str | None, float | None]:
    for name in names:
        match = _TIME.fullmatch(name.strip().lower().replace("(", "_").replace("[", "_"))
        if match:
            spelling = re.sub(r"[\s_.\-:/()\[\]]", "", match[1])
            if spelling in _TIMES_S:
                # "seconds" and "seconds_elapsed" are their own unit
                own = 1.0 if name.strip().lower().startswith("seconds") else None
                return name, _TIMES_S[spelling] or own
    return None, None
