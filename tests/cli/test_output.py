"""What commands print changes no terminal, whatever files are called and contain; programs get the same values."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bindsearch.cli.output import print_json, show_stages, visible
from bindsearch.cli.progress import print_event, show_progress, show_rows
from helpers.command import Run
from helpers.terminal import Terminal

ACTING = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
"""Characters that a terminal may act on, except the end of a line."""
NAMES = (
    "esc\x1b[2Jape.txt",
    "bell\x07 and\rreturn.txt",
    "two\nlines.txt",
    "delete\x7f c1\x9b5n.txt",
    "bidi\u202egpj \u2066isolate\u2069.txt",
    "separators\u2028\u2029.txt",
    "[bold]markup[red].txt",
    "plain \u202f\u3000 spaces.txt",
)


@pytest.fixture
def folder(tmp_path: Path, bindsearch_command: Run) -> Path:
    """Files with odd names, texts and failures, indexed."""
    folder = tmp_path / "media\x1b]0;title\x07[bold]"
    folder.mkdir()
    for name in NAMES:
        (folder / name).write_text(f"a dog \x1b[31m {name}")
        (folder / f"copy of {name}").write_text(f"a dog \x1b[31m {name}")
        (folder / f"{name}.png").write_bytes(b"\x89PNG\r\n\x1a\n damaged")
    with open(os.fsencode(folder) + b"/not utf-8 \xff\x9b.txt", "wb") as file:  # noqa: PTH123  (bytes)
        file.write(b"a dog")
    done = bindsearch_command(["index", folder, "--encoder", "null"])
    assert done.returncode == 3, done.stderr
    assert not ACTING.search(done.stdout + done.stderr)
    return folder


@pytest.mark.parametrize(
    "line",
    [
        "search a\x1b --json",
        "search a --paths",
        "search a",
        "search a\x9b --where name='\x1b'",
        "search a --where \x1b",
        "search --like FOLDER/\x1b",
        "explain a\x1b",
        "explain a\x1b --json",
        "status",
        "status --failed",
        "status --failed --json",
        "duplicates",
        "duplicates --json",
        "duplicates --near --json",
        "verify --check-media",
        "verify --check-media --json",
        "index FOLDER --dry-run",
        "index FOLDER --dry-run --json",
        "show FOLDER/\x1b",
        "show FOLDER/\x1b --json",
        "index FOLDER --retry-failed --json",
        "index FOLDER --retry-failed --json-lines",
        "index FOLDER/\x9b",
        "forget FOLDER/\x1b",
        "forget FOLDER --json",
        "export OUT\x1b --json",
    ],
)
def test_no_output_acts_on_a_terminal(line: str, folder: Path, tmp_path: Path, bindsearch_command: Run) -> None:
    words = [word.replace("FOLDER", str(folder)).replace("OUT", str(tmp_path / "out")) for word in line.split(" ")]
    (folder / NAMES[0]).write_text("changed, so that something is found")
    done = bindsearch_command(words)
    assert done.returncode in (0, 1, 2, 3, 5)
    assert "unexpected" not in done.stderr
    assert not ACTING.search(done.stdout + done.stderr)
    if "--json" in words and done.stdout:
        assert json.loads(done.stdout)["schema"] == 1
    for printed in done.stdout.splitlines() if "--json-lines" in words else ():
        assert json.loads(printed)["schema"] == 1


def test_programs_get_every_path_as_it_is(folder: Path, tmp_path: Path) -> None:
    wanted = {folder / name for name in (*NAMES, *(f"copy of {name}" for name in NAMES))}

    def search(option: str) -> str:
        program = Path(sys.executable).with_name("bindsearch")
        words = ["search", "a dog", "-k", "100", "--copies", "--store", str(tmp_path / "store"), option]
        done = subprocess.run([program, *words], capture_output=True, check=True, timeout=300)
        return done.stdout.decode()  # bytes, as text=True would make "\r" a "\n"

    assert {Path(hit["path"]) for hit in json.loads(search("--json"))["hits"]} == wanted
    *paths, end = search("--print0").split("\0")
    assert end == ""
    assert {Path(path) for path in paths} == wanted
    assert search("-0").count("\0") == len(wanted)
    assert {*search("--paths").split("\n")} == {"", *(visible(str(path)) for path in wanted)}


@given(
    value=st.recursive(
        st.text() | st.sampled_from(NAMES), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)
    )
)
def test_json_has_the_same_values(value: Any) -> None:
    for show in (lambda: print_json({"value": value}), lambda: print_event("done", {"value": value})):
        printed = captured(show)
        assert not ACTING.search(printed)
        assert json.loads(printed)["value"] == value


@given(code=st.integers(0xD800, 0xDFFF))
def test_json_of_lone_surrogates_is_ascii(code: int) -> None:
    assert json.loads(captured(lambda: print_json({"value": chr(code)})))["value"] == chr(code)


def captured(show: Callable[[], None]) -> str:
    stream = io.TextIOWrapper(io.BytesIO(), "utf-8", write_through=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "stdout", stream)
        show()
    stream.seek(0)
    return stream.read()


@pytest.mark.parametrize("stage", ["copying /x/[bold]y", "copying [/]", "[red]z[/red] :smile: [link=a]", "a \x1b[2J"])
def test_stages_on_a_terminal_are_no_markup(stage: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "200")
    for show in (show_stages, progress_stages, row_stages):
        terminal = Terminal()
        monkeypatch.setattr(sys, "stderr", terminal)
        with show() as tell:
            tell(stage)
        assert visible(stage) in terminal.getvalue()


@contextmanager
def progress_stages() -> Iterator[Callable[[str], None]]:
    with show_progress(as_lines=False) as (_, tell):
        yield tell


@contextmanager
def row_stages() -> Iterator[Callable[[str], None]]:
    with show_rows("importing") as (_, tell):
        yield tell
