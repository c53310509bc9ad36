"""Rows of a list: csv, tsv, jsonl and parquet read alike, broken rows left out and named."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bindsearch.errors import MediaError
from bindsearch.ingest.media.imu.tables import delimiter_of
from bindsearch.ingest.media.text import decode_text
from bindsearch.ingest.media.text_fields import normalize_text
from bindsearch.types import METADATA_COLUMNS

LIST_NAMES = (".csv", ".tsv", ".jsonl", ".ndjson", ".parquet")
PATH_COLUMNS = ("path", "file_path", "filepath", "file_name", "filename", "image_path", "file", "image")
"""Columns of paths; where there are several, the first of these counts."""

CAPTION_COLUMNS = ("caption", "captions", "text", "description")
MODALITY_COLUMN = "modality"
MAX_LIST_BYTES = 1 << 30
MAX_ROWS = 10_000_000
MAX_LINE_BYTES = 1 << 20
_TEXTS = (
    *CAPTION_COLUMNS,
    MODALITY_COLUMN,
    *(name for name, kind in METADATA_COLUMNS.items() if kind in ("large_string", "timestamp[us]")),
)
"""Columns of a csv that are texts whatever they look like; of others, the values decide."""

_MAX_PROBLEMS = 20
_HEAD_BYTES = 4 << 10
_LONG_HEAD_BYTES = 64 << 10
_BLOCK_BYTES = 16 << 20
"""Of csv: no row is longer."""

_BATCH_ROWS = 1 << 16
_MAX_PARQUET_BYTES = 4 * MAX_LIST_BYTES
"""Of the columns that are read, unpacked."""


@dataclass(slots=True)
class Row:
    """A row; `number` as a spreadsheet counts (the header of a csv is row 1), of jsonl the line, of parquet from 1."""

    number: int
    path: object
    others: Mapping[str, object]


@dataclass
class Problems:
    """The first twenty problems and how many there are."""

    found: list[str] = field(default_factory=list)
    count: int = 0

    def add(self, number: int, problem: str) -> None:
        """Note what is wrong with a row."""
        self.count += 1
        if self.count <= _MAX_PROBLEMS:
            self.found.append(f"row {number}: {problem}")

    def lines(self) -> tuple[str, ...]:
        """One line each, and one on those that are not shown."""
        more = self.count - len(self.found)
        return (*self.found, f"and {more} more") if more else tuple(self.found)


def path_column(names: Iterable[str]) -> str | None:
    """The column of paths among `names`, None where there is none."""
    by_key = {name.strip().lower(): name for name in reversed(list(names))}
    return next((by_key[key] for key in PATH_COLUMNS if key in by_key), None)


def head_row(path: Path) -> Mapping[str, object]:
    """Column names, with the values of the first row where the beginning of the file holds it, else None.

    Raises:
        MediaError: no table.
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
        return _object(decode_text(head.lstrip(b"\r\n").partition(b"\n")[0]))
    text = decode_text(head[: head.rfind(b"\n") + 1] or head)
    cells = _csv_cells(text, _delimiter(path, text), 2)
    if not cells:
        raise MediaError("the table is empty")
    values = cells[1] if len(cells) > 1 and len(cells[1]) == len(cells[0]) else [None] * len(cells[0])
    return dict(zip(cells[0], values, strict=True))


def rows(path: Path, problems: Problems) -> Iterator[Row]:
    """All rows of the list at `path`; those that are none are noted in `problems`.

    Raises:
        MediaError: damaged, too large, or without a column of paths.
        OSError: it cannot be read.
    """
    size = path.stat().st_size
    if size > MAX_LIST_BYTES:
        raise MediaError(f"the list has {size} bytes: more than {MAX_LIST_BYTES} are not read; split it")
    readers = {".parquet": _parquet_rows, ".jsonl": _json_rows, ".ndjson": _json_rows}
    return readers.get(path.suffix.lower(), _csv_rows)(path, problems)


def _csv_rows(path: Path, problems: Problems) -> Iterator[Row]:
    import pyarrow as pa
    from pyarrow import csv as pacsv

    broken: list[int] = []

    def leave_out(row: Any) -> str:
        broken.append(row.number)
        problems.add(row.number, f"{row.actual_columns} values, where the header has {row.expected_columns}")
        return "skip"

    with path.open("rb") as file:
        head = file.read(_LONG_HEAD_BYTES)
    text = head.decode("utf-8-sig", "replace")
    delimiter = _delimiter(path, text)
    names = next(iter(_csv_cells(text, delimiter, 1)), [])
    try:
        table = pacsv.read_csv(
            path,
            read_options=pacsv.ReadOptions(use_threads=False, block_size=_BLOCK_BYTES),  # threads do not count rows
            parse_options=pacsv.ParseOptions(
                delimiter=delimiter,
                newlines_in_values=True,
                ignore_empty_lines=False,
                invalid_row_handler=leave_out,
            ),
            convert_options=pacsv.ConvertOptions(column_types=dict.fromkeys(names, pa.string())),
        )
    except pa.ArrowInvalid as error:
        raise MediaError(f"the list cannot be read, is it a csv file in UTF-8? {_first_line(error)}") from error
    _check_rows(table.num_rows)
    wanted = _wanted(table.column_names)
    firsts = [(name, table.column(table.column_names.index(name))) for name in dict.fromkeys(table.column_names)]
    table = pa.table({name: column if name == wanted else _typed(name, column) for name, column in firsts})
    numbers = _numbers_between(broken, start=2)
    for batch in table.to_batches(_BATCH_ROWS):
        for row in _batch_rows(batch, numbers, wanted):
            if row.path or any(value is not None for value in row.others.values()):  # else an empty line
                yield row


def _typed(name: str, column: Any) -> Any:
    """A column of texts as whole numbers, numbers or true and false where all of it is; an empty text is no value."""
    import pyarrow as pa
    import pyarrow.compute as pc

    column = column.cast(pa.string())
    column = pc.if_else(pc.equal(column, ""), None, column)
    if name.strip().lower() in _TEXTS:
        return column
    if pc.any(pc.match_substring_regex(column, r"^-?0[0-9]")).as_py():  # a code such as 007, no number
        return column
    for kind in (pa.int64(), pa.float64(), pa.bool_()):
        try:
            return column.cast(kind)
        except pa.ArrowInvalid:
            continue
    return column


def _numbers_between(broken: Sequence[int], start: int) -> Iterator[int]:
    """Row numbers from `start` on but those in `broken`, which rise."""
    number = start
    for left_out in broken:
        yield from range(number, left_out)
        number = left_out + 1
    while True:
        yield number
        number += 1


def _batch_rows(batch: Any, numbers: Iterator[int], wanted: str) -> Iterator[Row]:
    names = [name for name in batch.schema.names if name != wanted]
    paths = _values(batch.column(wanted))
    others = [_values(batch.column(name)) for name in names]
    if not names:
        for path in paths:
            yield Row(next(numbers), path, {})
        return
    for path, *values in zip(paths, *others, strict=True):
        yield Row(next(numbers), path, dict(zip(names, values, strict=True)))


def _values(column: Any) -> list[Any]:
    """A column as Python has it; a text that repeats in a dictionary is one object."""
    import pyarrow as pa

    if pa.types.is_dictionary(column.type):
        used = column.indices.unique()  # the dictionary also holds what came in all batches before
        texts = dict(zip(used.to_pylist(), column.dictionary.take(used).to_pylist(), strict=True))
        return [texts[i] for i in column.indices.to_pylist()]
    values: list[Any] = column.to_pylist()
    if pa.types.is_temporal(column.type):
        return [None if value is None else str(value) for value in values]
    if pa.types.is_decimal(column.type):
        return [None if value is None else float(value) for value in values]
    return values


def _json_rows(path: Path, problems: Problems) -> Iterator[Row]:
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
                others = _object(line.decode("utf-8-sig" if number == 1 else "utf-8"))
            except (MediaError, UnicodeDecodeError) as error:
                problems.add(number, str(error))
                continue
            wanted = path_column(others)
            yield Row(number, None if wanted is None else others.pop(wanted), others)


def _object(line: str) -> dict[str, object]:
    try:
        found = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise MediaError(f"not JSON ({normalize_text(str(error))})") from error
    if not isinstance(found, dict):
        raise MediaError(f"expected a JSON object, found {type(found).__name__}")
    return found


def _parquet_rows(path: Path, problems: Problems) -> Iterator[Row]:
    import pyarrow as pa

    with _open_parquet(path) as file:
        schema = file.schema_arrow
    wanted = _wanted([name for name in schema.names if _is_text(schema.field(name).type)])
    names = [name for name in dict.fromkeys(schema.names) if _is_read(schema.field(name).type)]
    for name in set(schema.names) - set(names):
        problems.add(1, f"column {name!r} is left out: {str(schema.field(name).type)[:80]} is not a kind of column")
    texts = [name for name in names if _is_text(schema.field(name).type)]
    with _open_parquet(path, texts) as file:
        _check_rows(file.metadata.num_rows)
        _check_parquet_size(file.metadata, set(names))
        numbers = iter(range(1, MAX_ROWS + 1))
        try:
            for batch in file.iter_batches(_BATCH_ROWS, columns=names, use_threads=False):
                yield from _batch_rows(batch, numbers, wanted)
        except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
            raise MediaError(f"damaged parquet file: {_first_line(error)}") from error


def _open_parquet(path: Path, dictionaries: Sequence[str] = ()) -> Any:
    """A ParquetFile; columns in `dictionaries` keep a text that repeats once."""
    import pyarrow as pa
    from pyarrow import parquet

    try:
        return parquet.ParquetFile(path, read_dictionary=list(dictionaries))
    except (pa.ArrowException, OSError) as error:
        raise MediaError(f"damaged parquet file: {_first_line(error)}") from error


def _check_parquet_size(metadata: Any, names: set[str]) -> None:
    groups = (metadata.row_group(i) for i in range(metadata.num_row_groups))
    chunks = (group.column(i) for group in groups for i in range(group.num_columns))
    size = sum(chunk.total_uncompressed_size for chunk in chunks if chunk.path_in_schema.split(".")[0] in names)
    if size > _MAX_PARQUET_BYTES:
        raise MediaError(f"the list has {size} bytes unpacked: more than {_MAX_PARQUET_BYTES} are not read; split it")


def _is_text(kind: Any) -> bool:
    import pyarrow as pa

    if pa.types.is_dictionary(kind):
        return _is_text(kind.value_type)
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _is_read(kind: Any) -> bool:
    """Texts, numbers, truth values, times, and lists of texts (captions)."""
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


def _wanted(names: Sequence[str]) -> str:
    found = path_column(names)
    if found is None:
        raise MediaError(f"no column of paths among {', '.join(names)[:120] or '(none)'}: name one {PATH_COLUMNS[0]}")
    return found


def _check_rows(count: int) -> None:
    if count > MAX_ROWS:
        raise MediaError(f"the list has more than {MAX_ROWS} rows: split it")


def _delimiter(path: Path, text: str) -> str:
    if path.suffix.lower() == ".tsv":
        return "\t"
    return delimiter_of(next((line for line in text.splitlines() if line.strip()), ""))


def _csv_cells(text: str, delimiter: str, count: int) -> list[list[str]]:
    """The first `count` rows that are not empty."""
    found: list[list[str]] = []
    try:
        for cells in csv.reader(text.splitlines(keepends=True), delimiter=delimiter):
            if cells:
                found.append(cells)
            if len(found) == count:
                break
    except csv.Error as error:
        raise MediaError(f"no csv ({error})") from error
    return found


def _first_line(error: Exception) -> str:
    return normalize_text((str(error).splitlines() or [type(error).__name__])[0][:160]) or ""
