"""Filters as data, as text and as masks: folders, collections, times, and all of them together."""

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from bindsearch.errors import UsageError
from bindsearch.search.filter import (
    NO_FILTER,
    Filter,
    describe_filter,
    empty_folder_notices,
    make_filter,
    parse_time,
    segment_mask,
)
from bindsearch.search.sql_filter.columns import FilterColumns
from bindsearch.types import Metadata
from helpers.filter_tables import Roots, Tables
from helpers.stores import connect
from helpers.vector_store import write_items as write

SECOND = 10**9
NEW_YEAR = 1_704_067_200 * SECOND
"""2024-01-01 00:00 UTC."""


@pytest.fixture(autouse=True)
def in_tokyo(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Local time is nine hours ahead of UTC."""
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


ROOTS = Roots({3: "/a/b", 5: "/a/bc", 6: "/x/b"})


FILES = (
    (3, "one.jpg", NEW_YEAR - 1),
    (3, "c/two.wav", NEW_YEAR),
    (3, "cd/three.jpg", NEW_YEAR + 1),
    (3, "c/d/four.wav", NEW_YEAR + SECOND),
    (5, "c/five.jpg", -SECOND),
    (6, "six.jpg", NEW_YEAR + 86_400 * SECOND),
)


@pytest.fixture(scope="module")
def tables() -> Tables:
    """Six files, each with a picture and a sound segment, in the order 5 5 4 4 ... 0 0; tables of two chunks."""
    items = pa.table(
        {
            "item_id": np.arange(6) + 100,
            "collection_id": [collection for collection, _, _ in FILES],
            "rel_path": [path for _, path, _ in FILES],
            "modality": ["video"] * 6,
            "size_bytes": np.arange(6),
            "mtime_ns": [changed for _, _, changed in FILES],
        }
    )
    rows = np.repeat(np.arange(6)[::-1], 2)
    segments = pa.table({"item_id": rows + 100, "modality": ["image", "audio"] * 6})
    items, segments = (pa.concat_tables([table.slice(0, 3), table.slice(3)]) for table in (items, segments))
    return Tables(items, segments, rows, ROOTS)


def found(filter: Filter, tables: Tables) -> set[str]:
    """Files of the segments that pass; both segments of a file pass or none does, but for `where`."""
    mask = segment_mask(filter, tables)
    assert mask.dtype == bool
    assert mask.shape == (12,)
    return {Path(FILES[row][1]).stem for row in tables.rows[mask]}


EVERY_FILE = {"one", "two", "three", "four", "five", "six"}


def test_no_condition_lets_everything_pass(tables: Tables) -> None:
    assert segment_mask(NO_FILTER, tables).all()
    assert not NO_FILTER
    assert make_filter() == NO_FILTER
    assert describe_filter(NO_FILTER) == "everything"


@pytest.mark.parametrize(
    ("folders", "files"),
    [
        (["/a/b/c"], {"two", "four"}),
        (["/a/b/c/"], {"two", "four"}),
        (["/a/b/c/d"], {"four"}),
        (["/a/b"], {"one", "two", "three", "four"}),
        (["/a"], {"one", "two", "three", "four", "five"}),
        (["/"], EVERY_FILE),
        (["/a/b/one.jpg"], set()),
        (["/a/b/c/two"], set()),
        (["/nowhere"], set()),
        (["/a/b/c", "/x"], {"two", "four", "six"}),
        (["/a/b/cd", "/a/bc/c"], {"three", "five"}),
    ],
)
def test_a_folder_holds_what_lies_below_it(tables: Tables, folders: list[str], files: set[str]) -> None:
    assert found(make_filter(folders=folders), tables) == files


@pytest.mark.parametrize(
    ("folder", "near"),
    [
        ("/a/b/cc", ": did you mean /a/b/c"),
        ("/a/bb/c", ": did you mean /a/b/c"),
        ("/nowhere/bc", ": did you mean /a/bc"),
        ("/a/b/one.jpg", ""),
        ("/a/b/c", None),
        ("/a", None),
        ("/x/b", ": did you mean /a/b"),
    ],
)
def test_a_folder_that_holds_nothing_is_told(tables: Tables, folder: str, near: str | None) -> None:
    alive = np.array([True] * 5 + [False])
    lines = empty_folder_notices(make_filter(folders=folder), tables, alive)
    assert len(lines) == (near is not None)
    for line in lines:
        assert line == f"nothing in {folder} is indexed{near}"


@pytest.mark.parametrize(
    ("collections", "files"),
    [
        (["bc"], {"five"}),
        (["/a/bc/"], {"five"}),
        (["/x/b"], {"six"}),
        (["b"], {"one", "two", "three", "four", "six"}),
        (["bc", "/x/b"], {"five", "six"}),
    ],
)
def test_collections_by_root_or_last_name(tables: Tables, collections: list[str], files: set[str]) -> None:
    assert found(make_filter(collections=collections), tables) == files


def test_an_unknown_collection_names_those_there(tables: Tables) -> None:
    with pytest.raises(UsageError, match="no collection 'holiday': choose from /a/b, /a/bc, /x/b"):
        segment_mask(make_filter(collections="holiday"), tables)


def test_since_is_included_and_until_is_not(tables: Tables) -> None:
    assert found(Filter(since_ns=NEW_YEAR), tables) == {"two", "three", "four", "six"}
    assert found(Filter(until_ns=NEW_YEAR), tables) == {"one", "five"}
    assert found(Filter(since_ns=NEW_YEAR, until_ns=NEW_YEAR + 1), tables) == {"two"}
    assert found(Filter(since_ns=-(10**20), until_ns=10**20), tables) == EVERY_FILE
    assert found(make_filter(since="2024-01-01T00:00:00+00:00", until="2024-01-01 09:00:01"), tables) == {
        "two",
        "three",
    }


def test_all_conditions_must_hold(tables: Tables) -> None:
    every = make_filter("modality = 'audio' and extension = 'wav'", ["/a"], ["b"], "2024-01-01 09:00", "2024-01-02")
    mask = segment_mask(every, tables)
    assert [FILES[row][1] for row in tables.rows[mask]] == ["c/d/four.wav", "c/two.wav"]
    assert tables.segments.filter(pa.array(mask)).column("modality").unique().to_pylist() == ["audio"]


def test_columns_can_be_kept_between_filters(tables: Tables) -> None:
    columns = FilterColumns(tables)
    for where in ("extension = 'jpg'", "extension = 'wav'"):
        kept = segment_mask(Filter(where), tables, columns)
        np.testing.assert_array_equal(kept, segment_mask(Filter(where), tables))
    assert columns.array("extension") is columns.array("extension")


def test_a_dead_row_of_an_item_does_not_count(tables: Tables) -> None:
    dead = tables.items.slice(1, 1).set_column(2, "rel_path", pa.array(["old/two.wav"]))
    both = Tables(pa.concat_tables([dead, tables.items]), tables.segments, tables.rows + 1, ROOTS)
    assert not segment_mask(make_filter(folders="/a/b/old"), both).any()
    assert not segment_mask(make_filter("name = 'two.wav' and folder like '%old'"), both).any()
    assert segment_mask(make_filter("name = 'two.wav' and item_id = 101"), both).sum() == 2


NOW = datetime(2024, 3, 10, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2024-01-01", datetime(2023, 12, 31, 15, tzinfo=UTC)),
        (" 2024-01-01 12:30 ", datetime(2024, 1, 1, 3, 30, tzinfo=UTC)),
        ("2024-01-01T12:30:15.000001Z", datetime(2024, 1, 1, 12, 30, 15, 1, tzinfo=UTC)),
        ("2024-01-01T12:30+02:00", datetime(2024, 1, 1, 10, 30, tzinfo=UTC)),
        ("1969-12-31T23:59:59Z", datetime(1969, 12, 31, 23, 59, 59, tzinfo=UTC)),
        ("7d", NOW - timedelta(days=7)),
        ("12h", NOW - timedelta(hours=12)),
        ("2 W", NOW - timedelta(weeks=2)),
        ("90min", NOW - timedelta(minutes=90)),
        ("0d", NOW),
        ("2024", datetime(2023, 12, 31, 15, tzinfo=UTC)),
        ("2024-02", datetime(2024, 1, 31, 15, tzinfo=UTC)),
        ("today", datetime(2024, 3, 9, 15, tzinfo=UTC)),
        ("Yesterday ", datetime(2024, 3, 8, 15, tzinfo=UTC)),
    ],
)
def test_times_as_users_write_them(text: str, moment: datetime) -> None:
    epoch = datetime(1970, 1, 1, tzinfo=UTC)
    assert parse_time(text, NOW) == (moment - epoch) // timedelta(microseconds=1) * 1000


@pytest.mark.parametrize(
    "text",
    [
        "",
        "soon",
        "2024-13-01",
        "-7d",
        "7",
        "7y",
        "1.5h",
        "999999w",
        "24-1-1",
        "0001-01-01",
        "2024-13",
        "0000",
        "tomorrow",
    ],
)
def test_what_is_no_time(text: str) -> None:
    with pytest.raises(UsageError, match=r"cannot parse time .*: give a date \(2024-05-01\)"):
        parse_time(text, NOW)


def test_today_is_the_day_of_the_users_time_zone() -> None:
    late = datetime(2024, 3, 10, 15, tzinfo=UTC)  # in Tokyo it is midnight
    assert parse_time("today", late) == parse_time("2024-03-11")
    assert parse_time("today", late - timedelta(seconds=1)) == parse_time("2024-03-10")


@pytest.mark.parametrize(
    ("since", "until", "first", "end"),
    [
        ("2021", "2021", "2021-01-01", "2022-01-01"),
        ("2021-06", "2021-06", "2021-06-01", "2021-07-01"),
        ("2021-12", "2021-12", "2021-12-01", "2022-01-01"),
        ("2020-02", "2020-02", "2020-02-01", "2020-03-01"),
        ("2021-06-05", "2021-06-06", "2021-06-05", "2021-06-06"),
    ],
)
def test_since_a_year_is_its_start_and_until_its_end(since: str, until: str, first: str, end: str) -> None:
    made = make_filter(since=since, until=until)
    assert (made.since_ns, made.until_ns) == (parse_time(first), parse_time(end))


def test_yesterday_is_between_yesterday_and_today() -> None:
    made = make_filter(since="yesterday", until="today")
    assert made.since_ns is not None
    assert made.until_ns == made.since_ns + 86_400 * SECOND
    assert made.until_ns <= time.time_ns() < made.until_ns + 86_400 * SECOND


def test_datetimes_are_times_too() -> None:
    aware = datetime(2024, 1, 1, tzinfo=UTC)
    assert make_filter(since=aware).since_ns == NEW_YEAR
    assert make_filter(since=datetime(2024, 1, 1, 9)).since_ns == NEW_YEAR
    with pytest.raises(UsageError, match="0001-01-01 00:00:00 is out of range"):
        make_filter(since=datetime.min)


def test_a_filter_can_be_a_key_and_tells_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    made = make_filter(" modality = 'audio'\n and duration_s > 3 ", ["x", tmp_path / "y"], ["b", "/x/b/"], "2024-01-01")
    folders = (str(tmp_path.resolve() / "x"), str(tmp_path.resolve() / "y"))
    assert made.folders == folders
    assert made.collections == ("b", "/x/b")
    assert {made: 1}[make_filter(made.where, made.folders, made.collections, "2024-01-01")] == 1
    where = "modality = 'audio' and duration_s > 3"
    told = f"{where}, in {folders[0]} or {folders[1]}, of collection b or /x/b, since 2024-01-01"
    assert describe_filter(made) == told


def test_one_folder_needs_no_list() -> None:
    assert make_filter(folders="/a/b").folders == ("/a/b",)
    assert make_filter(folders=Path("/a/b")).folders == ("/a/b",)


@pytest.mark.parametrize(
    ("ns", "text"),
    [
        (NEW_YEAR, "2024-01-01 09:00"),
        (NEW_YEAR + 15 * 3600 * SECOND, "2024-01-02"),
        (NEW_YEAR + SECOND, "2024-01-01 09:00:01"),
        (NEW_YEAR + 1000, "2024-01-01 09:00:00.000001"),
        (10**21, "1000000000000000000000 ns"),
    ],
)
def test_times_are_told_as_short_as_they_go(ns: int, text: str) -> None:
    assert describe_filter(Filter(until_ns=ns)) == f"until {text}"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"where": " "}, "filter is empty"),
        ({"folders": [""]}, "name of a folder is empty"),
        ({"collections": ["a", " "]}, "name of a collection is empty"),
        ({"since": ""}, "cannot parse time ''"),
        ({"since": "2024-01-02", "until": "2024-01-01"}, r"since \(2024-01-02\) is not before until \(2024-01-01\)"),
        ({"since": "2024-01-01", "until": "2024-01-01"}, r"since \(2024-01-01\) is not before until"),
    ],
)
def test_empty_conditions_are_errors(arguments: dict[str, str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        make_filter(**arguments)


METADATA = (
    Metadata(datetime(2024, 6, 1, 12, 30), 48.8577, 2.295, "Canon EOS 5D", width_px=4000, height_px=3000),
    Metadata(datetime(2023, 1, 1), 48.8577, 2.295, "Canon EOS 5D"),
    Metadata(title="Rain", artist="Nina", length_s=200.5),
    Metadata(),
)
USERS = (None, None, '{"rating": 4}', '{"camera": "Canon", "width_px": "wide"}')


@pytest.mark.parametrize(
    ("where", "numbers"),
    [
        ("camera ilike '%canon%' and taken >= '2024-06-01' and latitude between 40 and 50", [0]),
        ("camera = 'Canon EOS 5D'", [0, 1]),
        ("year(taken) = 2023 or length_s > 200", [1, 2]),
        ("title like 'R%' and artist = 'Nina' and rating = 4", [2]),
        ("width_px * height_px > 10000000", [0]),
        ("taken is null and length_s is null", [3]),
        ("camera = 'Canon' or camera is null", [2, 3]),
    ],
)
def test_a_search_is_filtered_by_metadata(metadata_store: Path, where: str, numbers: list[int]) -> None:
    """The last item is of an older store, whose own columns had names that are documented now."""
    with connect(metadata_store, encoder="null") as store:
        hits = store.search("x", to="image", filter=where)
    assert sorted(int(hit.path.name) for hit in hits) == numbers


@pytest.fixture(scope="module")
def metadata_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    store = tmp_path_factory.mktemp("metadata") / "store"
    write(store, {"image": np.eye(4, 64, dtype=np.float32)}, columns=USERS, metadata=METADATA)
    return store
