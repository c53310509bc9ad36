"""Lists of data sets: bounded tables in UTF-8, and lines of text files."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from bindsearch.arguments import shown
from bindsearch.errors import UsageError
from bindsearch.evaluation.datasets.dataset import MAX_ITEMS
from bindsearch.small_files import parse_json_object, read_small_file
from bindsearch.types import Span

MAX_LIST_BYTES = 128 << 20
"""Largest list that is read; that of Kinetics-700 has 40 MB."""


class LayoutError(UsageError):
    """A folder without what the layout of a data set has; `read_dataset` adds the name and the layout."""


def find(folder: Path, *names: str) -> Path:
    """Return the first of some files or folders that is there.

    Args:
        folder: The folder of the data set.
        names: Paths in it, the usual one first.

    Raises:
        LayoutError: none is there.
    """
    for name in names:
        if (folder / name).exists():
            return folder / name
    raise LayoutError(f"{' or '.join(names)} is missing")


def read_table(
    path: Path, needed: Sequence[str], *, columns: Sequence[str] = (), comment: str = "", skip_spaces: bool = False
) -> Iterator[Mapping[str, str]]:
    """Yield the rows of a table, values without spaces around them.

    Args:
        path: A file in UTF-8, with or without a byte order mark.
        needed: Columns that it must have.
        columns: Its columns, if it has no header.
        comment: What lines begin with that are left out before the first row; empty: nothing.
        skip_spaces: Whether spaces after a comma are not part of a value, so that a quote may follow them.

    Raises:
        UsageError: it cannot be read, is too large, is not UTF-8, lacks a column, or a row has other columns.
    """
    lines = io.StringIO(read_list_text(path), newline="")
    rows = csv.reader(lines, skipinitialspace=skip_spaces)
    header = [name.strip() for name in columns]
    count = 0
    try:
        for row in rows:
            if not any(map(str.strip, row)) or (comment and not count and row[0].startswith(comment)):
                continue
            if not header:
                header = [name.strip() for name in row]
                _check_header(path, header, needed)
                continue
            if len(row) != len(header):
                raise UsageError(
                    f"{path}, line {rows.line_num}: {len(row)} values for {len(header)} columns: "
                    "quote values that have commas"
                )
            count += 1
            if count > MAX_ITEMS:
                raise UsageError(f"{path} has more than {MAX_ITEMS} rows: split it")
            yield dict(zip(header, map(str.strip, row), strict=True))
    except csv.Error as error:
        raise UsageError(f"{path}, line {rows.line_num}: {error}: check the quotes") from None
    if not header:
        raise UsageError(f"{path} is empty: expected the columns {', '.join(needed)}")


def _check_header(path: Path, header: Sequence[str], needed: Sequence[str]) -> None:
    missing = [name for name in needed if name not in header]
    if missing:
        raise UsageError(f"{path} has no column {missing[0]!r}, its columns are {shown(', '.join(header))}")
    if len(set(header)) < len(header):
        twice = next(name for name in header if header.count(name) > 1)
        raise UsageError(f"{path} has the column {twice!r} twice: rename one")


def read_lines(path: Path) -> list[str]:
    """Return the lines of a text file without those that are empty.

    Raises:
        UsageError: as for `read_table`.
    """
    lines = [line.strip() for line in read_list_text(path).splitlines()]
    return [line for line in lines if line]


def read_list_text(path: Path) -> str:
    """Return the text of a list.

    Raises:
        UsageError: it cannot be read, is too large, or is not UTF-8.
    """
    try:
        return read_small_file(path, MAX_LIST_BYTES).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UsageError(f"{path} is not UTF-8 (byte {error.start}): save it as UTF-8") from None
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror or error}") from None


def read_json_list(path: Path) -> Mapping[str, object]:
    """Return the JSON object in a file.

    Raises:
        UsageError: it cannot be read, is too large, or is not a JSON object.
    """
    try:
        return parse_json_object(read_list_text(path))
    except ValueError as error:
        raise UsageError(f"{path} is not a JSON object: {error}") from None


def to_seconds(text: str, path: Path, column: str) -> float:
    """Return seconds of a list.

    Raises:
        UsageError: not a number from 0 to ten million.
    """
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds <= 1e7:
        raise UsageError(f"{path}: {column} is {shown(text)}: expected seconds, 0 or more")
    return seconds


def to_span(start: str, end: str, path: Path, name: str) -> Span:
    """Return the span of the row `name` of a list, between the seconds in its columns start_s and end_s.

    Raises:
        UsageError: a time is not a number, or the end is not after the start.
    """
    span = Span(to_seconds(start, path, "start_s"), to_seconds(end, path, "end_s"))
    if span.end_s <= span.start_s:
        raise UsageError(f"{path}: {name!r} has end_s {end}, which is not after start_s {start}")
    return span
