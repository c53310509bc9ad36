"""Tables of temperatures, one number a pixel, as FLIR Tools, ResearchIR, testo IRSoft and others export them.

Lines before the first row of numbers are a header (file name, emissivity, distance, ...), which may tell the unit. The
delimiter is a semicolon, a tab, a comma or spaces; with the first two, numbers may have a decimal comma. Row and column
numbers are dropped.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bindsearch.errors import MediaError
from bindsearch.ingest.media.options import DecodeOptions
from bindsearch.ingest.media.texts.encoding import decode_table

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
            return not (len(before) == len(row) and _is_names(before))
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
    return (
        values,
        unit,
        f"table of {values.shape[1]}x{values.shape[0]} numbers, without {', '.join(notes)}" if notes else "",
    )


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


def _is_names(row: Sequence[float]) -> bool:
    return bool(row) and _count(row) <= len(row) / 2


def _without_numbering(values: NDArray[np.float64]) -> tuple[NDArray[np.float64], str]:
    """Return values without a first row and column that only count, and a note on them."""

    def counts(line: NDArray[np.float64]) -> bool:
        known = line[np.isfinite(line)]
        return (
            known.size >= len(line) - 1 and known.size > 2 and known[0] in (0, 1) and bool(np.all(np.diff(known) == 1))
        )

    has_row, has_column = counts(values[0]), counts(values[1:, 0])
    if has_row and len(values) > 2:
        values = values[1:]
    if has_column and values.shape[1] > 2:
        values = values[:, 1:]
    return values, "row and column numbers" if has_row or has_column else ""
