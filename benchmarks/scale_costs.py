"""Unit costs of a store on this machine: bytes a vector, nanoseconds a code and a row, rates, and times of opening."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import synthetic
from search_data import Dataset, make_dataset
from search_engine import RECALL_SMALL, Engine, SyntheticEncoder, fill_store

import bindsearch as bs
from bindsearch.indexes.cost_model import measure_costs
from bindsearch.indexes.exact import ExactRows
from bindsearch.indexes.ivf_pq import IvfPqIndex, train_on_blocks
from bindsearch.indexes.parameters import choose_parameters
from bindsearch.indexes.tuning import measure_points
from bindsearch.indexes.types import IndexForm, IndexParameters, IndexSettings

if TYPE_CHECKING:
    from numpy.typing import NDArray

FRESH = Path(__file__).with_name("search_fresh.py")
STORED = ("image", "text", "audio")
"""Modalities of the stores: operating points are measured for each pair of them."""
SEARCHED = ("text", "image")
COST_RUNS = 7
COLD_READS = (25, 100, 400)
"""Rows reranked at once from a cold page cache."""
COLD_RUNS = 15
TARGETS = (0.95, 0.98, 0.99)
TUNE_S = 6.0
TUNED_QUERIES = 200
KMEANS_ROUNDS = 10


@dataclass(frozen=True)
class Cost:
    """A measured figure: its median, with the 10% and 90% quantiles of `n` measurements."""

    name: str
    unit: str
    median: float
    low: float
    high: float
    n: int


@dataclass(frozen=True)
class Check:
    """A figure of the largest size, predicted from the smaller ones, and as measured."""

    name: str
    unit: str
    predicted: float
    measured: float

    @property
    def error(self) -> float:
        """Return the error as a share of the measured figure."""
        return self.predicted / self.measured - 1


@dataclass(frozen=True)
class Share:
    """What queries of a modality need of an index of n rows for a recall@10.

    Attributes:
        source: modality of the queries.
        target: modality of the rows.
        n: rows of the index.
        lists: lists of the index.
        recall: the recall@10 asked for.
        probes: lists probed.
        rerank: rows scored exactly.
        code_bytes: bytes of a code.
        ms: median latency of single searches of the index, without anything else.
    """

    source: str
    target: str
    n: int
    lists: int
    recall: float
    probes: int
    rerank: int
    code_bytes: int
    ms: float

    @property
    def codes(self) -> float:
        """Return the share of lists probed."""
        return self.probes / self.lists


def cost(name: str, unit: str, values: Sequence[float]) -> Cost:
    """Return the median and spread of measurements."""
    low, median, high = np.quantile(np.asarray(values, np.float64), (0.1, 0.5, 0.9)).tolist()
    return Cost(name, unit, median, low, high, len(values))


def line(x: Sequence[float], y: Sequence[float]) -> tuple[float, float]:
    """Return intercept and slope of the line through points, by least squares; through the origin for one."""
    if len(x) == 1:
        return 0.0, y[0] / x[0]
    slope, intercept = np.polyfit(np.asarray(x, np.float64), np.asarray(y, np.float64), 1)
    return float(intercept), float(slope)


# Stores


@dataclass(frozen=True)
class Searches:
    """Latencies of single searches for images, and the plan that they had.

    Attributes:
        source: modality of the queries.
        n: images in the store.
        probes: lists probed.
        lists: lists of the index.
        rerank: rows scored exactly.
        code_bytes: bytes of a code.
        ms: latencies.
    """

    source: str
    n: int
    probes: int
    lists: int
    rerank: int
    code_bytes: int
    ms: Sequence[float]


@dataclass(frozen=True)
class StoreFigures:
    """Measurements of one store: bytes on disk by folder, resident bytes, rates and times."""

    vectors: int
    dim: int
    modalities: Mapping[str, int]
    disk: Mapping[str, int]
    resident: float
    resident_with_snapshot: float
    commit_core_s: float
    optimize_s: float
    import_s: float
    open_ms: Sequence[float]
    searches: Sequence[Searches]

    @property
    def code_bytes(self) -> int:
        """Return the bytes of all codes, by the parameters of the indexes."""
        settings = IndexSettings(recall=RECALL_SMALL)
        parts = [(n, choose_parameters(n, self.dim, settings)) for n in self.modalities.values()]
        return sum(n * form.code_bytes for n, form in parts if form.form is not IndexForm.EXACT)


def measure_store(folder: Path, size: int, dim: int, opens: int, searches: int) -> StoreFigures:
    """Fill a store as `index` does, index it, and measure it in fresh processes; also import its export.

    Args:
        folder: where vectors and stores are written.
        size: number of vectors.
        dim: dimensions.
        opens: processes that open it, timed.
        searches: single searches of each kind that are timed.
    """
    data = dataset(size, dim, folder / f"vectors-{size}-{dim}")
    place = folder / f"store-{size}-{dim}"
    built = fill_store(place, data)
    queries = folder / "queries.npz"
    np.savez(queries, allow_pickle=False, **{name: asked[:20] for name, asked in data.queries.items()})
    opened = [fresh("open", place, queries)["ms"] for _ in range(opens)]
    memory = fresh("memory", place, queries)
    return StoreFigures(
        vectors=data.n,
        dim=dim,
        modalities={name: len(rows) for name, rows in data.vectors.items()},
        disk=bytes_on_disk(place),
        resident=memory["pairs"],
        resident_with_snapshot=memory["pairs_with_snapshot"],
        commit_core_s=built.commit_core_s,
        optimize_s=built.optimize_s,
        import_s=_import_s(folder, place, dim),
        open_ms=opened,
        searches=[found for source in SEARCHED if (found := _searches(place, data, source, searches)) is not None],
    )


def _searches(place: Path, data: Dataset, source: str, times_each: int) -> Searches | None:
    """Time single searches for images; None if the engine scans all of them."""
    engine = Engine(place)
    setting = engine.hand_setting(data.queries[source][0], "image")
    if setting is None:
        return None
    ask, times = engine.contender(to="image").ask, []
    for turn in range(-len(data.queries[source]), times_each):
        query = data.queries[source][turn % len(data.queries[source])]
        started = time.perf_counter()
        ask(query)
        times.append(1000 * (time.perf_counter() - started))
    n = len(data.vectors["image"])
    form = choose_parameters(n, data.vectors["image"].shape[1], IndexSettings(recall=RECALL_SMALL))
    settings = (setting.probes, form.lists, setting.rerank, form.code_bytes)
    return Searches(source, n, *settings, times[len(data.queries[source]) :])


def dataset(size: int, dim: int, cache: Path) -> Dataset:
    """Return images, texts and sounds of the search benchmark, `size` in all, in `dim` dimensions."""
    share = sum(synthetic.SHARES[name] for name in STORED)
    whole = make_dataset(round(size / share), 200, cache, dim)
    parts = (whole.vectors, whole.queries, whole.labels, whole.chances)
    vectors, queries, labels, chances = ({name: part[name] for name in STORED} for part in parts)
    return Dataset(vectors, queries, labels, chances)


def bytes_on_disk(store: Path) -> dict[str, int]:
    """Return the bytes of a store by what they hold."""
    kinds: dict[str, int] = dict.fromkeys(("rows", "codes", "words", "snapshot", "catalog"), 0)
    for path in store.rglob("*"):
        if path.is_file():
            kinds[_kind(path.relative_to(store).parts)] += path.stat().st_size
    return kinds


def _kind(parts: Sequence[str]) -> str:
    if parts[0] == "vectors":
        return "rows"
    if parts[0] == "indexes":
        return "words" if parts[1] == "words" else "codes"
    return "catalog" if parts[0].startswith("catalog") else "snapshot"


def fresh(what: str, store: Path, queries: Path) -> Any:
    """Run a measurement of search_fresh.py in a process of its own."""
    command = [sys.executable, str(FRESH), what, str(store), str(queries)]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1])


class _ImportedError(Exception):
    """Ends an import before its indexes are built."""


def _import_s(folder: Path, store: Path, dim: int) -> float:
    """Return the core-seconds that an import takes without its indexes."""
    exported, imported = folder / f"export-{store.name}", folder / f"import-{store.name}"

    def on_stage(_: str) -> None:
        raise _ImportedError

    with bs.connect(store) as opened:
        opened.export(exported)
    started = time.process_time()
    with suppress(_ImportedError), bs.connect(imported, encoder=SyntheticEncoder(dim)) as opened:
        opened.import_vectors(exported, on_stage=on_stage)
    took_s = time.process_time() - started
    shutil.rmtree(exported)
    shutil.rmtree(imported)
    return took_s


# Codes and rows


def search_costs(dim: int) -> list[Cost]:
    """Return the unit costs that the planner uses, measured several times, in nanoseconds."""
    runs = [measure_costs(dim, 0.6, seed=seed) for seed in range(COST_RUNS)]
    return [
        cost(f"code_byte_ns {dim}", "ns a byte of codes in a probe", [run.code_ns_per_byte for run in runs]),
        cost(f"list_ns {dim}", "ns a list visited", [run.probe_ns for run in runs]),
        cost(
            f"row_ns {dim}", "ns a row reranked from the page cache", [run.gather_ns_per_byte * 2 * dim for run in runs]
        ),
        cost(f"call_ns {dim}", "ns a call of an index", [run.call_ns for run in runs]),
    ]


def cold_costs(path: Path, dim: int) -> list[Cost]:
    """Return the cost of a row that is not in the page cache, from rerank widths that differ.

    Args:
        path: file of fp16 rows.
        dim: dimensions of the rows.
    """
    n = path.stat().st_size // (2 * dim)
    rng = np.random.default_rng(5)
    times: dict[int, list[float]] = {width: [] for width in COLD_READS}
    query = rng.standard_normal((1, dim), np.float32)
    for _ in range(COLD_RUNS):
        for width in COLD_READS:
            drop_cached(path)
            rows = ExactRows(dim, [np.asarray(np.memmap(path, np.float16, "r", shape=(n, dim)))])
            chosen = np.sort(rng.choice(n, (1, width), replace=False, shuffle=False))
            started = time.perf_counter()
            rows.rerank(query, chosen, 10)
            times[width].append(time.perf_counter() - started)
            del rows
    few, many = COLD_READS[0], COLD_READS[-1]
    each = [1e9 * (b - a) / (many - few) for a, b in zip(times[few], times[many], strict=True)]
    return [cost(f"cold_row_ns {dim}", "ns a row reranked from the disk, one at a time", each)]


def drop_cached(path: Path) -> None:
    """Ask the system to drop a file's pages from the page cache."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


# Indexes


@dataclass(frozen=True)
class BuildTime:
    """Core-seconds of training an index and of adding n rows to it."""

    n: int
    dim: int
    parameters: IndexParameters
    train_s: float
    add_s: float

    @property
    def train_flop(self) -> float:
        """Return the multiplications and additions of k-means, most of the work of training."""
        form = self.parameters
        rows = min(form.train_rows, form.lists * 128)
        return 2.0 * KMEANS_ROUNDS * rows * form.lists * form.reduced_dim if form.lists > 1 else 0.0

    @property
    def add_flop(self) -> float:
        """Return the multiplications and additions that reduce a row, and find its list."""
        return 2.0 * self.parameters.reduced_dim * (self.dim + self.parameters.lists)


def build(rows: NDArray[np.float16], parameters: IndexParameters) -> tuple[IvfPqIndex, BuildTime]:
    """Build an index over rows fp16 (n, d), timed: the time of a core, so that other processes do not count."""
    started = time.process_time()
    index = train_on_blocks([rows], parameters)
    trained = time.process_time()
    index.add(rows)
    added = time.process_time()
    return index, BuildTime(len(rows), rows.shape[1], parameters, trained - started, added - trained)


def shares(
    index: IvfPqIndex, rows: NDArray[np.float16], target: str, queries: Mapping[str, NDArray[np.float32]]
) -> list[Share]:
    """Return what queries of each modality need for each recall@10."""
    found = []
    for recall in TARGETS:
        points = measure_points(
            index,
            ExactRows(rows.shape[1], [rows]),
            queries,
            modality=target,
            recall=recall,
            ks=(10,),
            selectivities=(1.0,),
            budget_s=TUNE_S,
        )
        found += [
            Share(
                source=point.source,
                target=target,
                n=len(rows),
                lists=index.lists,
                recall=recall,
                probes=point.probes,
                rerank=point.rerank,
                code_bytes=index.parameters.code_bytes,
                ms=point.latency_ms,
            )
            for point in points
            if point.source in queries
        ]
    return found


def tuning_queries(dim: int, n: int, sources: Sequence[str]) -> dict[str, NDArray[np.float32]]:
    """Return queries that were never indexed, by modality: float32 (nq, d) each."""
    space = synthetic.make_space(dim)
    after = -(-n // synthetic.BLOCK)
    asked = {}
    for source in sources:
        sample = synthetic.block(space, source, after, TUNED_QUERIES).astype(np.float32)
        asked[source] = sample / np.linalg.norm(sample, axis=1, keepdims=True)
    return asked
