"""Columns of a motion table by their names: sensors, time, and units."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from bindsearch.errors import MediaError
from bindsearch.ingest.media.imu.frames import Terms, parse_axis
from bindsearch.ingest.media.imu.units import ACCELERATION, ROTATION, unit_of

_SEPARATOR = r"[\s_.\-:/]*"
_PLACES = (
    "left|right|hand|wrist|arm|forearm|chest|sternum|back|waist|pelvis|hip|thigh|leg|shin|shank|knee|ankle|foot|head|"
    "pocket|ear|trunk"
)
_WORDS = (
    rf"imu[0-9]*|raw|phone|watch|total|linear|lin|user|body|free|sensor|motion|device|core|field|msg|data|"
    rf"accelerometer|gyroscope|gyro|calibrated|{_PLACES}"
)
_ACCELEROMETER = (
    rf"a|acc|accl|accel|accelero|accelerometer|acceleration|g{_SEPARATOR}f(?:orce)?|a_rs_s|"
    r"acceleration[\s_(]*(?:including|incl|with|without|excluding)[\s_]*(?:gravity|g)\)?"
)
_GYROSCOPE = (
    rf"g|w|gyr|gyro|gyroscope|omega|angular{_SEPARATOR}(?:velocity|rate|speed)|ang{_SEPARATOR}vel|"
    rf"rotation(?:{_SEPARATOR}rate)?|w_rs_s"
)
_GRAVITY_WORDS = ("gravity", "grav")
_WITHOUT_GRAVITY = re.compile(r"linear|lin(?![a-z])|user|body|free|without|excluding")
_TOTAL = re.compile(r"total|includ|incl|with(?!out)")
_MAX_NAME = 120

_TIME_WORDS = (
    "logging|sensor|system|sys|device|unix|epoch|utc|gps|local|elapsed|sample|sampling|relative|component|canonical|"
    "accelerometer|accelero|acc|gyroscope|gyro|motion|imu|header|field|arrival|host|phone|watch|ntp|raw|data|date|since"
)
_TIME = re.compile(
    rf"[#%\s]*(?:(?:{_TIME_WORDS}){_SEPARATOR})*"
    r"(timestamps?|time_?stamp|seconds_elapsed|seconds|secs|elapsed_time|elapsed|datetime|time|stamp|epoch|epoc|unix|"
    r"millis|micros|nanos|millisec(?:ond)?s?|microsec(?:ond)?s?|nanosec(?:ond)?s?|ts|t)(|[^a-z].*|since.*|fine)"
)
_TIME_FILLERS = re.compile(
    r"since_?(?:reboot|boot|start|1970|epoch|power_?up|begin)?|elapsed|txt|utc|unix|epoch|fine|start|_in(?=_)"
)
_TIMES_S = {
    "": None, "s": 1.0, "sec": 1.0, "secs": 1.0, "second": 1.0, "seconds": 1.0, "ms": 1e-3, "msec": 1e-3,
    "msecs": 1e-3, "millis": 1e-3, "millisecond": 1e-3, "milliseconds": 1e-3, "us": 1e-6, "µs": 1e-6, "μs": 1e-6,
    "usec": 1e-6, "usecs": 1e-6, "micros": 1e-6, "microsecond": 1e-6, "microseconds": 1e-6, "ns": 1e-9, "nsec": 1e-9,
    "nsecs": 1e-9, "nanos": 1e-9, "nanosecond": 1e-9, "nanoseconds": 1e-9,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class SensorColumns:
    """Columns of one sensor."""

    axes: tuple[str, ...]  # x, y and z as the names of columns, or signed sums of them
    terms: tuple[Terms, ...]  # the same, parsed
    unit: str | None = None  # None: not in the names
    kind: Literal["plain", "total", "linear"] = "plain"  # the names say nothing of gravity, that it is in it, is not
    place: str = ""  # other words of the names, such as "hand"


@dataclass(frozen=True, slots=True)
class MotionColumns:
    """Columns of a motion table: candidates, of which the first ones are the first choice."""

    accelerometers: tuple[SensorColumns, ...]  # those whose names say that gravity is missing last
    gyroscopes: tuple[SensorColumns, ...]
    gravity: SensorColumns | None  # the gravity sensor
    times: tuple[tuple[str, float | None], ...]  # with seconds per step; None: the name does not contain the unit

    @property
    def axes(self) -> tuple[str, ...]:
        """The six columns by their names, accelerometer x, y, z, gyroscope x, y, z."""
        return self.accelerometers[0].axes + self.gyroscopes[0].axes

    @property
    def time(self) -> str | None:
        """The name of the time column."""
        return self.times[0][0] if self.times else None


def find_columns(
    names: Sequence[str], axes: Sequence[str] | Sequence[int] = (), time: str | int | None = None
) -> MotionColumns | None:
    """Find the motion columns among `names`; `axes` and `time` of a sidecar take precedence.

    Returns:
        None if no accelerometer or no gyroscope is found.

    Raises:
        MediaError: `axes` or `time` contains a missing column, or the units in the names of one sensor differ.
    """
    times = _time_columns(names) if time is None else (_sidecar_time(names, time),)
    if axes:
        chosen = [names[axis] if isinstance(axis, int) and axis < len(names) else axis for axis in axes]
        for axis in chosen:
            if isinstance(axis, int) or parse_axis(axis, names) is None:
                raise MediaError(f"sidecar axes: no column {axis!r} among {', '.join(names)[:200]}")
        columns = tuple(map(str, chosen))
        accelerometer = _sidecar_sensor(columns[:3], names, ACCELERATION)
        return MotionColumns((accelerometer,), (_sidecar_sensor(columns[3:], names, ROTATION),), None, times)
    found = _sensors(names, _ACCELEROMETER, ACCELERATION)
    accelerometers = tuple(sorted(found, key=lambda sensor: ("total", "plain", "linear").index(sensor.kind)))
    gyroscopes = _sensors(names, _GYROSCOPE, ROTATION)
    gravity = next(iter(_sensors(names, "|".join(_GRAVITY_WORDS), ACCELERATION)), None)
    return MotionColumns(accelerometers, gyroscopes, gravity, times) if accelerometers and gyroscopes else None


def add(first: SensorColumns, second: SensorColumns) -> SensorColumns:
    """Return the sum of two sensors, such as gravity and the acceleration without it."""
    axes = tuple(f"{a}+{b}" for a, b in zip(first.axes, second.axes, strict=True))
    terms = tuple(a + b for a, b in zip(first.terms, second.terms, strict=True))
    unit = first.unit or second.unit
    if first.unit and second.unit and first.unit != second.unit:
        unit = "m/s^2"  # each is converted by its own name
    return SensorColumns(axes, terms, unit, "total")


def unit_in_name(name: str, known: Mapping[str, float]) -> str | None:
    """Return the unit in the name of a column, in brackets or after the axis: "a [m/s^2]", "acc_x_g"; None: none."""
    lowered = name.strip().lower()[:_MAX_NAME]
    for pattern in (r"[(\[]([^()\[\]]*)[)\]]$", r"[xyz](?:.?axis)?([^a-z0-9].*)$"):
        match = re.search(pattern, lowered)
        unit = unit_of(match[1], known) if match else None
        if unit is not None:
            return unit
    return None


def _sidecar_sensor(axes: tuple[str, ...], names: Sequence[str], known: Mapping[str, float]) -> SensorColumns:
    """Return the columns of a sensor that a sidecar names, with the unit in their names."""
    terms = tuple(parse_axis(axis, names) or () for axis in axes)
    units = {unit_in_name(name, known) for axis in terms for _, name in axis}
    if len(units) > 1 and None in units:
        raise MediaError(f"columns {', '.join(axes)[:120]}: some names have a unit, others have none")
    unit = next(iter(units)) if len(units) == 1 else next(iter(known))  # several are converted to the first of `known`
    return SensorColumns(axes, terms, unit)


def _sidecar_time(names: Sequence[str], time: str | int) -> tuple[str, float | None]:
    """Return the time column that a sidecar names, with seconds per step."""
    if isinstance(time, int) and time < len(names):
        name = names[time]
    elif isinstance(time, str) and time in names:
        name = time
    else:
        raise MediaError(f"sidecar time: no column {time!r} among {', '.join(names)[:200]}")
    named = _time_columns([name])
    bracketed = re.search(r"[(\[_\s]([a-zµμ]+)[)\]]?$", name.strip().lower())
    return named[0] if named else (name, _TIMES_S.get(bracketed[1]) if bracketed else None)


def _sensors(names: Sequence[str], sensor: str, known: Mapping[str, float]) -> tuple[SensorColumns, ...]:
    """Return the sensors with an x, a y and a z column of one unit, in the order of their first column."""
    patterns = (
        re.compile(rf"{_SEPARATOR}((?:(?:{_WORDS}){_SEPARATOR})*)({sensor}){_SEPARATOR}([xyz])((?:[^a-z0-9].*)?)"),
        re.compile(rf"([xyz])(?:.?axis)?[\s_]((?:(?:{_WORDS}){_SEPARATOR})*)({sensor})((?:[^a-z0-9].*)?)"),
    )
    groups: dict[tuple[str, ...], dict[str, str]] = {}
    for name in names:
        lowered = name.strip().lower()
        if len(lowered) > _MAX_NAME:
            continue
        forward, backward = (pattern.fullmatch(lowered) for pattern in patterns)
        if forward:
            words, word, axis, suffix = forward.groups()
        elif backward and len(backward[3]) > 1:
            axis, words, word, suffix = backward.groups()
        else:
            continue
        suffix = re.sub(r"^.?axis", "", suffix)
        unit = unit_of(suffix, known) if re.search(r"[^\W_]|°", suffix) else ""
        if unit is None:
            continue
        if not unit and known is ACCELERATION and word.startswith("g") and word not in _GRAVITY_WORDS:
            unit = "g"
        groups.setdefault((words, word, unit), {}).setdefault(axis, name)
    sensors = []
    for (words, word, unit), columns in groups.items():
        if set(columns) == set("xyz"):
            axes = columns["x"], columns["y"], columns["z"]
            kind: Literal["plain", "total", "linear"] = "plain"
            if _WITHOUT_GRAVITY.search(words + " " + word):
                kind = "linear"
            elif _TOTAL.search(words + " " + word):
                kind = "total"
            place = " ".join(re.findall(rf"imu[0-9]*|{_PLACES}", words))
            sensors.append(SensorColumns(axes, tuple(((1.0, name),) for name in axes), unit or None, kind, place))
    return tuple(sensors)


def _time_columns(names: Sequence[str]) -> tuple[tuple[str, float | None], ...]:
    """Return the time columns, each with seconds per step if its name contains the unit."""
    found = []
    for name in names:
        lowered = re.sub(r"[\s(\[]", "_", name.strip().lower())
        match = _TIME.fullmatch(lowered) if len(lowered) <= _MAX_NAME else None
        if match:
            spelling = re.sub(r"[\s_.\-:/()\[\]]", "", _TIME_FILLERS.sub("", match[2]))
            if spelling in _TIMES_S:
                # "seconds" and "seconds_elapsed" are their own unit
                word = match[1].removesuffix("_elapsed").replace("sec", "second").replace("secondond", "second")
                found.append((name, _TIMES_S[spelling] or _TIMES_S.get(word)))
    return tuple(found)
