"""What decoders find out of real files reaches reports, dry runs, queries and filters, in processes of their own."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import bindsearch as bs
from bindsearch.cli.index import _texts
from bindsearch.media import MAX_NOTE_LENGTH, MAX_NOTES, NO_READING, Reading, merge_readings
from bindsearch.reports import MAX_KINDS_OF_NOTES, OTHER_NOTES, IndexReport
from helpers import media_files
from helpers.command import Run
from helpers.stores import connect

AXES = "acc_x,acc_y,acc_z,gyro_x,gyro_y,gyro_z"


@pytest.fixture
def media(tmp_path: Path) -> Path:
    """Write three recordings with a time column (50 Hz, 50 Hz of other content, 25 Hz), and a depth map."""
    folder = tmp_path / "media"
    (folder / "depth").mkdir(parents=True)
    media_files.write_motion_csv(folder / "a.csv", media_files.motion(4.0))
    media_files.write_motion_csv(folder / "b.csv", media_files.motion(6.0))
    media_files.write_motion_csv(folder / "slow.csv", media_files.motion(8.0, 25.0), rate_hz=25.0)
    depth = np.arange(1000, 1000 + 24 * 32, dtype=np.uint16).reshape(24, 32)
    media_files.write_depth(folder / "depth" / "d.png", depth)
    return folder


def names(store: bs.Store, where: str) -> set[str]:
    """Return the names of the files that a filter leaves; copies are one hit."""
    return {path.name for hit in store.search("walking", filter=where, k=50) for path in (hit.path, *hit.copies)}


def test_notes_of_many_files_are_one_line_with_a_count(bindsearch_command: Run, media: Path) -> None:
    done = bindsearch_command(["index", media])
    assert done.returncode == 0, done.stderr
    assert f"note: rate from 'time_s' (3 files, such as {media}/" in done.stderr
    assert (
        f"note: assumed: fx 26 px (0.81 x longer side), baseline 0.075 m ({media / 'depth' / 'd.png'})" in done.stderr
    )
    assert done.stderr.count("bindsearch show FILE") == 1
    again = bindsearch_command(["index", media])
    assert "note: " not in again.stderr

    media_files.write_motion_csv(media / "c.csv", media_files.motion(5.0))
    report = json.loads(bindsearch_command(["index", media, "--json"]).stdout)
    assert report["notes"] == [{"note": "rate from 'time_s'", "files": 1, "example": str(media / "c.csv")}]
    hits = json.loads(bindsearch_command(["search", "walking", "--where", "rate_hz > 40", "--json"]).stdout)["hits"]
    assert {Path(hit["path"]).name for hit in hits} == {"a.csv", "b.csv", "c.csv"}
    query = json.loads(bindsearch_command(["search", "--imu", media / "slow.csv", "--json"]).stdout)
    assert f"{media / 'slow.csv'}: rate from 'time_s'" in query["notices"]


def test_a_dry_run_says_what_the_run_does(bindsearch_command: Run, media: Path) -> None:
    (media / "late.csv").write_text(f"{AXES}\n" + "1,2,3,4,5,6\n" * 40)
    (media / "late.csv.json").write_text('{"sample_rate_hz": "fast"}')
    (media / "unrated.csv").write_text(f"{AXES}\n" + "".join(f"{i},2,3,4,5,6\n" for i in range(40)))
    plan = json.loads(bindsearch_command(["index", media, "--dry-run", "--json"]).stdout)["files"]
    notes = {Path(file["path"]).name: file["note"] for file in plan}
    assert notes["a.csv"] == "50 Hz, rate from 'time_s'"
    assert notes["slow.csv"] == "25 Hz, rate from 'time_s'"
    assert notes["d.png"].startswith("median 1.38 m, depth in mm, the default of 16-bit integers")
    report = json.loads(bindsearch_command(["index", media, "--json"]).stdout)
    failures = {Path(failure["path"]).name: failure["reason"] for failure in report["failures"]}
    assert set(failures) == {"late.csv", "unrated.csv"}
    assert {name: note for name, note in notes.items() if note and note.startswith("would fail")} == {
        name: f"would fail: {reason}" for name, reason in failures.items()
    }
    limited = bindsearch_command(["index", media / "a.csv", "--dry-run", "--limit", "samples=10"]).stdout
    assert "would fail: the table has 200 rows: more than 10 are not read" in limited


def test_copies_moves_and_reopened_stores_keep_what_was_measured(media: Path, tmp_path: Path) -> None:
    with connect(tmp_path / "store", encoder="null") as store:
        shutil.copy(media / "a.csv", media / "a-copy.csv")  # decoded once, in the same run
        report = store.index(media)
        assert (report.notes[0].files, report.notes[0].text) == (3, "rate from 'time_s'")
        assert names(store, "rate_hz > 40") == {"a.csv", "a-copy.csv", "b.csv"}
        shutil.copy(media / "slow.csv", media / "slow-copy.csv")
        (media / "b.csv").rename(media / "moved.csv")
        report = store.index(media)
        assert (report.moved, report.segments, report.notes) == (1, 0, [])
    with connect(tmp_path / "store") as store:
        assert names(store, "rate_hz > 40") == {"a.csv", "a-copy.csv", "moved.csv"}
        assert names(store, "rate_hz between 24.9 and 25.1") == {"slow.csv", "slow-copy.csv"}
        assert names(store, "depth_median_m between 1.38 and 1.39 and temperature_max_c is null") == {"d.png"}
        store.compact()
        assert names(store, "rate_hz > 40") == {"a.csv", "a-copy.csv", "moved.csv"}


def test_a_sidecars_number_precedes_the_measured_one_as_long_as_it_is_there(media: Path, tmp_path: Path) -> None:
    sidecar = media / "slow.csv.json"
    shutil.copy(media / "slow.csv", media / "copy.csv")
    with connect(tmp_path / "store", encoder="null") as store:
        sidecar.write_text('{"columns": {"Rate_Hz": 48}}')
        store.index(media)
        assert names(store, "rate_hz = 48") == {"slow.csv"}
        assert names(store, "rate_hz between 24.9 and 25.1") == {"copy.csv"}
        sidecar.write_text('{"columns": {"rate_hz": null}}')
        assert store.index(media).segments == 0
        assert names(store, "rate_hz between 24.9 and 25.1") == {"slow.csv", "copy.csv"}
        sidecar.write_text('{"columns": {"rate_hz": "fast"}}')
        (failure,) = store.index(media).failures
        assert "column rate_hz is fast: expected a finite number" in failure.reason


def test_export_import_merge_and_recover_keep_what_was_measured(media: Path, tmp_path: Path) -> None:
    (media / "b.csv.json").write_text('{"columns": {"rate_hz": 45}}')
    with connect(tmp_path / "store", encoder="null") as store:
        store.index(media)
        store.export(tmp_path / "export")
    for name in ("imported", "merged"):
        with connect(tmp_path / name, encoder="null") as store:
            if name == "imported":
                store.import_vectors(tmp_path / "export")
            else:
                store.index(media / "depth")
                store.merge(tmp_path / "store")
            assert names(store, "rate_hz > 46") == {"a.csv"}
            assert names(store, "rate_hz = 45") == {"b.csv"}
            assert names(store, "depth_median_m > 1") == {"d.png"}
    (tmp_path / "store" / "catalog.duckdb").unlink()
    with connect(tmp_path / "store") as store:
        assert store.recover().source == "snapshot"
        assert names(store, "rate_hz > 46") == {"a.csv"}
        shutil.copy(media / "a.csv", media / "a-copy.csv")
        (media / "b.csv.json").write_text('{"columns": {"rate_hz": 47}}')
        store.index(media)
        assert names(store, "rate_hz > 46") == {"a.csv", "a-copy.csv", "b.csv"}


def test_watch_prints_a_kind_of_note_once(capsys: pytest.CaptureFixture[str]) -> None:
    show = _texts()
    for n in range(3):
        report = IndexReport(added=1)
        report.add_notes(Path(f"{n}.csv"), (f"accelerometer in g (median {n})",))
        show(report)
    printed = capsys.readouterr()
    assert printed.err.startswith("note: accelerometer in g (median 0) (0.csv)\n")
    assert printed.err.count("note: accelerometer") == 1
    assert printed.out.count("1 added") == 3


def test_kinds_of_notes_are_counted_without_their_numbers_and_bounded() -> None:
    report = IndexReport()
    for n in range(500):
        report.add_notes(Path(f"{n}.csv"), (f"accelerometer in g (median {1 + n / 1000})", f"median {n} and {n}e-3"))
    (first, second) = report.notes
    assert (first.files, first.text, first.example) == (500, "accelerometer in g (median 1.0)", Path("0.csv"))
    assert (second.files, second.text) == (500, "median 0 and 0e-3")
    for n in range(1000):
        report.add_notes(Path("x.csv"), (f"column {chr(0x4E00 + n)}", f"column {chr(0x5E00 + n)}"))
    assert len(report.notes) <= MAX_KINDS_OF_NOTES + 1
    (others,) = (note for note in report.notes if note.text == OTHER_NOTES)
    assert others.files + sum(note.files for note in report.notes if note.text.startswith("column")) <= 2000


@given(st.lists(st.lists(st.text(max_size=40), max_size=30), max_size=6))
def test_readings_are_bounded_lines(notes: list[list[str]]) -> None:
    reading = NO_READING
    for part in notes:
        facts = {"rate_hz": float("nan"), "depth_median_m": 1.0}
        reading = merge_readings(reading, Reading((*part, "x" * 1000, "\ud800"), facts))
    assert len(reading.notes) <= MAX_NOTES
    assert all(len(note) <= MAX_NOTE_LENGTH and len(note.splitlines()) <= 1 for note in reading.notes)
    assert json.dumps(reading.notes, ensure_ascii=False).encode()
    assert reading.facts == ({"depth_median_m": 1.0} if notes else {})
