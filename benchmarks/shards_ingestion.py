"""Cost of indexing on a cluster beside one process: what a run costs at once, and each file.

    python benchmarks/shards_ingestion.py [--files 500,3000] [--encoders null,mini] [--repeats 3] [--shards 2]

Runs `bindsearch index` as one process and `--on local --shards 2 --workers 1`, in turn, into new stores. Costs are
those of all processes that a run starts: a line through the medians of two numbers of files is the fixed cost and that
of a file. The table is saved in benchmarks/results/. Exits with 1 if a file takes the cluster more than 1.15 times as
long.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from ingestion_media import write_tiny
from results import save_table

ASKED = 1.15
LOOK_S = 0.2
"""Interval in which the CPU time of processes is read: what one uses in its last moments is not seen."""
MARK = "BENCHMARK_RUN"
TICKS = os.sysconf("SC_CLK_TCK")
PACKAGES = ("ray", "torch", "numpy")


@dataclass(frozen=True)
class Cost:
    """Seconds of a run, and of cores over all of its processes."""

    wall_s: float
    cores_s: float


def main() -> int:
    """Measure, print and save a table; return 1 if the cluster is too slow."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=lambda text: [int(one) for one in text.split(",")], default=[500, 3000])
    parser.add_argument("--encoders", type=lambda text: text.split(","), default=["null", "mini"])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--shards", type=int, default=2)
    arguments = parser.parse_args()
    ways = {"one process": [], "cluster": ["--on", "local", "--shards", str(arguments.shards), "--workers", "1"]}
    costs: dict[tuple[str, str, int], list[Cost]] = {}
    with tempfile.TemporaryDirectory(prefix="bs-") as name:
        folder = Path(name)
        for files in arguments.files:
            write_tiny(folder / f"files-{files}", files)
        for number in range(arguments.repeats):
            for encoder in arguments.encoders:
                for files in arguments.files:
                    for way, options in ways.items():
                        store = folder / f"{way[:3]}-{encoder}-{files}-{number}"
                        source = folder / f"files-{files}"
                        run = ["index", str(source), "--store", str(store), "--encoder", encoder, *options]
                        costs.setdefault((way, encoder, files), []).append(measure(run))
                        print(way, encoder, files, costs[way, encoder, files][-1], flush=True)
    table, slowest = report(costs, arguments.encoders, arguments.files)
    print(table)
    print(f"saved in {save_table('cluster', 'Indexing on a cluster', table, PACKAGES)}")
    return int(slowest > ASKED)


def measure(arguments: Sequence[str]) -> Cost:
    """Run a command of `bindsearch`, and return what it and all processes that it starts cost."""
    mark = uuid.uuid4().hex
    command = [str(Path(sys.executable).with_name("bindsearch")), *arguments]
    seen: dict[tuple[int, str], float] = {}
    strange: set[int] = set()
    started = time.perf_counter()
    with subprocess.Popen(command, env={**os.environ, MARK: mark}, stdout=subprocess.DEVNULL) as process:
        while process.poll() is None:
            look(mark.encode(), seen, strange)
            with suppress(subprocess.TimeoutExpired):
                process.wait(timeout=LOOK_S)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} exited with {process.returncode}")
    return Cost(time.perf_counter() - started, sum(seen.values()))


def look(mark: bytes, seen: dict[tuple[int, str], float], strange: set[int]) -> None:
    """Note the CPU time of the processes with a mark in their environment, by number and time of start.

    Ray starts processes that are no children of the command, and does not add up what its workers cost.
    """
    for entry in Path("/proc").iterdir():
        if not entry.name.isdecimal() or int(entry.name) in strange:
            continue
        with suppress(OSError):
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
            key = int(entry.name), fields[19]
            if key not in seen and mark not in (entry / "environ").read_bytes():
                if int(entry.name) != os.getpid() and time.monotonic() - int(fields[19]) / TICKS > 1:
                    strange.add(int(entry.name))  # not one that is about to be replaced by a new program
                continue
            seen[key] = (int(fields[11]) + int(fields[12])) / TICKS


def report(
    costs: dict[tuple[str, str, int], list[Cost]], encoders: Sequence[str], files: Sequence[int]
) -> tuple[str, float]:
    """Return the tables, and the largest ratio of the times of a file."""
    few, many = min(files), max(files)
    lines = [f"Load of the machine {', '.join(f'{one:.1f}' for one in os.getloadavg())}.", ""]
    lines += ["| encoder | files | way | wall s | cores s | runs |", "| --- | --- | --- | --- | --- | --- |"]
    for (way, encoder, n), runs in sorted(costs.items(), key=lambda one: (one[0][1], one[0][2], one[0][0])):
        lines.append(f"| {encoder} | {n} | {way} | {wall(runs):.2f} | {cores(runs):.2f} | {len(runs)} |")
    lines += ["", "| encoder | way | fixed s | fixed cores s | ms a file | cores ms a file |"]
    lines.append("| --- | --- | --- | --- | --- | --- |")
    slowest = 0.0
    for encoder in encoders:
        a_file = {}
        for way in ("one process", "cluster"):
            low, high = costs[way, encoder, few], costs[way, encoder, many]
            fixed, a_file[way] = line(few, many, wall(low), wall(high))
            fixed_cores, cores_a_file = line(few, many, cores(low), cores(high))
            figures = (fixed, fixed_cores, 1000 * a_file[way], 1000 * cores_a_file)
            lines.append(f"| {encoder} | {way} | " + " | ".join(f"{figure:.2f}" for figure in figures) + " |")
        ratio = a_file["cluster"] / a_file["one process"]
        slowest = max(slowest, ratio)
        lines += [f"| {encoder} | cluster / one process | | | {ratio:.2f} x (asked: {ASKED:g}) | |"]
    return "\n".join([*lines, ""]), slowest


def wall(runs: Sequence[Cost]) -> float:
    """Return the median of seconds."""
    return statistics.median(run.wall_s for run in runs)


def cores(runs: Sequence[Cost]) -> float:
    """Return the median of seconds of cores."""
    return statistics.median(run.cores_s for run in runs)


def line(few: int, many: int, low: float, high: float) -> tuple[float, float]:
    """Return the constant and the slope of the line through two points."""
    slope = (high - low) / (many - few)
    return low - few * slope, slope


if __name__ == "__main__":
    sys.exit(main())
