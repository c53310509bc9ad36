"""Stored values of thermal pictures: which stand for no value, and which temperatures the others are.

The unit is the sidecar's `temperature_unit`, such as "celsius", "kelvin/100" or "fahrenheit". Without it, a unit is
taken only if the numbers are temperatures of a usual scene in that one unit: integers in hundredths of a kelvin (FLIR's
and Teledyne's radiometric TIFF) or tenths, floating-point numbers in degrees Celsius or kelvin. Else no degrees are
known; the picture does not depend on them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bindsearch.errors import MediaError

ABSOLUTE_ZERO_C = -273.15

_SCALES: Mapping[str, tuple[float, float]] = MappingProxyType(
    {"celsius": (1.0, 0.0), "kelvin": (1.0, ABSOLUTE_ZERO_C), "fahrenheit": (5 / 9, -160 / 9)}
)
"""Degrees Celsius = factor * value + offset, by unit."""
_SHORT = MappingProxyType({"c": "celsius", "°c": "celsius", "k": "kelvin", "f": "fahrenheit", "°f": "fahrenheit"})
_UNIT = re.compile(r"([a-z°]+)(?:\s*/\s*(\d{1,6}(?:\.\d{1,6})?))?")

_NO_DATA = (-9999.0, -99999.0, -32768.0, -32767.0, -9999.9, -999.0, -999.9)
"""Values that programs write for no value; all are below absolute zero in any unit."""
_LARGEST_VALUE = 1e30
"""Numbers further from zero are no values: the largest of single precision is written for them, 3.4e38."""

_COLDEST_C, _HOTTEST_C = -60.0, 1500.0
_USUAL_MEDIAN_C = (-40.0, 120.0)
"""Range of the median of a scene, for a unit that nobody says; and of all but a hundredth of its pixels, above."""


def celsius(values: NDArray[np.float64], unit: str) -> NDArray[np.float64]:
    """Return degrees Celsius of values in a unit such as "celsius", "kelvin/100" or "fahrenheit".

    Raises:
        MediaError: it is not a unit of temperature.
    """
    match = _UNIT.fullmatch(unit.strip().lower())
    name = _SHORT.get(match[1], match[1]) if match else ""
    divisor = float(match[2] or 1) if match else 0.0
    if name not in _SCALES or divisor == 0:
        raise MediaError(
            f"temperature_unit is {unit[:40]!r}: expected celsius, kelvin, fahrenheit or a part such as kelvin/100"
        )
    factor, offset = _SCALES[name]
    with np.errstate(over="ignore", invalid="ignore"):
        return values * (factor / divisor) + offset


def find_unit(values: NDArray[np.float64], *, are_integers: bool) -> str | None:
    """Return the only unit in which values (any shape, NaN: missing) are temperatures of a usual scene; else None."""
    known = values[np.isfinite(values)]
    if not known.size or float(np.ptp(known)) == 0:
        return None
    if not are_integers and ((known.min() >= 0 and known.max() <= 1) or not np.any(known % 1)):
        return None  # shares, or levels of 255
    units = ("kelvin/100", "kelvin/10") if are_integers else ("celsius", "kelvin")
    fitting = [unit for unit in units if _is_usual(celsius(known, unit))]
    return fitting[0] if len(fitting) == 1 else None


def _is_usual(degrees: NDArray[np.float64]) -> bool:
    low, median, high = np.percentile(degrees, (1, 50, 99))
    coldest_median, hottest_median = _USUAL_MEDIAN_C
    return bool(low >= _COLDEST_C and high <= _HOTTEST_C and coldest_median <= median <= hottest_median)


def degrees_of(
    values: NDArray[np.float64], said: str | None, *, are_integers: bool
) -> tuple[NDArray[np.float64] | None, str]:
    """Return degrees Celsius (NaN: missing) and a note on the unit ("" for one that is said); None: no degrees known.

    Args:
        values: stored values (height, width), NaN where missing.
        said: the sidecar's unit; None: found by the numbers.
        are_integers: whether the stored values are integers.

    Raises:
        MediaError: `said` is not a unit of temperature.
    """
    unit = said or find_unit(values, are_integers=are_integers)
    if unit is None:
        return None, "unit of temperature unknown (temperature_unit): no degrees"
    degrees = celsius(values, unit)
    known = degrees[np.isfinite(degrees)]
    if not known.size:
        return None, ""
    median = float(np.median(known))
    if said is None:
        return degrees, f"values in {unit} by their size (median {median:.1f} degrees C)"
    if not ABSOLUTE_ZERO_C / 2 <= median <= 2 * _HOTTEST_C:
        return None, f"temperature_unit is {said}, but the median would be {median:.0f} degrees C: no degrees"
    return degrees, ""


def without_missing(
    raw: NDArray[Any], invalid: Sequence[float], no_data: float | None
) -> tuple[NDArray[np.float64], str]:
    """Return the values (height, width) as float64 with NaN for no value, and a note if there are any ("": none).

    Missing are NaN and infinity, the declared values, usual no-data values, and zeros far from all others (0 kelvin).

    Args:
        raw: stored values.
        invalid: the sidecar's values.
        no_data: the file's value (GDAL_NODATA); None: none.
    """
    declared = (*invalid, *(() if no_data is None else (no_data,)))
    values = raw.astype(np.float64)
    missing = np.zeros(raw.shape, np.bool_)
    for number in (*declared, *_NO_DATA):
        missing |= _equal(raw, number)
    if raw.dtype.kind == "f":
        with np.errstate(invalid="ignore"):
            missing |= ~(np.abs(values) < _LARGEST_VALUE)
    missing |= _holes(values, missing, is_byte=raw.dtype.itemsize == 1)
    values[missing] = np.nan
    count = int(missing.sum())
    return values, f"{count} of {missing.size} pixels have no value" if count else ""


def _equal(raw: NDArray[Any], number: float) -> NDArray[np.bool_]:
    """Return where stored values are a number, rounded to their type."""
    if raw.dtype.kind in "iu":
        limits = np.iinfo(raw.dtype)
        if number != number or number % 1 or not limits.min <= number <= limits.max:
            return np.zeros(raw.shape, np.bool_)
        return np.asarray(raw == int(number))
    if raw.dtype.kind != "f":
        return np.zeros(raw.shape, np.bool_)
    with np.errstate(over="ignore"):
        return np.asarray(raw == raw.dtype.type(number))


def _holes(values: NDArray[np.float64], missing: NDArray[np.bool_], *, is_byte: bool) -> NDArray[np.bool_]:
    """Return zeros, where all other values are far above: at least half of their median, and that at least 200."""
    if is_byte:
        return np.zeros(values.shape, np.bool_)
    zeros = (values == 0) & ~missing
    others = values[~zeros & ~missing]
    if not zeros.any() or not others.size:
        return np.zeros(values.shape, np.bool_)
    median = float(np.median(others))
    return zeros if median >= 200 and float(others.min()) >= median / 2 else np.zeros(values.shape, np.bool_)
