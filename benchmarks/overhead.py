"""Time of a search beyond the same FAISS calls by hand, in two installations of BindSearch and in one run.

    python benchmarks/overhead.py --before PYTHON [--size 150k] [--queries N] [--rounds N]
                                  [--cache FOLDER] [--keep STORE]

`--before` is the interpreter of the other installation. Each installation answers from a process of its own, and FAISS
by hand from a third; for each pair of modalities they answer all queries in turn, in an order that changes with the
round. A figure is the median over rounds of a round's median. Overhead is the time of a search less that of FAISS by
hand. The store is created by this installation. Filters are timed the first time that each is evaluated, search
included. The table is saved in benchmarks/results/.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import product
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

ANSWER = "--answer"
FILTERS = (
    "size_bytes > {n}",
    "size_bytes between {n} and 9000000",
    "modality = 'image' and size_bytes > {n}",
    "modality in ('image', 'text') or size_bytes < {n}",
    "taken is null and size_bytes > {n}",
    "path like '%{n}.jpg'",
    "size_bytes > 10 and path like '%{n}.jpg'",
)
FIRST_N = 1000

Ask = Callable[[dict[str, Any]], float]
"""Answers all queries of a case; returns the median in milliseconds."""


def main() -> int:
    """Measure, print and save the table; return 0."""
    if sys.argv[1:2] == [ANSWER]:
        answer(Path(sys.argv[2]), Path(sys.argv[3]))
        return 0
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--before", required=True, help="interpreter of another installation, to compare with")
    parser.add_argument("--size", default="150k", help="vectors, such as 150k or 1m")
    parser.add_argument("--queries", type=int, default=100, help="queries of each modality")
    parser.add_argument("--rounds", type=int, default=5, help="times that each case is measured")
    parser.add_argument("--cache", type=Path, help="folder where the vectors are saved for the next run")
    parser.add_argument("--keep", type=Path, help="the store: used if it exists, else created and kept")
    arguments = parser.parse_args()

    from results import save_table

    with tempfile.TemporaryDirectory(prefix="bindsearch-bench-") as folder:
        table, n = measure(arguments, Path(folder))
    print(table)
    title = f"Overhead of search over FAISS by hand, {n:,} vectors, before -> now"
    print(f"saved in {save_table('overhead', title, table, ('duckdb', 'faiss-gpu', 'numpy'))}")
    return 0


def measure(arguments: argparse.Namespace, folder: Path) -> tuple[str, int]:
    """Return the table in Markdown and the number of vectors."""
    from search import size_of
    from search_cases import Bench
    from search_data import make_dataset
    from search_engine import Engine, fill_store

    data = make_dataset(size_of(arguments.size), arguments.queries, arguments.cache or folder / "vectors")
    store = arguments.keep or folder / "store"
    if not (store / "store.json").is_file():
        fill_store(store, data)
    bench = Bench(data, folder, Engine(store), by_hand=True)
    queries = folder / "queries.npz"
    np.savez(queries, allow_pickle=False, **data.queries)

    def by_hand(case: dict[str, Any]) -> float:
        from search_by_hand import HandFlat

        part = bench.hand_part(case["source"], case["target"])
        asked = data.queries[case["source"]]
        if isinstance(part, HandFlat):
            return median_ms([partial(part.search, query) for query in asked])
        index, setting = part
        return median_ms([partial(index.search, query, setting) for query in asked])

    with answering(arguments.before, store, queries) as before, answering(sys.executable, store, queries) as now:
        pairs = {
            (source, target): in_turn({"source": source, "target": target}, (by_hand, before, now), arguments.rounds)
            for target, source in product(data.vectors, data.queries)
        }
        filters = {}
        for expression in FILTERS:
            case = {"source": "text", "target": None, "filter": expression}
            filters[expression] = in_turn(case, (before, now), arguments.rounds)
    return as_table(pairs, filters), data.n


def in_turn(case: dict[str, Any], answerers: tuple[Ask, ...], rounds: int) -> list[float]:
    """Return for each answerer the median over rounds, in milliseconds, after a round that is not counted."""
    times_ms: list[list[float]] = [[] for _ in answerers]
    for number in range(rounds + 1):
        order = [(number + place) % len(answerers) for place in range(len(answerers))]
        for which in order:
            took_ms = answerers[which]({**case, "round": number})
            if number:
                times_ms[which].append(took_ms)
    return [median(times) for times in times_ms]


def as_table(pairs: dict[tuple[str, str], list[float]], filters: dict[str, list[float]]) -> str:
    """Return Markdown: overheads by pair, their summary, and first evaluations of filters."""
    lines = ["| pair | FAISS by hand, ms | before | now | overhead, ms | share | now / by hand |"]
    lines.append("| --- | ---: | ---: | ---: | ---: | ---: | ---: |")
    overheads = []
    for (source, target), (hand, before, now) in pairs.items():
        was, is_now = before - hand, now - hand
        overheads.append((was, is_now, now / hand))
        row = f"{hand:.2f} | {before:.2f} | {now:.2f} | {was:.2f} -> {is_now:.2f} | {is_now / was:.0%}"
        lines.append(f"| {source} -> {target} | {row} | {now / hand:.2f} |")
    was, is_now, ratio = (median(column) for column in zip(*overheads, strict=True))
    share = median(after / before for before, after, _ in overheads)
    lines.append(f"| median | | | | {was:.2f} -> {is_now:.2f} | {share:.0%} | {ratio:.2f} |")
    lines += ["", "| first evaluation of a filter, search included | before, ms | now |", "| --- | ---: | ---: |"]
    lines += [f"| `{name}` | {before:.2f} | {now:.2f} |" for name, (before, now) in filters.items()]
    return "\n".join(lines) + "\n"


@contextmanager
def answering(python: str, store: Path, queries: Path) -> Iterator[Ask]:
    """Start a process that answers from a store by the installation of an interpreter."""
    command = [python, __file__, ANSWER, str(store), str(queries)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        asked, answers = process.stdin, process.stdout
        assert asked
        assert answers

        def ask(case: dict[str, Any]) -> float:
            print(json.dumps(case), file=asked, flush=True)
            return float(answers.readline())

        yield ask
        asked.close()


def answer(store_path: Path, queries_path: Path) -> None:
    """Answer cases of standard input, one JSON object a line, by the median in milliseconds.

    `{n}` in a filter is a number that no filter before had, so that no result is known.
    """
    import bindsearch as bs

    queries = np.load(queries_path)
    with bs.connect(store_path) as store:
        for line in sys.stdin:
            case = json.loads(line)
            asked = queries[case["source"]]
            if expression := case.get("filter"):
                first = FIRST_N + case["round"] * len(asked)
                calls = [
                    partial(store.search, query, filter=expression.format(n=number))
                    for number, query in enumerate(asked, first)
                ]
            else:
                calls = [partial(store.search, query, to=case["target"]) for query in asked]
            print(median_ms(calls), flush=True)


def median_ms(calls: Sequence[Callable[[], object]]) -> float:
    """Return the median time of a call in milliseconds."""
    times = []
    for call in calls:
        started = time.perf_counter()
        call()
        times.append(1000 * (time.perf_counter() - started))
    return median(times)


if __name__ == "__main__":
    sys.exit(main())
