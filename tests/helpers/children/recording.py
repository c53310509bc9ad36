"""Run commands with their system calls recorded; started with the library of system_calls.c preloaded.

python recording.py PLACE SCENARIO...

Each scenario gets a folder below PLACE: `before` and `after` are copies of its disk before and after the command, `log`
is what was recorded, with markers that hold what was committed as JSON, `expected` what is stored after going on.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

from helpers.scenarios import SCENARIOS, World, contents, go_on, run, settings
from helpers.system_calls import SystemCalls


def record(name: str, place: Path) -> None:
    scenario, world, calls = SCENARIOS[name], World(place, place / "disk"), SystemCalls()
    world.disk.mkdir(parents=True)
    with settings(scenario):
        scenario.prepare(world)
    shutil.copytree(world.disk, place / "before")

    def committed() -> None:
        calls.mark(json.dumps(contents(world.store)))

    with settings(scenario, committed):
        calls.watch(world.disk, place / "log")
        committed()
        done = run(world, scenario.command)
        committed()
        calls.unwatch()
        assert done.code in (0, 3), done
        shutil.copytree(world.disk, place / "after")
        failed = go_on(world, scenario)
        assert not failed, failed
    (place / "expected").write_text(json.dumps(contents(world.store)))


def main() -> None:
    for name in sys.argv[2:]:
        record(name, Path(sys.argv[1]) / name)


if __name__ == "__main__":
    main()
