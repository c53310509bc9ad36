"""Former names of commands and options work like the current ones, and no help shows them."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main
from PIL import Image

from bindsearch.cli.aliases import FORMER_COMMANDS, FORMER_OPTIONS
from bindsearch.cli.main import app
from helpers.command import Run
from helpers.media_files import two_tone
from helpers.stores import connect

PROGRAM = typer.main.get_command(app)

MEASURED = ("took_s", "took_ms", "read_bytes")
"""Keys of results that differ between two runs of one command."""

RUNS: dict[str, list[str]] = {
    "as": ["index", "MEDIA", "--dry-run", "--as", "thermal=large.png"],
    "content": ["verify", "--content"],
    "cosine": ["duplicates", "--cosine", "0.01"],
    "diverse": ["search", "text 1", "--to", "text", "--diverse", "1"],
    "files": ["verify", "--files"],
    "in": ["search", "text 1", "--in", "MEDIA/sub", "--in", "MEDIA/nothing"],
    "max": ["retry", "--max", "pixels=999"],
    "rank": ["search", "text 1", "--rank", "per-modality"],
}
"""A command for each former name of an option, with a result that the option changes."""


def commands(command: Any, *names: str) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Yield the commands of the program, each with its names from the top."""
    below = getattr(command, "commands", None)
    if below is None:
        yield names, command
    for name, child in (below or {}).items():
        yield from commands(child, *names, name)


def options_with_former_names() -> list[tuple[tuple[str, ...], str, str]]:
    """Return command, former and current name of every option that has one."""
    return [
        (names, f"--{former}", f"--{current}")
        for names, command in commands(PROGRAM)
        for former, current in FORMER_OPTIONS.items()
        if any(f"--{current}" in parameter.opts for parameter in command.params)
    ]


def parse(names: tuple[str, ...], arguments: list[str]) -> dict[str, Any]:
    """Return the parameters of a command, as its function gets them; what it requires is not asked for."""
    context: Any = None
    command: Any = PROGRAM
    for depth, name in enumerate(names):
        context = command.make_context(name, [*names[depth:], *arguments], parent=context, resilient_parsing=True)
        command = command.commands[name]
    values: dict[str, Any] = command.make_context(
        names[-1], list(arguments), parent=context, resilient_parsing=True
    ).params
    return values


@pytest.fixture
def store(tmp_path: Path, bindsearch_command: Run) -> Path:
    """Make a store with a file deleted since, one changed with the same size and time, and one failed."""
    media = tmp_path / "media"
    (media / "sub").mkdir(parents=True)
    for n in range(6):
        (media / "sub" / f"{n}.txt" if n % 2 else media / f"{n}.txt").write_text(f"text {n}")
    Image.fromarray(two_tone(40, 0)).save(media / "large.png")
    Image.fromarray(two_tone(8, 0)).save(media / "small.png")
    with connect(tmp_path / "store", encoder="null") as opened:
        opened.index(media, limits={"pixels": 1000})
    (media / "0.txt").unlink()
    changed = media / "2.txt"
    times = changed.stat()
    changed.write_text("TEXT 2")
    os.utime(changed, ns=(times.st_atime_ns, times.st_mtime_ns))
    return tmp_path / "store"


def test_every_former_option_belongs_to_a_command() -> None:
    assert {former for _, former, _ in options_with_former_names()} == {f"--{former}" for former in FORMER_OPTIONS}
    assert set(RUNS) == set(FORMER_OPTIONS)
    assert not set(FORMER_OPTIONS) & set(FORMER_OPTIONS.values())


@pytest.mark.parametrize(("names", "former", "current"), options_with_former_names())
def test_a_former_option_is_the_current_one(names: tuple[str, ...], former: str, current: str) -> None:
    (parameter,) = [
        found for _, command in commands(PROGRAM) if _ == names for found in command.params if current in found.opts
    ]
    value = [] if parameter.is_flag else ["0.5"]
    due = parse(names, [current, *value])
    assert due != parse(names, [])
    assert parse(names, [former, *value]) == due
    if not parameter.is_flag:
        assert parse(names, [f"{former}=0.5"]) == due
    if parameter.multiple:
        mixed = parse(names, [former, "1", current, "2", former, "3"])
        assert [str(one) for one in mixed[parameter.name]] == ["1", "2", "3"]


@pytest.mark.parametrize("former", RUNS)
def test_a_former_option_gives_the_same_result(former: str, store: Path, bindsearch_command: Run) -> None:
    def result(arguments: list[str]) -> dict[str, Any]:
        given = [part.replace("MEDIA", str(store.parent / "media")) for part in arguments]
        done = bindsearch_command([*given, "--json", "--store", store])
        assert done.stdout, done.stderr
        return {name: value for name, value in json.loads(done.stdout).items() if name not in MEASURED}

    arguments = RUNS[former]
    at = arguments.index(f"--{former}")
    found = result(arguments)
    assert result([part.replace(f"--{former}", f"--{FORMER_OPTIONS[former]}") for part in arguments]) == found
    assert result(arguments[:at]) != found


@pytest.mark.parametrize(("former", "current"), FORMER_COMMANDS.items())
def test_a_former_command_gives_the_same_result(
    former: str, current: str, store: Path, bindsearch_command: Run
) -> None:
    assert current in {names[0] for names, _ in commands(PROGRAM)}
    done = [bindsearch_command([name, "--json", "--store", store]) for name in (former, current)]
    assert done[0].returncode == 0
    assert done[0].stdout == done[1].stdout
    assert f" {current} [OPTIONS]" in bindsearch_command([former, "--help"]).stdout


def test_no_help_shows_a_former_name(bindsearch_command: Run) -> None:
    for names in [(), *(names for names, _ in commands(PROGRAM))]:
        text = bindsearch_command([*names, "--help"]).stdout
        for former in FORMER_OPTIONS:
            assert not re.search(rf"--{former}(?![\w-])", text), (names, former)
        for former in FORMER_COMMANDS:
            assert not re.search(rf"\b{former}\b", text), (names, former)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["search", "x", "--rank"], "Option '--ranking' requires an argument"),
        (["search", "x", "--diverse", "much"], "Invalid value for '--diversity'"),
        (["verify", "--files=yes"], "Option '--check-media' does not take a value"),
        (["status", "--files"], "No such option: --files"),
        (["search", "x", "--max", "pixels=3"], "No such option: --max"),
        (["dupe"], "No such command 'dupe'"),
    ],
)
def test_errors_name_the_current_option(arguments: list[str], message: str, bindsearch_command: Run) -> None:
    done = bindsearch_command(arguments)
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
    assert message in done.stderr


def test_a_flag_named_like_an_option_with_a_value_at_will_takes_none() -> None:
    assert parse(("serve",), ["--open"])["open_page"] is True
    assert parse(("search",), ["a dog", "--open"])["open_"] == 1
    assert parse(("search",), ["a dog", "--open", "3"])["open_"] == 3
