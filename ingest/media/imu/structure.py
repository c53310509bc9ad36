"""Structure of text tables: delimiter, decimal mark, header, units, and the first row of numbers."""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median, mode

_DELIMITERS = ("\t", ";", ",", "|", " ")
COMMENTS = ("#", "//", "%")
"""Marks of lines of comment."""

_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?|[+-]?(?:nan|inf)", re.IGNORECASE)
_DECIMAL_COMMA = re.compile(r"[+-]?\d+,\d+(?:[eE][+-]?\d+)?")
_UNIT = re.compile(
    r"[(\[]?(?:no ?units?|cal|raw|unix|[munµ]?s(?:ec(?:onds)?)?|millis(?:econds)?|m?g|gs|m?g's|dps|[munµ]?t|gauss|hz|"
    r"m\s*/\s*\(?s(?:ec)?\s*(?:\^|\*\*)?\s*[2²]\)?|ms-2|m ?s\^?-2|(?:m?rad|deg|°|degrees?)\s*/\s*s(?:ec)?|"
    r"(?:rad|deg) ?s\^?-1|°c|degc|c|deg|rad|°|yyyy.*|hh.*|-|local|counts?|lsb)[)\]]?",
    re.IGNORECASE,
)
_SAMPLE_LINES = 40
_MAX_COLUMNS = 10_000


@dataclass(frozen=True, slots=True)
class Structure:
    """The structure of a text table."""

    delimiter: str  # between cells; " " stands for any run of spaces and tabs
    decimal: str  # "." or ","
    names: tuple[str, ...] | None  # of the columns, with the units of a line of units; None: there is no header
    width: int  # number of columns
    start: int  # number of lines before the first row of numbers
    preamble: tuple[str, ...] = ()  # the lines before the header
    notes: tuple[str, ...] = ()  # what was assumed or skipped


def find_structure(lines: Sequence[str]) -> Structure | None:
    """Return the structure of a table by its first lines; None if there are no rows of numbers, and no header."""
    said = re.fullmatch(r"\"?sep=(.)\"?", lines[0].strip("\r\n ")) if lines else None
    end = next((i for i, line in enumerate(lines) if line.strip()), 0)
    sample = [line for line in lines[end:] if line.strip() and not line.lstrip().startswith(COMMENTS)]
    sample = sample[-max(1, min(_SAMPLE_LINES, (len(sample) + 1) // 2)) :]
    best: tuple[float, str, str] | None = None
    for delimiter in (said[1],) if said else _DELIMITERS:
        for decimal in ".," if delimiter != "," else ".":
            score = median(_numeric(split_line(line, delimiter), decimal) for line in sample) if sample else 0
            if score >= 1 and (best is None or score > best[0]):
                best = score, delimiter, decimal
    if best is None:  # a header without rows, or no table
        line = next((line for line in lines if line.strip()), "")
        delimiter = max(",;\t", key=line.count)
        names = tuple(split_line(line, delimiter))
        return Structure(delimiter, ".", names, len(names), len(lines)) if 1 < len(names) <= _MAX_COLUMNS else None
    score, delimiter, decimal = best
    rows = [split_line(line, delimiter) for line in sample]
    width = mode(len(row) for row in rows if _numeric(row, decimal) * 2 >= score)
    start = next((i for i, line in enumerate(lines) if _is_row(line, delimiter, decimal, width, score)), None)
    if start is None or width > _MAX_COLUMNS:
        return None
    return _with_header(lines[:start], delimiter, decimal, width, is_said=said is not None)


def split_line(line: str, delimiter: str) -> list[str]:
    """Return the cells of a line, stripped; `delimiter` " " stands for any run of spaces and tabs."""
    line = line.strip("\r\n")
    if delimiter == " ":
        return line.split()
    line = line.rstrip(" ")
    if delimiter == "," and line.endswith(";"):  # as WISDM ends its lines
        line = line[:-1]
    if '"' not in line:
        return [cell.strip() for cell in line.split(delimiter)]
    try:
        return [cell.strip() for cell in next(csv.reader([line], delimiter=delimiter), [])]
    except csv.Error:
        return [line]


def is_number(cell: str, decimal: str = ".") -> bool:
    """Return whether a cell is a number."""
    return _NUMBER.fullmatch(cell) is not None or (decimal == "," and _DECIMAL_COMMA.fullmatch(cell) is not None)


def _numeric(cells: Sequence[str], decimal: str) -> int:
    """Return how many cells are numbers; with a decimal comma, 0 if there is none, or a point."""
    if decimal == ",":
        has_comma = any(_DECIMAL_COMMA.fullmatch(cell) for cell in cells)
        if not has_comma or any("." in cell and is_number(cell) for cell in cells):
            return 0
    return sum(is_number(cell, decimal) for cell in cells)


def _is_row(line: str, delimiter: str, decimal: str, width: int, score: float) -> bool:
    """Return whether a line is a row of numbers, with a share of missing cells."""
    if line.lstrip().startswith(COMMENTS):
        return False
    cells = split_line(line, delimiter)
    count = sum(is_number(cell, decimal) for cell in cells)
    texts = sum(bool(re.match(r"[A-Za-z_]", cell)) for cell in cells)
    return len(cells) == width and count >= max(1, score / 2) and count > texts


def _with_header(above: Sequence[str], delimiter: str, decimal: str, width: int, *, is_said: bool) -> Structure:
    """Return the structure, with the header among the lines `above` the numbers."""
    names: list[str] | None = None
    units: list[str] = []
    notes = []
    header_at = len(above)
    for i in range(len(above) - 1, -1, -1):
        cells = _header_cells(above[i], delimiter, width)
        if cells is None:
            if above[i].strip():
                break
            continue
        filled = [cell for cell in cells if cell]
        known = sum(_UNIT.fullmatch(cell) is not None for cell in filled)
        if names is None and not units and known > 1 and 2 * known >= len(filled):
            units = cells
        elif names is None:
            names, header_at = cells, i
            break
    if names is None and units:
        names, header_at, units = units, len(above) - 1, []
    if names is not None and units:
        names = [_with_unit(name, unit) for name, unit in zip(names, units, strict=True)]
        notes.append("a line of units read")
    if delimiter not in ",\t":
        notes.append(f"cells separated by {'spaces' if delimiter == ' ' else repr(delimiter)}")
    if decimal == ",":
        notes.append("decimal commas")
    preamble = tuple(line.strip() for line in above[:header_at])
    skipped = sum(bool(line) for line in preamble) - is_said
    if skipped:
        notes.append(f"{count_of(skipped, 'line')} before the table skipped")
    return Structure(delimiter, decimal, tuple(names) if names else None, width, len(above), preamble, tuple(notes))


def _with_unit(name: str, unit: str) -> str:
    """Return a name with the unit below it, in brackets."""
    if not unit or re.fullmatch(r"no ?units?|-|cal|raw", unit, re.IGNORECASE):
        return name
    wrapped = re.fullmatch(r"[(\[](.*)[)\]]", unit)
    return f"{name} ({wrapped[1] if wrapped else unit})"


def _header_cells(line: str, delimiter: str, width: int) -> list[str] | None:
    """Return the cells of a line that has names or units for `width` columns; None if it has not."""
    text = line.strip("\r\n")
    for mark in COMMENTS:
        if text.lstrip().startswith(mark):
            text = text.lstrip()[len(mark) :]
    for separator in (delimiter, *_DELIMITERS):
        cells = split_line(text, separator)
        if len(cells) == width + 1 and not cells[-1]:
            cells = cells[:-1]
        elif len(cells) == width - 1:
            cells = [*cells, ""]
        if len(cells) == width and width > 1 and any(re.search(r"[^\W\d_]", cell) for cell in cells):
            return cells
    return None


def count_of(n: int, noun: str) -> str:
    """Return a number with its noun."""
    return f"{n} {noun}" + ("s" if n != 1 else "")
