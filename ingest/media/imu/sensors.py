"""Values of the two sensors of a motion table: choice by gravity, conversion, and repair of short gaps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bindsearch.errors import MediaError
from bindsearch.ingest.media.imu.columns import MotionColumns, SensorColumns, add, unit_in_name
from bindsearch.ingest.media.imu.table import Table, count_of
from bindsearch.ingest.media.imu.units import (
    ACCELERATION,
    ROTATION,
    Level,
    acceleration_factor,
    gravity_unit,
    measure,
    no_gravity,
    rotation_factor,
    said_factor,
    shows_gravity,
    tilt_factor,
)
from bindsearch.ingest.media.sidecar import Sidecar

_MAX_GAP_S = 0.2
"""Length of a gap in the values up to which it is interpolated."""

_MAX_BAD_SHARE = 0.05
_FASTEST_DEG_S = 4500.0
_LARGEST = 1e30
"""Values from here on are errors, and would not fit float32 after conversion."""


@dataclass(frozen=True, slots=True)
class _Values:
    """A sensor: its columns, vectors float64 (n, 3), and their statistics."""

    columns: SensorColumns
    vectors: NDArray[np.float64]
    level: Level


def read_sensors(
    table: Table, columns: MotionColumns, sidecar: Sidecar, rate_hz: float
) -> tuple[NDArray[np.float32], tuple[str, ...]]:
    """Return the samples of a table, float32 (n, 6), accelerometer in m/s^2 and gyroscope in rad/s, with notes.

    `axes` and `units` of the sidecar precede those of the columns.

    Raises:
        MediaError: units are not clear, no accelerometer has gravity in it, or too many values are missing.
    """
    said, said_turns = sidecar.units.get("accelerometer"), sidecar.units.get("gyroscope")
    accelerometers = [_read(table, candidate, rate_hz, ACCELERATION) for candidate in columns.accelerometers]
    gyroscopes = columns.gyroscopes
    if table.is_unnamed and not sidecar.axes:
        acc, gyro = accelerometers[0], _read(table, gyroscopes[0], rate_hz, ROTATION)
        both = np.hstack([acc.vectors, gyro.vectors])
        _fill_gaps(both, acc.columns.axes + gyro.columns.axes, table.texts, rate_hz)
        acc, gyro, chosen_notes = _roles(acc, gyro, said)
    else:
        acc, chosen_notes = accelerometers[0], ()
        if not sidecar.axes:
            acc, chosen_notes = _accelerometer(table, accelerometers, columns.gravity, said, rate_hz)
        same_place = [candidate for candidate in gyroscopes if candidate.place == acc.columns.place]
        gyro = _read(table, (same_place or gyroscopes)[0], rate_hz, ROTATION)
    if len(acc.vectors) != len(gyro.vectors):
        raise MediaError(f"the accelerometer has {len(acc.vectors)} rows, the gyroscope {len(gyro.vectors)}")
    values = np.hstack([acc.vectors, gyro.vectors])
    gap_notes = _fill_gaps(values, acc.columns.axes + gyro.columns.axes, table.texts, rate_hz)
    names = ", ".join(acc.columns.axes)[:120]
    acc_factor, acc_notes = acceleration_factor(acc.level, said or acc.columns.unit, names)
    tilt = tilt_factor(acc.vectors, gyro.vectors, rate_hz)
    gyro_factor, gyro_notes = rotation_factor(gyro.level, said_turns or gyro.columns.unit, acc_factor, tilt)
    samples = (values * np.repeat((acc_factor, gyro_factor), 3)).astype(np.float32)
    return samples, (*gap_notes, *chosen_notes, *acc_notes, *gyro_notes)


def _read(table: Table, columns: SensorColumns, rate_hz: float, known: Mapping[str, float]) -> _Values:
    """Return the vectors of a sensor; terms of a sum in different units are converted to the SI unit."""
    units = {unit_in_name(name, known) for axis in columns.terms for _, name in axis} - {None}
    is_mixed = len(units) > 1
    axes = []
    for axis in columns.terms:
        parts: list[NDArray[np.float64]] = []
        for sign, name in axis:
            raw = table.columns[name]
            if raw.ndim != 1 or raw.dtype.kind not in "biuf":
                raise MediaError(f"column {name!r} has no numbers")
            unit = unit_in_name(name, known) if is_mixed else None
            weight = sign * (said_factor(unit, known, "sensor") if unit else 1.0)
            parts.append(raw.astype(np.float64) * weight if weight != 1.0 else raw.astype(np.float64))
            if len(parts[0]) != len(raw):
                raise MediaError(f"column {name!r} has {len(raw)} rows, another axis {len(parts[0])}")
        axes.append(sum(parts[1:], parts[0]))
    if len({len(axis) for axis in axes}) > 1:
        raise MediaError(f"columns {', '.join(columns.axes)[:120]} have different numbers of rows")
    vectors = np.column_stack(axes)
    return _Values(columns, vectors, measure(vectors, rate_hz))


def _accelerometer(
    table: Table, candidates: list[_Values], gravity: SensorColumns | None, said: str | None, rate_hz: float
) -> tuple[_Values, tuple[str, ...]]:
    """Return the accelerometer with gravity in it, or the sum of the gravity sensor and one without, and notes.

    Raises:
        MediaError: none has gravity in it.
    """
    down = _read(table, gravity, rate_hz, ACCELERATION) if gravity is not None else None
    shows = [_has_gravity(c, said) and (down is None or _is_parallel(c.vectors, down.vectors)) for c in candidates]
    if any(shows):
        chosen = candidates[shows.index(True)]
        name, notes = chosen.columns.axes[0], []
        columns = [(candidate.columns, shown) for candidate, shown in zip(candidates, shows, strict=True)]
        left_out = [other.axes[0] for other, shown in columns if not shown and other.kind != "linear"]
        if left_out:
            notes.append(f"accelerometer: {name!r}, since {left_out[0]!r} has no gravity in it")
        places = dict.fromkeys(other.place for other, shown in columns if shown)
        if len(places) > 1:
            notes.append(f"{len(places)} accelerometers ({', '.join(places)}): only {name!r} is read")
        return chosen, tuple(notes)
    if down is not None and _has_gravity(down, said):
        without = next((c for c in candidates if c.columns.kind == "linear"), candidates[0])
        total = _read(table, add(down.columns, without.columns), rate_hz, ACCELERATION)
        note = f"accelerometer: gravity and acceleration without it added ({', '.join(total.columns.axes)[:120]})"
        return total, (note,)
    linear = candidates[0]
    if linear.columns.kind == "linear":
        unit = said or linear.columns.unit
        factor = said_factor(unit, ACCELERATION, "accelerometer") if unit else 1.0
        raise no_gravity(linear.level.median * factor, " m/s^2" if unit else "", ", ".join(linear.columns.axes)[:120])
    return linear, ()


def _has_gravity(values: _Values, said: str | None) -> bool:
    """Return whether an accelerometer shows gravity in its own unit; if that is not said, in any."""
    unit = said or values.columns.unit
    if unit is None:
        return gravity_unit(values.level) is not None
    return shows_gravity(values.level, "m/s^2", said_factor(unit, ACCELERATION, "accelerometer"))


def _is_parallel(vectors: NDArray[np.float64], gravity: NDArray[np.float64]) -> bool:
    """Return whether most vectors point along those of the gravity sensor, as they do with gravity in them."""
    if len(vectors) != len(gravity):
        return False
    every = max(1, len(vectors) // 10_000)
    a, b = vectors[::every], gravity[::every]
    with np.errstate(all="ignore"):
        cosines = (a * b).sum(axis=1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
    cosines = cosines[np.isfinite(cosines)]
    return bool(len(cosines)) and bool(np.median(cosines) > 0.6)


def _roles(first: _Values, second: _Values, said: str | None) -> tuple[_Values, _Values, tuple[str, ...]]:
    """Return the accelerometer and the gyroscope of two sensors without names, and notes; MediaError: unclear."""
    shown = [_has_gravity(first, said), _has_gravity(second, said)]
    if all(shown):
        shown = [_is_steadier(first.level, second.level), _is_steadier(second.level, first.level)]
    if shown == [True, False]:
        return first, second, ()
    is_clear = second.level.spread < 0.5 or second.level.steady > 0.6 * second.level.median
    if shown == [False, True] and is_clear and first.level.high < _FASTEST_DEG_S:
        note = "the columns have no names: the last three have gravity in them and are the accelerometer"
        return second, first, (note,)
    raise MediaError(
        "the columns have no names, and their values do not show which are the accelerometer (medians "
        f"{first.level.median:.3g} and {second.level.median:.3g}; gravity is 9.8 m/s^2, 1 g or 1000 mg): list axes and "
        "units in the sidecar <file>.json"
    )


def _is_steadier(one: Level, other: Level) -> bool:
    """Return whether one sensor keeps its length, or its direction, as gravity does, and the other does not."""
    steady, other_steady = (level.steady / max(level.median, 1e-30) for level in (one, other))
    return (one.spread < other.spread / 2 and steady > 0.6) or (steady > 0.9 and other_steady < 0.75)


def _fill_gaps(
    samples: NDArray[np.float64], names: tuple[str, ...], texts: Mapping[str, tuple[int, str]], rate_hz: float
) -> tuple[str, ...]:
    """Interpolate short gaps of `samples` (n, 6) in place, and return notes; MediaError: one is long, or many are."""
    is_good = np.abs(samples) < _LARGEST  # also False for NaN
    if is_good.all():
        return ()
    rows = np.flatnonzero(~is_good.all(axis=1))
    axis = int(np.argmin(is_good[rows[0]]))
    row, text = texts.get(names[axis], (0, ""))
    said = f" ({text!r})" if row == rows[0] + 1 else ""
    place = f"row {rows[0] + 1} has no number in column {names[axis]!r}{said}"
    longest = max(map(len, np.split(rows, np.flatnonzero(np.diff(rows) > 1) + 1)))
    if longest > max(2, _MAX_GAP_S * rate_hz) or len(rows) > _MAX_BAD_SHARE * len(samples):
        raise MediaError(f"{place}: {len(rows)} of {len(samples)} rows lack numbers, which is too many to interpolate")
    for column in range(samples.shape[1]):
        bad = np.flatnonzero(~is_good[:, column])
        if len(bad):
            good = np.flatnonzero(is_good[:, column])
            samples[bad, column] = np.interp(bad, good, samples[good, column])
    return (f"{place}: {count_of(len(rows), 'row')} interpolated",)
