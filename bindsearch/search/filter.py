"""Filters of segments: as data, as text, and as a mask over the segments of a snapshot."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from bindsearch.arguments import (
    did_you_mean,
    name_forms,
    shown,
    to_absolute,
    to_integer,
    to_list,
    to_path_text,
    to_texts,
)
from bindsearch.errors import UsageError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from bindsearch.search.sql_filter.columns import FilterColumns, FilterTables

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
EXAMPLE = "write a condition such as modality = 'audio'"
LARGEST_NS = (1 << 63) - 1
"""Latest time of the catalog, in the year 2262; files from later years have it."""
UNITS = {"min": timedelta(minutes=1), "h": timedelta(hours=1), "d": timedelta(days=1), "w": timedelta(weeks=1)}
"""Units of times such as 7d."""
_AGO = re.compile(rf"(\d{{1,6}})\s*({'|'.join(UNITS)})", re.IGNORECASE)
_YEAR_OR_MONTH = re.compile(r"(\d{4})(?:-(\d{2}))?")
_DAYS_AGO = {"today": 0, "yesterday": 1}


@dataclass(frozen=True, slots=True)
class Filter:
    """Conditions that must all be true; an empty filter matches everything.

    Attributes:
        where: An SQL expression over the documented columns; None for no condition.
        folders: Absolute paths of folders, one of which must contain the item.
        collections: Roots of collections (absolute, or their last part), one of which must be the item's.
        since_ns: Earliest modification time of the file, in nanoseconds since 1970, included.
        until_ns: Latest modification time, excluded.
    """

    where: str | None = None
    folders: tuple[str, ...] = ()
    collections: tuple[str, ...] = ()
    since_ns: int | None = None
    until_ns: int | None = None

    def __post_init__(self) -> None:
        for name in ("folders", "collections"):
            object.__setattr__(self, name, to_texts(getattr(self, name), name))
        for name in ("since_ns", "until_ns"):
            if (given := getattr(self, name)) is not None:
                number = to_integer(given, name, "give nanoseconds since 1970", lowest=None)
                object.__setattr__(self, name, number)
        if self.where is not None and not isinstance(self.where, str):
            raise UsageError(f"the filter is {shown(self.where)}: {EXAMPLE}")

    def __bool__(self) -> bool:
        return self != NO_FILTER


NO_FILTER = Filter()


def to_filter(given: Filter | str | None) -> Filter:
    """Return the filter that a caller gave: a Filter, an expression, or None for no condition.

    Raises:
        UsageError: it is neither, or as for `make_filter`.
    """
    if given is None:
        return NO_FILTER
    if isinstance(given, str):
        return make_filter(where=given)
    if not isinstance(given, Filter):
        raise UsageError(f"the filter is {shown(given)}: give an expression, or a Filter from bs.make_filter(...)")
    return given


def make_filter(
    where: str | None = None,
    folders: str | os.PathLike[str] | Iterable[str | os.PathLike[str]] = (),
    collections: str | os.PathLike[str] | Iterable[str | os.PathLike[str]] = (),
    since: str | datetime | None = None,
    until: str | datetime | None = None,
) -> Filter:
    """Return a Filter from user input.

    Args:
        where: An SQL expression over the documented columns, such as "duration_s > 3".
        folders: Folders, one of which must contain the item; relative paths are made absolute.
        collections: Collections, one of which must be the item's: the last part of the root, or a path (anything with a
            slash).
        since: Earliest modification time, as `parse_time` reads it, or a datetime; without a time zone, local time.
        until: Latest modification time, excluded; "2021" and "2021-06" are the end of that year or month.

    Raises:
        UsageError: a value is empty, a time cannot be parsed, or `until` is not after `since`.
    """
    if isinstance(where, str) and not where.strip():
        raise UsageError(f"the filter is empty: {EXAMPLE}")
    since_ns, until_ns = _to_time(since), _to_time(until, is_end=True)
    if since_ns is not None and until_ns is not None and since_ns >= until_ns:
        raise UsageError(f"since ({format_time(since_ns)}) is not before until ({format_time(until_ns)}): swap them")
    roots = _to_names(collections, "collection")
    return Filter(
        where=where.strip() if isinstance(where, str) else where,
        folders=tuple(str(to_absolute(folder)) for folder in _to_names(folders, "folder")),
        collections=tuple(str(to_absolute(root)) if "/" in root else root for root in roots),
        since_ns=since_ns,
        until_ns=until_ns,
    )


def parse_time(text: str, now: datetime | None = None, *, is_end: bool = False) -> int:
    """Parse a time.

    Args:
        text: "2024", "2024-05", "2024-05-01", "2024-05-01 12:30", "...+02:00" (without a time zone: local time),
            "today" or "yesterday" (at midnight), or "7d", "12h" ago.
        now: The time that "ago", "today" and "yesterday" are relative to (default: the current time).
        is_end: Whether a year or a month means its end, not its start.

    Returns:
        Nanoseconds since 1970.

    Raises:
        UsageError: `text` is none of these.
    """
    written = text.strip().lower()
    now = now or datetime.now(UTC)
    try:
        if ago := _AGO.fullmatch(written):
            return to_ns(now.replace(microsecond=0) - int(ago.group(1)) * UNITS[ago.group(2)])
        if (days := _DAYS_AGO.get(written)) is not None:
            day = now.astimezone().date() - timedelta(days=days)
            return to_ns(datetime(day.year, day.month, day.day))
        if period := _YEAR_OR_MONTH.fullmatch(written):
            return to_ns(_edge_of(int(period[1]), int(period[2]) if period[2] else None, is_end))
        return to_ns(datetime.fromisoformat(text.strip()))
    except (ValueError, OverflowError, OSError):
        expected = "a date (2024-05-01), 2024-05, 2024, today, a date and time (2024-05-01 12:30), or 7d, 12h, 2w ago"
        raise UsageError(f"cannot parse time {text!r}: give {expected}") from None


def _edge_of(year: int, month: int | None, is_end: bool) -> datetime:
    """Return the start of a year or month, or its end, which is the start of the next; without a time zone."""
    start = datetime(year, 1 if month is None else month, 1)
    if not is_end:
        return start
    months = 12 * year + start.month - 1 + (12 if month is None else 1)
    return datetime(months // 12, months % 12 + 1, 1)


def to_ns(moment: datetime) -> int:
    """Return a time in nanoseconds since 1970; without a time zone, it is local time.

    Raises:
        OverflowError: the time is too close to the limits of datetime.
    """
    return (moment.astimezone(UTC) - EPOCH) // timedelta(microseconds=1) * 1000


def format_time(ns: int) -> str:
    """Format nanoseconds since 1970 as local time, as short as possible: at midnight, the date alone."""
    try:
        moment = (EPOCH + timedelta(microseconds=ns // 1000)).astimezone().replace(tzinfo=None)
    except OverflowError:
        return f"{shown(ns)} ns"
    if moment.time() == datetime.min.time():
        return moment.date().isoformat()
    return moment.isoformat(" ", "minutes" if moment.second == moment.microsecond == 0 else "auto")


def describe_filter(filter: Filter) -> str:
    """Describe a filter in one line, such as "modality = 'audio', in /media/x, since 2024-01-01"."""
    parts = [" ".join(filter.where.split())] if filter.where is not None else []
    if filter.folders:
        parts.append(f"in {' or '.join(filter.folders)}")
    if filter.collections:
        parts.append(f"of collection {' or '.join(filter.collections)}")
    if filter.since_ns is not None:
        parts.append(f"since {format_time(filter.since_ns)}")
    if filter.until_ns is not None:
        parts.append(f"until {format_time(filter.until_ns)}")
    return ", ".join(parts) or "everything"


def segment_mask(filter: Filter, tables: FilterTables, columns: FilterColumns | None = None) -> NDArray[np.bool_]:
    """Evaluate a filter.

    Args:
        filter: The filter.
        tables: The tables of a snapshot.
        columns: Column values that earlier filters derived from the same tables (None: none).

    Returns:
        True for the matching rows of `segments`: bool (n,).

    Raises:
        UsageError: no collection has that name, or the expression is rejected or fails (see `where_mask`).
    """
    import numpy as np

    from bindsearch.search.sql_filter.columns import FilterColumns
    from bindsearch.search.sql_filter.evaluate import where_mask

    columns = columns or FilterColumns(tables)
    items = _item_mask(filter, tables)
    mask = np.ones(tables.segments.num_rows, bool) if items is None else items[columns.item_rows]
    if filter.where is None:
        return mask
    forms = (mask & where_mask(form, columns) for form in name_forms(filter.where))
    first = next(forms)  # names may be stored in another form than they are typed in
    return first if first.any() else next((found for found in forms if found.any()), first)


def _item_mask(filter: Filter, tables: FilterTables) -> NDArray[np.bool_] | None:
    """Return a mask of the items that match all conditions but `where`; None if all do."""
    conditions = []
    roots = tables.manifest.collections
    if filter.folders:
        conditions.append(_in_folders(filter.folders, tables))
    if filter.collections:
        wanted = {number for name in filter.collections for number in collections_named(name, roots)}
        conditions.append(_in_collections(wanted, tables))
    if filter.since_ns is not None:
        conditions.append(tables.items.column("mtime_ns").to_numpy() >= min(filter.since_ns, LARGEST_NS))
    if filter.until_ns is not None:
        conditions.append(tables.items.column("mtime_ns").to_numpy() < filter.until_ns)
    mask = conditions.pop() if conditions else None
    for condition in conditions:
        mask &= condition
    return mask


def empty_folder_notices(filter: Filter, tables: FilterTables, alive: NDArray[np.bool_] | None) -> list[str]:
    """Return a line for each folder of a filter that holds no item, with folders of a similar name that do.

    Args:
        filter: The filter.
        tables: The tables of a snapshot.
        alive: True for the rows of `items` that count: bool (n items,); None: all do.
    """
    notices = []
    for folder in filter.folders:
        below = _in_folders((folder,), tables)
        if not (below if alive is None else below & alive).any():
            near = _near_folders(PurePosixPath(folder), tables, alive)
            notices.append(f"nothing in {folder} is indexed{': did you mean ' if near else ''}{' or '.join(near)}")
    return notices


def _near_folders(folder: PurePosixPath, tables: FilterTables, alive: NDArray[np.bool_] | None) -> list[str]:
    """Return folders with items whose names are like that of a folder, at most 3."""
    from difflib import SequenceMatcher, get_close_matches

    import pyarrow as pa
    import pyarrow.compute as pc

    items = tables.items if alive is None else tables.items.filter(pa.array(alive))
    roots = tables.manifest.collections
    by_name: dict[str, set[PurePosixPath]] = {}
    for number, root in roots.items():
        paths = items.column("rel_path").filter(pc.equal(items.column("collection_id"), number)).to_pylist()
        parents = {path.rpartition("/")[0] for path in paths}
        for holder in {PurePosixPath(root, parent) for parent in parents}:
            for above in (holder, *holder.parents):
                if above.is_relative_to(root):
                    by_name.setdefault(above.name, set()).add(above)

    def similarity(other: PurePosixPath) -> float:
        return SequenceMatcher(None, str(folder), str(other)).ratio()

    names = [folder.name] if folder.name in by_name else get_close_matches(folder.name, by_name, n=3)
    return [str(max(sorted(by_name[name]), key=similarity)) for name in names]


def _in_folders(folders: tuple[str, ...], tables: FilterTables) -> Any:
    import pyarrow.compute as pc

    roots = {number: PurePosixPath(root) for number, root in tables.manifest.collections.items()}
    forms = [form for folder in folders for form in name_forms(folder)]
    whole = {number for number, root in roots.items() for form in forms if root.is_relative_to(form)}
    mask = _in_collections(whole, tables)
    for folder in map(PurePosixPath, forms):
        for number, root in roots.items():
            if number not in whole and folder.is_relative_to(root):
                start = f"{folder.relative_to(root)}/"
                below = pc.starts_with(tables.items.column("rel_path"), start).to_numpy()
                mask |= below & _in_collections({number}, tables)
    return mask


def _in_collections(wanted: set[int], tables: FilterTables) -> Any:
    import numpy as np

    return np.isin(tables.items.column("collection_id").to_numpy(), np.array([*wanted], np.int64))


def collections_named(name: str, roots: Mapping[int, str]) -> set[int]:
    """Return the ids of the collections with this root, or whose root ends with this name.

    Args:
        name: Absolute path, or last part of one.
        roots: Root of each collection by its id.

    Raises:
        UsageError: there is none.
    """
    forms = name_forms(name)
    matching = {number for number, root in roots.items() if root in forms or PurePosixPath(root).name in forms}
    if not matching:
        near = did_you_mean(name, sorted({*roots.values(), *(PurePosixPath(root).name for root in roots.values())}))
        advice = f"{near}choose from {', '.join(sorted(roots.values()))}" if roots else "the store has none"
        raise UsageError(f"there is no collection {name!r}: {advice}")
    return matching


def _to_time(moment: str | datetime | None, *, is_end: bool = False) -> int | None:
    if moment is None or isinstance(moment, str):
        return parse_time(moment, is_end=is_end) if moment is not None else None
    if not isinstance(moment, datetime):
        raise UsageError(f"{shown(moment)} is not a time: give a text such as 2024-05-01, or a datetime")
    try:
        return to_ns(moment)
    except (OverflowError, ValueError):
        raise UsageError(f"{moment} is out of range: give a later or earlier time") from None


def _to_names(given: str | os.PathLike[str] | Iterable[str | os.PathLike[str]], what: str) -> list[str]:
    names = [to_path_text(name) for name in to_list(given, f"the list of {what}s")]
    if not all(name.strip() for name in names):
        raise UsageError(f"the name of a {what} is empty: give a name, or leave out the option")
    return names
