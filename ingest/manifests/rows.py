"""Rows of a manifest: the same for csv, tsv, jsonl and parquet; invalid rows are skipped and reported.

DuckDB's readers are no replacement: read_json makes a broken line a row of NULLs without its number and the reason, and
a column of 1 and "x" one of JSON texts; read_csv numbers the rows that it rejects, but not those that it reads.
"""

from __future__ import annotations

import codecs
import csv
import io
import itertools
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

from bindsearch.errors import MediaError
from bindsearch.ingest.media.parquet_metadata import parquet_columns
from bindsearch.ingest.media.sidecar import FACT_NAMES
from bindsearch.ingest.media.text_fields import normalize_text, parse_user_object
from bindsearch.ingest.media.texts.encoding import decode_table
from bindsearch.small_files import open_regular

MANIFEST_NAMES = (".csv", ".tsv", ".jsonl", ".ndjson", ".parquet")
PATH_COLUMNS = ("path", "file_path", "filepath", "file_name", "filename", "image_path", "file", "image")
"""Columns of paths; if there are several, the first in this order is used."""

CAPTION_COLUMNS = ("caption", "captions", "text", "description")
MODALITY_COLUMN = "modality"
MAX_LIST_COLUMNS = 20_000
VALUE_BYTES = 100
MAX_LINE_BYTES = 1 << 20
_TEXTS = (*CAPTION_COLUMNS, MODALITY_COLUMN, "taken", "camera", "title", "artist")
"""Columns of a csv that are always strings; the types of others follow from their values."""

_MAX_PROBLEMS = 20
_HEAD_BYTES = 4 << 10
_LONG_HEAD_BYTES = 64 << 10
_MAX_CSV_CHARACTERS = 4 << 20
"""Maximum length of a line of a csv file, and of a value that spans lines."""

_BLOCK_BYTES = 1 << 20

_MAX_HEADER_BYTES = 1 << 20
_BATCH_ROWS = 1 << 14
_WAY_OUT = "split it, or give a larger --limit list"


@dataclass(frozen=True, slots=True)
class ListLimits:
    """Limits beyond which a manifest is not read.

    Attributes:
        max_list_rows: maximum number of rows.
        max_list_bytes: maximum size of the file, of the columns of a parquet file without compression, and of all
            values in memory: VALUE_BYTES each, and the characters of texts, repeated ones included.
        max_list_time_s: maximum time of reading it.
    """

    max_list_rows: int = 1_000_000
    max_list_bytes: int = 1 << 30
    max_list_time_s: float = 300.0


DEFAULT_LIMITS = ListLimits()


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
    with open_regular(path) as opened:
        head = opened.read(_HEAD_BYTES)
        if b"\n" not in head:
            head += opened.read(_LONG_HEAD_BYTES - _HEAD_BYTES)
    if path.suffix.lower() in (".jsonl", ".ndjson"):
        return parse_user_object(decode_table(head.lstrip(b"\r\n").partition(b"\n")[0]))
    text = decode_table(head[: head.rfind(b"\n") + 1] or head)
    cells = _csv_cells(text, _delimiter(path, text), 2)
    if not cells:
        raise MediaError("the table is empty")
    values = cells[1] if len(cells) > 1 and len(cells[1]) == len(cells[0]) else [None] * len(cells[0])
    return dict(zip(cells[0], values, strict=True))


def rows(
    path: Path, problems: Problems, wanted: Callable[[str], bool], limits: ListLimits = DEFAULT_LIMITS
) -> Iterator[Row]:
    """Yield the rows of the manifest at `path`; invalid ones are recorded in `problems`.

    Args:
        path: the manifest.
        problems: receives invalid rows.
        wanted: returns whether to read a column besides that of paths; it is asked once for each column of a table.
        limits: limits beyond which the manifest is not read.

    Raises:
        MediaError: damaged, too large, or without a column of paths.
        OSError: it cannot be read.
    """
    size = path.stat().st_size
    if size > limits.max_list_bytes:
        raise MediaError(f"the manifest has {size} bytes, the maximum is {limits.max_list_bytes}: {_WAY_OUT}=N")
    readers = {".parquet": _parquet_rows, ".jsonl": _json_rows, ".ndjson": _json_rows}
    reader = readers.get(path.suffix.lower(), _csv_rows)
    bounds = _Bounds(limits, time.monotonic() + limits.max_list_time_s)
    size = 0
    for row in reader(path, problems, wanted, bounds):
        bounds.check(row.number - 1)  # a header may be row 1
        size += sum(map(_value_bytes, row.others.values()))
        if size > limits.max_list_bytes:
            raise _too_many_values(limits)
        yield row


def _value_bytes(value: object) -> int:
    """Return about how much memory a value takes that is not null."""
    if isinstance(value, list | dict):
        return VALUE_BYTES + sum(map(_value_bytes, value.values() if isinstance(value, dict) else value))
    return 0 if value is None else VALUE_BYTES + (len(value) if isinstance(value, str) else 0)


def _too_many_values(limits: ListLimits) -> MediaError:
    return MediaError(f"the values of the manifest exceed {limits.max_list_bytes} bytes: {_WAY_OUT}=N")


@dataclass(frozen=True, slots=True)
class _Bounds:
    """The limits of reading a manifest; `ends_at`: the value of `time.monotonic()` at which its time is over."""

    limits: ListLimits
    ends_at: float

    def check(self, n_rows: int) -> None:
        """Raise MediaError if there are more rows so far, skipped ones included, or it takes longer."""
        if n_rows > self.limits.max_list_rows:
            raise MediaError(f"the manifest has more than {self.limits.max_list_rows} rows: {_WAY_OUT}-rows=N")
        if time.monotonic() > self.ends_at:
            raise MediaError(
                f"reading the manifest takes more than {self.limits.max_list_time_s:g} s: {_WAY_OUT}-time=N"
            )


def _csv_rows(path: Path, problems: Problems, wanted: Callable[[str], bool], bounds: _Bounds) -> Iterator[Row]:
    """Yield the rows of a csv or tsv file."""
    import pyarrow as pa

    with open_regular(path) as file:
        text = file.read(_MAX_HEADER_BYTES).decode("utf-8-sig", "replace")
    delimiter = _delimiter(path, text)
    names = next(iter(_csv_cells(text, delimiter, 1)), [])
    _check_columns(len(names))
    path_name = _require_path_column(names)
    kept = [path_name, *(name for name in dict.fromkeys(names) if name != path_name and wanted(name))]
    kinds = {
        name: [pa.int64(), pa.float64(), pa.bool_()]
        for name in kept
        if name != path_name and name.strip().lower() not in _TEXTS
    }
    if kinds:  # they follow from all values
        for _, batch in _csv_batches(path, delimiter, kept, Problems(), bounds):
            kinds = {name: _kinds_of(_nulled(batch.column(name)), found) for name, found in kinds.items()}
    for numbers, batch in _csv_batches(path, delimiter, kept, problems, bounds):
        columns = {
            name: batch.column(name)
            if name == path_name
            else _nulled(batch.column(name)).cast(kinds[name][0] if kinds.get(name) else pa.string())
            for name in kept
        }
        for row in _batch_rows(pa.record_batch(columns), iter(numbers), path_name):
            if row.path or any(value is not None for value in row.others.values()):  # else an empty line
                yield row


def _csv_batches(
    path: Path, delimiter: str, names: Sequence[str], problems: Problems, bounds: _Bounds
) -> Iterator[tuple[list[int], Any]]:
    """Yield the columns `names` of a csv file as strings, with row numbers, in batches.

    Python's reader: Arrow's reads ahead in threads that call back for invalid rows, even while the interpreter ends,
    which then aborts. Raise MediaError if the file is not UTF-8, a row is too long, or a limit is exceeded.
    """
    import pyarrow as pa

    with open_regular(path) as file, io.TextIOWrapper(file, "utf-8-sig", newline="") as text, ExitStack() as stack:
        # the limit is one for all readers
        stack.callback(csv.field_size_limit, csv.field_size_limit(_MAX_CSV_CHARACTERS))
        rows = enumerate(csv.reader(_bounded_lines(text), delimiter=delimiter), start=1)
        try:
            header = next((cells for _, cells in rows if cells), [])
            positions = [header.index(name) for name in names]
            for columns, numbers, last_number in _chunks(rows, len(header), positions, problems):
                bounds.check(last_number - 1)
                arrays = (pa.array(values, pa.string()) for values in columns)
                yield numbers, pa.record_batch(dict(zip(names, arrays, strict=True)))
        except csv.Error as error:
            if "field limit" in str(error):
                raise _long_row() from error
            raise MediaError(f"cannot read the manifest; expected a csv file: {error}") from error
        except UnicodeDecodeError as error:
            raise MediaError(f"line {_line_of_other_bytes(path)} is not UTF-8: save the manifest as UTF-8") from error
        except ValueError as error:  # a name of the header
            raise MediaError(f"cannot read the manifest; expected a csv file: {_first_line(error)}") from error


def _bounded_lines(text: TextIO) -> Iterator[str]:
    """Yield the lines of a file; raise MediaError if one is too long."""
    while line := text.readline(_MAX_CSV_CHARACTERS):
        if len(line) == _MAX_CSV_CHARACTERS:
            raise _long_row()
        yield line


def _long_row() -> MediaError:
    return MediaError(
        f"cannot read the manifest; a row has more than {_MAX_CSV_CHARACTERS} characters: a quotation mark may lack "
        "the second one"
    )


def _chunks(
    rows: Iterator[tuple[int, list[str]]], width: int, positions: Sequence[int], problems: Problems
) -> Iterator[tuple[list[list[str]], list[int], int]]:
    """Yield the values at `positions` of rows with `width` values by column, their numbers, and that of the last row.

    No row is kept: Python's garbage collector would look at all of them, and at what is read so far, again and again.
    """
    while True:
        columns: list[list[str]] = [[] for _ in positions]
        numbers: list[int] = []
        number = 0
        for number, cells in itertools.islice(rows, _BATCH_ROWS):
            if len(cells) == width:
                numbers.append(number)
                for column, position in zip(columns, positions, strict=True):
                    column.append(cells[position])
            elif cells:
                problems.add(number, f"{len(cells)} values, but the header has {width}")
        if not number:
            return
        yield columns, numbers, number


def _line_of_other_bytes(path: Path) -> int:
    """Return the number of the first line of a file that is not UTF-8; the last one if all are."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    line = 1
    with open_regular(path) as file:
        content = b"-"
        while content:
            content = file.read(_BLOCK_BYTES)
            try:
                decoder.decode(content, final=not content)
            except UnicodeDecodeError as error:
                return line + error.object[: error.start].count(b"\n")
            line += content.count(b"\n")
    return line


def _nulled(column: Any) -> Any:
    """Return a column of strings with null instead of empty ones."""
    import pyarrow.compute as pc

    return pc.if_else(pc.equal(column, ""), None, column)


def _kinds_of(column: Any, kinds: Sequence[Any]) -> list[Any]:
    """Return the types among `kinds` that all values of a column of strings can have."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if pc.any(pc.match_substring_regex(column, r"^-?0[0-9]")).as_py():  # a code such as 007, not a number
        return []
    possible = []
    for kind in kinds:
        try:
            column.cast(kind)
            possible.append(kind)
        except pa.ArrowInvalid:
            continue
    return possible


def _batch_rows(batch: Any, numbers: Iterator[int], path_name: str) -> Iterator[Row]:
    """Yield the rows of a batch; `path_name` is the column of paths. Raise MediaError if a text is not UTF-8."""
    names = [name for name in batch.schema.names if name != path_name]
    row_numbers = list(itertools.islice(numbers, batch.num_rows))
    columns = []
    for name in (path_name, *names):
        try:
            columns.append(_values(batch.column(name)))
        except UnicodeDecodeError:
            row = row_numbers[next(i for i in range(batch.num_rows) if not _is_readable(batch.column(name)[i : i + 1]))]
            raise MediaError(f"row {row}, column {name!r} is not UTF-8: save it as UTF-8") from None
    for number, path, *values in zip(row_numbers, *columns, strict=True):
        yield Row(number, path, dict(zip(names, values, strict=True)))


def _is_readable(column: Any) -> bool:
    """Return whether the texts of a column are UTF-8."""
    try:
        _values(column)
    except UnicodeDecodeError:
        return False
    return True


def _values(column: Any) -> list[Any]:
    """Return the values of a column as Python objects; a repeated string in a dictionary is one object."""
    import pyarrow as pa

    if pa.types.is_dictionary(column.type):
        used = column.indices.unique()  # the dictionary also contains the values of all previous batches
        texts = dict(zip(used.to_pylist(), column.dictionary.take(used).to_pylist(), strict=True))
        return [texts[i] for i in column.indices.to_pylist()]
    if pa.types.is_list(column.type) or pa.types.is_large_list(column.type):
        elements = iter(_values(column.flatten()))
        lengths = column.value_lengths().to_pylist()
        return [None if length is None else list(itertools.islice(elements, length)) for length in lengths]
    if pa.types.is_struct(column.type):
        names = [field.name for field in column.type]
        fields = zip(*map(_values, column.flatten()), strict=True)
        return [dict(zip(names, row, strict=True)) if any(row) else None for row in fields]
    is_time = pa.types.is_temporal(column.type)
    try:
        values: list[Any] = column.to_pylist()
    except (ValueError, OverflowError):  # a time that Python does not have, such as one with nanoseconds
        if not is_time:
            raise
        return list(column.cast(pa.string()).to_pylist())
    if is_time or pa.types.is_decimal(column.type):
        convert = str if is_time else float
        return [None if value is None else convert(value) for value in values]
    return values


def _json_rows(path: Path, problems: Problems, wanted: Callable[[str], bool], bounds: _Bounds) -> Iterator[Row]:
    """Yield the rows of a jsonl file; each may have other columns."""
    del wanted
    with open_regular(path) as file:
        for number in itertools.count(1):
            line = file.readline(MAX_LINE_BYTES + 1)
            if not line:
                return
            bounds.check(number)
            if len(line) > MAX_LINE_BYTES:
                while line and not line.endswith(b"\n"):
                    line = file.readline(MAX_LINE_BYTES)
                problems.add(number, f"longer than {MAX_LINE_BYTES} bytes")
                continue
            if not line.strip():
                continue
            try:
                others = parse_user_object(line.decode("utf-8-sig" if number == 1 else "utf-8"))
            except (MediaError, UnicodeDecodeError) as error:
                problems.add(number, str(error))
                continue
            path_name = path_column(others)
            yield Row(number, None if path_name is None else others.pop(path_name), others)


def _parquet_rows(path: Path, problems: Problems, wanted: Callable[[str], bool], bounds: _Bounds) -> Iterator[Row]:
    """Yield the rows of a parquet file."""
    import pyarrow as pa

    with _open_parquet(path) as file:
        columns = list(file.schema_arrow)
    path_name = _require_path_column([column.name for column in columns if _is_text(column.type)])
    names: dict[str, None] = {path_name: None}
    for column in columns:
        is_nested_fact = column.name.strip().lower() in FACT_NAMES and _is_fact(column.type)
        if not (_is_read(column.type) or is_nested_fact):
            kind = str(column.type)[:80]
            problems.add(1, f"column {column.name!r} is skipped: type {kind} is not supported")
        elif column.name not in names and wanted(column.name):
            names[column.name] = None
    with _open_parquet(path, names) as file:
        n_rows, n_read = file.metadata.num_rows, 0
        bounds.check(n_rows)
        _check_parquet_size(path, names, bounds.limits)
        numbers = itertools.count(1)
        try:
            for batch in file.iter_batches(_BATCH_ROWS, columns=list(names), use_threads=False):
                n_read += batch.num_rows
                yield from _batch_rows(batch, numbers, path_name)
        except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
            raise MediaError(f"damaged parquet file: {_first_line(error)}") from error
        if n_read != n_rows:
            raise MediaError(f"damaged parquet file: it states {n_rows} rows, and {n_read} can be read")


@contextmanager
def _open_parquet(path: Path, names: Collection[str] = ()) -> Iterator[Any]:
    """Yield an open parquet file whose columns `names`, lists included, store a repeated string once."""
    import pyarrow as pa
    from pyarrow import parquet

    with open_regular(path) as opened:
        try:
            file = parquet.ParquetFile(opened)
            _check_columns(file.metadata.num_columns)
            if names:
                columns = (file.schema.column(i) for i in range(file.metadata.num_columns))
                texts = [
                    column.path
                    for column in columns
                    if column.physical_type == "BYTE_ARRAY" and column.path.split(".")[0] in names
                ]
                opened.seek(0)
                file = parquet.ParquetFile(opened, read_dictionary=texts)
        except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
            raise MediaError(f"damaged parquet file: {_first_line(error)}") from error
        yield file


def _check_columns(count: int) -> None:
    if count > MAX_LIST_COLUMNS:
        raise MediaError(f"the manifest has more than {MAX_LIST_COLUMNS} columns: remove some")


def _check_parquet_size(path: Path, names: Collection[str], limits: ListLimits) -> None:
    """Check the uncompressed size of the columns that are read, and the number of values in lists, nulls included."""
    columns = [column for column in parquet_columns(path) if any(map(column.belongs_to, names))]
    size = sum(column.uncompressed_bytes for column in columns)
    if size > limits.max_list_bytes:
        raise MediaError(
            f"the manifest has {size} bytes uncompressed, the maximum is {limits.max_list_bytes}: {_WAY_OUT}=N"
        )
    if VALUE_BYTES * sum(column.n_values for column in columns if column.path not in names) > limits.max_list_bytes:
        raise _too_many_values(limits)


def _is_text(kind: Any) -> bool:
    import pyarrow as pa

    if pa.types.is_dictionary(kind):
        return _is_text(kind.value_type)
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _is_read(kind: Any) -> bool:
    """Return whether a column is read: strings, numbers, booleans, times, and lists of strings (captions)."""
    import pyarrow as pa

    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return _is_text(kind.value_type)
    names = ("decimal", "integer", "floating", "boolean", "timestamp", "date", "time", "null")
    return _is_text(kind) or any(getattr(pa.types, f"is_{name}")(kind) for name in names)


def _is_fact(kind: Any) -> bool:
    """Return whether a nested column may hold a fact: a list of numbers, or texts by name, such as `units`."""
    import pyarrow as pa

    if pa.types.is_struct(kind):
        return all(_is_text(field.type) for field in kind)
    is_list = pa.types.is_list(kind) or pa.types.is_large_list(kind)
    return is_list and bool(pa.types.is_integer(kind.value_type) or pa.types.is_floating(kind.value_type))


def _require_path_column(names: Sequence[str]) -> str:
    """Return the column of paths."""
    name = path_column(names)
    if name is None:
        listed = normalize_text(", ".join(names)[:120]) or "(none)"
        raise MediaError(f"no column of paths among {listed}: name one {PATH_COLUMNS[0]}")
    return name


def _delimiter(path: Path, text: str) -> str:
    """Return the delimiter of a text: a tab by its name, else the most frequent one in its first line."""
    if path.suffix.lower() == ".tsv":
        return "\t"
    line = next((line for line in text.splitlines() if line.strip()), "")
    return max(",;\t", key=line.count)


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
