"""Rows of a manifest: the same for csv, tsv, jsonl and parquet; invalid rows are skipped and reported."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bindsearch.errors import MediaError
from bindsearch.ingest.media.imu.tables import delimiter_of
from bindsearch.ingest.media.text import decode_text
from bindsearch.ingest.media.text_fields import normalize_text, parse_json_object

MANIFEST_NAMES = (".csv", ".tsv", ".jsonl", ".ndjson", ".parquet")
PATH_COLUMNS = ("path", "file_path", "filepath", "file_name", "filename", "image_path", "file", "image")
"""Columns of paths; if there are several, the first in this order is used."""

CAPTION_COLUMNS = ("caption", "captions", "text", "description")
MODALITY_COLUMN = "modality"
MAX_MANIFEST_BYTES = 1 << 30
MAX_ROWS = 10_000_000
MAX_LINE_BYTES = 1 << 20
_TEXTS = (*CAPTION_COLUMNS, MODALITY_COLUMN, "taken", "camera", "title", "artist")
"""Columns of a csv that are always strings; the types of others follow from their values."""

_MAX_PROBLEMS = 20
_HEAD_BYTES = 4 << 10
_LONG_HEAD_BYTES = 64 << 10
_BLOCK_BYTES = 16 << 20
"""Size of csv blocks, in bytes; the maximum length of a row."""

_BATCH_ROWS = 1 << 16
_MAX_PARQUET_BYTES = 4 * MAX_MANIFEST_BYTES
"""Maximum uncompressed size of the columns that are read."""


@dataclass(slots=True)
class Row:
    """A row; `number` as in a spreadsheet (the header of a csv is row 1), for jsonl the line, for parquet from 1."""

    number: int
    path: object
    others: Mapping[str, object]


@dataclass
class Problems:
    """The first twenty problems, and the count of all."""

    found: list[str] = field(default_factory=list)
    count: int = 0

    def add(self, number: int, problem: str) -> None:
        """Record a problem of a row."""
        self.count += 1
        if self.count <= _MAX_PROBLEMS:
            self.found.append(f"row {number}: {problem}")

    def lines(self) -> tuple[str, ...]:
        """Return one line for each problem, and one for those that are not recorded."""
        more = self.count - len(self.found)
        return (*self.found, f"and {more} more") if more else tuple(self.found)


def path_column(names: Iterable[str]) -> str | None:
    """Return the column of paths among `names`; None if there is none."""
    by_key = {name.strip().lower(): name for name in reversed(list(names))}
    return next((by_key[key] for key in PATH_COLUMNS if key in by_key), None)


def head_row(path: Path) -> Mapping[str, object]:
    """Return the column names with the values of the first row, if the beginning of the file contains it, else None.

    Raises:
        MediaError: it is not a table.
        OSError: it cannot be read.
    """
    if path.suffix.lower() == ".parquet":
        with _open_parquet(path) as file:
            kinds = zip(file.schema_arrow.names, file.schema_arrow.types, strict=True)
            return {name: None for name, kind in kinds if _is_text(kind) or path_column([name]) is None}
    with path.open("rb") as opened:
        head = opened.read(_HEAD_BYTES)
        if b"\n" not in head:
            head += opened.read(_LONG_HEAD_BYTES - _HEAD_BYTES)
    if path.suffix.lower() in (".jsonl", ".ndjson"):
        return parse_json_object(decode_text(head.lstrip(b"\r\n").partition(b"\n")[0]))
    text = decode_text(head[: head.rfind(b"\n") + 1] or head)
    cells = _csv_cells(text, _delimiter(path, text), 2)
    if not cells:
        raise MediaError("the table is empty")
    values = cells[1] if len(cells) > 1 and len(cells[1]) == len(cells[0]) else [None] * len(cells[0])
    return dict(zip(cells[0], values, strict=True))


def rows(path: Path, problems: Problems) -> Iterator[Row]:
    """Yield the rows of the manifest at `path`; invalid ones are recorded in `problems`.

    Raises:
        MediaError: damaged, too large, or without a column of paths.
        OSError: it cannot be read.
    """
    size = path.stat().st_size
    if size > MAX_MANIFEST_BYTES:
        raise MediaError(f"the manifest has {size} bytes, the maximum is {MAX_MANIFEST_BYTES}: split it")
    readers = {".parquet": _parquet_rows, ".jsonl": _json_rows, ".ndjson": _json_rows}
    return readers.get(path.suffix.lower(), _csv_rows)(path, problems)


def _csv_rows(path: Path, problems: Problems) -> Iterator[Row]:
    """Yield the rows of a csv or tsv file."""
    import pyarrow as pa
    from pyarrow import csv as pacsv

    skipped: list[int] = []

    def skip_row(row: Any) -> str:
        skipped.append(row.number)
        problems.add(row.number, f"{row.actual_columns} values, but the header has {row.expected_columns}")
        return "skip"

    with path.open("rb") as file:
        head = file.read(_LONG_HEAD_BYTES)
    text = head.decode("utf-8-sig", "replace")
    delimiter = _delimiter(path, text)
    names = next(iter(_csv_cells(text, delimiter, 1)), [])
    try:
        table = pacsv.read_csv(
            path,
            read_options=pacsv.ReadOptions(use_threads=False, block_size=_BLOCK_BYTES),  # threads lose row numbers
            parse_options=pacsv.ParseOptions(
                delimiter=delimiter,
                newlines_in_values=True,
                ignore_empty_lines=False,
                invalid_row_handler=skip_row,
            ),
            convert_options=pacsv.ConvertOptions(column_types=dict.fromkeys(names, pa.string())),
        )
    except pa.ArrowInvalid as error:
        raise MediaError(f"cannot read the manifest; expected a csv file in UTF-8: {_first_line(error)}") from error
    _check_rows(table.num_rows)
    path_name = _require_path_column(table.column_names)
    firsts = [(name, table.column(table.column_names.index(name))) for name in dict.fromkeys(table.column_names)]
    table = pa.table({name: column if name == path_name else _typed(name, column) for name, column in firsts})
    numbers = _numbers_between(skipped, start=2)
    for batch in table.to_batches(_BATCH_ROWS):
        for row in _batch_rows(batch, numbers, path_name):
            if row.path or any(value is not None for value in row.others.values()):  # else an empty line
                yield row


def _typed(name: str, column: Any) -> Any:
    """Return a column of strings cast to integers, numbers or booleans if all values can be; "" becomes null."""
    import pyarrow as pa
    import pyarrow.compute as pc

    column = column.cast(pa.string())
    column = pc.if_else(pc.equal(column, ""), None, column)
    if name.strip().lower() in _TEXTS:
        return column
    if pc.any(pc.match_substring_regex(column, r"^-?0[0-9]")).as_py():  # a code such as 007, not a number
        return column
    for kind in (pa.int64(), pa.float64(), pa.bool_()):
        try:
            return column.cast(kind)
        except pa.ArrowInvalid:
            continue
    return column


def _numbers_between(skipped: Sequence[int], start: int) -> Iterator[int]:
    """Yield row numbers from `start` on except those in `skipped`, which ascend."""
    number = start
    for skipped_row in skipped:
        yield from range(number, skipped_row)
        number = skipped_row + 1
    while True:
        yield number
        number += 1


def _batch_rows(batch: Any, numbers: Iterator[int], path_name: str) -> Iterator[Row]:
    """Yield the rows of a batch; `path_name` is the column of paths."""
    names = [name for name in batch.schema.names if name != path_name]
    paths = _values(batch.column(path_name))
    others = [_values(batch.column(name)) for name in names]
    if not names:
        for path in paths:
            yield Row(next(numbers), path, {})
        return
    for path, *values in zip(paths, *others, strict=True):
        yield Row(next(numbers), path, dict(zip(names, values, strict=True)))


def _values(column: Any) -> list[Any]:
    """Return the values of a column as Python objects; a repeated string in a dictionary is one object."""
    import pyarrow as pa

    if pa.types.is_dictionary(column.type):
        used = column.indices.unique()  # the dictionary also contains the values of all previous batches
        texts = dict(zip(used.to_pylist(), column.dictionary.take(used).to_pylist(), strict=True))
        return [texts[i] for i in column.indices.to_pylist()]
    values: list[Any] = column.to_pylist()
    if pa.types.is_temporal(column.type):
        return [None if value is None else str(value) for value in values]
    if pa.types.is_decimal(column.type):
        return [None if value is None else float(value) for value in values]
    return values


def _json_rows(path: Path, problems: Problems) -> Iterator[Row]:
    """Yield the rows of a jsonl file."""
    with path.open("rb") as file:
        for number in range(1, MAX_ROWS + 2):
            line = file.readline(MAX_LINE_BYTES + 1)
            if not line:
                return
            _check_rows(number)
            if len(line) > MAX_LINE_BYTES:
                while line and not line.endswith(b"\n"):
                    line = file.readline(MAX_LINE_BYTES)
                problems.add(number, f"longer than {MAX_LINE_BYTES} bytes")
                continue
            if not line.strip():
                continue
            try:
                others = parse_json_object(line.decode("utf-8-sig" if number == 1 else "utf-8"))
            except (MediaError, UnicodeDecodeError) as error:
                problems.add(number, str(error))
                continue
            path_name = path_column(others)
            yield Row(number, None if path_name is None else others.pop(path_name), others)


def _parquet_rows(path: Path, problems: Problems) -> Iterator[Row]:
    """Yield the rows of a parquet file."""
    import pyarrow as pa

    with _open_parquet(path) as file:
        schema = file.schema_arrow
    path_name = _require_path_column([name for name in schema.names if _is_text(schema.field(name).type)])
    names = [name for name in dict.fromkeys(schema.names) if _is_read(schema.field(name).type)]
    for name in set(schema.names) - set(names):
        problems.add(1, f"column {name!r} is skipped: type {str(schema.field(name).type)[:80]} is not supported")
    texts = [name for name in names if _is_text(schema.field(name).type)]
    with _open_parquet(path, texts) as file:
        _check_rows(file.metadata.num_rows)
        _check_parquet_size(file.metadata, set(names))
        numbers = iter(range(1, MAX_ROWS + 1))
        try:
            for batch in file.iter_batches(_BATCH_ROWS, columns=names, use_threads=False):
                yield from _batch_rows(batch, numbers, path_name)
        except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
            raise MediaError(f"damaged parquet file: {_first_line(error)}") from error


def _open_parquet(path: Path, dictionaries: Sequence[str] = ()) -> Any:
    """Open a parquet file; columns in `dictionaries` store a repeated string once."""
    import pyarrow as pa
    from pyarrow import parquet

    try:
        return parquet.ParquetFile(path, read_dictionary=list(dictionaries))
    except (pa.ArrowException, OSError) as error:
        raise MediaError(f"damaged parquet file: {_first_line(error)}") from error


def _check_parquet_size(metadata: Any, names: set[str]) -> None:
    """Check the uncompressed size of the columns that are read."""
    groups = (metadata.row_group(i) for i in range(metadata.num_row_groups))
    chunks = (group.column(i) for group in groups for i in range(group.num_columns))
    size = sum(chunk.total_uncompressed_size for chunk in chunks if chunk.path_in_schema.split(".")[0] in names)
    if size > _MAX_PARQUET_BYTES:
        raise MediaError(f"the manifest has {size} bytes uncompressed, the maximum is {_MAX_PARQUET_BYTES}: split it")


def _is_text(kind: Any) -> bool:
    import pyarrow as pa

    if pa.types.is_dictionary(kind):
        return _is_text(kind.value_type)
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _is_read(kind: Any) -> bool:
    """Return whether a column is read: strings, numbers, booleans, times, and lists of strings (captions)."""
    import pyarrow as pa

    tests: tuple[Callable[[Any], bool], ...] = (
        _is_text,
        pa.types.is_decimal,
        pa.types.is_integer,
        pa.types.is_floating,
        pa.types.is_boolean,
        pa.types.is_timestamp,
        pa.types.is_date,
        pa.types.is_time,
        pa.types.is_null,
    )
    is_texts = (pa.types.is_list(kind) or pa.types.is_large_list(kind)) and _is_text(kind.value_type)
    return is_texts or any(test(kind) for test in tests)


def _require_path_column(names: Sequence[str]) -> str:
    """Return the column of paths."""
    name = path_column(names)
    if name is None:
        raise MediaError(f"no column of paths among {', '.join(names)[:120] or '(none)'}: name one {PATH_COLUMNS[0]}")
    return name


def _check_rows(count: int) -> None:
    if count > MAX_ROWS:
        raise MediaError(f"the manifest has more than {MAX_ROWS} rows: split it")


def _delimiter(path: Path, text: str) -> str:
    if path.suffix.lower() == ".tsv":
        return "\t"
    return delimiter_of(next((line for line in text.splitlines() if line.strip()), ""))


def _csv_cells(text: str, delimiter: str, count: int) -> list[list[str]]:
    """Return the first `count` rows that are not empty."""
    table_rows: list[list[str]] = []
    try:
        for cells in csv.reader(text.splitlines(keepends=True), delimiter=delimiter):
            if cells:
                table_rows.append(cells)
            if len(table_rows) == count:
                break
    except csv.Error as error:
        raise MediaError(f"not a csv file ({error})") from error
    return table_rows


def _first_line(error: Exception) -> str:
    return normalize_text((str(error).splitlines() or [type(error).__name__])[0][:160]) or ""
