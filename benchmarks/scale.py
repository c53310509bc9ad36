"""Plan for a billion vectors: unit costs measured on this machine, and what follows from them for a fleet of machines.

    python benchmarks/scale.py [--sizes 25k,50k,100k] [--only searches,stores,indexes,shards,ray] [--page]

Measures stores, indexes, shards and, with `bindsearch[ray]`, calls and searches over three nodes on this machine; about
15 minutes on two cores. A whole run is saved in benchmarks/results/ as a table and as JSON, which the tables of
docs/scale.md are made from. --page: measure nothing, rewrite the tables of docs/scale.md from the newest JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import synthetic
from fan_out import survivals
from results import FOLDER, save_table
from scale_costs import (
    BuildTime,
    Check,
    Cost,
    Share,
    StoreFigures,
    build,
    cold_costs,
    cost,
    dataset,
    line,
    measure_store,
    search_costs,
    shares,
    tuning_queries,
)
from scale_costs import (
    measure_searches as searches_of,
)
from scale_report import as_table, write_page
from scale_rerank import collection, measure
from search import size_of

from bindsearch.indexes.parameters import choose_parameters
from bindsearch.indexes.types import IndexForm, IndexSettings

Figures = dict[str, Any]
DIMS = (512, 1024)
LARGER = 2
"""Indexes of one modality have this many times the vectors of a store."""
TARGETS = {512: ("image",), 1024: ("image", "text")}
SOURCES = ("image", "text", "audio")
MANY_LISTS = 1024
"""Lists of an index whose building is predicted: as many as a partition of a million rows has."""
SHARDS = (2, 4, 8, 16)
SHARDED = 100_000
SEGMENTS = 8
NODES = 3
ASKED = 2000
SEARCHES, TAIL_SEARCHES = 300, 5000
"""Single searches timed in a small store, and in a larger one, whose tail stands for that of a shard."""
SPREAD = 400
PACKAGES = ("faiss-gpu", "duckdb", "numpy", "ray")


def main() -> int:
    """Measure and save, or rewrite the page."""
    arguments = _parse()
    if os.environ.get("OMP_NUM_THREADS") != "1":  # rates are of one core; it is read once, when FAISS is imported
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, "OMP_NUM_THREADS": "1"})
    if arguments.page:
        print(f"written: {write_page(newest_figures())}")
        return 0
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="bindsearch-scale-") as folder:
        figures = measure_all(arguments.sizes, arguments.only, Path(folder))
    figures["took_s"] = round(time.monotonic() - started)
    table = as_table(figures)
    print(table)
    if set(arguments.only) == set(PARTS):
        path = save_table("scale", "Unit costs of a large collection", table, PACKAGES)
        path.with_suffix(".json").write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
        print(f"saved in {path}")
    return 0


def newest_figures() -> Figures:
    """Return the figures of the newest run."""
    newest = max(FOLDER.glob("*-scale.json"))
    return {**json.loads(newest.read_text(encoding="utf-8")), "file": newest.with_suffix(".md").name}


def measure_all(sizes: Sequence[int], parts: Sequence[str], folder: Path) -> Figures:
    """Return the figures of the requested parts: costs, checks, and what else each part has."""
    figures: Figures = {"costs": [], "checks": []}
    for name in parts:
        _say(name)
        found = PARTS[name](sizes, folder)
        figures |= {key: figures.get(key, []) + more if isinstance(more, list) else more for key, more in found.items()}
    return {**figures, "load": os.getloadavg()[2]}


def _say(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {text}", flush=True)


def largest(folder: Path, sizes: Sequence[int], dim: int) -> Path:
    """Return the largest vector file of the stores of that many dimensions."""
    return folder / f"vectors-{max(sizes)}-{dim}" / "vec_image.npy"


# Searches


def measure_searches(sizes: Sequence[int], folder: Path) -> Figures:
    """Return unit costs of a search, also from a disk, and latencies of searches of two stores of images."""
    costs = [cost for dim in DIMS for cost in (*search_costs(dim), *cold_costs(folder, dim))]
    searches = []
    for n, times_each in ((max(sizes) // 4, SEARCHES), (max(sizes) // 2, TAIL_SEARCHES)):
        searches += _records(searches_of(folder, n, max(DIMS), times_each))
        _say(f"searches of {n:,} images")
    found = [{**one, "searches": len(one["ms"]), "ms": quantiles(one["ms"])} for one in searches]
    return {"costs": _records(costs), "searches": found}


# Stores


def measure_stores(sizes: Sequence[int], folder: Path) -> Figures:
    """Return costs of stores."""
    figures: Figures = {"costs": [], "checks": []}
    for dim in DIMS:
        stores = []
        for size in sizes:
            stores.append(measure_store(folder, size, dim))
            _say(f"store of {size:,} vectors, d={dim}")
        figures["costs"] += _records(store_costs(stores))
        figures["checks"] += _records(store_checks(stores))
    return figures


def store_costs(stores: Sequence[StoreFigures]) -> list[Cost]:
    """Return costs a vector, from the differences of stores of one dimension."""
    dim = stores[0].dim

    def marginal(name: str, unit: str, value: Callable[[StoreFigures], float], factor: float = 1.0) -> Cost:
        steps = [factor * (value(b) - value(a)) / (b.vectors - a.vectors) for a, b in pairwise(stores)]
        return cost(f"{name} {dim}", unit, steps)

    return [
        marginal("row_bytes", "bytes a vector, fp16 rows", lambda store: store.disk["rows"]),
        marginal("snapshot_bytes", "bytes a vector, snapshot", lambda store: store.disk["snapshot"]),
        marginal("catalog_bytes", "bytes a vector, catalog", lambda store: store.disk["catalog"]),
        marginal("words_bytes", "bytes a vector, words", lambda store: store.disk["words"]),
        marginal(
            "resident_bytes",
            "resident bytes a vector beside index and rows, with the snapshot's mapped pages",
            lambda store: store.resident,
        ),
        marginal("commit_us", "us of a core a vector committed", lambda store: store.commit_core_s, 1e6),
        marginal(
            "import_us", "us of a core a vector imported, without indexes", lambda store: store.import_core_s, 1e6
        ),
        cost(f"open_ms {dim}", "ms from opening to the first answer", [ms for s in stores for ms in s.open_ms]),
    ]


def store_checks(stores: Sequence[StoreFigures]) -> list[Check]:
    """Return figures of the largest store, predicted by the line through the smaller ones."""
    *smaller, last = stores
    dim = last.dim

    def check(name: str, unit: str, value: Callable[[StoreFigures], float], scale: float) -> Check:
        intercept, slope = line([store.vectors for store in smaller], [value(store) for store in smaller])
        name = f"{name}, {last.vectors:,} vectors, d={dim}"
        return Check(name, unit, (intercept + slope * last.vectors) / scale, value(last) / scale)

    return [
        check("disk, all files", "MB", lambda store: sum(store.disk.values()), 1e6),
        check("resident", "MB", lambda store: store.resident, 1e6),
        check("commit", "s of a core", lambda store: store.commit_core_s, 1),
        check("import", "s of a core", lambda store: store.import_core_s, 1),
    ]


def quantiles(ms: Sequence[float]) -> list[float]:
    """Return SPREAD quantiles of latencies, as `fan_out.of_quantiles` takes them."""
    found: list[float] = np.round(np.quantile(np.asarray(ms), 1 - survivals(len(ms), SPREAD)), 4).tolist()
    return found


# Indexes


def measure_indexes(sizes: Sequence[int], folder: Path) -> Figures:
    """Return rates of building, and what queries need."""
    figures: Figures = {"costs": [], "checks": [], "needs": [], "built": []}
    for dim in DIMS:
        built, needs = indexes([LARGER * size for size in sizes], dim, folder)
        figures["costs"] += _records(build_costs(built))
        figures["checks"] += _records(build_checks(built))
        figures["built"] += [{"lists": took.parameters.lists, **asdict(took), "parameters": None} for took in built]
        figures["needs"] += [{"dim": dim, **asdict(need), "codes": need.codes} for need in needs]
    return figures


def indexes(sizes: Sequence[int], dim: int, folder: Path) -> tuple[list[BuildTime], list[Share]]:
    """Return build times of indexes with inverted lists, and what queries of each modality need."""
    space = synthetic.make_space(dim)
    built, needs = [], []
    for target in TARGETS[dim]:
        rows = synthetic.vectors(space, target, max(sizes))
        queries = tuning_queries(dim, max(sizes), SOURCES)
        for n in sizes:
            lists = choose_parameters(max(n, 100_000), dim, IndexSettings()).lists
            settings = IndexSettings(IndexForm.IVF_PQ, overrides={"lists": lists, "reduced_dim": dim // 2})
            index, took = build(rows[:n], choose_parameters(n, dim, settings), folder)
            built.append(took)
            needs += shares(index, rows[:n], target, queries)
            _say(f"index of {n:,} {target} vectors, d={dim}: {took.train_s:.1f} s + {took.add_s:.1f} s")
    settings = IndexSettings(IndexForm.IVF_PQ, overrides={"lists": MANY_LISTS, "reduced_dim": dim // 2})
    built.append(build(rows, choose_parameters(len(rows), dim, settings), folder)[1])
    return built, needs


def build_costs(built: Sequence[BuildTime]) -> list[Cost]:
    """Return the fixed time of training, and the rates of k-means and of adding rows."""
    dim = built[0].dim
    fixed_s, s_per_flop = line([took.train_flop for took in built], [took.train_s for took in built])
    return [
        cost(
            f"id_bytes {dim}",
            "bytes a row of index files beside codes and what does not grow, 8 of them in vector_ids.npy",
            [8 + took.bytes_beside / took.n for took in built],
        ),
        cost(f"train_fixed_s {dim}", "s of a core, training beside k-means, by the line through all", [fixed_s]),
        cost(f"train_gflop_s {dim}", "GFLOP/s of a core, k-means, by the same line", [1e-9 / s_per_flop]),
        cost(
            f"add_gflop_s {dim}",
            "GFLOP/s of a core, adding rows",
            [took.n * took.add_flop / took.add_s / 1e9 for took in built],
        ),
    ]


def build_checks(built: Sequence[BuildTime]) -> Iterator[Check]:
    """Yield the time of the index with most lists, predicted from those with fewer."""
    *smaller, last = built
    costs = {cost.name.split()[0]: cost.median for cost in build_costs(smaller)}
    name = f"{last.n:,} rows in {last.parameters.lists} lists, d={last.dim}"
    train_s = costs["train_fixed_s"] + last.train_flop / costs["train_gflop_s"] / 1e9
    yield Check(f"training, {name}", "s of a core", train_s, last.train_s)
    yield Check(f"adding, {name}", "s of a core", last.n * last.add_flop / costs["add_gflop_s"] / 1e9, last.add_s)


# Shards


def measure_shards(_: Sequence[int], __: Path) -> Figures:
    """Return the recall that rules for the rows of a shard keep."""
    kept = []
    for segments in (1, SEGMENTS):
        rows, tuning, queries = collection(SHARDED, min(DIMS), SOURCES, 300, segments)
        found = measure(rows, tuning, queries, SHARDS, IndexSettings(IndexForm.IVF_PQ), segments)
        kept += [{"segments": segments, **record} for record in _records(found)]
    return {"kept": kept}


def measure_nodes(_: Sequence[int], folder: Path) -> Figures:
    """Return costs of calls, and quantiles of searches over three nodes: predicted and measured."""
    from scale_cluster import compare, fill_shards, hop_costs, measure_fan_out, nodes

    data = dataset(SHARDED, min(DIMS), folder / f"vectors-{SHARDED}-{min(DIMS)}")
    stores = fill_shards(folder, data, NODES)
    with nodes(stores) as actors:
        costs = hop_costs(actors)
        found = measure_fan_out(actors, data.queries["text"], ASKED)
    return {"costs": _records(costs), "fan_out": compare(found)}


def _records(found: Iterable[Any]) -> list[dict[str, Any]]:
    return [asdict(one) for one in found]


PARTS: Mapping[str, Callable[[Sequence[int], Path], Figures]] = {
    "searches": measure_searches,
    "stores": measure_stores,
    "indexes": measure_indexes,
    "shards": measure_shards,
    "ray": measure_nodes,
}


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--sizes", default="25k,50k,100k", help="vectors of the stores; indexes of one modality have twice as many"
    )
    parser.add_argument("--only", default=",".join(PARTS), help=f"parts, of {','.join(PARTS)}")
    parser.add_argument("--page", action="store_true", help="rewrite the tables of docs/scale.md and end")
    arguments = parser.parse_args()
    arguments.sizes = sorted(size_of(text) for text in arguments.sizes.split(","))
    arguments.only = tuple(arguments.only.split(","))
    if unknown := set(arguments.only) - set(PARTS):
        parser.error(f"unknown part: {', '.join(sorted(unknown))}; choose from {', '.join(PARTS)}")
    return arguments


if __name__ == "__main__":
    sys.exit(main())
