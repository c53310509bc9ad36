"""Text tables as apps and loggers write them: csv, tsv, semicolons, spaces; preambles, comments, units, decimal commas.

The structure is found in the beginning of the file: the delimiter that gives the most numbers a line, the first line
of numbers, the header above it, a line of units in between. The numbers are read by pyarrow. Lines that do not fit
are left out and counted: comments, headers that are repeated, a last line that is cut.
"""

from __future__ import annotations

import csv
import re
import zlib
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median, mode
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bindsearch.errors import MediaError
from bindsearch.ingest.media.imu.table import AXES, Table, arrow_table, count_of
from bindsearch.ingest.media.options import check_limit
from bindsearch.ingest.media.texts.encoding import decode_table

HEAD_BYTES = 1 << 16
"""Bytes in which the structure of a table is found: preamble, header and some rows."""

GZIP_MAGIC = b"\x1f\x8b"

_RE2_NUMBER = r"^\s*[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?\s*$"

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


def read_text_table(path: Path, max_bytes: int) -> Table:
    """Read a text table, also one in gzip.

    Raises:
        MediaError: it has no rows of numbers, is damaged, or larger than `max_bytes`.
    """
    size = path.stat().st_size
    raw = b"" if size > max_bytes else path.read_bytes()
    if raw.startswith(GZIP_MAGIC):
        raw = _unzipped(raw, max_bytes + 1)
        size = len(raw)
    check_limit(size, max_bytes, f"the table has {size} bytes", "array")
    body = _utf8(raw)
    structure = find_structure(_lines(body[:HEAD_BYTES], whole=len(body) <= HEAD_BYTES))
    if structure is None:
        raise MediaError("the table is empty" if not body.strip() else "not a table: it has no rows of numbers")
    lines = body.split(b"\n", structure.start)  # the last one is all behind them
    body = lines[-1] if len(lines) > structure.start else b""
    rows, texts = _arrow_rows(_rows(body, structure), structure)
    rows, notes, unread = _without_text_rows(rows, structure.names or (), texts)
    notes = (*structure.notes, *notes)
    table = replace(arrow_table(rows), notes=notes, preamble=structure.preamble, texts=unread)
    if structure.names is not None:
        return table
    arrays = [*table.columns.values()]
    if len(arrays) in (6, 7) and all(np.isfinite(column).any() for column in arrays):
        columns = dict(zip(("time", *AXES)[-len(arrays) :], arrays, strict=True))
        notes = (*notes, f"no header: the columns are read as {', '.join(columns)}")
        return Table(columns, notes=notes, preamble=structure.preamble, is_unnamed=True)
    return replace(table, notes=(*notes, "no header"))


def text_structure(path: Path) -> Structure | None:
    """Return the structure of a text table by its beginning; None if it is no table.

    Raises:
        MediaError: the gzip data is damaged.
    """
    with path.open("rb") as file:
        raw = file.read(HEAD_BYTES)
    whole = len(raw) < HEAD_BYTES
    if raw.startswith(GZIP_MAGIC):
        head = _unzipped(raw, HEAD_BYTES)
        whole, raw = whole and len(head) < HEAD_BYTES, head
    try:
        return find_structure(_lines(_utf8(raw), whole=whole))
    except MediaError:
        return None


def _unzipped(raw: bytes, max_bytes: int) -> bytes:
    """Return at most `max_bytes` of gzip data; data that is cut gives what is there."""
    parts, length = [], 0
    try:
        while raw.startswith(GZIP_MAGIC) and length < max_bytes:
            stream = zlib.decompressobj(wbits=31)
            parts.append(stream.decompress(raw, max_bytes - length))
            length += len(parts[-1])
            raw = stream.unused_data
    except zlib.error as error:
        raise MediaError(f"damaged gzip data: {error}") from error
    return b"".join(parts)


def _utf8(raw: bytes) -> bytes:
    """Return a text as UTF-8, its lines ended by newlines; MediaError: it is not a text."""
    if raw.isascii():
        decode_table(raw[:HEAD_BYTES])
        if b"\x00" in raw:
            raise MediaError("not a text: it contains zero bytes")
        text = raw
    else:
        text = decode_table(raw).encode()
    return text if b"\r" not in text else text.replace(b"\r\n", b"\n").replace(b"\r", b"\n")


def _lines(head: bytes, *, whole: bool) -> list[str]:
    """Return the lines of a head, without the last one if the head cuts it."""
    lines = head.decode(errors="ignore").split("\n")
    return lines if whole or len(lines) == 1 else lines[:-1]


def _rows(rows: bytes, structure: Structure) -> bytes:
    """Return the rows of numbers ready for pyarrow."""
    if structure.delimiter == " " and re.search(rb"\t|  |^ | $", rows, re.MULTILINE):
        rows = re.sub(rb"^[ \t]+|[ \t]+$", b"", rows, flags=re.MULTILINE)
        rows = re.sub(rb"[ \t]+", b" ", rows)
    if structure.delimiter == "," and rows.rstrip().endswith(b";"):
        rows = rows.replace(b";\n", b"\n").rstrip(b";")
    return rows


def _arrow_rows(rows: bytes, structure: Structure) -> tuple[Any, list[str]]:
    """Return the rows as a pyarrow.Table, and the lines that have another number of cells, "\\n" before a cut one."""
    import pyarrow as pa
    from pyarrow import csv as pacsv

    misfits: list[str] = []

    def take_misfit(row: Any) -> str:
        misfits.append(row.text or "")
        return "skip"

    names = structure.names or tuple(f"column {i}" for i in range(structure.width))
    block_size = max(len(rows) + 1, 1 << 20)  # one block: the kind of a column is found from all its cells
    if not rows.strip():
        return pa.Table.from_arrays([pa.array([], pa.float64()) for _ in names], names=names), []
    try:
        table = pacsv.read_csv(
            pa.BufferReader(rows),
            pacsv.ReadOptions(use_threads=False, column_names=names, block_size=block_size),
            pacsv.ParseOptions(delimiter=structure.delimiter, invalid_row_handler=take_misfit),
            pacsv.ConvertOptions(decimal_point=structure.decimal),
        )
    except pa.ArrowInvalid as error:
        raise MediaError(f"not a table: {(str(error).splitlines() or ['unreadable'])[0][:160]}") from error
    last = rows[rows.rstrip().rfind(b"\n") + 1 :].decode(errors="replace").strip()
    column = table.columns[-1]
    if misfits and misfits[-1].strip() == last:
        misfits[-1] = f"\n{misfits[-1]}"
    elif table.num_rows > 1 and not rows.endswith(b"\n") and column.null_count == 1 and not column[-1].is_valid:
        table = table.slice(0, table.num_rows - 1)
        misfits.append(f"\n{last}")
    return table, misfits


def _without_text_rows(
    table: Any, names: Sequence[str], misfits: Sequence[str]
) -> tuple[Any, tuple[str, ...], dict[str, tuple[int, str]]]:
    """Return the table without rows of text, its text columns as numbers where they are, with notes.

    Returns:
        The table; notes; and by column the first cell that is no number.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    notes = []
    is_cut = bool(misfits) and misfits[-1].startswith("\n")
    if is_cut:
        notes.append("the last line is cut: left out")
    inner = [text.strip() for text in (misfits[:-1] if is_cut else misfits)]
    if comments := sum(text.startswith(COMMENTS) for text in inner):
        notes.append(f"{count_of(comments, 'line')} of comment left out")
    if len(inner) - comments > max(2, table.num_rows // 20):
        raise MediaError(
            f"{len(inner) - comments} of {len(inner) + table.num_rows} lines have another number of cells than "
            f"{table.num_columns}: not one table"
        )
    if len(inner) > comments:
        notes.append(f"{count_of(len(inner) - comments, 'line')} with another number of cells left out")
    bad: dict[int, tuple[Any, NDArray[np.bool_]]] = {}
    is_text = np.ones(table.num_rows, np.bool_)
    for i, column in enumerate(table.columns):
        if pa.types.is_string(column.type) and len(column):
            trimmed = pc.utf8_trim_whitespace(column)
            is_value = pc.fill_null(pc.match_substring_regex(column, _RE2_NUMBER), False)
            is_filled = pc.fill_null(pc.not_equal(trimmed, ""), False)
            if 2 * (pc.sum(is_value).as_py() or 0) > (pc.sum(is_filled).as_py() or 0):
                is_bad = pc.and_not(is_filled, is_value).to_numpy(zero_copy_only=False)
                bad[i] = column, np.asarray(is_bad, np.bool_)
                is_text &= bad[i][1]
                cells = pc.if_else(is_value, trimmed, None)
                table = table.set_column(i, table.column_names[i], _as_numbers(cells))
        elif not (pa.types.is_string(column.type) or pa.types.is_null(column.type)):
            is_text &= False
    if not bad:
        return table, tuple(notes), {}
    unread: dict[str, tuple[int, str]] = {}
    for i, (column, is_bad) in bad.items():
        left = np.flatnonzero(is_bad & ~is_text)
        if len(left):
            unread[table.column_names[i].strip()] = int(left[0]) + 1, str(column[int(left[0])].as_py())[:40]
    if is_text.any():
        i = next(iter(bad))
        said = bad[i][0].filter(pa.array(is_text)).to_pylist()
        headers = sum(names[i : i + 1] == (text.strip(),) for text in said) if names else 0
        if headers:
            notes.append(f"{count_of(headers, 'repeated header')} left out")
        if len(said) > headers:
            notes.append(f"{count_of(len(said) - headers, 'row')} without numbers left out")
        table = table.filter(pa.array(~is_text))
    return table, tuple(notes), unread


def _as_numbers(cells: Any) -> Any:
    """Return texts of numbers as whole numbers where all are: nanoseconds since 1970 exceed float64."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if pc.all(pc.match_substring_regex(cells, r"^[+-]?\d{1,19}$")).as_py():
        with suppress(pa.ArrowInvalid):  # beyond 64 bits
            return pc.cast(cells, pa.int64())
    return pc.cast(cells, pa.float64())


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
    for i, line in reversed([*enumerate(above)]):
        cells = _header_cells(line, delimiter, width)
        if cells is None:
            if line.strip():
                break
            continue
        filled = [cell for cell in cells if cell]
        known = sum(_UNIT.fullmatch(cell) is not None for cell in filled)
        if units or known <= 1 or 2 * known < len(filled):
            names, header_at = cells, i
            break
        units = cells
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
