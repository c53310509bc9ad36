"""Dates and times of day written as text, as columns of seconds."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

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
