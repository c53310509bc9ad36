"""Power cuts after any system call: nothing committed is lost, everything goes on, and nothing needs a hand.

The system calls of commands are recorded; what a cut may leave of them is rebuilt and used. A sample runs in
`make test`; BINDSEARCH_CUTS=3000 runs more, from BINDSEARCH_CUT_SEED on.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from helpers.children import after_power_loss, recording
from helpers.power_loss import Call, Policy, Replay, files_of, read_log, tree
from helpers.system_calls import build_library, environment

COUNT = int(os.environ.get("BINDSEARCH_CUTS", "8"))
FIRST = int(os.environ.get("BINDSEARCH_CUT_SEED", "0"))
SAMPLE = 60
"""Number of cuts up to which a few commands are recorded only."""

COMMANDS = (
    *("fresh index", "fresh index with checkpoints", "update", "update with checkpoints", "forget"),
    *("forget with checkpoints", "compact", "optimize", "reindex", "merge", "import", "recover"),
)


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a recording of each command."""
    place = tmp_path_factory.mktemp("recordings")
    library = build_library(tmp_path_factory.mktemp("library"))
    names = COMMANDS if COUNT > SAMPLE else random.Random(FIRST).sample(COMMANDS, 3)
    done = subprocess.run(
        [sys.executable, recording.__file__, str(place), *names],
        env=environment(library, place),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return place


def replay(place: Path, calls: list[Call]) -> Replay:
    return Replay(place / "before", str(place / "disk"), calls)


def names_of(recordings: Path) -> list[str]:
    return sorted(path.name for path in recordings.iterdir() if (path / "log").exists())


def test_all_calls_replayed_give_the_store_byte_by_byte(recordings: Path) -> None:
    for name in names_of(recordings):
        place = recordings / name
        written = replay(place, read_log(place / "log")).state(Policy.WRITTEN, random.Random(0))
        assert files_of(written) == files_of(tree(place / "after")), name


def test_all_that_is_synced_is_there_under_every_policy(tmp_path: Path) -> None:
    def call(op: str, path: str, other: str = "", offset: int = 0, data: bytes = b"") -> Call:
        return Call(op, f"/disk{path}", f"/disk{other}" if other else "", offset, len(data), data)

    calls = [
        call("c", "/.a.tmp"),
        call("w", "/.a.tmp", data=b"x" * 9000),
        call("s", "/.a.tmp"),
        call("r", "/.a.tmp", "/a"),
        call("d", ""),
        call("c", "/b"),
        call("w", "/b", data=b"y" * 9000),
        call("w", "/a", offset=4096, data=b"z" * 4096),
    ]
    (tmp_path / "before").mkdir()
    seen: dict[Policy, set[tuple[bool, bytes | str | None, bytes | str | None]]] = {}
    for policy in Policy:
        for seed in range(40):
            state = Replay(tmp_path / "before", "/disk", calls).state(policy, random.Random(seed))
            files = files_of(state)
            a, b = files["/a"], files.get("/b", b"")
            assert isinstance(a, bytes)
            assert len(a) == 9000
            assert a[:4096] + a[8192:] == b"x" * (9000 - 4096)
            seen.setdefault(policy, set()).add(("/b" in files, a, b))
    assert seen[Policy.WRITTEN] == {(True, b"x" * 4096 + b"z" * 4096 + b"x" * 808, b"y" * 9000)}
    assert seen[Policy.SYNCED] == {(False, b"x" * 9000, b"")}
    assert {there for there, _, _ in seen[Policy.NAMES]} == {True, False}
    assert len(seen[Policy.BLOCKS]) > 4
    assert len(seen[Policy.SECTORS]) > len(seen[Policy.NAMES])
    assert {b for _, _, b in seen[Policy.JOURNAL]} > {b"", b"y" * 9000}


def test_nothing_committed_is_lost_by_a_power_cut(recordings: Path, tmp_path: Path) -> None:
    lengths = {name: len(read_log(recordings / name / "log")) for name in names_of(recordings)}
    requests = []
    for seed in range(FIRST, FIRST + COUNT):
        chance = random.Random(seed)
        name = chance.choice(sorted(lengths))
        requests.append([name, chance.randint(1, lengths[name]), chance.choice(list(Policy)).value, seed])
    with ThreadPoolExecutor(2) as pool:
        answers = pool.map(lambda part: use(recordings, tmp_path / str(part), requests[part::2]), range(2))
        problems = [problem for answer in answers for problem in answer]
    assert not problems, "\n".join(problems)


def use(recordings: Path, work: Path, requests: list[list[object]]) -> list[str]:
    """Use what cuts leave, and return what is wrong."""
    work.mkdir()
    done = subprocess.run(
        [sys.executable, after_power_loss.__file__, str(recordings), str(work)],
        input="".join(f"{json.dumps(request)}\n" for request in requests),
        env={**environment(Path(), recordings), "LD_PRELOAD": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    wrong = [f"{request}: {problems}" for request, problems in zip(requests, answers, strict=False) if problems]
    if done.returncode or len(answers) != len(requests):
        wrong.append(f"ended with {done.returncode} at {requests[len(answers) :][:1]}: {done.stderr[-2000:]}")
    return wrong
