"""Stored values of thermal pictures: which stand for no value, and which temperatures the others are.

The unit is the sidecar's `temperature_unit`, such as "celsius", "kelvin/100" or "fahrenheit". Without it, a unit is
taken only if the numbers are temperatures of a usual scene in that one unit: integers in hundredths of a kelvin (FLIR's
and Teledyne's radiometric TIFF) or tenths, floating-point numbers in degrees Celsius or kelvin. Else no degrees are
known; the picture does not depend on them.

Lines before the first row of numbers are a header (file name, emissivity, distance, ...), which may tell the unit. The
delimiter is a semicolon, a tab, a comma or spaces; with the first two, numbers may have a decimal comma. Row and column
numbers are dropped.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bindsearch.errors import MediaError
from bindsearch.ingest.media.options import DecodeOptions
from bindsearch.ingest.media.texts.encoding import decode_table

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
    fitting = []
    for unit in units:
        low, median, high = np.percentile(celsius(known, unit), (1, 50, 99))
        if low >= _COLDEST_C and high <= _HOTTEST_C and _USUAL_MEDIAN_C[0] <= median <= _USUAL_MEDIAN_C[1]:
            fitting.append(unit)
    return fitting[0] if len(fitting) == 1 else None


def degrees_of(
    values: NDArray[np.float64], said: str | None, *, are_integers: bool
) -> tuple[NDArray[np.float64] | None, str]:
    """Return degrees Celsius (NaN: missing) and a note on the unit ("" for one that is said); None: no degrees known.

    `said` is the sidecar's unit; None: found by the values, float64 (height, width), which are stored as integers or
    not. Raise MediaError if it is not a unit of temperature.
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

    Missing are NaN and infinity, the values that the sidecar (`invalid`) and the file (GDAL_NODATA) declare, usual
    no-data values, and zeros far from all others (0 kelvin).
    """
    values = raw.astype(np.float64)
    missing = np.zeros(raw.shape, np.bool_)
    for number in (*invalid, *(() if no_data is None else (no_data,)), *_NO_DATA):
        missing |= _equal(raw, number)
    if raw.dtype.kind == "f":
        with np.errstate(invalid="ignore"):
            missing |= ~(np.abs(values) < _LARGEST_VALUE)
    if raw.dtype.itemsize > 1:
        missing |= _holes(values, missing)
    values[missing] = np.nan
    count = int(missing.sum())
    return values, f"{count} of {missing.size} pixels have no value" if count else ""


def _equal(raw: NDArray[Any], number: float) -> NDArray[np.bool_]:
    """Return where stored values are a number, rounded to their type."""
    if raw.dtype.kind == "f":
        with np.errstate(over="ignore"):
            return np.asarray(raw == raw.dtype.type(number))
    if raw.dtype.kind in "iu" and number % 1 == 0 and np.iinfo(raw.dtype).min <= number <= np.iinfo(raw.dtype).max:
        return np.asarray(raw == int(number))
    return np.zeros(raw.shape, np.bool_)


def _holes(values: NDArray[np.float64], missing: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return zeros, where all other values are far above: at least half of their median, and that at least 200."""
    zeros: NDArray[np.bool_] = (values == 0) & ~missing
    others = values[~zeros & ~missing]
    if zeros.any() and others.size:
        median = float(np.median(others))
        if median >= 200 and float(others.min()) >= median / 2:
            return zeros
    return np.zeros(values.shape, np.bool_)


EXTENSIONS = (".csv", ".tsv", ".txt", ".dat")
LEAST_SIDE = 8
"""Least number of columns and rows of such a table: others have few columns."""
_NUMBER_SHARE = 0.9
_UNITS = (
    ("fahrenheit", r"fahrenheit|°\s?f\b|\[f\]"),
    ("kelvin", r"\bkelvin|\[k\]"),
    ("celsius", r"celsius|°\s?c\b|\[c\]"),
)


def looks_like_temperatures(head: bytes) -> bool:
    """Return whether a text that begins with `head` has a row of at least `LEAST_SIDE` numbers and no column names.

    The last line of `head` may be cut.
    """
    try:
        lines = decode_table(head).splitlines()
    except MediaError:
        return False
    if len(lines) > 1:
        lines = lines if head.endswith((b"\n", b"\r")) else lines[:-1]
    delimiter = _delimiter(lines)
    rows = [_row(line, delimiter) for line in lines]
    for i, row in enumerate(rows):
        if _is_numbers(row):
            before = rows[i - 1] if i else []
            return not (len(before) == len(row) and (bool(before) and _count(before) <= len(before) / 2))
    return False


def read_temperatures(path: Path, options: DecodeOptions) -> tuple[NDArray[np.float64], str | None, str]:
    """Read the table at `path`: values (height, width), NaN for no value; the unit in its header, or None; and a note.

    Raises:
        MediaError: not such a table, or too large.
    """
    size = path.stat().st_size
    if size > options.max_array_bytes:
        raise MediaError(
            f"the table has {size} bytes: more than {options.max_array_bytes} are not read (--limit array=N)"
        )
    lines = decode_table(path.read_bytes()).splitlines()
    delimiter = _delimiter(lines)
    found = [(number, _row(line, delimiter)) for number, line in enumerate(lines, 1)]
    first = next((i for i, (_, row) in enumerate(found) if _is_numbers(row)), len(found))
    width = len(found[first][1]) if first < len(found) else 0
    last = next((i for i in range(first, len(found)) if len(found[i][1]) != width), len(found))
    for number, row in found[last:]:
        if _is_numbers(row):
            raise MediaError(f"line {number} of the table has {len(row)} cells: expected {width}, or one table only")
    if (last - first) * width > options.max_pixels:
        raise MediaError(f"the table has more than {options.max_pixels} cells (--limit pixels=N)")
    rows = [row for _, row in found[first:last]]
    if len(rows) < 2:
        raise MediaError("not a table of temperatures: expected rows of numbers, at least 8 a row")
    values = np.array(rows, np.float64)
    values = values[:, np.isfinite(values).any(axis=0)]
    values, dropped = _without_numbering(values)
    text = "\n".join(lines[:first]).lower()
    unit = next((name for name, pattern in _UNITS if re.search(pattern, text)), None)
    others = sum(1 for line in (*lines[:first], *lines[last:]) if line.strip())
    notes = [*([f"{others} other lines"] if others else []), *([dropped] if dropped else [])]
    table = f"table of {values.shape[1]}x{values.shape[0]} numbers"
    return values, unit, f"{table}, without {', '.join(notes)}" if notes else ""


def _delimiter(lines: Sequence[str]) -> str:
    """Return the delimiter of the rows of numbers: the first of semicolon, tab, comma and space that gives numbers."""
    for delimiter in ";\t, ":
        if any(_is_numbers(_row(line, delimiter)) for line in lines[:200]):
            return delimiter
    return ","


def _row(line: str, delimiter: str) -> list[float]:
    """Return the numbers of a line, NaN for other cells."""
    if delimiter == " ":
        return [_number(cell) for cell in line.split()]
    try:
        cells = next(csv.reader([line], delimiter=delimiter), [])
    except csv.Error:
        return []
    if delimiter != ",":
        cells = [cell.replace(",", ".") for cell in cells]
    return [_number(cell) for cell in cells]


def _number(cell: str) -> float:
    try:
        return float(cell) if cell and "_" not in cell else np.nan
    except ValueError:
        return np.nan


def _count(row: Sequence[float]) -> int:
    return sum(number == number for number in row)


def _is_numbers(row: Sequence[float]) -> bool:
    return _count(row) >= max(LEAST_SIDE, _NUMBER_SHARE * (len(row) - 1))


def _without_numbering(values: NDArray[np.float64]) -> tuple[NDArray[np.float64], str]:
    """Return values without a first row and column that only count, and a note on them."""

    def counts(line: NDArray[np.float64]) -> bool:
        known = line[np.isfinite(line)]
        is_complete = known.size >= len(line) - 1 and known.size > 2
        return is_complete and known[0] in (0, 1) and bool(np.all(np.diff(known) == 1))

    has_row, has_column = counts(values[0]), counts(values[1:, 0])
    if has_row and len(values) > 2:
        values = values[1:]
    if has_column and values.shape[1] > 2:
        values = values[:, 1:]
    return values, "row and column numbers" if has_row or has_column else ""
