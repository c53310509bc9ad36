"""Columns of a motion table by their names: axes, time, and units."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bindsearch.errors import MediaError

STANDARD_GRAVITY_M_S2 = 9.80665
"""Standard gravity, one g, in m/s^2 (CGPM 1901)."""

ACCELERATION = {"m/s^2": 1.0, "g": STANDARD_GRAVITY_M_S2, "mg": STANDARD_GRAVITY_M_S2 / 1000}
"""Factors from units of an accelerometer to m/s^2."""

ROTATION = {"rad/s": 1.0, "deg/s": 0.017453292519943295, "mrad/s": 0.001}
"""Factors from units of a gyroscope to rad/s."""

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
    """Columns of a motion table.

    Attributes:
        axes: the six column names, accelerometer x, y, z, gyroscope x, y, z.
        units: units of the two sensors; None: not in the names.
        time: name of the time column; None: there is none.
        time_step_s: seconds per step of the time column, if its name contains the unit; else None.
    """

    axes: tuple[str, ...]
    units: tuple[str | None, str | None]
    time: str | None
    time_step_s: float | None


def find_columns(names: Sequence[str], axes: Sequence[str] | Sequence[int] = ()) -> MotionColumns | None:
    """Find the motion columns among `names`; `axes` of a sidecar take precedence. None if six axes are not found.

    Raises:
        MediaError: `axes` contains a missing column.
    """
    time, step_s = _time_column(names)
    if axes:
        return MotionColumns(_sidecar_axes(names, axes), (None, None), time, step_s)
    accelerometer, gyroscope = _triple(names, _ACCELEROMETER, ACCELERATION), _triple(names, _GYROSCOPE, ROTATION)
    if accelerometer is None or gyroscope is None:
        return None
    return MotionColumns(accelerometer[0] + gyroscope[0], (accelerometer[1], gyroscope[1]), time, step_s)


def _sidecar_axes(names: Sequence[str], axes: Sequence[str] | Sequence[int]) -> tuple[str, ...]:
    """Return the columns that a sidecar lists as axes, by name or position."""
    columns = []
    for axis in axes:
        if isinstance(axis, int) and axis < len(names):
            columns.append(names[axis])
        elif isinstance(axis, str) and axis in names:
            columns.append(axis)
        else:
            raise MediaError(f"sidecar axes: no column {axis!r} among {', '.join(names)[:200]}")
    return tuple(columns)


def _triple(
    names: Sequence[str], pattern: re.Pattern[str], units: Mapping[str, float]
) -> tuple[tuple[str, ...], str | None] | None:
    """Return the x, y and z columns of one sensor with their unit, which must be the same for all three."""
    sensor_columns: dict[str, tuple[str, str | None]] = {}
    for name in names:
        match = pattern.fullmatch(name.strip().lower())
        if match is None or match[1] in sensor_columns:
            continue
        spelling = re.sub(r"[\s_.,\-:/()\[\]^*·⋅{}]", "", match[2].replace("²", "2"))
        unit = _SPELLINGS.get(spelling, "?")
        if unit is None or unit in units:
            sensor_columns[match[1]] = name, unit
    if set(sensor_columns) != set("xyz") or len({unit for _, unit in sensor_columns.values()}) != 1:
        return None
    return tuple(sensor_columns[axis][0] for axis in "xyz"), sensor_columns["x"][1]


def _time_column(names: Sequence[str]) -> tuple[str | None, float | None]:
    """Return the time column, and seconds per step if its name contains the unit."""
    for name in names:
        match = _TIME.fullmatch(name.strip().lower().replace("(", "_").replace("[", "_"))
        if match:
            spelling = re.sub(r"[\s_.\-:/()\[\]]", "", match[1])
            if spelling in _TIMES_S:
                # "seconds" and "seconds_elapsed" are their own unit
                named_unit_s = 1.0 if name.strip().lower().startswith("seconds") else None
                return name, _TIMES_S[spelling] or named_unit_s
    return None, None
