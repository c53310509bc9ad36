"""Use what power cuts left of recorded folders, and print what is wrong, as JSON.

python after_power_loss.py RECORDINGS WORK

RECORDINGS: the folder that recording.py filled; WORK: an empty folder. Each line of standard input is a JSON list of a
scenario, the number of calls before the cut, a policy, and a seed; each is answered by a list of problems.
"""

from __future__ import annotations

import json
import random
import shutil
import sys
import traceback
from pathlib import Path
from typing import Any

from bindsearch.errors import StoreNotFoundError
from bindsearch.operations.verify.check import verify
from bindsearch.operations.verify.findings import Repair
from helpers.power_loss import Policy, Replay, markers, read_log, write_tree
from helpers.scenarios import SCENARIOS, Contents, Scenario, World, connect, contents, go_on, settings

REPAIRS = (Repair.COMPACT, Repair.RECOVER, Repair.INDEX)
"""Commands that are to mend what a power cut leaves; whether one of them is needed at all is looked at afterwards."""


class Recording:
    """A recorded command, to be cut off."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.scenario = SCENARIOS[place.name]
        self.calls = read_log(place / "log")
        self.marks = [(number, json.loads(text)) for number, text in markers(self.calls)]
        self.expected: Contents = json.loads((place / "expected").read_text())

    def before_and_after(self, cut: int) -> tuple[Contents, Contents]:
        """Return what was committed before a cut, and what is committed by the next commit."""
        before = [held for number, held in self.marks if number < cut]
        after = [held for number, held in self.marks if number >= cut]
        return (before[-1] if before else {}), (after[0] if after else before[-1])


def problems_of(recording: Recording, cut: int, policy: Policy, seed: int, work: Path) -> list[str]:
    """Use the folder that a cut leaves, and return what is wrong."""
    shutil.rmtree(work, ignore_errors=True)
    replay = Replay(recording.place / "before", str(recording.place / "disk"), recording.calls[:cut])
    write_tree(replay.state(policy, random.Random(seed)), work)
    before, after = recording.before_and_after(cut)
    scenario, world = recording.scenario, World(recording.place, work)
    problems: list[str] = []
    for step in (read, check, write_again):
        try:
            problems += step(scenario, world, before, after, recording.expected)
        except Exception as error:
            where = "; ".join(traceback.format_exc().splitlines()[-4:])
            problems.append(f"{step.__name__}: {type(error).__name__}: {error} ({where})")
    return problems


def read(scenario: Scenario, world: World, before: Contents, after: Contents, expected: Contents) -> list[str]:
    """Read as a search does."""
    try:
        found = contents(world.store)
        with connect(world.store) as opened:
            opened.search("text number 3 of a", k=3)
    except StoreNotFoundError:
        return ["there is no store"] if before else []
    return [] if found in (before, after) else [f"read: {difference(before, found)}"]


def check(scenario: Scenario, world: World, before: Contents, after: Contents, expected: Contents) -> list[str]:
    """Verify as a user does."""
    try:
        findings = verify(world.store).findings
    except StoreNotFoundError:
        return ["verify: there is no store"] if before else []
    return [f"verify: {finding.message}" for finding in findings if finding.repair not in REPAIRS]


def write_again(scenario: Scenario, world: World, before: Contents, after: Contents, expected: Contents) -> list[str]:
    """Write again."""
    with settings(scenario) as embedded:
        problems = [f"writing again: {failed.code} {failed.lines}" for failed in go_on(world, scenario)]
    found = contents(world.store)
    if found != expected:
        problems.append(f"in the end: {difference(expected, found)}")
    kept = sum(len(rows) for path, rows in expected.items() if before.get(path) == rows == after.get(path))
    to_embed = sum(len(rows) for rows in expected.values()) - kept
    if scenario.same_rows and embedded.count > to_embed:
        problems.append(f"{embedded.count} embedded, {to_embed} were not committed")
    problems += [f"verify in the end: {finding.message}" for finding in verify(world.store).findings]
    if left := [path.name for path in world.disk.rglob(".*.tmp*")]:
        problems.append(f"left: {left}")
    return problems


def difference(wanted: Contents, found: Contents) -> str:
    """Return what is missing, more, and other in what was found."""
    names = {path: path.rpartition("/")[2] for path in (*wanted, *found)}
    missing = [names[path] for path in wanted if path not in found]
    more = [names[path] for path in found if path not in wanted]
    other = [names[path] for path in wanted if path in found and wanted[path] != found[path]]
    return f"missing {missing}, more {more}, other {other}"


def main() -> None:
    recordings, work = map(Path, sys.argv[1:])
    known: dict[str, Recording] = {}
    for number, line in enumerate(sys.stdin):
        request: list[Any] = json.loads(line)
        name, cut, policy, seed = request
        if name not in known:
            known[name] = Recording(recordings / name)
        problems = problems_of(known[name], cut, Policy(policy), seed, work / str(number))
        sys.stdout.write(json.dumps(problems) + "\n")
        sys.stdout.flush()
        shutil.rmtree(work / str(number), ignore_errors=True)


if __name__ == "__main__":
    main()
