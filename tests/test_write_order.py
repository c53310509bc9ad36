"""The order of writes of every command: a power cut at any moment leaves what was committed.

Bytes are durable before a file has its name, names before anything relies on them, vectors before the commit in the
catalog, that before CURRENT, and nothing is removed that CURRENT refers to. See docs/architecture.md.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import IO

import pytest
import typer

from bindsearch.cli.commands import COMMANDS
from helpers.children import writing
from helpers.children.writing import READING, WRITING
from helpers.power_loss import Call, Node, read_log, tree
from helpers.system_calls import build_library, environment
from helpers.write_order import problems_of


class Recorder:
    """A process that records commands."""

    def __init__(self, library: Path, place: Path) -> None:
        self._place = place
        self._process = subprocess.Popen(
            [sys.executable, writing.__file__, str(place)],
            env=environment(library, place),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._input: IO[str] = self._process.stdin
        self._output: IO[str] = self._process.stdout

    def record(self, name: str) -> list[str]:
        """Record a command, and return what is wrong with the order of its writes."""
        self._input.write(f"{name}\n")
        self._input.flush()
        assert self._output.readline() == "\n"
        place = self._place / name
        calls = read_log(place / "log")
        assert any(call.op == "s" for call in calls) or name == "model remove"
        return problems_of(tree(place / "before"), str(place / "disk"), calls)

    def close(self) -> None:
        self._input.close()
        self._output.close()
        self._process.wait()


@pytest.fixture(scope="module")
def recorder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Recorder]:
    running = Recorder(build_library(tmp_path_factory.mktemp("library")), tmp_path_factory.mktemp("recordings"))
    yield running
    running.close()


@pytest.mark.parametrize("name", WRITING)
def test_writes_are_in_an_order_that_no_power_cut_breaks(recorder: Recorder, name: str) -> None:
    assert recorder.record(name) == []


def test_every_command_has_a_recorded_order_or_a_reason_for_none() -> None:
    names = set()
    for name, (module, attribute) in COMMANDS.items():
        found = getattr(import_module(f"bindsearch.cli.{module}"), attribute)
        below = [part.name for part in found.registered_commands] if isinstance(found, typer.Typer) else [""]
        names |= {f"{name} {part}".strip() for part in below}
    recorded = {name for name in names if any(row == name or row.startswith(f"{name} ") for row in WRITING)}
    assert recorded | READING.keys() == names
    assert not recorded & READING.keys()


def replacing(path: str, data: bytes = b"x") -> list[Call]:
    """Return the calls that replace a file durably."""
    folder, _, name = path.rpartition("/")
    temporary = f"{folder}/.{name}.1.tmp"
    return [
        Call("c", temporary, "", 0, 0, b""),
        Call("w", temporary, "", 0, len(data), data),
        Call("s", temporary, "", 0, 0, b""),
        Call("r", temporary, path, 0, 0, b""),
        Call("d", folder, "", 0, 0, b""),
    ]


VECTOR = replacing("/vectors/text/2.arrow")
COMMIT = [Call("w", "/catalog.duckdb.wal", "", 0, 1, b"x"), Call("s", "/catalog.duckdb.wal", "", 0, 0, b"")]
PART = [Call("m", "/snapshots/2", "", 0, 0, b""), Call("d", "/snapshots", "", 0, 0, b"")]
MANIFEST = {"vectors": {"text": [["2.arrow", 1]]}, "parts": [2], "indexes": {}}
PUBLISH = replacing("/CURRENT", json.dumps(MANIFEST).encode())
REMOVE = [Call("u", "/vectors/text/1.arrow", "", 0, 0, b"")]
GOOD = [*VECTOR, *COMMIT, *PART, *PUBLISH, *REMOVE]


def folder_before() -> Node:
    """Return a store whose CURRENT refers to one vector file."""
    manifest = {"vectors": {"text": [["1.arrow", 1]]}, "parts": [], "indexes": {}}
    files = {"CURRENT": json.dumps(manifest).encode(), "store.json": b"{}", "catalog.duckdb.wal": b""}
    vectors = Node(names={"text": Node(names={"1.arrow": Node(content=b"x")})})
    below = {"vectors": vectors, "snapshots": Node(names={})}
    return Node(names=below | {name: Node(content=content) for name, content in files.items()})


def test_a_durable_commit_has_no_problem() -> None:
    assert problems_of(folder_before(), "", GOOD) == []


@pytest.mark.parametrize("place", [place for place, call in enumerate(GOOD) if call.op in "sd"])
def test_a_sync_that_is_left_out_is_found(place: int) -> None:
    assert problems_of(folder_before(), "", [*GOOD[:place], *GOOD[place + 1 :]]) != []


@pytest.mark.parametrize(
    ("calls", "problem"),
    [
        ([*COMMIT, *VECTOR, *PART, *PUBLISH, *REMOVE], "without a commit in the catalog after it"),
        ([*VECTOR, *PART, *COMMIT, *PUBLISH, *REMOVE], "was begun before the commit in the catalog"),
        ([*COMMIT, *PART, *PUBLISH, *VECTOR, *REMOVE], "is in /CURRENT before it is there"),
        ([*VECTOR, *COMMIT, *PART, *REMOVE, *PUBLISH], "was removed while /CURRENT refers to it"),
    ],
    ids=["catalog before vectors", "snapshot before catalog", "CURRENT before vectors", "removal before CURRENT"],
)
def test_another_order_is_found(calls: list[Call], problem: str) -> None:
    assert any(problem in found for found in problems_of(folder_before(), "", calls))
