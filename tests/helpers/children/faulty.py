"""Run commands while system calls on the store fail, and use the store afterwards; with system_calls.c preloaded.

python faulty.py PLACE SCENARIO...

Each scenario gets a folder below PLACE. The first line of the output is a JSON object with the number of calls of each
kind by scenario, as counted in a run without faults. Then each line of standard input is a JSON list of a scenario, the
name of a kind of calls, the numbers of the first and last call that fail, and an error number; each is answered by a
list: whether a call failed, and what was wrong.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import shutil
import signal
import sys
import tempfile
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bindsearch.errors import EXIT_SOME_FAILED, BindSearchError
from helpers.forked import LIBRARIES
from helpers.scenarios import RECOVER, SCENARIOS, Contents, Outcome, Scenario, World, contents, go_on, run, settings
from helpers.system_calls import EVER, Kind, SystemCalls

MODULES = (
    *("bindsearch.indexes.ivf_pq", "bindsearch.indexes.tuning", "bindsearch.ingest.media.decode"),
    *("bindsearch.ingest.media.file_tags", "bindsearch.ingest.media.pictures.exif", "bindsearch.operations.compact"),
    *(
        "bindsearch.operations.exchange.export",
        "bindsearch.operations.exchange.import_",
        "bindsearch.operations.exchange.merge",
    ),
    *("bindsearch.operations.optimize", "bindsearch.operations.verify.recover", "bindsearch.operations.reindex"),
    *("bindsearch.operations.verify.check", "bindsearch.search.engine", "pyarrow.dataset"),
)
"""What commands load."""

SECONDS = 120
"""Time that a command may take; SIGALRM ends it."""

EXIT_DAMAGED = 5


@dataclass
class Prepared:
    """A scenario, ready to be disturbed.

    Attributes:
        scenario: The scenario.
        place: Its folder; `base` is the disk before the command.
        counts: Number of calls of each kind.
        undisturbed: What the command printed and said.
        before: What is stored before the command.
        after: What is stored after it.
        expected: What is stored after going on.
    """

    scenario: Scenario
    place: Path
    counts: dict[str, int]
    undisturbed: Outcome
    before: Contents
    after: Contents
    expected: Contents


def in_fork(action: Callable[[], Any]) -> Any:
    """Return what an action returns in a fork of this process, as JSON; a text if it does not come to its end."""
    with tempfile.NamedTemporaryFile() as answer:
        pid = os.fork()
        if not pid:
            signal.alarm(SECONDS)
            code = 1
            try:
                found = action()
                Path(answer.name).write_text(json.dumps(found))
                code = 0
            except BaseException:
                Path(answer.name).write_text("; ".join(traceback.format_exc().splitlines()[-6:]))
            finally:
                os._exit(code)
        _, status = os.waitpid(pid, 0)
        code = os.waitstatus_to_exitcode(status)
        written = Path(answer.name).read_text()
        return json.loads(written) if code == 0 else f"ended with {code}: {written}"


def prepare(name: str, place: Path) -> Prepared:
    scenario, world, base = SCENARIOS[name], World(place, place / "disk"), World(place, place / "base")

    def make() -> None:
        world.disk.mkdir(parents=True)
        with settings(scenario):
            scenario.prepare(world)
        world.disk.rename(base.disk)
        shutil.copytree(base.disk, world.disk)

    def command() -> list[Any]:
        calls = SystemCalls()
        with settings(scenario):
            before = contents(world.store)
            calls.watch(world.disk)
            done = run(world, scenario.command)
            counts = {kind.name: count for kind, count in calls.counts().items()}
            calls.unwatch()
            after = contents(world.store)
            assert not go_on(world, scenario)
            return [counts, done, before, after, contents(world.store)]

    made = in_fork(make)
    assert made is None, made
    found = in_fork(command)
    assert not isinstance(found, str), found
    counts, done, before, after, expected = found
    return Prepared(scenario, place, counts, Outcome(*done), before, after, expected)


def disturb(prepared: Prepared, kind: Kind, first: int, last: int, error: int) -> list[Any]:
    """Run a command with a fault and return whether a call failed and what is wrong."""
    world = World(prepared.place, prepared.place / "disk")
    shutil.rmtree(world.disk, ignore_errors=True)
    shutil.copytree(prepared.place / "base", world.disk)
    files = files_below(world)

    def command() -> list[Any]:
        calls = SystemCalls()
        with settings(prepared.scenario):
            calls.watch(world.disk)
            calls.fail([kind], error, first, last if last >= 0 else EVER)
            done = run(world, prepared.scenario.command)
            failures = calls.failures
            calls.unwatch()
        return [failures, done]

    found = in_fork(command)
    if isinstance(found, str):
        return [True, [f"the command {found}"]]
    failures, outcome = found[0], Outcome(*found[1])
    problems = said_wrong(prepared, outcome)
    if prepared.scenario.reads_only and files_below(world) != files:
        problems.append(f"a reader changed {sorted(files_below(world) ^ files)}")
    afterwards = in_fork(lambda: used_afterwards(prepared, world))
    problems += [f"afterwards: {afterwards}"] if isinstance(afterwards, str) else afterwards
    return [failures > 0, [f"{problem} (said: {outcome.code} {outcome.lines})" for problem in problems]]


def said_wrong(prepared: Prepared, outcome: Outcome) -> list[str]:
    """Return what is wrong with what a command said: it is done, or says why not in one line."""
    text = " ".join([outcome.output, *outcome.lines])
    if "unexpected" in text or "Traceback" in text:
        return ["unexpected"]
    complaints = [line for line in outcome.lines if line.startswith("bindsearch: ")]
    if outcome.code in (0, 1, EXIT_SOME_FAILED):
        problems = [f"code {outcome.code} with {complaints}"] if complaints else []
        if prepared.scenario.command[0] == "search" and outcome.output != prepared.undisturbed.output:
            problems += [] if outcome.lines else ["a wrong answer without a word"]
        return problems
    if outcome.code == EXIT_DAMAGED and prepared.scenario.command[0] == "verify" and not complaints:
        return []
    return [] if len(complaints) == 1 else [f"code {outcome.code} without one line"]


def used_afterwards(prepared: Prepared, world: World) -> list[str]:
    """Return what is wrong with a store after the fault is gone."""
    from bindsearch.operations.verify.check import verify

    problems = []
    try:
        found = contents(world.store)
    except BindSearchError as error:
        found = prepared.before if prepared.scenario.command[0] == "recover" else {}
        if prepared.scenario.command[0] != "recover":
            problems.append(f"not readable afterwards: {error}")
    kept = {path: rows for path, rows in prepared.before.items() if path in prepared.after}
    lost = [path for path, rows in kept.items() if found.get(path) not in (rows, prepared.after[path])]
    if lost:
        problems.append(f"lost: {lost}")
    with settings(prepared.scenario) as embedded:
        failed = go_on(world, prepared.scenario)
        is_recovered = any("bindsearch recover" in line for outcome in failed for line in outcome.lines)
        if is_recovered:  # for DuckDB, a catalog that it cannot stat is not there, and it creates an empty one
            run(world, RECOVER)
            failed = go_on(world, prepared.scenario)
        problems += [f"going on: {outcome.code} {outcome.lines}" for outcome in failed]
    found = contents(world.store)
    if found != prepared.expected:
        wrong = [path for path in {**prepared.expected, **found} if found.get(path) != prepared.expected.get(path)]
        problems.append(f"in the end: {wrong}")
    to_embed = sum(len(rows) for path, rows in prepared.expected.items() if kept.get(path) != rows)
    if prepared.scenario.same_rows and embedded.count > to_embed:
        problems.append(f"{embedded.count} embedded, {to_embed} were not there")
    problems += [f"verify in the end: {finding.message}" for finding in verify(world.store).findings]
    if (world.store / "lost").exists() and prepared.scenario.command[0] != "recover" and not is_recovered:
        problems.append("something was given up")
    return problems


def files_below(world: World) -> set[str]:
    names = (path.relative_to(world.store) for path in world.store.rglob("*"))
    return {str(name) for name in names if not name.name.startswith("writer.")}


def main() -> None:
    place = Path(sys.argv[1])
    for module in (*LIBRARIES, *MODULES):  # before this process is forked for each command
        importlib.import_module(module)
    gc.freeze()
    prepared = {name: prepare(name, place / name) for name in sys.argv[2:]}
    answer({name: one.counts for name, one in prepared.items()})
    for line in sys.stdin:
        name, kind, first, last, error = json.loads(line)
        answer(disturb(prepared[name], Kind[kind], first, last, error))


def answer(found: Any) -> None:
    sys.stdout.write(json.dumps(found) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
