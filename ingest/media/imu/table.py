"""A motion table in memory, and Arrow columns and dates as numbers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bindsearch.errors import MediaError

_TIME = (
    r"(?P<hour>\d{1,2})[:-](?P<minute>\d{2})[:-](?P<second>\d{2})(?:[._,:](?P<fraction>\d{1,9}))?"
    r"\s?(?P<half>[AaPp][Mm])?(?:Z|(?P<zone>[+-]\d{2}):?(?P<zone_minute>\d{2})?)?"
)
_DATE = r"(?P<first>\d{1,4})[-/.](?P<middle>\d{1,2})[-/.](?P<last>\d{1,4})"
_FORMS = (rf"^\s*{_DATE}[T ,]+{_TIME}\s*$", rf"^\s*{_DATE}\s*$", rf"^\s*{_TIME}\s*$")
_DAY_S = 86_400


def parse_dates(column: Any) -> NDArray[np.float64] | None:
    """Return a text column of dates as seconds since 1970, one of times of day as seconds from midnight.

    ISO 8601 is read, and what apps write: "11/14/2023", "14.11.2023 22:13:20", "2014-01-20 16:10:14:123",
    "22:13:20.02". Month and day: 11/14 and 14/11 tell themselves apart; where both are at most 12, the month is first.

    Args:
        column: a pyarrow array of n strings.

    Returns:
        float64 (n,), NaN where a cell is empty; None if a cell is something else.
    """
    import pyarrow.compute as pc

    for form in _FORMS:
        if pc.match_substring_regex(column.slice(0, 1), form).to_pylist() != [True]:
            continue
        fields = pc.extract_regex(column, form)
        if fields.null_count != column.null_count:
            return None
        return _seconds(fields, has_date="first" in form, has_time="hour" in form)
    return None


def _seconds(fields: Any, *, has_date: bool, has_time: bool) -> NDArray[np.float64]:
    """Return seconds of the fields of one of _FORMS."""
    import pyarrow.compute as pc

    def texts(name: str) -> Any:
        return pc.struct_field(fields, name)

    def field(name: str) -> NDArray[np.float64]:
        text = pc.if_else(pc.equal(texts(name), ""), "0", texts(name))
        return np.asarray(pc.cast(text, "float64").to_numpy(zero_copy_only=False), np.float64)

    total = np.zeros(len(fields))
    if has_time:
        hour = field("hour")
        half = np.asarray(pc.utf8_upper(texts("half")).to_numpy(zero_copy_only=False))
        hour = np.where(half == "PM", hour % 12 + 12, np.where(half == "AM", hour % 12, hour))
        fraction_text = pc.binary_join_element_wise("0.", texts("fraction"), "")
        fraction = np.asarray(pc.cast(fraction_text, "float64").to_numpy(zero_copy_only=False))
        total += hour * 3600 + field("minute") * 60 + field("second") + fraction
        zone = field("zone")
        total -= zone * 3600 + np.sign(zone) * field("zone_minute") * 60
    if has_date:
        total += _days(field("first"), field("middle"), field("last")) * _DAY_S
    return total


def _days(first: NDArray[Any], middle: NDArray[Any], last: NDArray[Any]) -> NDArray[np.float64]:
    """Return days since 1970 of dates in three fields; the year is the first or the last one."""
    if np.nanmax(first, initial=0) > 31:
        year, month, day = first, middle, last
    elif np.nanmax(first, initial=0) > 12:
        year, month, day = last, middle, first
    else:
        year, month, day = last, first, middle
    known = np.isfinite(year)
    whole = [np.where(known, part, 1).astype(np.int64) for part in (year, month, day)]
    months = (whole[0] - 1970) * 12 + whole[1] - 1
    days = months.astype("datetime64[M]").astype("datetime64[D]").astype(np.int64) + whole[2] - 1
    return np.where(known, days.astype(np.float64), np.nan)


SI: Mapping[str, str] = MappingProxyType({"accelerometer": "m/s^2", "gyroscope": "rad/s"})
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
