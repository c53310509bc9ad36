"""Text tables as apps and loggers write them: csv, tsv, semicolons, spaces; preambles, comments, units, decimal commas.

The structure is found in the beginning of the file: the delimiter that gives the most numbers a line, the first line
of numbers, the header above it, a line of units in between. The numbers are read by pyarrow. Lines that do not fit
are left out and counted: comments, headers that are repeated, a last line that is cut.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from bindsearch.errors import MediaError
from bindsearch.ingest.media.imu.structure import COMMENTS, Structure, count_of, find_structure
from bindsearch.ingest.media.imu.table import Table, array_columns, arrow_table
from bindsearch.ingest.media.texts.encoding import decode_table

HEAD_BYTES = 1 << 16
"""Bytes in which the structure of a table is found: preamble, header and some rows."""

GZIP_MAGIC = b"\x1f\x8b"

_RE2_NUMBER = r"^\s*[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?\s*$"


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
    if size > max_bytes:
        raise MediaError(f"the table has {size} bytes: more than {max_bytes} are not read (--limit array=N)")
    body = _utf8(raw)
    structure = find_structure(_lines(body[:HEAD_BYTES], whole=len(body) <= HEAD_BYTES))
    if structure is None:
        raise MediaError("the table is empty" if not body.strip() else "not a table: it has no rows of numbers")
    table, texts = _arrow_rows(_rows(_skip_lines(body, structure.start), structure), structure)
    table, more_notes, unread = _without_text_rows(table, structure.names or (), texts)
    notes = (*structure.notes, *more_notes)
    if structure.names is not None:
        return replace(arrow_table(table), notes=notes, preamble=structure.preamble, texts=unread)
    read = arrow_table(table)
    if table.num_columns in (6, 7) and all(
        len(column) and np.isfinite(column).any() for column in read.columns.values()
    ):
        arrays = [read.columns[name] for name in table.column_names]
        columns = dict(zip(array_columns(np.empty((0, len(arrays)))), arrays, strict=True))
        notes = (*notes, f"no header: the columns are read as {', '.join(columns)}")
        return Table(columns, notes=notes, preamble=structure.preamble, is_unnamed=True)
    return replace(read, notes=(*notes, "no header"), preamble=structure.preamble, texts=unread)


def text_column_names(path: Path) -> list[str]:
    """Return the names in the header of a text table; [] if it has none, or is no table.

    Raises:
        MediaError: the gzip data is damaged.
    """
    structure = text_structure(path)
    return [] if structure is None or structure.names is None else [name.strip() for name in structure.names]


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


def _skip_lines(body: bytes, count: int) -> bytes:
    position = 0
    for _ in range(count):
        position = body.find(b"\n", position) + 1
        if not position:
            return b""
    return body[position:]


def _rows(rows: bytes, structure: Structure) -> bytes:
    """Return the rows of numbers ready for pyarrow."""
    if structure.delimiter == " " and re.search(rb"\t|  |^ | $", rows, re.MULTILINE):
        rows = re.sub(rb"^[ \t]+|[ \t]+$", b"", rows, flags=re.MULTILINE)
        rows = re.sub(rb"[ \t]+", b" ", rows)
    if structure.delimiter == "," and rows.rstrip().endswith(b";"):
        rows = rows.replace(b";\n", b"\n").rstrip(b";")
    return rows


def _arrow_rows(rows: bytes, structure: Structure) -> tuple[Any, list[str]]:
    """Return the rows as a pyarrow.Table, and the lines that have another number of cells."""
    import pyarrow as pa
    from pyarrow import csv as pacsv

    misfits: list[str] = []

    def take_misfit(row: Any) -> str:
        misfits.append(row.text or "")
        return "skip"

    names = structure.names or tuple(f"column {i}" for i in range(structure.width))
    if not rows.strip():
        return pa.Table.from_arrays([pa.array([], pa.float64()) for _ in names], names=names), []
    try:
        table = pacsv.read_csv(
            pa.BufferReader(rows),
            # in one block: the kind of a column is found from all its cells
            read_options=pacsv.ReadOptions(
                use_threads=False, column_names=names, block_size=max(len(rows) + 1, 1 << 20)
            ),
            parse_options=pacsv.ParseOptions(delimiter=structure.delimiter, invalid_row_handler=take_misfit),
            convert_options=pacsv.ConvertOptions(decimal_point=structure.decimal),
        )
    except pa.ArrowInvalid as error:
        raise MediaError(f"not a table: {(str(error).splitlines() or ['unreadable'])[0][:160]}") from error
    last = rows[rows.rstrip().rfind(b"\n") + 1 :].decode(errors="replace").strip()
    is_cut = bool(misfits) and misfits[-1].strip() == last
    if not is_cut and table.num_rows > 1 and not rows.endswith(b"\n") and _last_row_is_cut(table):
        table, is_cut = table.slice(0, table.num_rows - 1), True
        misfits.append(last)
    return table, [f"\n{text}" if is_cut and i == len(misfits) - 1 else text for i, text in enumerate(misfits)]


def _last_row_is_cut(table: Any) -> bool:
    """Return whether only the last row lacks a value in the last column."""
    column = table.columns[-1]
    return column.null_count == 1 and not column[-1].is_valid


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
    repaired: dict[int, tuple[Any, Any]] = {}
    for i, column in enumerate(table.columns):
        if pa.types.is_string(column.type) and len(column):
            is_value = pc.fill_null(pc.match_substring_regex(column, _RE2_NUMBER), False)
            filled = (
                pc.sum(pc.and_(pc.is_valid(column), pc.not_equal(pc.utf8_trim_whitespace(column), ""))).as_py() or 0
            )
            if 2 * (pc.sum(is_value).as_py() or 0) > filled:
                repaired[i] = column, is_value
    if not repaired:
        return table, tuple(notes), {}
    is_text = np.ones(table.num_rows, np.bool_)
    bad: dict[int, Any] = {}
    for i, column in enumerate(table.columns):
        if i in repaired:
            is_value = np.asarray(repaired[i][1].to_numpy(zero_copy_only=False))
            is_missing = np.asarray(
                pc.fill_null(pc.equal(pc.utf8_trim_whitespace(column), ""), True).to_numpy(zero_copy_only=False)
            )
            bad[i] = ~is_value & ~is_missing
            is_text &= bad[i]
            cells = pc.if_else(repaired[i][1], pc.utf8_trim_whitespace(column), None)
            table = table.set_column(i, table.column_names[i], _as_numbers(cells))
        elif not (pa.types.is_string(column.type) or pa.types.is_null(column.type)):
            is_text &= False
    unread: dict[str, tuple[int, str]] = {}
    for i, rows in bad.items():
        left = np.flatnonzero(rows & ~is_text)
        if len(left):
            said = str(repaired[i][0][int(left[0])].as_py())[:40]
            unread[table.column_names[i].strip()] = int(left[0]) + 1, said
    if is_text.any():
        i = next(iter(repaired))
        said = repaired[i][0].filter(pa.array(is_text)).to_pylist()
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
