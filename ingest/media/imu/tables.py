"""Motion files as tables: reads csv, parquet, npz and npy to named columns of numbers."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bindsearch.errors import MediaError
from bindsearch.ingest.media.imu.cells import first_text, text_numbers
from bindsearch.ingest.media.imu.columns import find_columns
from bindsearch.ingest.media.numpy_files import npz_names, read_npy, read_npz
from bindsearch.ingest.media.options import DecodeOptions
from bindsearch.ingest.media.parquet_metadata import parquet_row_count
from bindsearch.ingest.media.recordings.av_container import kind_of
from bindsearch.ingest.media.sniff import HEAD_BYTES
from bindsearch.ingest.media.text import decode_text

AXES = ("acc_x", "acc_y", "acc_z", "gyro_x", "gyro_y", "gyro_z")
"""Column names of an array without names."""

_ACCELEROMETER_KEYS = ("accelerometer", "accel", "acc", "acceleration")
_GYROSCOPE_KEYS = ("gyroscope", "gyro", "gyr", "angular_velocity")
_ARRAY_KEYS = ("imu", "samples", "data", "motion", "signal", "arr_0", "x")
_RATE_KEYS = ("sample_rate_hz", "rate_hz", "sampling_rate_hz", "sample_rate", "sampling_rate")


@dataclass(frozen=True, slots=True)
class Table:
    """A motion table.

    Attributes:
        columns: arrays of equal length n by name.
        rate_hz: the rate in the file; None: there is none.
        seconds: columns known to be in seconds.
        is_unnamed: the columns have no names and got them by their positions.
        repeated: names that more than one column had; `columns` has one of them.
        texts: the first cell that is not a number, as (row from 1, text), of columns that have one.
    """

    columns: dict[str, NDArray[Any]]
    rate_hz: float | None = None
    seconds: frozenset[str] = frozenset()
    is_unnamed: bool = False
    repeated: frozenset[str] = frozenset()
    texts: Mapping[str, tuple[int, str]] = field(default_factory=dict)


def read_table(path: Path, options: DecodeOptions) -> Table:
    """Read the table at `path`, in any of the four formats.

    Raises:
        MediaError: another format, damaged, or larger than the options allow.
    """
    kind = kind_of(path)
    if kind == "npy":
        return Table(_array_columns(read_npy(path, max_bytes=options.max_array_bytes)), is_unnamed=True)
    if kind == "zip":
        return _npz_table(path, options)
    if kind == "parquet":
        return _parquet_table(path, options)
    if kind is not None:
        raise MediaError(f"not a csv, parquet, npz or npy file: the content is {kind}")
    return _csv_table(path, options)


def column_names(path: Path) -> list[str]:
    """Return the column (or array) names in the header of a table; [] if it has none.

    Raises:
        MediaError: the file is damaged.
    """
    kind = kind_of(path)
    if kind == "zip":
        return npz_names(path)
    if kind == "parquet":
        return _parquet_names(path)
    if kind is not None:
        return []
    with path.open("rb") as file:
        head = file.read(HEAD_BYTES)
    return csv_header(head) or []


def csv_header(head: bytes) -> list[str] | None:
    """Return the column names in the first line of a CSV file; None if it begins with numbers, or is not text.

    `head` is the beginning of the file, truncated anywhere after the first line.
    """
    try:
        lines = decode_text(head[: head.rfind(b"\n") + 1] or head).splitlines()
    except MediaError:
        return None
    line = next((line for line in lines if line.strip()), "")
    try:
        cells = [cell.strip() for cell in next(csv.reader([line], delimiter=delimiter_of(line)), [])]
    except csv.Error:
        return None
    return None if not cells or all(_is_number(cell) for cell in cells) else cells


def delimiter_of(line: str) -> str:
    """Return the most likely delimiter of a line: a comma, a semicolon or a tab."""
    return max(",;\t", key=line.count)


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _csv_table(path: Path, options: DecodeOptions) -> Table:
    import pyarrow as pa
    from pyarrow import csv as pacsv

    size = path.stat().st_size
    if size > options.max_array_bytes:
        raise MediaError(
            f"the table has {size} bytes: more than {options.max_array_bytes} are not read (--limit array=N)"
        )
    text = decode_text(path.read_bytes())
    first = next((line for line in text.splitlines() if line.strip()), "")
    if not first:
        raise MediaError("the table is empty")
    names = csv_header(text[:HEAD_BYTES].encode())
    try:
        table = pacsv.read_csv(
            pa.BufferReader(text.encode()),
            read_options=pacsv.ReadOptions(use_threads=False, autogenerate_column_names=names is None),
            parse_options=pacsv.ParseOptions(delimiter=delimiter_of(first)),
        )
    except pa.ArrowInvalid as error:
        raise MediaError(f"not a table: {_first_line(error)}") from error
    if names is None:
        numbers = np.column_stack([_numbers(column) for column in table.columns])
        return Table(_array_columns(numbers), is_unnamed=True)
    return _arrow_table(table)


def _parquet_names(path: Path) -> list[str]:
    import pyarrow as pa
    from pyarrow import parquet

    try:
        return list(parquet.read_schema(path).names)
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise MediaError(f"damaged parquet file: {_first_line(error)}") from error


def _parquet_table(path: Path, options: DecodeOptions) -> Table:
    import pyarrow as pa
    from pyarrow import parquet

    try:
        with parquet.ParquetFile(path) as file:
            columns = file.metadata.num_columns
            rows = parquet_row_count(path)
            if rows > options.max_samples:
                raise MediaError(
                    f"the table has {rows} rows: more than {options.max_samples} are not read (--limit samples=N)"
                )
            size = rows * columns * 8
            if size > options.max_array_bytes:
                raise MediaError(
                    f"the table has {size} bytes: more than {options.max_array_bytes} are not read (--limit array=N)"
                )
            table = _only_numbers(file, rows)
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise MediaError(f"damaged parquet file: {_first_line(error)}") from error
    return _arrow_table(table)


def _only_numbers(file: Any, rows: int) -> Any:
    """Read a parquet file as a pyarrow.Table; columns other than numbers and times are replaced by nulls.

    They are not needed, and a text stored once may appear in every row, so that kilobytes expand to gigabytes.
    """
    import pyarrow as pa

    schema = file.schema_arrow
    kinds = pa.types
    tests = (kinds.is_integer, kinds.is_floating, kinds.is_decimal, kinds.is_timestamp, kinds.is_duration)
    numeric = [field.name for field in schema if any(test(field.type) for test in tests)]
    table = file.read(columns=numeric, use_threads=False)
    names_read = set(table.column_names)
    columns = [table.column(name) if name in names_read else pa.nulls(rows) for name in schema.names]
    return pa.table(columns, names=schema.names)


def _arrow_table(table: Any) -> Table:
    """Return a pyarrow.Table as columns of numbers."""
    import pyarrow as pa

    names = [name.strip() for name in table.column_names]
    columns = dict(zip(names, (_numbers(column) for column in table.columns), strict=True))
    texts = dict(zip(names, (first_text(column) for column in table.columns), strict=True))
    repeated = frozenset(name for name, count in Counter(names).items() if count > 1)
    dated = [pa.types.is_timestamp(column.type) or pa.types.is_duration(column.type) for column in table.columns]
    return Table(
        columns,
        seconds=frozenset(name for name, is_date in zip(names, dated, strict=True) if is_date),
        repeated=repeated,
        texts={name: text for name, text in texts.items() if text is not None},
    )


def _numbers(column: Any) -> NDArray[Any]:
    """Return an Arrow column as numbers; missing values and texts as NaN, times as seconds from the first."""
    import pyarrow as pa

    kind = column.type
    if pa.types.is_timestamp(kind) or pa.types.is_duration(kind):
        unit = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9}[kind.unit]
        ticks = np.asarray(column.cast(pa.int64()).to_numpy(zero_copy_only=False))
        return np.asarray((ticks - ticks[:1]).astype(np.float64) * unit)
    if pa.types.is_integer(kind) and not column.null_count:
        return np.asarray(column.to_numpy(zero_copy_only=False))
    if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        return np.asarray(column.cast(pa.float64()).to_numpy(zero_copy_only=False))
    if pa.types.is_string(kind):
        return text_numbers(column)
    return np.full(len(column), np.nan)


def _npz_table(path: Path, options: DecodeOptions) -> Table:
    arrays = read_npz(path, max_bytes=options.max_array_bytes)
    by_name = {name.lower(): array for name, array in arrays.items()}
    rate_hz = next((float(by_name[key]) for key in _RATE_KEYS if key in by_name and by_name[key].ndim == 0), None)
    columns = {name: array for name, array in arrays.items() if array.ndim == 1}
    is_unnamed = False
    sensors = _first(by_name, _ACCELEROMETER_KEYS, 3), _first(by_name, _GYROSCOPE_KEYS, 3)
    if sensors[0] is not None and sensors[1] is not None:
        if len(sensors[0]) != len(sensors[1]):
            raise MediaError(f"the accelerometer has {len(sensors[0])} rows, the gyroscope {len(sensors[1])}")
        columns |= dict(zip(AXES, np.hstack(sensors).T, strict=True))  # type: ignore[arg-type]
    elif find_columns(list(columns)) is None:
        whole = _first(by_name, _ARRAY_KEYS, 6)
        if whole is None and len(arrays) == 1:
            (whole,) = arrays.values()
        if whole is not None:
            columns |= _array_columns(whole)
            is_unnamed = True
    return Table(columns, rate_hz, is_unnamed=is_unnamed)


def _first(arrays: dict[str, NDArray[Any]], keys: Sequence[str], width: int) -> NDArray[Any] | None:
    """Return the first array of shape (n, width) under one of `keys`; None if there is none."""
    return next((arrays[key] for key in keys if key in arrays and arrays[key].shape[1:] == (width,)), None)


def _array_columns(array: NDArray[Any]) -> dict[str, NDArray[Any]]:
    """Return the columns of an (n, 6) array in the standard order; in (n, 7) the time comes first."""
    if array.ndim == 2 and array.shape[1] == 6:
        return dict(zip(AXES, array.T, strict=True))
    if array.ndim == 2 and array.shape[1] == 7:
        return dict(zip(("time", *AXES), array.T, strict=True))
    raise MediaError(
        f"the array has the shape {array.shape}: expected (n, 6), accelerometer x, y, z then gyroscope x, y, z "
        "(or 7 columns with the time first)"
    )


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:160]
