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

    first = column.slice(0, 1)
    form = next((form for form in _FORMS if pc.match_substring_regex(first, form).to_pylist() == [True]), None)
    if form is None or (fields := pc.extract_regex(column, form)).null_count != column.null_count:
        return None

    def texts(name: str) -> Any:
        return pc.struct_field(fields, name)

    def field(name: str) -> NDArray[np.float64]:
        text = pc.if_else(pc.equal(texts(name), ""), "0", texts(name))
        return np.asarray(pc.cast(text, "float64").to_numpy(zero_copy_only=False), np.float64)

    total = np.zeros(len(fields))
    if "hour" in form:
        hour = field("hour")
        half = np.asarray(pc.utf8_upper(texts("half")).to_numpy(zero_copy_only=False))
        hour = np.where(half == "PM", hour % 12 + 12, np.where(half == "AM", hour % 12, hour))
        fraction_text = pc.binary_join_element_wise("0.", texts("fraction"), "")
        fraction = np.asarray(pc.cast(fraction_text, "float64").to_numpy(zero_copy_only=False))
        total += hour * 3600 + field("minute") * 60 + field("second") + fraction
        zone = field("zone")
        total -= zone * 3600 + np.sign(zone) * field("zone_minute") * 60
    if "first" in form:
        total += _days(field("first"), field("middle"), field("last")) * _DAY_S
    return total


def _days(first: NDArray[Any], middle: NDArray[Any], last: NDArray[Any]) -> NDArray[np.float64]:
    """Return days since 1970 of dates in three fields; the year is the first or the last one."""
    largest = np.nanmax(first, initial=0)
    parts = (first, middle, last) if largest > 31 else (last, first, middle)
    if 12 < largest <= 31:
        parts = last, middle, first
    known = np.isfinite(parts[0])
    year, month, day = (np.where(known, part, 1).astype(np.int64) for part in parts)
    months = (year - 1970) * 12 + month - 1
    days = months.astype("datetime64[M]").astype("datetime64[D]").astype(np.int64) + day - 1
    return np.where(known, days.astype(np.float64), np.nan)


SI: Mapping[str, str] = MappingProxyType({"accelerometer": "m/s^2", "gyroscope": "rad/s"})
AXES = ("acc_x", "acc_y", "acc_z", "gyro_x", "gyro_y", "gyro_z")
"""Column names of an array without names."""


@dataclass(frozen=True, slots=True)
class Layout:
    """Properties of the layout of a table, under the names that a sidecar has for them."""

    name: str
    axes: tuple[str, ...] = ()  # six columns, accelerometer x, y, z, gyroscope x, y, z; (): not said
    units: Mapping[str, str] = field(default_factory=dict)  # of "accelerometer" and "gyroscope"
    time: str | None = None
    sample_rate_hz: float | None = None  # where there is no time column
    frame: str | None = None
    frame_source: str = ""  # what the frame was read from, such as "Metadata.csv"


@dataclass(frozen=True, slots=True)
class Table:
    """A motion table: arrays of equal length by the names of its columns."""

    columns: dict[str, NDArray[Any]]
    rate_hz: float | None = None  # the rate in the file
    seconds: frozenset[str] = frozenset()  # columns known to be in seconds
    notes: tuple[str, ...] = ()  # what was assumed or left out, as short lines
    preamble: tuple[str, ...] = ()  # the lines before the header, without line ends
    repeated: frozenset[str] = frozenset()  # names that several columns have; the later ones got a number
    is_unnamed: bool = False  # the columns have no names and got them by their positions
    texts: Mapping[str, tuple[int, str]] = field(default_factory=dict)  # first cell that is no number: row from 1, text
    layout: Layout | None = None  # if the reader of the file knows it already
    lone: str | None = None  # why it cannot be a whole recording, if it has one sensor only


def array_columns(array: NDArray[Any]) -> dict[str, NDArray[Any]]:
    """Return the columns of an (n, 6) array in the standard order; in (n, 7) the time comes first.

    Raises:
        MediaError: another shape.
    """
    if array.ndim != 2 or array.shape[1] not in (6, 7):
        raise MediaError(
            f"the array has the shape {array.shape}: expected (n, 6), accelerometer x, y, z then gyroscope x, y, z "
            "(or 7 columns with the time first)"
        )
    return dict(zip(("time", *AXES)[-array.shape[1] :], array.T, strict=True))


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

    kind, types = column.type, pa.types
    if types.is_timestamp(kind) or types.is_duration(kind) or types.is_time(kind):
        unit = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9}[kind.unit]
        whole = pa.int32() if types.is_time32(kind) else pa.int64()
        ticks = column.cast(whole).to_numpy(zero_copy_only=False)
        return np.asarray(ticks.astype(np.float64) * unit), True
    if types.is_integer(kind) or types.is_floating(kind) or types.is_decimal(kind):
        is_whole = types.is_integer(kind) and not column.null_count
        values = column if is_whole else column.cast(pa.float64())
        return np.asarray(values.to_numpy(zero_copy_only=False)), False
    if types.is_string(kind) or types.is_large_string(kind):
        times = parse_dates(column)
        if times is not None:
            return times, True
    return np.full(len(column), np.nan), False


def count_of(n: int, noun: str) -> str:
    """Return a number with its noun."""
    return f"{n} {noun}" + ("s" if n != 1 else "")
