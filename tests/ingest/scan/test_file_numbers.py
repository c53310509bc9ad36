"""Whatever numbers a file system, a header or a sidecar holds, the run goes on, and changes are detected."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import astuple, replace
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import bindsearch as bs
from bindsearch.ingest.collect import BatchCollector
from bindsearch.ingest.inspect.inspect_file import inspect_file
from bindsearch.ingest.media.decode import pieces
from bindsearch.ingest.scan import walk
from bindsearch.ingest.scan.walk import scan
from bindsearch.storage.batch import StagedItem, check_storable
from bindsearch.storage.file_state import LARGEST, UNKNOWN_STATE, FileState, file_state, time_version
from bindsearch.types import Metadata, Modality
from helpers.command import run_command
from helpers.stores import connect

SECONDS = (10413792000, 910692730085, -11644473600, -62135596800, -(2**31), 0, 1 << 62, -(1 << 62))
"""The years 2300, 30828 (NTFS), 1601 (SMB), 1, 1901, 1970, and as far as a file system may go."""

NUMBERS = st.integers(-(2**80), 2**80) | st.sampled_from([0, -1, 2**63 - 1, 2**63, -(2**63), 2**64 - 1])


@pytest.fixture
def folder() -> Iterator[Path]:
    """Return a folder on a file system with times of 64 bits, if there is one."""
    base = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    path = Path(tempfile.mkdtemp(dir=base))
    yield path
    shutil.rmtree(path)


def status_of(size: int, mtime_ns: int, inode: int) -> os.stat_result:
    fields = {"st_mtime_ns": mtime_ns, "st_mtime": mtime_ns / 1e9}
    return os.stat_result((0o100644, inode, 1, 1, 0, 0, size, 0, mtime_ns // 10**9, 0), fields)


@given(NUMBERS, NUMBERS, NUMBERS)
def test_the_catalog_can_hold_every_state(size: int, mtime_ns: int, inode: int) -> None:
    state = file_state(status_of(size, mtime_ns, inode))
    np.array(astuple(state), np.int64)
    if -(2**63) <= mtime_ns < 2**63 and 0 <= size < 2**63:
        assert state == FileState(size, mtime_ns, 0, inode % 2**63)


@given(NUMBERS, NUMBERS)
def test_states_of_other_times_differ(first_ns: int, second_ns: int) -> None:
    first, second = (file_state(status_of(1, time_ns, 1)) for time_ns in (first_ns, second_ns))
    assert (first == second) == (first_ns == second_ns)
    assert 0 < time_version(first_ns) <= LARGEST
    assert (time_version(first_ns) == time_version(second_ns)) == (first_ns == second_ns)


@pytest.mark.parametrize("seconds", SECONDS)
def test_a_file_of_any_year_is_indexed_with_the_others(folder: Path, tmp_path: Path, seconds: int) -> None:
    root = folder / "media"
    root.mkdir()
    for name in ("a.txt", "b.txt", "c.txt"):
        (root / name).write_text(f"words of {name}")
    sidecar = root / "b.txt.json"
    sidecar.write_text('{"columns": {"rating": 1}}')
    table = root / "list.csv"
    table.write_text("path,stars\nc.txt,5\n")
    for path in (root / "a.txt", sidecar, table):
        os.utime(path, (seconds, seconds))
    with connect(tmp_path / "store", encoder="null") as store:
        assert {file.path.name for file in store.plan_index(root) if file.modality} == {"a.txt", "b.txt", "c.txt"}
        assert store.index(root).added == 3
        assert store.index(root).unchanged == 3
        assert {hit.path.name for hit in store.search("a", filter="rating = 1 or stars = 5")} == {"b.txt", "c.txt"}
        status = store.status()
        assert (status.items, status.failures) == ({"text": 3}, ())
        (root / "a.txt").write_text("other words")  # the same number of letters or not, another time
        os.utime(root / "a.txt", (seconds + 1, seconds + 1))
        sidecar.write_text('{"columns": {"rating": 2}}')
        os.utime(sidecar, (seconds + 1, seconds + 1))
        report = store.index(root)
        assert (report.changed, report.unchanged) == (2, 1)
        stop = threading.Event()
        reports: list[bs.IndexReport] = []
        store.watch(root, on_report=lambda report: (reports.append(report), stop.set()), stop=stop)  # type: ignore[func-returns-value,arg-type]
        assert reports[0].unchanged == 3
        for filter in (bs.make_filter(since="1970"), bs.make_filter(since="2290"), bs.make_filter(until="1971")):
            store.search("a", filter=filter)
        late = {hit.path.name for hit in store.search("a", filter=bs.make_filter(since="2290"))}
        assert late == ({"a.txt"} if (root / "a.txt").stat().st_mtime > 2**33 else set())
    assert run_command(["verify", "--hash-media", "--store", str(tmp_path / "store")]).returncode == 0


def test_a_sidecar_whose_time_is_zero_is_noticed(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("words")
    before = scan(tmp_path, [""], frozenset())
    (tmp_path / "a.txt.json").write_text("{}")
    os.utime(tmp_path / "a.txt.json", (0, 0))
    after = scan(tmp_path, [""], frozenset())
    assert before.states[0, 2] == 0 != after.states[0, 2]


def test_a_link_to_nothing_as_a_sidecar_costs_nothing(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("words")
    (tmp_path / "a.txt.json").symlink_to(tmp_path / "nothing")
    assert scan(tmp_path, [""], frozenset()).rel_paths == ["a.txt"]


YEARS = st.integers(0, 99999)
DATES = st.builds(
    "{:04d}:{:02d}:{:02d} {:02d}:{:02d}:{:02d}".format,
    YEARS,
    *(st.integers(0, 99) for _ in range(5)),
) | st.text(max_size=30)


@settings(deadline=None, max_examples=25)
@given(st.lists(DATES, min_size=1, max_size=6), st.sampled_from(["", "+14:00", "-14:00", "+99:99"]))
def test_no_date_of_a_camera_ends_a_run(dates: list[str], zone: str) -> None:
    with tempfile.TemporaryDirectory() as name:
        root = Path(name) / "media"
        root.mkdir()
        pixels = np.random.default_rng(0).integers(0, 255, (32, 32, 3), np.uint8)
        for i, date in enumerate(dates):
            exif = Image.Exif()
            exif[0x0132] = date
            photo = exif.get_ifd(0x8769)
            photo[0x9003], photo[0x9011] = date, zone
            Image.fromarray(np.roll(pixels, i, 0)).save(root / f"{i}.jpg", exif=exif)
        (root / "sidecar.jpg").write_bytes((root / "0.jpg").read_bytes())
        sidecar = {"columns": {"taken": f"{dates[0].replace(':', '-', 2)}{zone}"}}
        (root / "sidecar.jpg.json").write_text(json.dumps(sidecar))
        with connect(Path(name) / "store", encoder="null") as store:
            report = store.index(root)
            assert report.added + len(report.failures) == len(dates) + 1
            assert {failure.path.name for failure in report.failures} <= {"sidecar.jpg"}
            assert len(store.search("a", k=100, copies=True, filter="taken is null or taken < '9999-12-31'")) > 0


def item_of(metadata: Metadata, state: FileState = UNKNOWN_STATE, path: str = "a.txt") -> StagedItem:
    return StagedItem(None, 1, path, Modality.TEXT, state, "", "", (), metadata=metadata)


def test_values_that_the_catalog_cannot_hold_are_named() -> None:
    check_storable(item_of(Metadata(title="\u00e4", width_px=2**63 - 1, taken=datetime(1, 1, 1))))
    for item, expected in (
        (item_of(Metadata(title="\ud800")), "title is not Unicode"),
        (item_of(Metadata(width_px=2**63)), "width_px is 9223372036854775808"),
        (item_of(Metadata(), replace(UNKNOWN_STATE, mtime_ns=-(2**63) - 1)), "mtime_ns is"),
        (item_of(Metadata(), path="\udcff"), "path is not Unicode"),
    ):
        with pytest.raises(ValueError, match=expected):
            check_storable(item)


@pytest.mark.parametrize("place", ["scan", "inspect", "decode", "write"])
def test_an_unexpected_exception_is_the_failure_of_one_file(
    tmp_path: Path, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "media"
    root.mkdir()
    for name in ("a.txt", "b.txt", "c.txt"):
        (root / name).write_text(f"words of {name}")

    def broken(function: object) -> object:
        def call(*arguments: object, **options: object) -> object:
            if any("b.txt" in str(one) for one in arguments if not isinstance(one, walk._Beside | walk.Scan)):
                raise OverflowError("int too big to convert")
            return function(*arguments, **options)  # type: ignore[operator]

        return call

    with connect(tmp_path / "store", encoder="null") as store:
        store.index(root)
        (root / "b.txt").write_text("more words of b.txt")
        with monkeypatch.context() as patched:
            match place:
                case "scan":
                    patched.setattr(walk.Scan, "add", broken(walk.Scan.add))
                case "inspect":
                    patched.setattr("bindsearch.ingest.workers.main.inspect_file", broken(inspect_file))
                case "decode":
                    patched.setattr("bindsearch.ingest.workers.prepare.pieces", broken(pieces))
                case "write":
                    patched.setattr(BatchCollector, "_item", broken(BatchCollector._item))
            report = store.index(root)
            planned = store.plan_index(root)
        (failure,) = report.failures
        assert failure.path == root / "b.txt"
        assert failure.reason == "OverflowError: int too big to convert"
        assert report.unchanged == 2
        assert {file.path.name for file in planned} == {"a.txt", "b.txt", "c.txt"}
        assert store.index(root, retry_failed=True).failures == []
        assert store.status().items == {"text": 3}
