"""Ray: cost of a call to an actor, and a search over shards on nodes of their own, all on this machine."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from fan_out import of_sample, slowest_of
from scale_costs import Cost, cost
from search_data import Dataset
from search_engine import fill_store

if TYPE_CHECKING:
    from numpy.typing import NDArray

WARM_UP = 100
CALLS = 1000
PAYLOAD_BYTES = 100_000
BURST = 64
"""Calls sent at once, as a router does to as many machines."""
BURSTS = 30
K = 10
QUANTILES = (0.5, 0.9, 0.99)


class Node:
    """Actor of one node: answers at once, or searches its shard."""

    def __init__(self, store: str | None) -> None:
        """Open a store; None: there is nothing to search."""
        import bindsearch as bs

        self._store = None if store is None else bs.connect(Path(store))

    def echo(self, payload: bytes) -> bytes:
        """Return what was sent."""
        return payload

    def search(self, query: NDArray[np.float32]) -> tuple[list[int], list[float], float]:
        """Return item ids and cosines of the nearest images, and the milliseconds that the store took."""
        assert self._store is not None
        started = time.perf_counter()
        (hits,) = self._store.search_many([query], to="image", k=K, ranking="cosine")
        took_ms = 1000 * (time.perf_counter() - started)
        return [hit.item_id for hit in hits], [hit.cosine for hit in hits], took_ms


@dataclass(frozen=True)
class FanOut:
    """Latencies of searches over shards, in milliseconds, as the client saw them.

    Attributes:
        alone_ms: one shard asked while the others are idle: float64 (shards, n).
        parts_ms: all shards asked at once, answer of each: float64 (shards, n).
        whole_ms: until the last answer, float64 (n,).
        store_ms: time that the store itself took in each of these, float64 (shards, n).
    """

    alone_ms: NDArray[np.float64]
    parts_ms: NDArray[np.float64]
    whole_ms: NDArray[np.float64]
    store_ms: NDArray[np.float64]


@contextmanager
def nodes(stores: Sequence[Path | None]) -> Iterator[list[Any]]:
    """Start a cluster of one node for each store, on this machine, with an actor on each; end it afterwards."""
    # Sockets have short paths; in a folder of its own, the cluster is not found by other programs that use Ray.
    own = tempfile.mkdtemp(prefix="ray-", dir="/tmp")
    os.environ.update(RAY_TMPDIR=own, RAY_USAGE_STATS_ENABLED="0", RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO="0")
    import ray
    from ray.cluster_utils import Cluster

    cluster = Cluster()
    try:
        for number in range(len(stores)):
            options = {"include_dashboard": False} if number == 0 else {}
            cluster.add_node(num_cpus=1, resources={f"node-{number}": 1}, object_store_memory=100 * 2**20, **options)
        environment = {"PYTHONPATH": str(Path(__file__).parent), "OMP_NUM_THREADS": "1"}
        ray.init(cluster.address, runtime_env={"env_vars": environment}, log_to_driver=False, logging_level="ERROR")
        remote: Any = ray.remote(Node)
        actors = [
            remote.options(num_cpus=0, resources={f"node-{number}": 1}).remote(None if store is None else str(store))
            for number, store in enumerate(stores)
        ]
        ray.get([actor.echo.remote(b"") for actor in actors])
        yield actors
    finally:
        ray.shutdown()
        cluster.shutdown()
        shutil.rmtree(own, ignore_errors=True)


def hop_costs(actors: Sequence[Any]) -> list[Cost]:
    """Return the cost of calls to actors, one at a time and many at once, in microseconds."""
    import ray

    payload = bytes(PAYLOAD_BYTES)
    empty = _calls(lambda: ray.get(actors[0].echo.remote(b"")))
    large = _calls(lambda: ray.get(actors[0].echo.remote(payload)))
    sent, received = [], []
    for _ in range(BURSTS):
        started = time.perf_counter()
        refs = [actors[number % len(actors)].echo.remote(b"") for number in range(BURST)]
        at = time.perf_counter()
        ray.get(refs)
        sent.append(1e6 * (at - started) / BURST)
        received.append(1e6 * (time.perf_counter() - started) / BURST)
    return [
        cost("hop_us", "us an empty call of an actor", empty),
        cost("hop_100kb_us", "us a call with 100 KB there and back", large),
        cost("send_us", f"us of the caller to send one of {BURST} calls", sent),
        cost("call_of_many_us", f"us a call, sent and answered, of {BURST} at once", received),
    ]


def _calls(call: Callable[[], object]) -> list[float]:
    times = []
    for _ in range(WARM_UP + CALLS):
        started = time.perf_counter()
        call()
        times.append(1e6 * (time.perf_counter() - started))
    return times[WARM_UP:]


def measure_fan_out(actors: Sequence[Any], queries: NDArray[np.float32], n: int) -> FanOut:
    """Ask each shard alone, then all at once, n times each, with queries (nq, d) in turn."""
    import ray

    alone = np.empty((len(actors), n))
    for number, actor in enumerate(actors):
        for turn in range(-WARM_UP, n):
            started = time.perf_counter()
            ray.get(actor.search.remote(queries[turn % len(queries)]))
            if turn >= 0:
                alone[number, turn] = 1000 * (time.perf_counter() - started)
    parts, store_ms, whole = np.empty((len(actors), n)), np.empty((len(actors), n)), np.empty(n)
    for turn in range(-WARM_UP, n):
        query = queries[turn % len(queries)]
        started = time.perf_counter()
        refs = [actor.search.remote(query) for actor in actors]
        number_of = {ref: number for number, ref in enumerate(refs)}
        took_ms = np.empty(len(actors))
        waiting = refs
        while waiting:
            done, waiting = ray.wait(waiting, num_returns=1)
            for ref in done:
                took_ms[number_of[ref]] = 1000 * (time.perf_counter() - started)
        answers = ray.get(refs)
        if turn >= 0:
            whole[turn] = 1000 * (time.perf_counter() - started)
            parts[:, turn] = took_ms
            store_ms[:, turn] = [answer[2] for answer in answers]
    return FanOut(alone, parts, whole, store_ms)


def compare(found: FanOut) -> dict[str, Any]:
    """Return the quantiles of whole searches: as measured, and as predicted from latencies of single shards.

    From shards asked alone, and from shards asked under the same load, which on a machine with fewer cores than nodes
    includes that the nodes wait for each other.
    """
    alone = slowest_of([of_sample(sample) for sample in found.alone_ms])
    loaded = slowest_of([of_sample(sample) for sample in found.parts_ms])
    singles = of_sample(found.parts_ms.ravel())
    rows = {
        "one shard, the others idle": of_sample(found.alone_ms.ravel()),
        "one shard, all asked at once": singles,
        "of this, in the store": of_sample(found.store_ms.ravel()),
        "predicted from shards asked alone": alone,
        "predicted from shards under the same load": loaded,
        "measured": of_sample(found.whole_ms),
    }
    return {
        "nodes": len(found.parts_ms),
        "searches": len(found.whole_ms),
        "ms": {name: {str(p): row.quantile(p) for p in QUANTILES} for name, row in rows.items()},
        "correlation": float(np.mean(np.asarray(np.corrcoef(found.parts_ms))[np.triu_indices(len(found.parts_ms), 1)])),
    }


def fill_shards(folder: Path, data: Dataset, count: int) -> list[Path]:
    """Create stores of equal parts of the images of some data, and index them."""
    images = data.only("image")
    stores = []
    for number in range(count):
        part = [{name: rows[number::count] for name, rows in by.items()} for by in _arrays(images)]
        stores.append(folder / f"shard-{number:04d}")
        fill_store(stores[-1], Dataset(part[0], images.queries, part[1], part[2]))
    return stores


def _arrays(data: Dataset) -> tuple[Mapping[str, NDArray[Any]], ...]:
    return (
        data.vectors,
        {name: data.labels[name] for name in data.vectors},
        {name: data.chances[name] for name in data.vectors},
    )
