"""Search over shards beside one store with the same vectors: lists and latency, in this process and on Ray.

    python benchmarks/shards.py [--size 80k] [--shards 4] [--queries 300] [--timed 300] [--recall 0.98,0.99]
                                [--cache FOLDER]

Lists: the share of the top ten that two ways have in common. The reference is the single store without indexes, which
scores every vector; the shards without indexes show what their division costs, and those with indexes (IVF-PQ, forced)
what approximate search adds. Latency: single queries and batches, all ways in turn; needs `bindsearch[ray]`. The table
is saved in benchmarks/results/.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from results import save_table
from search import size_of
from search_data import Dataset, K, make_dataset
from search_engine import SyntheticEncoder, commit_vectors, keys_of

import bindsearch as bs
from bindsearch.indexes.types import IndexForm, IndexSettings
from bindsearch.shards.layout import new_shard_map, read_shard_map, shard_of, write_shard_map
from bindsearch.shards.ray.cluster import connect_cluster, loopback_only
from bindsearch.shards.ray.place import RayPlace
from bindsearch.shards.store import ShardedStore

if TYPE_CHECKING:
    from numpy.typing import NDArray

MODALITIES = ("image", "text", "audio")
PACKAGES = ("faiss-gpu", "faiss-cpu", "numpy", "ray")
CHUNK = 25
"""Queries that a way answers in a row before the next one's turn."""
BATCH = 50
NODES = 2
NODE_BYTES = 100 << 20
ASKED_OVERLAP = 0.99
CASES: Mapping[str, Mapping[str, Any]] = {
    "all modalities, probability": {},
    "all modalities, z": {"ranking": "z"},
    "all modalities, cosine": {"ranking": "cosine"},
    "images": {"to": "image"},
    "images, a filter of 10%": {"to": "image", "filter": "chance < 0.1"},
}

Lists = dict[str, list[list[int]]]
"""Top ten of each query, by case."""
Queries = list[tuple[str, "NDArray[np.float32]"]]
"""Queries with the modality that each was made from."""


@dataclass(frozen=True)
class Row:
    """Overlap of the top ten in one case.

    Attributes:
        state: State of the indexes.
        case: What is searched.
        alike: Shards and single store.
        single: Single store and exact lists.
        sharded: Shards and exact lists.
        gained: Share of the exact list that the shards find and the single store does not.
        lost: Share of the exact list that the single store finds and the shards do not.
    """

    state: str
    case: str
    alike: float
    single: float
    sharded: float
    gained: float
    lost: float


def main() -> int:
    """Measure, print and save a table; return 1 if shards find less than the single store."""
    arguments = _parse()
    if os.environ.get("OMP_NUM_THREADS") != "1":  # read once, when FAISS is imported
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, "OMP_NUM_THREADS": "1"})
    with tempfile.TemporaryDirectory(prefix="bs-") as name:
        folder = Path(name)
        data = make_dataset(arguments.size, arguments.queries, arguments.cache or folder / "vectors", arguments.dim)
        data = Dataset({one: data.vectors[one] for one in MODALITIES}, data.queries, data.labels, data.chances)
        queries = _queries(data, arguments.queries)
        one, many = folder / "one", folder / "many"
        fill(one, many, arguments.shards, data)
        exact, divided = lists_of(one, many, queries)
        rows = compare("no indexes", exact, exact, divided)
        for recall in arguments.recall:
            optimize(one, many, IndexSettings(form=IndexForm.IVF_PQ, recall=recall))
            rows += compare(f"IVF-PQ, recall {recall:g}", exact, *lists_of(one, many, queries))
            print(*map(_line, rows), sep="\n", flush=True)
        times = latencies(one, many, queries[: arguments.timed])
    table = "\n".join(report(data.n, arguments, rows, times))
    print(table)
    print(f"saved in {save_table('shards', f'Search over {arguments.shards} shards', table, PACKAGES)}")
    return int(any(row.sharded < row.single - (1 - ASKED_OVERLAP) for row in rows))


def fill(one: Path, many: Path, shards: int, data: Dataset) -> None:
    """Commit the vectors to one store, and each to its shard of a sharded one; no indexes are built."""
    encoder = SyntheticEncoder(next(iter(data.vectors.values())).shape[1])
    commit_vectors(one, data, encoder)
    map_of = new_shard_map(shards, time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()))
    write_shard_map(many, map_of)
    for number, path in enumerate(map_of.paths(many)):
        commit_vectors(path, data, encoder, partial(_belongs, number, shards))


def optimize(one: Path, many: Path, settings: IndexSettings) -> None:
    """Build or tune the indexes of both."""
    for path in (one, *read_shard_map(many).paths(many)):
        with bs.connect(path) as store:
            dim = store.config.dim
        with bs.connect(path, encoder=SyntheticEncoder(dim)) as store:
            store.optimize(index_settings=settings)


def lists_of(one: Path, many: Path, queries: Queries) -> tuple[Lists, Lists]:
    """Return the lists of the single store and of the sharded one."""
    found: list[Lists] = []
    for store in (bs.connect(one), bs.connect(many)):
        with store:
            found.append({case: [*_lists(store, queries, options)] for case, options in CASES.items()})
    return found[0], found[1]


def _lists(store: bs.Store, queries: Queries, options: Mapping[str, Any]) -> Iterator[list[int]]:
    for source in MODALITIES:
        vectors = [vector for modality, vector in queries if modality == source]
        for start in range(0, len(vectors), BATCH):
            batch = vectors[start : start + BATCH]
            yield from map(keys_of, store.search_many(batch, source=source, k=K, copies=True, **options))


def compare(state: str, exact: Lists, single: Lists, sharded: Lists) -> list[Row]:
    """Return the overlaps of all cases."""
    rows = []
    for case in CASES:
        triples = [tuple(map(set, three)) for three in zip(exact[case], single[case], sharded[case], strict=True)]
        rows.append(
            Row(
                state,
                case,
                alike=_mean([len(a & b) / max(1, len(a)) for _, a, b in triples]),
                single=_mean([len(true & a) / max(1, len(true)) for true, a, _ in triples]),
                sharded=_mean([len(true & b) / max(1, len(true)) for true, _, b in triples]),
                gained=_mean([len((true & b) - a) / max(1, len(true)) for true, a, b in triples]),
                lost=_mean([len((true & a) - b) / max(1, len(true)) for true, a, b in triples]),
            )
        )
    return rows


def latencies(one: Path, many: Path, queries: Queries) -> list[tuple[str, str, NDArray[np.float64]]]:
    """Return name, case and milliseconds a query of each way to search."""
    found = []
    with bs.connect(one) as single, bs.connect(many) as local:
        near = {"one store": single, "shards, this process": local}
        with ShardedStore(many, place=RayPlace("local")) as remote:
            found += in_turn({**near, "shards, Ray, 1 actor": remote}, queries)
        with nodes(NODES) as address, ShardedStore(many, place=RayPlace(address)) as remote:
            found += in_turn({"one store, again": single, f"shards, Ray, {NODES} nodes": remote}, queries)
    return found


def in_turn(stores: Mapping[str, bs.Store], queries: Queries) -> list[tuple[str, str, NDArray[np.float64]]]:
    """Return the milliseconds a query of each store, single and in batches, asked in turn."""
    cases: dict[tuple[str, str], Callable[[Queries], list[float]]] = {}
    for name, store in stores.items():
        cases[name, "single, all modalities"] = partial(_single, store, {})
        cases[name, "single, images"] = partial(_single, store, {"to": "image"})
        cases[name, f"batches of {BATCH}, all modalities"] = partial(_batch, store)
    times: dict[tuple[str, str], list[float]] = {key: [] for key in cases}
    for ask in cases.values():  # opens the stores
        ask(queries[:CHUNK])
    for start in range(0, len(queries), BATCH):
        for key, ask in cases.items():
            times[key] += ask(queries[start : start + BATCH])
    return [(name, case, np.array(taken)) for (name, case), taken in times.items()]


def _single(store: bs.Store, options: Mapping[str, Any], queries: Queries) -> list[float]:
    times = []
    for source, vector in queries:
        started = time.perf_counter()
        store.search(vector, source=source, k=K, **options)
        times.append(1000 * (time.perf_counter() - started))
    return times


def _batch(store: bs.Store, queries: Queries) -> list[float]:
    started = time.perf_counter()
    store.search_many([vector for _, vector in queries], k=K)
    return [1000 * (time.perf_counter() - started) / len(queries)]


@contextmanager
def nodes(n: int) -> Iterator[str]:
    """Start a cluster of several nodes on this machine, connect to it, and yield its address."""
    from ray.cluster_utils import Cluster

    folder = tempfile.mkdtemp(prefix="bs-ray-", dir="/tmp")  # sockets have short paths
    # Ray writes the head node's address there, whatever folder the node has, and fails if it is missing
    Path(tempfile.gettempdir(), "ray").mkdir(exist_ok=True)
    options = {"num_cpus": 1, "object_store_memory": NODE_BYTES}
    head = {**options, "include_dashboard": False, "temp_dir": folder}
    with loopback_only():
        cluster = Cluster(initialize_head=True, head_node_args=head)
        try:
            for _ in range(n - 1):
                cluster.add_node(**options)
            with connect_cluster(cluster.address):
                yield cluster.address
        finally:
            cluster.shutdown()
            shutil.rmtree(folder, ignore_errors=True)


def report(
    n: int, arguments: argparse.Namespace, rows: Sequence[Row], times: Sequence[tuple[str, str, NDArray[np.float64]]]
) -> Iterator[str]:
    """Yield the lines of the report."""
    load = ", ".join(f"{one:.1f}" for one in os.getloadavg())
    yield f"{n:,} vectors of {arguments.dim} dimensions ({', '.join(MODALITIES)}), {arguments.shards} shards,"
    yield f"{arguments.queries} queries, load of the machine {load}."
    yield ""
    yield "Share of the top 10 in common; exact: the list of the single store without indexes."
    yield ""
    yield "| indexes | searched | shards, single | single, exact | shards, exact | only shards | only single |"
    yield "| --- | --- | --- | --- | --- | --- | --- |"
    yield from map(_line, rows)
    yield ""
    yield "Milliseconds a query."
    yield ""
    yield "| way | case | median | p90 | p99 |"
    yield "| --- | --- | --- | --- | --- |"
    for name, case, taken in times:
        median, p90, p99 = np.quantile(taken, (0.5, 0.9, 0.99))
        yield f"| {name} | {case} | {median:.2f} | {p90:.2f} | {p99:.2f} |"
    yield ""


def _line(row: Row) -> str:
    figures = (row.alike, row.single, row.sharded, row.gained, row.lost)
    return " | ".join([f"| {row.state}", row.case, *(f"{figure:.4f}" for figure in figures)]) + " |"


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values))


def _belongs(number: int, n: int, rel_path: str) -> bool:
    return shard_of(rel_path, n) == number


def _queries(data: Dataset, n: int) -> Queries:
    """Return n queries, of the modalities in turn."""
    return [
        (MODALITIES[number % len(MODALITIES)], data.queries[MODALITIES[number % len(MODALITIES)]][number])
        for number in range(n)
    ]


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=size_of, default=80_000, help="vectors of six modalities; three are used")
    parser.add_argument("--dim", type=int, default=1024)
    parser.add_argument("--shards", type=int, default=4)
    parser.add_argument("--queries", type=int, default=300)
    parser.add_argument("--timed", type=int, default=300, help="number of queries that are timed")
    parser.add_argument("--recall", type=lambda text: [float(one) for one in text.split(",")], default=[0.98, 0.99])
    parser.add_argument("--cache", type=Path, help="folder of vectors to read or write")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
