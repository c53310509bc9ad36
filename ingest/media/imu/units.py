"""Units of motion sensors: as said, in names, and as the numbers show them.

A resting accelerometer measures 1 g, and the mean over a walk or a run, too: its average in windows of 2 s has the
length of gravity in one of three units, whose ranges do not meet. A gyroscope of a phone measures at most 2000 deg/s,
which are 35 rad/s (the largest range of the chips, such as Bosch BMI160 and InvenSense MPU-6050 by their data sheets).
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bindsearch.errors import MediaError

STANDARD_GRAVITY_M_S2 = 9.80665
"""Standard gravity, one g, in m/s^2 (CGPM 1901)."""

ACCELERATION = {
    "m/s^2": 1.0, "g": STANDARD_GRAVITY_M_S2, "mg": STANDARD_GRAVITY_M_S2 / 1000, "cm/s^2": 0.01,
}  # fmt: skip
"""Factors from units of an accelerometer to m/s^2."""

ROTATION = {"rad/s": 1.0, "deg/s": math.pi / 180, "mrad/s": 0.001, "mdeg/s": math.pi / 180_000}
"""Factors from units of a gyroscope to rad/s."""

COUNTS = "counts"
"""The unit of raw values of an analog-to-digital converter, which has no factor."""

_GRAVITY = {"m/s^2": (7.0, 13.0), "g": (0.7, 1.35), "mg": (700.0, 1350.0)}
"""Ranges of the length of gravity by unit: wide enough for a poor calibration, and without overlap."""

_SPELLINGS = {
    "m/s^2": "ms2 mss mps2 msec2 msecsec meterspersecondsquared metrespersecondsquared meterpersecondsquared",
    "g": "g gs gforce", "mg": "mg mgs millig milligs", "cm/s^2": "cms2 gal",
    "rad/s": "rads rads1 radps radsec radssec radianss radianssec radianspersecond radpersec",
    "deg/s": "degs degs1 degps dps degsec degreess degreessec degreespersecond °s °sec °s1 ds",
    "mrad/s": "mrads", "mdeg/s": "mdegs mdps", COUNTS: "counts count lsb raw adc",
}  # fmt: skip
_UNITS = {spelling: unit for unit, spellings in _SPELLINGS.items() for spelling in spellings.split()}
_NUMBER = r"([0-9]+(?:\.[0-9]+)?(?:e[+-]?[0-9]+)?)"
_PER_UNIT = re.compile(rf"{_NUMBER}\s*(?:lsb|counts?)\s*(?:/|per\s)\s*\(?([^()]+)\)?")
_TIMES_UNIT = re.compile(rf"{_NUMBER}\s*\*?\s*([^0-9\s*].*)")

_WINDOW_S = 2.0
_MAX_SAMPLES = 1 << 16
"""Samples that statistics are computed from, in windows spread over the recording."""

_SHORTEST_S = 0.5
_NO_GRAVITY_M_S2 = 3.0
"""Averages over 2 s below this have no gravity in them: what moves for so long with 0.7 g falls or flies."""

FASTEST_RAD_S = 35.0
_FASTEST_DEG_S = 4500.0

_MOST_NOISE_RAD_S = 0.3
"""More than a gyroscope's noise: the 75th percentile of averages over 0.2 s is up to 0.11 rad/s at rest (UCI HAR)."""

_STILL_SHARE = 0.2
"""Share of the turns that a gyroscope tells which gravity's direction must show at least."""


@dataclass(frozen=True, slots=True)
class Level:
    """Robust statistics of the lengths of the vectors of one sensor, in its own unit."""

    median: float = 0.0
    steady: float = 0.0  # median length of the averages over windows of 2 s: gravity stays, movement cancels out
    spread: float = 0.0  # interquartile range, relative to the median
    high: float = 0.0  # 99th percentile
    length_s: float = 0.0  # of the recording, in seconds


def unit_of(spelling: str, known: Mapping[str, float]) -> str | None:
    """Return the unit of a spelling such as "m/s²", "[rad s^-1]" or "dps"; None if it is none of `known`."""
    plain = re.sub(r"[\s_.,\-:/()\[\]^*·⋅{}']", "", spelling.lower().replace("²", "2").replace("⁻¹", "1"))
    unit = _UNITS.get(plain)
    return unit if unit in known or unit == COUNTS else None


def said_factor(unit: str, known: Mapping[str, float], sensor: str) -> float:
    """Return the factor of a unit to m/s^2 or rad/s, such as "g", "0.061 mg" or "16384 LSB/g".

    Raises:
        MediaError: it is none of `known`, or raw counts without a scale.
    """
    text = unit.strip().lower()
    name, scale = unit_of(text, known), 1.0
    for pattern, is_inverse in ((_PER_UNIT, True), (_TIMES_UNIT, False)):
        match = pattern.fullmatch(text) if name is None and len(text) < 80 else None
        if match:
            number = float(match[1])
            name, scale = unit_of(match[2], known), (1 / number if is_inverse and number else number)
    if name is None or name == COUNTS or not 0 < scale < math.inf:
        expected = " or ".join(known)
        scaled = "16384 LSB/g" if sensor == "accelerometer" else "131 LSB/(deg/s)"
        raise MediaError(
            f'{sensor} unit {unit[:40]!r}: expected {expected}, or a scale of raw counts such as "{scaled}"'
        )
    return known[name] * scale


def measure(values: NDArray[np.float64], rate_hz: float) -> Level:
    """Return the statistics of vectors (n, 3) at `rate_hz`; those with missing values are left out."""
    width = int(min(max(round(_WINDOW_S * rate_hz), 2), 4096, max(len(values), 1)))
    count = min(len(values) // width, max(8, _MAX_SAMPLES // width))
    if count == 0:
        return Level()
    starts = np.linspace(0, len(values) - width, count).astype(np.int64)
    windows = values[starts[:, None] + np.arange(width)]
    good = np.isfinite(windows).all(axis=2)
    if not good.any():
        return Level()
    with np.errstate(over="ignore", invalid="ignore"):
        lengths = np.linalg.norm(windows[good], axis=1)
        low, median, top, high = np.percentile(lengths, (25, 50, 75, 99))
        sums = np.where(good[..., None], windows, 0).sum(axis=1)
        counts = good.sum(axis=1)
        means = np.linalg.norm(sums, axis=1)[counts > 0] / counts[counts > 0]
        spread = (top - low) / median if median > 0 else math.inf
    return Level(float(median), float(np.median(means)), float(spread), float(high), len(values) / rate_hz)


def gravity_unit(level: Level) -> str | None:
    """Return the unit in which an accelerometer shows gravity; None if it does not."""
    return next((unit for unit in _GRAVITY if shows_gravity(level, unit)), None)


def shows_gravity(level: Level, unit: str, scale: float = 1.0) -> bool:
    """Return whether vectors show gravity in `unit` after multiplication with `scale`.

    Their median length is that of gravity, and they keep their length or their direction; or their averages are that
    long, as while running.
    """
    low, high = _GRAVITY[unit]
    if unit != "m/s^2" and level.length_s < _SHORTEST_S:
        return False  # a moment of a sensor without gravity may be as long
    if low <= level.median * scale <= high:
        return level.spread < 0.1 or level.steady > 0.4 * level.median
    return low <= level.steady * scale <= high and level.median < 3 * level.steady


def acceleration_factor(level: Level, said: str | None, names: str) -> tuple[float, tuple[str, ...]]:
    """Return the factor of an accelerometer to m/s^2, and notes.

    `said`: its unit, if the sidecar or the names of the columns say it; `names`: its columns, for messages.

    Raises:
        MediaError: no gravity in it, or its unit is neither said nor shown.
    """
    found = gravity_unit(level)
    if said is None and found is not None:
        note = f"accelerometer in {found} (median {_shown(level.median)}): converted to m/s^2"
        return ACCELERATION[found], (note,) if found != "m/s^2" else ()
    if said is None:
        if level.length_s < _SHORTEST_S or level.median > 13 or level.steady >= 0.4 * level.median > 0:
            raise MediaError(
                f"the unit of the accelerometer is not clear ({names}: median {_shown(level.median)}; with gravity it "
                'is about 9.8 in m/s^2, 1 in g, 1000 in mg): give units in the sidecar <file>.json, such as "g", or '
                '"16384 LSB/g" for raw counts'
            )
        raise no_gravity(level.median, "", names)
    factor = said_factor(said, ACCELERATION, "accelerometer")
    if shows_gravity(level, "m/s^2", factor):
        return factor, ()
    if found is not None and not math.isclose(ACCELERATION[found], factor, rel_tol=1e-6):
        seen = f"the median {_shown(level.median)} looks like {found}"
        return factor, (f"accelerometer: the unit is given as {said}, but {seen}",)
    if level.steady * factor < _NO_GRAVITY_M_S2:
        raise no_gravity(level.median * factor, " m/s^2", names)
    return factor, (f"accelerometer: the median {level.median * factor:.3g} m/s^2 is far from gravity, 9.8",)


def no_gravity(median: float, unit: str, names: str) -> MediaError:
    """Return the error of an accelerometer without gravity."""
    return MediaError(
        f"accelerometer {names}: no gravity in it (median {median:.2g}{unit}): list columns with gravity under axes in "
        'the sidecar <file>.json, or sums such as "gravity_x+acc_x"'
    )


def rotation_factor(
    level: Level, said: str | None, accelerometer_unit: float, tilt: float | None
) -> tuple[float, tuple[str, ...]]:
    """Return the factor of a gyroscope to rad/s, and notes.

    `said`: its unit, if the sidecar or the names of the columns say it; `accelerometer_unit`: the accelerometer's
    factor to m/s^2; `tilt`: the factor by `tilt_factor`.

    Raises:
        MediaError: its unit is neither said nor shown.
    """
    high = _shown(level.high)
    if said is not None:
        factor = said_factor(said, ROTATION, "gyroscope")
        note = f"gyroscope: the unit is given as {said}, but the 99th percentile {high} is too fast for it"
        return factor, () if level.high * factor <= 2 * FASTEST_RAD_S else (note,)
    if level.high > _FASTEST_DEG_S:
        raise MediaError(
            f"the unit of the gyroscope is not clear (99th percentile {high}): give units in the sidecar "
            '<file>.json, such as "deg/s", or "131 LSB/(deg/s)" for raw counts'
        )
    if level.high > FASTEST_RAD_S:
        return ROTATION["deg/s"], (f"gyroscope in deg/s (99th percentile {high}): converted to rad/s",)
    if tilt == ROTATION["deg/s"]:
        return tilt, ("gyroscope in deg/s (by the turns of gravity): converted to rad/s",)
    if tilt is None and (accelerometer_unit != 1.0 or level.high > FASTEST_RAD_S / 3):
        return 1.0, (
            f"gyroscope assumed in rad/s (99th percentile {high}): if it is in deg/s, give units "
            '{"gyroscope": "deg/s"} in the sidecar',
        )
    return 1.0, ()


def tilt_factor(acc: NDArray[np.float64], gyro: NDArray[np.float64], rate_hz: float) -> float | None:
    """Return the factor of a gyroscope to rad/s from the turns of gravity's direction; None if they do not show it.

    A constant vector u of the world turns in the sensor's frame by du/dt = -w x u: the factor is the slope of a
    regression of du on -(w x u) dt, where the accelerometer shows little but gravity. At rest both are noise; but if
    gravity would turn far more in rad/s than it does, rad/s is not the unit.

    Args:
        acc: accelerometer (n, 3), in any unit.
        gyro: gyroscope (n, 3).
        rate_hz: their rate.
    """
    width = max(1, round(0.2 * rate_hz))
    count = min(len(acc), _MAX_SAMPLES) // width
    if count < 10:
        return None
    part = np.s_[: count * width]
    with np.errstate(all="ignore"):
        up = acc[part].reshape(count, width, 3).mean(axis=1)
        turning = gyro[part].reshape(count, width, 3).mean(axis=1)
        lengths = np.linalg.norm(up, axis=1)
        up = up / lengths[:, None]
        is_good = (np.abs(lengths / np.nanmedian(lengths) - 1) < 0.15) & np.isfinite(turning).all(axis=1)
        usable = is_good[1:] & is_good[:-1]
        predicted = -np.cross(turning[1:] + turning[:-1], up[1:] + up[:-1])[usable] / 4 * (width / rate_hz)
        change = np.diff(up, axis=0)[usable]
        power = float((predicted**2).sum())
        if len(change) < 10 or not 0 < power < math.inf:
            return None
        slope = float((predicted * change).sum()) / power
        error = math.sqrt(float(((change - slope * predicted) ** 2).sum()) / (change.size - 1) / power)
        told = turning[1:][usable] - np.median(turning[1:][usable], axis=0)  # without the sensor's offset
        told_rad_s = np.percentile(np.linalg.norm(np.cross(told, up[1:][usable]), axis=1), 75)
        seen_rad_s = np.percentile(np.linalg.norm(change, axis=1), 75) * rate_hz / width
    for factor in (ROTATION["rad/s"], ROTATION["deg/s"]):
        if 0.7 * factor < slope < 1.4 * factor and error < 0.1 * factor:
            return factor
    if told_rad_s > _MOST_NOISE_RAD_S and seen_rad_s < _STILL_SHARE * told_rad_s:
        return ROTATION["deg/s"]
    return None


def _shown(value: float) -> str:
    """Return a number with three digits, without an exponent where it is a usual one."""
    return f"{value:.0f}" if 100 <= value < 1e6 else f"{value:.3g}"
