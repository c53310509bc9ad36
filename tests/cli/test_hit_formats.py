"""Forms of hits for programs, queries of standard input, and opening a hit."""

import csv
import io
import json
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bindsearch.cli.hits.formats import FIELDS, parse_form
from bindsearch.cli.hits.open_hit import command_for
from bindsearch.errors import UsageError
from helpers.command import Run
from helpers.stores import connect
from helpers.waiting import wait_for

HOSTILE = 'a "quoted", \x1b[31mred\x1b[0m\nname <script>.txt'


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a store of three texts, one with a hostile name."""
    folder = tmp_path_factory.mktemp("media")
    (folder / HOSTILE).write_text("a dog on the beach")
    (folder / "cat.txt").write_text("# Cats\n\na cat, asleep on a sofa")
    (folder / "empty words.txt").write_text("nothing of interest")
    path = tmp_path_factory.mktemp("store") / "store"
    with connect(path, encoder="null") as opened:
        opened.index(folder)
    return path


Search = Callable[..., tuple[str, str, int]]


@pytest.fixture
def search(store: Path, bindsearch_command: Run) -> Search:
    def run(*arguments: str) -> tuple[str, str, int]:
        done = bindsearch_command(["search", *arguments, "--store", store])
        return done.stdout, done.stderr, done.returncode

    return run


def test_csv_has_all_values_and_hostile_names_come_back(search: Search) -> None:
    rows = list(csv.DictReader(io.StringIO(search("a dog", "--csv")[0])))
    hits = json.loads(search("a dog", "--json")[0])["hits"]
    assert tuple(rows[0]) == FIELDS
    assert [row["path"] for row in rows] == [hit["path"] for hit in hits]
    assert {row["name"] for row in rows} == {HOSTILE, "cat.txt", "empty words.txt"}
    assert [float(row["probability"]) for row in rows] == [hit["probability"] for hit in hits]
    assert {row["start_s"] for row in rows} == {""}


def test_json_lines_are_the_hits(search: Search) -> None:
    out, _, _ = search("a dog", "--jsonl")
    assert [json.loads(line) for line in out.splitlines()] == [
        {"schema": 1, **hit} for hit in json.loads(search("a dog", "--json")[0])["hits"]
    ]
    assert "\x1b" not in out


def test_a_form_prints_fields(search: Search) -> None:
    one = ["--like", "1", "--include-query", "-k", "1"]
    name = Path(json.loads(search(*one, "--json")[0])["hits"][0]["path"]).name
    assert search(*one, "--format", r"{rank:03}\t{name}\t{start_s}|{{x}}\\")[0] == f"001\t{name}\t|{{x}}\\\n"
    assert sorted(search("a dog", "--format", r"{item_id}\0")[0].split("\0")) == ["", "1", "2", "3"]


@pytest.mark.parametrize(
    ("form", "message"),
    [
        ("{pth}", "a hit has no field 'pth': did you mean 'path'? its fields are rank, path"),
        ("{path.__class__}", "a hit has no field 'path.__class__'"),
        ("{path!r}", "takes a format such as {probability:.2f} only"),
        ("{rank:{rank}}", "takes a format such as"),
        ("{rank:1000000000000}", "{rank:1000000000000} is wider than 9999 characters: ask for less"),
        ("{path", "expected '}' before end of string"),
        (r"\q", r"\q is not known"),
    ],
)
def test_a_wrong_form_is_one_line(form: str, message: str, search: Search) -> None:
    with pytest.raises(UsageError):
        parse_form(form)
    out, errors, code = search("a dog", "--format", form)
    assert (out, code) == ("", 2)
    assert message in errors
    assert len(errors.splitlines()) == 1


def test_a_format_that_does_not_fit_is_one_line(search: Search) -> None:
    _, errors, code = search("a dog", "--format", "{path:.2f}")
    assert code == 2
    assert "--format: {path:.2f} does not fit the value" in errors


def test_one_form_at_a_time(search: Search) -> None:
    _, errors, code = search("a dog", "--csv", "--paths", "--json")
    assert code == 2
    assert "--json, --csv and --paths exclude each other: choose one" in errors


def test_queries_of_standard_input(search: Search, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = "a dog\n\n  like:99\ntext:cat\n"
    monkeypatch.setattr(sys, "stdin", io.StringIO(lines))
    out, errors, code = search("-", "--json", "-k", "1")
    first, second, third = map(json.loads, out.splitlines())
    assert (first["line"], first["query_text"], len(first["hits"])) == (1, "a dog", 1)
    problem = "no indexed item '99': give an item_id or the path of an indexed file"
    assert second == {"schema": 1, "line": 3, "query_text": "like:99", "error": problem}
    assert (third["line"], third["query"]["terms"][0]["source"]) == (4, "cat")
    assert "line 3: no indexed item '99'" in errors
    assert code == 2
    monkeypatch.setattr(sys, "stdin", io.StringIO("a dog\ntext:cat\n"))
    out, _, code = search("-", "--paths", "-k", "1")
    assert (len(out.splitlines()), code) == (2, 0)
    monkeypatch.setattr(sys, "stdin", io.StringIO(lines))
    assert [line for line in search("-", "-k", "1")[0].splitlines() if line.startswith("#")] == [
        "# a dog",
        "# text:cat",
    ]


def test_lines_that_are_no_query_do_not_stop_the_others(store: Path) -> None:
    program = Path(sys.executable).with_name("bindsearch")
    lines = b"a \xff dog\n" + 150_000 * b"dog " + b"\na cat\r\n"
    done = subprocess.run(
        [program, "search", "-", "--json", "--words", "--store", store], input=lines, capture_output=True, timeout=60
    )
    first, second, third = map(json.loads, done.stdout.splitlines())
    assert (first["line"], first["error"]) == (1, "the query is not a text of UTF-8: convert it")
    assert (second["line"], second["error"][:43]) == (2, "the query has more than 100,000 characters:")
    assert (third["line"], Path(third["hits"][0]["path"]).name) == (3, "cat.txt")
    assert [line[:7] for line in done.stderr.decode().splitlines()] == ["line 1:", "line 2:"]
    assert done.returncode == 2


def hit(path: str, modality: str, start_s: float | None = None) -> dict[str, Any]:
    return {"rank": 1, "path": path, "modality": modality, "start_s": start_s, "is_missing": False}


def test_players_start_at_the_span() -> None:
    display = {"DISPLAY": ":0"}
    video = hit("/m/a b;rm -rf.mp4", "video", 12.5)
    assert command_for(video, display, {"mpv": "/usr/bin/mpv"}.get, "linux") == ["mpv", "--start=12.5", video["path"]]
    assert command_for(video, display, {"xdg-open": "/usr/bin/xdg-open"}.get, "linux") == ["xdg-open", video["path"]]
    picture = hit("/m/a.jpg", "image")
    tools = {"mpv": "/usr/bin/mpv", "xdg-open": "/usr/bin/xdg-open"}
    assert command_for(picture, display, tools.get, "linux") == ["xdg-open", "/m/a.jpg"]
    assert command_for(video, {}, tools.get, "darwin") == ["open", video["path"]]
    own = {"BINDSEARCH_OPENER": "play --from={start_s} {path}"}
    assert command_for(video, own, tools.get, "linux") == ["play", "--from=12.5", video["path"]]
    assert command_for(picture, {"BINDSEARCH_OPENER": "less"}, tools.get, "linux") == ["less", "/m/a.jpg"]


@pytest.mark.parametrize(
    ("opener", "message"),
    [
        ("less '", 'BINDSEARCH_OPENER is "less \'": No closing quotation'),
        (" ", "BINDSEARCH_OPENER is ' ': begin it with a program, such as 'less {path}'"),
        ("'' {path}", """BINDSEARCH_OPENER is "'' {path}": begin it with a program, such as 'less {path}'"""),
        ("{path}", "BINDSEARCH_OPENER is '{path}': begin it with a program, such as 'less {path}'"),
    ],
)
def test_a_wrong_opener_runs_nothing(opener: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        command_for(hit("/m/a.sh", "text"), {"BINDSEARCH_OPENER": opener}, lambda _: None, "linux")
    assert str(caught.value) == message


def test_a_hit_is_opened(search: Search, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script, done = tmp_path / "opener.py", tmp_path / "opened"
    script.write_text(
        "import os, sys; open(sys.argv[1] + '.new', 'w').write(sys.argv[2]); "
        "os.replace(sys.argv[1] + '.new', sys.argv[1])"
    )
    monkeypatch.setenv("BINDSEARCH_OPENER", shlex.join([sys.executable, str(script), str(done), "{path}"]))
    out, _, _ = search("a dog", "--open", "2", "--jsonl")
    wait_for(done.is_file)
    assert done.read_text() == json.loads(out.splitlines()[1])["path"]


def test_what_cannot_be_opened_is_told(search: Search, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("BINDSEARCH_OPENER", "DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    _, errors, code = search("a dog", "--open", "9")
    assert code == 2
    assert "--open 9: there are 3 hits: give 1 to 3" in errors
    if sys.platform != "darwin":
        _, errors, code = search("a dog", "--open", "1")
        assert (code, "cannot be opened without a display: set BINDSEARCH_OPENER" in errors) == (2, True)
