"""Motion files as tables: reads text tables, parquet, npz and npy to named columns of numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bindsearch.errors import MediaError, first_line
from bindsearch.ingest.media.imu.columns import find_columns
from bindsearch.ingest.media.imu.joining import find_recording, lone_sensor, read_recording
from bindsearch.ingest.media.imu.table import AXES, Table, array_columns, arrow_table
from bindsearch.ingest.media.imu.text_table import read_text_table, text_column_names
from bindsearch.ingest.media.numpy_files import npz_names, read_npy, read_npz
from bindsearch.ingest.media.options import DecodeOptions
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
    kind = kind_of(path)
    if kind == "npy":
        return Table(array_columns(read_npy(path, max_bytes=options.max_array_bytes)), is_unnamed=True)
    if kind == "zip":
        return _npz_table(path, options)
    if kind == "parquet":
        return _parquet_table(path, options)
    if kind is not None:
        raise MediaError(f"not a csv, parquet, npz or npy file: the content is {kind}")
    recording = find_recording(path)
    if recording is not None and recording.main == path.as_posix():
        return read_recording(recording, options.max_array_bytes)
    table = read_text_table(path, options.max_array_bytes)
    return replace(table, lone=lone_sensor(path.name, list(table.columns)))


def column_names(path: Path) -> list[str]:
    """Return the column (or array) names in the header of a table; [] if it has none.

    Raises:
        MediaError: the file is damaged.
    """
    kind = kind_of(path)
    if kind == "zip":
        return npz_names(path)
    if kind == "parquet":
        import pyarrow as pa
        from pyarrow import parquet

        try:
            return list(parquet.read_schema(path).names)
        except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
            raise MediaError(f"damaged parquet file: {first_line(error)[:160]}") from error
    if kind is not None:
        return []
    return text_column_names(path)


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
        raise MediaError(f"damaged parquet file: {first_line(error)[:160]}") from error
    return arrow_table(table)


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
            columns |= array_columns(whole)
            is_unnamed = True
    return Table(columns, rate_hz, is_unnamed=is_unnamed)


def _first(arrays: dict[str, NDArray[Any]], keys: Sequence[str], width: int) -> NDArray[Any] | None:
    """Return the first array of shape (n, width) under one of `keys`; None if there is none."""
    return next((arrays[key] for key in keys if key in arrays and arrays[key].shape[1:] == (width,)), None)
