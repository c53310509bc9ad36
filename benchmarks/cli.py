"""Time and memory of commands from their start to their end, relative to `python -c pass`.

    python benchmarks/cli.py [--repeats 10] [--segments 100000] [--store DIR]     # saves a table to benchmarks/results

Small store: a few short texts, encoded by `mini`; or the store DIR, made with `mini`. Large store: synthetic vectors of
six modalities. Each round runs all commands in turn, so that other programs slow all of them; the first round, which
compiles the modules, does not count. The limits are for two cores without other programs.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path

from results import save_table

TEXT = "a dog barking"
DIM = 384
MAX_START_S = 60.0
SENTENCES = (
    *("a dog barks at night", "rain falls on a tin roof", "two people walk along the beach", "a train leaves"),
    *("how to bake bread", "the garden in spring", "notes of a meeting about money", "a letter to a friend"),
)


@dataclass(frozen=True)
class Case:
    """A command to measure.

    Attributes:
        name: What is measured.
        command: Program and arguments.
        limit: Limits in words; "" if there are none.
        times_s: Duration of each run.
        cpu_s: CPU time of each run, user and system.
        resident_mb: Peak resident size of each run, 10^6 bytes.
    """

    name: str
    command: Sequence[str]
    limit: str = ""
    times_s: list[float] = field(default_factory=list)
    cpu_s: list[float] = field(default_factory=list)
    resident_mb: list[float] = field(default_factory=list)


def main() -> None:
    """Measure, print and save."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=10, help="number of runs of each command")
    parser.add_argument("--segments", type=int, default=100_000, help="segments of the large store; 0: no such store")
    parser.add_argument("--store", type=Path, help="small store to use instead of a new one")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bs-") as name:  # short, for the path of the server's socket
        folder = Path(name)
        environment = {
            **{key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"},
            "PYTHONPYCACHEPREFIX": str(folder / "compiled"),
            "BINDSEARCH_CACHE": str(folder / "cache"),
            "XDG_RUNTIME_DIR": str(folder),
        }
        # The peak of a child starts at the size of this process, so libraries are imported by another one.
        with ProcessPoolExecutor(1, get_context("spawn")) as maker:
            stores = {"": arguments.store or maker.submit(make_small, folder).result()}
            if arguments.segments:
                large = maker.submit(make_large, folder, arguments.segments).result()
                stores[f", {arguments.segments:,} segments"] = large
        cases = [case for name, store in stores.items() for case in cases_of(store, name)]
        measured = run_rounds([*first_cases(), *cases], arguments.repeats, environment)
        for name, store in stores.items():
            with serving(store, environment):
                base = first_cases()[:1]
                measured += run_rounds([*base, *served_cases(store, name)], arguments.repeats, environment)[1:]
    table = "\n".join(table_of(measured)) + f"\n\n{note(arguments.repeats)}\n"
    print(table)
    print(save_table("cli", "Commands from start to end", table, ("numpy", "faiss-gpu", "faiss-cpu", "typer")))


def make_small(folder: Path) -> Path:
    """Return a new store of a few texts."""
    import bindsearch as bs

    (folder / "texts").mkdir()
    for number, sentence in enumerate(SENTENCES):
        (folder / "texts" / f"{number}.txt").write_text(sentence, encoding="utf-8")
    with bs.connect(folder / "small", encoder="mini") as store:
        report = store.index(folder / "texts")
    assert report.added == len(SENTENCES), report
    return folder / "small"


def make_large(folder: Path, segments: int) -> Path:
    """Return a new store of synthetic vectors, an item each."""
    import pyarrow as pa
    import pyarrow.parquet as pq
    import synthetic

    import bindsearch as bs

    (folder / "vectors").mkdir()
    for modality, rows in synthetic.collection(synthetic.make_space(DIM), segments).items():
        columns = {
            "path": [f"/synthetic/{modality}/{number:07}" for number in range(len(rows))],
            "modality": [modality] * len(rows),
            "vector": pa.FixedSizeListArray.from_arrays(pa.array(rows.reshape(-1)).cast(pa.float32()), DIM),
        }
        pq.write_table(pa.table(columns), folder / "vectors" / f"{modality}.parquet")
    with bs.connect(folder / "large", encoder="mini") as store:
        report = store.import_vectors(*sorted((folder / "vectors").iterdir()), root="/synthetic")
    assert report.vectors == segments, report
    return folder / "large"


def first_cases() -> list[Case]:
    """Return the commands that need no store; the first one is what others are relative to."""
    return [
        Case("python -c pass", [sys.executable, "-c", "pass"]),
        Case("--help", [bindsearch(), "--help"], "0.25 s"),
        Case("search --help", [bindsearch(), "search", "--help"]),
    ]


def cases_of(store: Path, name: str) -> list[Case]:
    """Return the commands of a store, without a server."""
    alone = ["--store", str(store), "--no-server"]
    is_small = not name
    return [
        Case(f"search TEXT{name}", [bindsearch(), "search", TEXT, *alone], "0.7 s, 300 MB" if is_small else ""),
        Case(f"search --like{name}", [bindsearch(), "search", "--like", "1", *alone], "0.4 s" if is_small else ""),
        Case(f"search --words{name}", [bindsearch(), "search", "--words", "dog", *alone]),
        Case(f"explain TEXT{name}", [bindsearch(), "explain", TEXT, "--store", str(store)]),
        Case(f"status{name}", [bindsearch(), "status", "--store", str(store)]),
    ]


def served_cases(store: Path, name: str) -> list[Case]:
    """Return the commands that a running server answers."""
    start = [bindsearch(), "search", "--store", str(store)]
    return [
        Case(f"search TEXT{name}, with a server", [*start, TEXT], "0.2 s"),
        Case(f"search --like{name}, with a server", [*start, "--like", "1"], "0.2 s"),
    ]


def bindsearch() -> str:
    """Return the path of the installed command."""
    return str(Path(sys.executable).with_name("bindsearch"))


@contextmanager
def serving(store: Path, environment: Mapping[str, str]) -> Iterator[None]:
    """Run a server of a store inside the block."""
    command = [bindsearch(), "serve", "--store", str(store), "--port", "0"]
    with tempfile.TemporaryFile("w+") as output:
        server = subprocess.Popen(command, env=environment, stdout=output, stderr=subprocess.DEVNULL)
        try:
            started = time.monotonic()
            while output.seek(0) == 0 and "http://" not in output.read():
                if server.poll() is not None or time.monotonic() - started > MAX_START_S:
                    sys.exit("the server did not start")
                time.sleep(0.1)
            yield
        finally:
            server.terminate()
            server.wait()


def run_rounds(cases: list[Case], repeats: int, environment: Mapping[str, str]) -> list[Case]:
    """Measure commands in turn, `repeats` times after a first one, and return them."""
    for number in range(repeats + 1):
        for case in cases:
            took_s, cpu_s, resident_mb = run(case.command, environment)
            if number:
                case.times_s.append(took_s)
                case.cpu_s.append(cpu_s)
                case.resident_mb.append(resident_mb)
    return cases


def run(command: Sequence[str], environment: Mapping[str, str]) -> tuple[float, float, float]:
    """Run a command; return its duration and CPU time in seconds, and its peak resident size in 10^6 bytes."""
    started = time.perf_counter()
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    took_s = time.perf_counter() - started
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode not in (0, 1):  # 1: no hits
        sys.exit(f"{' '.join(command)} failed with {process.returncode}")
    kib = usage.ru_maxrss / 1024 if sys.platform == "darwin" else usage.ru_maxrss
    return took_s, usage.ru_utime + usage.ru_stime, kib * 1024 / 1e6


def table_of(cases: Sequence[Case]) -> Iterator[str]:
    """Yield the lines of the table; the first case is what others are relative to."""
    yield "| command | s | times pass | CPU s | CPU times pass | resident MB | limit |"
    yield "| --- | --- | --- | --- | --- | --- | --- |"
    base_s, base_cpu_s = statistics.median(cases[0].times_s), statistics.median(cases[0].cpu_s)
    for case in cases:
        took_s, cpu_s = statistics.median(case.times_s), statistics.median(case.cpu_s)
        yield (
            f"| {case.name} | {took_s:.3f} | {took_s / base_s:.1f} | {cpu_s:.3f} | {cpu_s / base_cpu_s:.1f} "
            f"| {max(case.resident_mb):.0f} | {case.limit} |"
        )


def note(repeats: int) -> str:
    """Return what the figures mean."""
    return (
        f"Medians of {repeats} runs; resident: the largest peak. Limits are for two cores without other programs; the\n"
        f"load average at the end of this run was {os.getloadavg()[1]:.1f} over 5 minutes on {os.cpu_count()} cores."
    )


if __name__ == "__main__":
    main()
