"""Progress on a terminal of 80 columns, and what the last lines of `index` say."""

from __future__ import annotations

import io
import itertools
import json
import re
import shlex
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from rich.cells import cell_len

from bindsearch.cli import progress
from bindsearch.cli.index import suggested_search
from bindsearch.cli.output import SHOWN_REASONS, shorten_middle
from bindsearch.cli.progress import SHOWN_FAILURES, SLOW_FILE_SECONDS, Status, show_progress
from bindsearch.ingest import embed
from bindsearch.reports import MAX_KINDS_OF_NOTES, IndexReport, Progress, count_reasons
from bindsearch.types import Modality
from helpers import media_files
from helpers.command import Run
from helpers.stores import connect
from helpers.terminal import Terminal
from helpers.waiting import wait_for

BOOK = Path("/home/me/a long path of many folders/and more folders/with a library/of books/the book.txt")
MANY = dict.fromkeys(Modality, 1000)


@pytest.mark.parametrize("width", [20, 40, 80, 200])
@pytest.mark.parametrize("file", [BOOK, Path("/書庫/" + "漢字" * 60 + ".txt"), Path("/a\x1b[2J.txt")])
def test_lines_below_the_bar_are_as_wide_as_the_terminal(file: Path, width: int) -> None:
    lines = Status(Progress(3, 10, 2, 12_345, MANY, file, 65.0)).lines(width)
    assert len(lines) == 2
    assert all(cell_len(line) <= width for line in lines)
    assert "\x1b" not in lines[1]


def test_a_long_path_keeps_its_start_and_its_name() -> None:
    _, line = Status(Progress(3, 10, 2, 345, {Modality.TEXT: 1}, BOOK, 1.0)).lines(80)
    assert re.fullmatch(r"/home/me/a long.*….*the book\.txt", line)


def test_segments_kinds_and_failures_are_counted() -> None:
    counts, _ = Status(Progress(3, 10, 2, 345, {Modality.TEXT: 1, Modality.IMAGE: 7}, BOOK)).lines(80)
    assert counts == "345 segments, 7 image, 1 text, 2 failed"


def test_the_time_of_a_slow_file_is_shown_and_goes_on() -> None:
    quick = Status(Progress(3, 10, 0, 1, file=Path("/a.txt"), file_s=SLOW_FILE_SECONDS - 5))
    assert quick.lines(80)[1] == "/a.txt"
    quick.received -= 60  # no progress has come for a minute
    assert quick.lines(80)[1] == "/a.txt (1:05 so far)"


@pytest.mark.parametrize("columns", range(2, 12))
def test_a_text_is_shortened_only_if_it_must_be(columns: int) -> None:
    assert shorten_middle("a" * columns, columns) == "a" * columns
    assert cell_len(shorten_middle("漢" * columns, columns)) <= columns


def test_bar_rate_and_time_left_are_whole_on_80_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "80")
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    with show_progress(as_lines=False) as (show, show_stage):
        for done in (1_000_000, 1_000_100, 1_000_200):
            time.sleep(0.05)
            show(Progress(done, 1_234_567, 2, 345_678, MANY, BOOK, 65.0))
        show_stage("indexing")  # draws at once
        show_stage("")
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", terminal.getvalue())
    lines = [line for line in re.split(r"[\r\n]+", text) if "1000200/1234567" in line]
    assert re.fullmatch(r"indexing [━╸╺ ]{36} 1000200/1234567 [0-9.]+/s +[0-9:-]+", lines[-1].rstrip())
    assert any("(1:05 so far)" in line and "…" in line for line in re.split(r"[\r\n]+", text))


def test_segments_of_an_incomplete_file_are_reported_and_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embed, "BATCH_VIEWS", 1)
    book = tmp_path / "texts" / "book.txt"
    book.parent.mkdir()
    book.write_text("A sentence of six words here. " * 3000)
    seen: list[Progress] = []
    with connect(tmp_path / "store", encoder="null") as store:
        report = store.index(book.parent, on_progress=seen.append)
        segments = store.status().segments[Modality.TEXT]
    unfinished = [progress for progress in seen if 0 < progress.segments < segments]
    assert len(unfinished) > 3
    assert {progress.done for progress in unfinished} == {0}
    assert book in {progress.file for progress in unfinished}
    assert max(progress.file_s for progress in seen) <= report.took_s
    assert report.segments == segments == seen[-1].segments
    assert seen[-1].done == 1


@pytest.fixture
def mixed(tmp_path: Path) -> Path:
    """Two pictures, a text, and files that are left out."""
    folder = tmp_path / "media"
    folder.mkdir()
    for width in (30, 40):
        media_files.write_picture(folder / f"{width}.png", media_files.half_and_half(width, 20))
    (folder / "note.txt").write_text("a dog")
    (folder / "bad.jpg").write_bytes(b"\xff\xd8\xff\xe0 no picture")
    for name in ("a.dwg", "b.DWG", "c.exe", "data"):
        (folder / name).write_bytes(b"\x00\x01\x02")
    np.save(folder / "array.npy", np.zeros((3, 4, 5)))
    (folder / ".hidden.exe").write_text("hidden")
    return folder


def test_the_last_lines_say_what_was_taken_and_left_out(mixed: Path, tmp_path: Path, bindsearch_command: Run) -> None:
    done = bindsearch_command(["index", mixed, "--encoder", "null"])
    assert done.returncode == 3
    counts, taken, left_out, suggestion = done.stdout.splitlines()
    assert counts.startswith("3 added, 0 changed, 0 removed, 0 unchanged, 1 failed in ")
    assert taken == "indexed: 2 image, 1 text; 3 segments embedded"
    assert left_out.startswith("left out: 3 of kinds that are not read (2 .dwg, 1 .exe); ")
    for part in ("; 1 not media: no extension and no known content", "1 npy of shape (3, 4, 5)", "; 1 hidden"):
        assert part in left_out
    assert suggestion == "try: bindsearch search 'a dog on a beach'"
    assert bindsearch_command(shlex.split(suggestion)[2:]).returncode == 0
    again = bindsearch_command(["index", mixed]).stdout.splitlines()
    assert [line.split(":")[0] for line in again[1:]] == ["left out"]


def test_the_suggested_search_works_for_any_store_name(mixed: Path, tmp_path: Path, bindsearch_command: Run) -> None:
    store = tmp_path / "my 'own' $(store)"
    done = bindsearch_command(["index", mixed, "--encoder", "null", "--store", store])
    words = shlex.split(done.stdout.splitlines()[-1].removeprefix("try: "))
    assert words[-2:] == ["--store", str(store)]
    assert bindsearch_command(words[1:]).returncode == 0


def test_the_default_store_is_not_repeated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BINDSEARCH_STORE", str(tmp_path / "store"))
    items = IndexReport().items
    items[Modality.AUDIO] = 2
    for store in (None, str(tmp_path / "store")):
        assert suggested_search(items, store) == "bindsearch search 'a dog barking'"
    monkeypatch.chdir(tmp_path)
    assert suggested_search(items, "store") == "bindsearch search 'a dog barking'"
    assert suggested_search(items, "other") == "bindsearch search 'a dog barking' --store other"


def test_many_reasons_are_cut(tmp_path: Path, bindsearch_command: Run) -> None:
    folder = tmp_path / "media"
    folder.mkdir()
    for number in range(SHOWN_REASONS + 3):
        (folder / f"file.x{number}").write_text("x")
    (line,) = bindsearch_command(["index", folder, "--encoder", "null"]).stdout.splitlines()[1:]
    assert line.startswith(f"left out: {SHOWN_REASONS + 3} of kinds that are not read (1 .x")
    assert line.count("1 .x") == SHOWN_REASONS
    assert ", 3 others)" in line


def test_many_failures_are_counted_by_reason(tmp_path: Path, bindsearch_command: Run) -> None:
    folder = tmp_path / "media"
    folder.mkdir()
    for number in range(SHOWN_FAILURES + 3):
        (folder / f"{number}.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(40))
    for number in range(2):
        (folder / f"{number}.gif").write_bytes(b"GIF89a")
    done = bindsearch_command(["index", folder, "--encoder", "null"])
    line = next(line for line in done.stdout.splitlines() if line.startswith("failed: "))
    assert line.startswith(f"failed: {SHOWN_FAILURES + 3} ")
    assert line.count("; ") == 1
    assert line.endswith(" (bindsearch status --failed)")
    facts = json.loads(bindsearch_command(["index", folder, "--json"]).stdout)
    assert list(facts["failures_by_reason"].values()) == [SHOWN_FAILURES + 3, 2]


def test_reasons_are_bounded() -> None:
    letters = ["".join(letters) for letters in itertools.product("abcdefgh", repeat=3)]
    counts = count_reasons([*letters, *letters[:MAX_KINDS_OF_NOTES], "at byte 1", "at byte 27", "at byte 3"])
    assert next(iter(counts.items())) == ("at byte 1", 3)
    assert len(counts) == MAX_KINDS_OF_NOTES + 1
    assert sum(counts.values()) == len(letters) + MAX_KINDS_OF_NOTES + 3
    assert list(counts)[-1] == "other reasons"


class Screen(io.StringIO):
    """A terminal on stderr."""

    def isatty(self) -> bool:
        return True


def test_what_takes_over_a_second_shows_how_far_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Screen()
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setattr(progress, "SLOW_S", 0.05)
    with progress.show_slow("locating") as report:
        report(3, 20)
        wait_for(lambda: "locating" in screen.getvalue() and "3/20" in screen.getvalue())
    before = len(screen.getvalue())
    monkeypatch.setattr(progress, "SLOW_S", 60.0)
    with progress.show_slow("locating") as report:
        report(1, 20)
    assert len(screen.getvalue()) == before, "what is quick shows nothing"
