"""One system call on the store fails: a command is done, or says why not in one line, and nothing is lost.

A sample runs in `make test`. BINDSEARCH_FAULTS=5000 runs more, BINDSEARCH_FAULTS=calls one fault at every call of every
command, BINDSEARCH_FAULTS=all every error at every call; BINDSEARCH_FAULT_SEED decides on order and choice, and
BINDSEARCH_FAULT_PART=2/8 takes every eighth of them, from the second on.
"""

from __future__ import annotations

import errno
import json
import os
import random
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO

import pytest

from helpers.children import faulty
from helpers.system_calls import Kind, build_library, environment

WANTED = os.environ.get("BINDSEARCH_FAULTS", "6")
COUNT = int(WANTED) if WANTED.isdigit() else sys.maxsize
SEED = int(os.environ.get("BINDSEARCH_FAULT_SEED", "0"))
PART, PARTS = map(int, os.environ.get("BINDSEARCH_FAULT_PART", "1/1").split("/"))
SAMPLE = 60
"""Number of faults up to which a few commands are disturbed only."""

COMMANDS = (
    *("fresh index", "update", "update with checkpoints", "forget", "compact", "optimize", "reindex", "merge"),
    *("import", "recover", "search", "status", "verify", "export"),
)

ERRORS = {
    Kind.OPEN_READ: (errno.EIO, errno.EACCES, errno.EMFILE, errno.ENOMEM, errno.ESTALE, errno.EINTR),
    Kind.OPEN_WRITE: (errno.EIO, errno.ENOSPC, errno.EACCES, errno.EROFS, errno.EMFILE, errno.ESTALE),
    Kind.READ: (errno.EIO, errno.ESTALE, errno.EINTR),
    Kind.WRITE: (errno.ENOSPC, errno.EIO, errno.EROFS),
    Kind.SYNC: (errno.EIO, errno.ENOSPC, errno.EROFS),
    Kind.TRUNCATE: (errno.EIO, errno.ENOSPC),
    Kind.RENAME: (errno.EIO, errno.ENOSPC, errno.EACCES, errno.EROFS),
    Kind.REMOVE: (errno.EIO, errno.EACCES, errno.EROFS),
    Kind.MKDIR: (errno.ENOSPC, errno.EACCES, errno.EROFS),
    Kind.LINK: (errno.EROFS,),
    Kind.LOCK: (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EIO, errno.EINTR),
    Kind.STAT: (errno.EIO, errno.EACCES, errno.ESTALE, errno.ENOMEM),
    Kind.LIST: (errno.EIO, errno.EACCES, errno.EMFILE),
    Kind.MAP: (errno.ENOMEM, errno.EACCES, errno.EIO),
}


class Disturber:
    """A process that disturbs commands."""

    def __init__(self, library: Path, place: Path, names: list[str]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, faulty.__file__, str(place), *names],
            env=environment(library, place),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._input: IO[str] = self._process.stdin
        self._output: IO[str] = self._process.stdout
        self.counts: dict[str, dict[str, int]] = json.loads(self._output.readline())

    def close(self) -> None:
        self._input.close()
        self._output.close()
        self._process.wait()

    def disturb(self, name: str, kind: Kind, first: int, last: int, error: int) -> tuple[bool, list[str]]:
        """Disturb a command; return whether a call failed, and what was wrong."""
        self._input.write(json.dumps([name, kind.name, first, last, error]) + "\n")
        self._input.flush()
        failed, problems = json.loads(self._output.readline())
        return failed, problems


@pytest.fixture(scope="module")
def disturbers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Disturber]]:
    library = build_library(tmp_path_factory.mktemp("library"))
    names = list(COMMANDS) if COUNT > SAMPLE else random.Random(SEED).sample(COMMANDS, 3)
    processes = [
        Disturber(library, tmp_path_factory.mktemp("faults"), names) for _ in range(2 if COUNT > SAMPLE else 1)
    ]
    yield processes
    for process in processes:
        process.close()


def points(counts: dict[str, dict[str, int]]) -> list[tuple[str, Kind, int, int, int]]:
    """Return command, kind of call, first and last call that fails (-1: all that follow), and error of each fault."""
    return [
        (name, kind, number, last, error)
        for name, by_kind in counts.items()
        for kind in Kind
        for number in range(1, by_kind[kind.name] + 1)
        for error in ERRORS[kind]
        for last in ((number,) if error == errno.EINTR else (number, -1))  # it is tried again, for ever
    ]


def test_a_failing_call_costs_nothing_that_was_committed(disturbers: list[Disturber]) -> None:
    chosen = points(disturbers[0].counts)
    random.Random(SEED).shuffle(chosen)
    if WANTED == "calls":
        chosen = list({point[:3]: point for point in chosen}.values())
    chosen = chosen[:COUNT][PART - 1 :: PARTS]

    def disturb(number: int) -> tuple[int, list[str]]:
        failed, problems = 0, []
        for point in chosen[number :: len(disturbers)]:
            has_failed, wrong = disturbers[number].disturb(*point)
            failed += has_failed
            problems += [f"{point}: {wrong}"] if wrong else []
        return failed, problems

    with ThreadPoolExecutor(len(disturbers)) as pool:
        answers = list(pool.map(disturb, range(len(disturbers))))
    problems = [problem for _, problems in answers for problem in problems]
    assert not problems, "\n".join(problems)
    assert sum(failed for failed, _ in answers) > 0.9 * len(chosen)
