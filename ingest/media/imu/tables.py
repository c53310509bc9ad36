"""Motion files as tables: reads text tables, parquet, npz and npy to named columns of numbers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bindsearch.errors import MediaError, first_line
from bindsearch.ingest.media.imu.columns import find_columns
from bindsearch.ingest.media.imu.joining import find_recording, lone_sensor, read_recording
from bindsearch.ingest.media.imu.table import Table, array_columns, arrow_table
from bindsearch.ingest.media.imu.text_table import read_text_table, text_structure
from bindsearch.ingest.media.numpy_files import npz_names, read_npy, read_npz
from bindsearch.ingest.media.options import DecodeOptions, check_limit
from bindsearch.ingest.media.parquet_metadata import parquet_row_count
from bindsearch.ingest.media.recordings.av_container import kind_of

_ACCELEROMETER_KEYS = ("accelerometer", "accel", "acc", "acceleration")
_GYROSCOPE_KEYS = ("gyroscope", "gyro", "gyr", "angular_velocity")
_ARRAY_KEYS = ("imu", "samples", "data", "motion", "signal", "arr_0", "x")
_RATE_KEYS = ("sample_rate_hz", "rate_hz", "sampling_rate_hz", "sample_rate", "sampling_rate")


def read_table(path: Path, options: DecodeOptions) -> Table:
    """Read the table at `path`, in any of these formats.

    Raises:
        MediaError: another format, damaged, or larger than the options allow.
    """
    match kind_of(path):
        case "npy":
            return Table(array_columns(read_npy(path, max_bytes=options.max_array_bytes)), is_unnamed=True)
        case "zip":
            return _npz_table(path, options)
        case "parquet":
            with _parquet_faults():
                rows = _read_parquet(path, options)
            return arrow_table(rows)
        case None:
            recording = find_recording(path)
            if recording is not None and recording.main == path.as_posix():
                return read_recording(recording, options.max_array_bytes)
            table = read_text_table(path, options.max_array_bytes)
            return replace(table, lone=lone_sensor(path.name, list(table.columns)))
        case kind:
            raise MediaError(f"not a csv, parquet, npz or npy file: the content is {kind}")


def column_names(path: Path) -> list[str]:
    """Return the column (or array) names in the header of a table; [] if it has none.

    Raises:
        MediaError: the file is damaged.
    """
    match kind_of(path):
        case "zip":
            return npz_names(path)
        case "parquet":
            from pyarrow import parquet

            with _parquet_faults():
                return list(parquet.read_schema(path).names)
        case None:
            structure = text_structure(path)
            return [name.strip() for name in (structure.names if structure else None) or ()]
    return []


@contextmanager
def _parquet_faults() -> Iterator[None]:
    """Raise errors of pyarrow as a MediaError."""
    import pyarrow as pa

    try:
        yield
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise MediaError(f"damaged parquet file: {first_line(error)[:160]}") from error


def _read_parquet(path: Path, options: DecodeOptions) -> Any:
    """Read a parquet file as a pyarrow.Table; columns other than numbers and times are replaced by nulls.

    They are not needed, and a text stored once may appear in every row, so that kilobytes expand to gigabytes.
    """
    import pyarrow as pa
    from pyarrow import parquet

    kinds = pa.types
    tests = (kinds.is_integer, kinds.is_floating, kinds.is_decimal, kinds.is_timestamp, kinds.is_duration)
    with parquet.ParquetFile(path) as file:
        schema, rows = file.schema_arrow, parquet_row_count(path)
        size = rows * file.metadata.num_columns * 8
        check_limit(rows, options.max_samples, f"the table has {rows} rows", "samples")
        check_limit(size, options.max_array_bytes, f"the table has {size} bytes", "array")
        numeric = [field.name for field in schema if any(test(field.type) for test in tests)]
        table = file.read(columns=numeric, use_threads=False)
    names_read = set(table.column_names)
    columns = [table.column(name) if name in names_read else pa.nulls(rows) for name in schema.names]
    return pa.table(columns, names=schema.names)


def _npz_table(path: Path, options: DecodeOptions) -> Table:
    arrays = read_npz(path, max_bytes=options.max_array_bytes)
    by_name = {name.lower(): array for name, array in arrays.items()}
    rate_hz = next((float(by_name[key]) for key in _RATE_KEYS if key in by_name and by_name[key].ndim == 0), None)
    columns = {name: array for name, array in arrays.items() if array.ndim == 1}
    is_unnamed = False
    acc, gyro = _first(by_name, _ACCELEROMETER_KEYS, 3), _first(by_name, _GYROSCOPE_KEYS, 3)
    if acc is not None and gyro is not None:
        if len(acc) != len(gyro):
            raise MediaError(f"the accelerometer has {len(acc)} rows, the gyroscope {len(gyro)}")
        columns |= array_columns(np.hstack([acc, gyro]))
    elif find_columns(list(columns)) is None:
        whole = _first(by_name, _ARRAY_KEYS, 6)
        if whole is None and len(arrays) == 1:
            (whole,) = arrays.values()
        if whole is not None:
            columns |= array_columns(whole)
            is_unnamed = True
    return Table(columns, rate_hz, is_unnamed=is_unnamed)


def _first(arrays: dict[str, NDArray[Any]], keys: Sequence[str], width: int) -> NDArray[Any] | None:
    """Return the first array of shape (n, width) under one of `keys`; None if there is none."""
    return next((arrays[key] for key in keys if key in arrays and arrays[key].shape[1:] == (width,)), None)
