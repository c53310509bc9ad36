"""Files, functions, hand-overs and data carriers that a search and the indexing of a picture pass through.

    python benchmarks/hand_overs.py [--before PYTHON] [--json] [--list PATH]

Each path is traced by a profile hook, in all threads of its process, on a store of two pictures and a text: distinct
files and functions of BindSearch, hand-overs (distinct pairs of caller and callee in different files), and carriers
(distinct data classes and named tuples of which an instance is made). Pictures are decoded in threads, so that the
worker is traced too; messages to the worker are counted with a process. `--before` is the interpreter of another
installation of BindSearch, to be shown beside this one; the table is then saved in benchmarks/results/. `--list` names
a path, to print what was counted.
"""

from __future__ import annotations

import argparse
import io
import json
import pickle
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import numpy as np
from results import save_table

COMMAND = "--command"
COUNTS = ("files", "functions", "hand-overs", "carriers")
ROWS = {
    "vector": "`store.search(vector)`, warm",
    "filter": '`store.search(vector, filter="size_bytes > 10")`, warm',
    "batch": "`store.search_many` of 10 vectors, warm",
    "text": '`bindsearch search "a dog"`, cold',
    "where": '`bindsearch search "a dog" --where ...`, cold',
    "index": "`store.index` of one new picture",
}


@dataclass
class Trace:
    """What a path passes through."""

    files: set[str] = field(default_factory=set)
    functions: set[tuple[str, str]] = field(default_factory=set)
    hand_overs: set[tuple[tuple[str, str], tuple[str, str]]] = field(default_factory=set)
    carriers: set[str] = field(default_factory=set)
    messages: int = 0

    def counts(self) -> dict[str, int]:
        """Return the number of each, under the names of COUNTS."""
        counted = (len(self.files), len(self.functions), len(self.hand_overs), len(self.carriers))
        return dict(zip(COUNTS, counted, strict=True))


def main() -> int:
    """Print the table; return 0."""
    if sys.argv[1:2] == [COMMAND]:
        _run_command(sys.argv[2:])
        return 0
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--before", help="interpreter of another installation, to compare with")
    parser.add_argument("--json", action="store_true", help="print the counts as JSON")
    parser.add_argument("--list", choices=ROWS, help="print what was counted for one path")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bindsearch-bench-") as folder:
        traces, messages = trace_all(Path(folder))
    counts = {name: trace.counts() for name, trace in traces.items()}
    counts["index"]["messages"] = messages
    if arguments.json:
        print(json.dumps(counts))
    elif arguments.list:
        _print_list(traces[arguments.list])
    else:
        before = None
        if arguments.before:
            command = [arguments.before, __file__, "--json"]
            before = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
        table = as_table(counts, before)
        print(table)
        if before is not None:
            print(f"saved in {save_table('hand-overs', 'Hand-overs, before -> now', table, ('duckdb', 'faiss-gpu'))}")
    return 0


def as_table(now: dict[str, dict[str, int]], before: dict[str, dict[str, int]] | None) -> str:
    """Return a Markdown table with a row per path; with `before`, cells read "before -> now"."""
    columns = (*COUNTS, "messages")
    lines = [f"| path | {' | '.join(columns)} |", "| --- |" + " ---: |" * len(columns)]
    for name, title in ROWS.items():
        cells = []
        for column in columns:
            value = now[name].get(column, "")
            cells.append(f"{before[name].get(column, '')} -> {value}" if before and value != "" else str(value))
        lines.append(f"| {title} | {' | '.join(cells)} |")
    return "\n".join(lines)


def trace_all(folder: Path) -> tuple[dict[str, Trace], int]:
    """Trace every path of ROWS; return the traces, and the messages to a worker process for one picture."""
    from PIL import Image

    import bindsearch as bs

    media = folder / "media"
    media.mkdir()
    rng = np.random.default_rng(0)
    # of two colours each: noise of one kind would be folded as copies, which is not the usual search
    colours = rng.integers(0, 256, (4, 2, 3), np.uint8)
    pictures = [
        Image.fromarray(np.repeat(pair, (32 - 8 * n, 32 + 8 * n), 0)[:, None].repeat(96, 1))
        for n, pair in enumerate(colours)
    ]
    for number in (0, 1):
        pictures[number].save(media / f"{number}.jpg")
    (media / "note.txt").write_text("a dog barks at the sea")
    traces = {}
    with hook() as tracing:
        store = bs.connect(folder / "store", encoder="mini", decode="thread")
        store.index(media)
        pictures[2].save(media / "2.jpg")
        with tracing() as traces["index"]:
            store.index(media)
        vectors = rng.standard_normal((10, store.encoder.dim)).astype(np.float32)
        calls: dict[str, Callable[[], object]] = {
            "vector": lambda: store.search(vectors[0]),
            "filter": lambda: store.search(vectors[0], filter="size_bytes > 10"),
            "batch": lambda: store.search_many(list(vectors)),
        }
        for name, call in calls.items():
            for _ in range(3):
                call()
            with tracing() as traces[name]:
                call()
        store.close()
        for name, options in (("text", []), ("where", ["--where", "name like '%jpg' and size_bytes > 10"])):
            traces[name] = _trace_command(["search", "a dog", "--store", str(folder / "store"), *options])
    with bs.connect(folder / "store", encoder="mini") as store:
        pictures[3].save(media / "3.jpg")
        with messages_sent() as sent:
            store.index(media)
    return traces, len(sent)


def _trace_command(arguments: Sequence[str]) -> Trace:
    """Trace a command in a new process, in which nothing is loaded yet."""
    child = subprocess.run([sys.executable, __file__, COMMAND, *arguments], check=True, capture_output=True)
    trace: Trace = pickle.loads(child.stdout)  # written by our own process
    return trace


def _run_command(arguments: Sequence[str]) -> None:
    """Run a command of `bindsearch` under the hook; write its trace, pickled, instead of what it prints."""
    from bindsearch.cli.main import main as bindsearch

    output = sys.stdout.buffer
    with hook() as tracing, redirect_stdout(io.StringIO()), tracing() as trace, suppress(SystemExit):
        bindsearch(arguments)
    output.write(pickle.dumps(trace))


@contextmanager
def messages_sent() -> Iterator[list[int]]:
    """Record the messages of this process to its workers, without the first, which is the encoder."""
    from multiprocessing.connection import Connection

    sent: list[int] = []
    send = Connection.send

    def counted(self: Connection, message: object) -> None:
        sent.append(len(sent))
        send(self, message)

    Connection.send = counted  # type: ignore[assignment, method-assign]
    try:
        yield sent
    finally:
        Connection.send = send  # type: ignore[method-assign]
        del sent[:1]


@contextmanager
def hook() -> Iterator[Callable[[], Any]]:
    """Install the profile hook in this thread and those that start later; yields a context manager that records."""
    import bindsearch
    import bindsearch.cli
    import bindsearch.indexes
    import bindsearch.ingest

    packages = (bindsearch, bindsearch.cli, bindsearch.indexes, bindsearch.ingest)
    roots = tuple(str(Path(str(package.__file__)).parent) + "/" for package in packages)
    places: dict[CodeType, tuple[str, str] | None] = {}
    current: list[Trace] = []

    def place_of(code: CodeType) -> tuple[str, str] | None:
        """Return file and function of code of BindSearch; parts of a comprehension belong to their function."""
        if code not in places:
            name = getattr(code, "co_qualname", code.co_name)
            name = name.split(".<locals>.<")[0]
            inside = code.co_filename.startswith(roots) and not name.startswith("<module>")
            places[code] = (code.co_filename, name) if inside else None
        return places[code]

    def record(frame: FrameType, event: str, _argument: object) -> None:
        if event != "call" or not current:
            return
        trace, code = current[0], frame.f_code
        if code.co_filename == "<string>" and code.co_name in ("__init__", "__new__"):
            made = frame.f_locals.get("_cls") or type(frame.f_locals.get("self"))
            if made.__module__.startswith("bindsearch"):
                trace.carriers.add(f"{made.__module__}.{made.__qualname__}")
        callee = place_of(code)
        if callee is None:
            return
        trace.files.add(callee[0])
        trace.functions.add(callee)
        above = frame.f_back
        while above is not None and place_of(above.f_code) is None:
            above = above.f_back
        caller = None if above is None else place_of(above.f_code)
        if caller is not None and caller[0] != callee[0]:
            trace.hand_overs.add((caller, callee))

    @contextmanager
    def tracing() -> Iterator[Trace]:
        trace = Trace()
        current.append(trace)
        try:
            yield trace
        finally:
            current.clear()

    threading.setprofile(record)
    sys.setprofile(record)
    try:
        yield tracing
    finally:
        sys.setprofile(None)
        threading.setprofile(None)


def _print_list(trace: Trace) -> None:
    """Print what was counted."""

    def short(place: tuple[str, str]) -> str:
        return f"{'/'.join(Path(place[0]).parts[-3:])}:{place[1]}"

    print("functions", *sorted(map(short, trace.functions)), sep="\n  ")
    print("hand-overs", *sorted(f"{short(one)} -> {short(other)}" for one, other in trace.hand_overs), sep="\n  ")
    print("carriers", *sorted(trace.carriers), sep="\n  ")


if __name__ == "__main__":
    sys.exit(main())
