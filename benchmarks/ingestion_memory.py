"""Memory of a run and time of a rerun, each in a fresh process that is sampled from here."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

CHILD = Path(__file__).with_name("ingestion_child.py")
SAMPLE_S = 0.05


@dataclass(frozen=True)
class Resident:
    """Resident bytes: `anonymous` written by the process, `mapped` files and shared memory."""

    anonymous: int = 0
    mapped: int = 0

    def __add__(self, other: Resident) -> Resident:
        return Resident(self.anonymous + other.anonymous, self.mapped + other.mapped)

    @property
    def total(self) -> int:
        """Sum of both."""
        return self.anonymous + self.mapped


@dataclass(frozen=True)
class Seen:
    """A sampled run.

    Peak samples of the process, of its workers, and of all together, and the memory left after its workers have ended.
    """

    files: int
    encoder: str
    took_s: float
    parent: Resident
    workers: Resident
    peak: Resident
    left: Resident


class Watch:
    """Samples a process and its children from a thread until it is stopped."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self.parent, self.workers, self.peak = Resident(), Resident(), Resident()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop sampling."""
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(SAMPLE_S):
            parent = resident(self._pid)
            workers = sum((resident(pid) for pid in children(self._pid)), Resident())
            self.parent = max(self.parent, parent, key=_total)
            self.workers = max(self.workers, workers, key=_total)
            self.peak = max(self.peak, parent + workers, key=_total)


def watch_index(folder: Path, store: Path, encoder: str, files: int) -> Seen:
    """Index `folder` into a new store in a fresh process, and sample its memory.

    Raises:
        SystemExit: not all files were indexed.
    """
    with subprocess.Popen(
        [sys.executable, str(CHILD), "index", str(folder), str(store), encoder],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        watch = Watch(process.pid)
        assert process.stdout is not None
        line = process.stdout.readline()
        watch.stop()
        left = resident(process.pid)
        process.communicate("\n")
    if not line or (report := json.loads(line))["added"] != files:
        raise SystemExit(f"{files} files should be indexed, but the output is: {line or 'empty'}")
    return Seen(files, encoder, report["took_s"], watch.parent, watch.workers, watch.peak, left)


@dataclass(frozen=True)
class Rerun:
    """Seconds of reruns without changes: of `Store.index` with its imports, of the whole process, of the command."""

    index_s: Sequence[float]
    process_s: Sequence[float]
    command_s: Sequence[float]


def rerun(folder: Path, store: Path, files: int, repeats: int) -> Rerun:
    """Index unchanged files again, by the library and by the command in turn, each in a fresh process."""
    command = [str(Path(sys.executable).with_name("bindsearch")), "index", str(folder), "--store", str(store), "--json"]
    index_s, process_s, command_s = [], [], []
    for _ in range(repeats):
        started = time.perf_counter()
        child = [sys.executable, str(CHILD), "index", str(folder), str(store), "null"]
        output = subprocess.run(child, check=True, capture_output=True, text=True, input="\n").stdout
        process_s.append(time.perf_counter() - started)
        report = json.loads(output)
        if report["unchanged"] != files:
            raise SystemExit(f"{files} files should be unchanged, but the report is: {report}")
        index_s.append(report["took_s"])
        started = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True)
        command_s.append(time.perf_counter() - started)
    return Rerun(index_s, process_s, command_s)


def resident(pid: int) -> Resident:
    """Return the current memory of a process, zero if it has ended; shared pages count in each process."""
    fields = {}
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]:
            name, size_kb, *_ = line.split()
            fields[name] = 1024 * int(size_kb)
    anonymous = fields.get("Anonymous:", 0)
    return Resident(anonymous, fields.get("Rss:", 0) - anonymous)


def children(pid: int) -> list[int]:
    """Return the processes that a process has started, from any of its threads."""
    pids: list[int] = []
    for listed in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(OSError):
            pids += map(int, listed.read_text().split())
    return pids


def _total(resident: Resident) -> int:
    return resident.total
