"""The commands that keep a store: what they print for people and for programs, and how they exit."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from helpers.command import Run
from helpers.media_files import two_tone
from helpers.stores import connect

Command = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def store(tmp_path: Path) -> Path:
    (tmp_path / "media").mkdir()
    for n in range(3):
        (tmp_path / "media" / f"{n}.txt").write_text(f"text {n}")
    Image.fromarray(two_tone(40, 0)).save(tmp_path / "media" / "large.png")
    with connect(tmp_path / "store", encoder="null") as opened:
        opened.index(tmp_path / "media", limits={"pixels": 1000})
    return tmp_path / "store"


@pytest.fixture
def command(store: Path, bindsearch_command: Command) -> Run:
    return lambda *arguments: bindsearch_command([*map(str, arguments), "--store", str(store)])


def test_retry_with_a_larger_cap(command: Command, store: Path) -> None:
    done = command("retry", "--limit", "pixels=1500")
    assert done.returncode == 3
    assert "is 40x40 pixels: more than 1500 are not decoded (--limit pixels=N)" in done.stderr
    done = command("retry", "--limit", "pixels=2000", "--json")
    assert done.returncode == 0
    assert json.loads(done.stdout)["items"] == {"image": 1}
    for wrong, message in (
        ("pixels", "expected NAME=NUMBER"),
        ("colour=3", "unknown limit 'colour': choose from pixels"),
    ):
        done = command("retry", "--limit", wrong)
        assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
        assert message in done.stderr


def test_progress_as_lines(command: Command, store: Path) -> None:
    for n in range(50):
        (store.parent / "media" / f"more {n}.txt").write_text(f"more {n}")
    done = command("index", store.parent / "media", "--json-lines")
    events = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 3
    assert [event["event"] for event in events[:2]] == ["progress", "progress"]
    assert (events[0]["done"], events[0]["total"]) == (0, 50)
    assert (events[-1]["event"], events[-1]["added"], events[-1]["items"]) == ("done", 50, {"text": 50})
    done = command("index", store.parent / "media", "--dry-run", "--json-lines")
    assert len(json.loads(done.stdout)["files"]) == 54


def test_reindex(command: Command, store: Path) -> None:
    (store.parent / "media" / "1.txt").unlink()
    done = command("reindex", "--encoder", "null")
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
    assert "1 of the store's items have no file any more" in done.stderr
    done = command("reindex", "--encoder", "null", "--prune")
    assert (done.returncode, done.stdout.split(",")[0]) == (0, "3 added")


def test_forget_says_how_many(command: Command, store: Path) -> None:
    done = command("forget", store.parent / "media" / "1.txt")
    assert (done.returncode, done.stdout.splitlines()[0].split(";")[0]) == (0, "removed 1 item")
    done = command("forget", store.parent / "nowhere")
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
    assert command("verify").returncode == 0
    assert "now" in command("compact").stdout


def test_suggested_commands_can_be_pasted_into_a_shell(tmp_path: Path, bindsearch_command: Run) -> None:
    folder = tmp_path / "it's my $HOME"
    folder.mkdir()
    for name in ("a.txt", "b.txt"):
        (folder / name).write_text(name)
    assert bindsearch_command(["index", folder, "--encoder", "null"]).returncode == 0
    (folder / "a.txt").unlink()
    suggested = re.findall("`(bindsearch .*?)`", bindsearch_command(["verify", "--check-media"]).stdout)
    assert [shlex.split(line) for line in suggested] == [["bindsearch", "index", str(folder)]]
    assert bindsearch_command(shlex.split(suggested[0])[1:]).returncode == 0
    folder.rename(tmp_path / "new")
    suggested = re.findall("`(bindsearch .*?)`", bindsearch_command(["verify", "--check-media"]).stdout)
    relocate, forget = (shlex.split(line)[1:] for line in suggested)
    assert (relocate, forget) == (["relocate", str(folder), "NEW"], ["forget", str(folder)])
    assert bindsearch_command(forget).stdout.startswith("removed 1 item;")
