"""A motion table in memory, and Arrow columns as numbers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bindsearch.errors import MediaError
from bindsearch.ingest.media.imu.dates import parse_dates

AXES = ("acc_x", "acc_y", "acc_z", "gyro_x", "gyro_y", "gyro_z")
"""Column names of an array without names."""


@dataclass(frozen=True, slots=True)
class Layout:
    """Facts of the layout of a table, under the names that a sidecar has for them.

    Attributes:
        name: of the layout, such as "motionsense".
        axes: six columns, accelerometer x, y, z, gyroscope x, y, z; (): not said.
        units: of "accelerometer" and "gyroscope".
        time: the time column.
        sample_rate_hz: rate, where there is no time column.
        frame: convention of the axes.
        frame_source: what tells it, such as "Metadata.csv".
    """

    name: str
    axes: tuple[str, ...] = ()
    units: Mapping[str, str] = field(default_factory=dict)
    time: str | None = None
    sample_rate_hz: float | None = None
    frame: str | None = None
    frame_source: str = ""


@dataclass(frozen=True, slots=True)
class Table:
    """A motion table.

    Attributes:
        columns: arrays of equal length n by name.
        rate_hz: the rate in the file; None: there is none.
        seconds: columns known to be in seconds.
        notes: what was assumed or left out, as short lines.
        preamble: the lines before the header, without line ends.
        repeated: names that several columns have; the later ones got a number.
        is_unnamed: the columns have no names and got them by their positions.
        texts: the first cell that is not a number, as (row from 1, text), of columns that have one.
        layout: its layout, if the reader of the file knows it already.
        lone: why it cannot be a whole recording, if it has one sensor only.
    """

    columns: dict[str, NDArray[Any]]
    rate_hz: float | None = None
    seconds: frozenset[str] = frozenset()
    notes: tuple[str, ...] = ()
    preamble: tuple[str, ...] = ()
    repeated: frozenset[str] = frozenset()
    is_unnamed: bool = False
    texts: Mapping[str, tuple[int, str]] = field(default_factory=dict)
    layout: Layout | None = None
    lone: str | None = None

    @property
    def n(self) -> int:
        """Number of rows."""
        return len(next(iter(self.columns.values()), ()))


def array_columns(array: NDArray[Any]) -> dict[str, NDArray[Any]]:
    """Return the columns of an (n, 6) array in the standard order; in (n, 7) the time comes first.

    Raises:
        MediaError: another shape.
    """
    if array.ndim == 2 and array.shape[1] == 6:
        return dict(zip(AXES, array.T, strict=True))
    if array.ndim == 2 and array.shape[1] == 7:
        return dict(zip(("time", *AXES), array.T, strict=True))
    raise MediaError(
        f"the array has the shape {array.shape}: expected (n, 6), accelerometer x, y, z then gyroscope x, y, z "
        "(or 7 columns with the time first)"
    )


def arrow_table(table: Any) -> Table:
    """Return a pyarrow.Table as columns of numbers."""
    columns: dict[str, NDArray[Any]] = {}
    seconds, repeated = set(), set()
    for position, (stored, column) in enumerate(zip(table.column_names, table.columns, strict=True)):
        name = stored.strip()
        if name in columns:
            repeated.add(name)
            name = f"{name} (column {position})"
        columns[name], is_time = numbers(column)
        if is_time:
            seconds.add(name)
    return Table(columns, seconds=frozenset(seconds), repeated=frozenset(repeated - {""}))


def numbers(column: Any) -> tuple[NDArray[Any], bool]:
    """Return an Arrow column as numbers, and whether it is a time, in seconds.

    Missing values and texts are NaN; times are seconds since 1970, times of day seconds from midnight.
    """
    import pyarrow as pa

    kind = column.type
    if pa.types.is_timestamp(kind) or pa.types.is_duration(kind) or pa.types.is_time(kind):
        unit = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9}[kind.unit]
        whole = pa.int32() if pa.types.is_time32(kind) else pa.int64()
        ticks = column.cast(whole).to_numpy(zero_copy_only=False)
        return np.asarray(ticks.astype(np.float64) * unit), True
    if pa.types.is_integer(kind) and not column.null_count:
        return np.asarray(column.to_numpy(zero_copy_only=False)), False
    if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        return np.asarray(column.cast(pa.float64()).to_numpy(zero_copy_only=False)), False
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        times = parse_dates(column)
        if times is not None:
            return times, True
    return np.full(len(column), np.nan), False
