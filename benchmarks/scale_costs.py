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
IMAGE_SHARE = synthetic.SHARES["image"] / sum(synthetic.SHARES[name] for name in STORED)
OPENS = 3
SEARCHED = ("text", "image")
COST_RUNS, COST_S = 5, 4.0
COLD_ROWS, COLD_RUNS = 400, 15
"""Rows reranked at once from a cold page cache, and how often."""
COLD_BYTES = 2**29
"""Bytes of the file that they are read from: the rows are a megabyte apart, so that no read brings the next row."""
TARGETS = (0.95, 0.98, 0.99)
TUNE_S = 60.0
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
    """Needs of the queries of a modality of an index of n rows for a recall@10.

    Attributes:
        source: modality of the queries.
        target: modality of the rows.
        n: rows of the index.
        lists: lists of the index.
        recall: the recall@10 asked for.
        probes: lists probed.
        rerank: rows scored exactly.
        code_bytes: bytes of a code.
        ms: median time of a core of single searches of the index, without anything else.
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
class StoreFigures:
    """Measurements of a store without indexes: bytes on disk by what they hold, resident bytes, core-seconds."""

    vectors: int
    dim: int
    disk: Mapping[str, int]
    resident: float
    commit_core_s: float
    import_core_s: float
    open_ms: Sequence[float]


def measure_store(folder: Path, size: int, dim: int) -> StoreFigures:
    """Fill a store as `index` does, measure it in fresh processes, and import its export.

    It has no indexes, which are measured by themselves: each has a fixed size beside its codes.

    Args:
        folder: where vectors and stores are written.
        size: number of vectors.
        dim: dimensions.
    """
    data = dataset(size, dim, folder / f"vectors-{size}-{dim}")
    place = folder / f"store-{size}-{dim}"
    built = fill_store(place, data, IndexSettings(IndexForm.EXACT))
    queries = folder / "queries.npz"
    np.savez(queries, allow_pickle=False, **{name: asked[:1] for name, asked in data.queries.items()})
    figures = StoreFigures(
        vectors=data.n,
        dim=dim,
        disk=bytes_on_disk(place),
        resident=fresh("memory", place, queries)["pairs_with_snapshot"],
        commit_core_s=built.commit_core_s,
        import_core_s=_import_core_s(folder, place, dim),
        open_ms=[fresh("open", place, queries)["ms"] for _ in range(OPENS)],
    )
    shutil.rmtree(place)
    return figures


@dataclass(frozen=True)
class Searches:
    """Single searches of a store of images for images, and the plan that they had.

    Attributes:
        source: modality of the queries.
        n: images in the store.
        probes: lists probed.
        lists: lists of the index.
        rerank: rows scored exactly.
        code_bytes: bytes of a code.
        core_ms: time of a core, its median: other processes do not count.
        ms: latencies, of which the spread is used.
    """

    source: str
    n: int
    probes: int
    lists: int
    rerank: int
    code_bytes: int
    core_ms: float
    ms: Sequence[float]


def measure_searches(folder: Path, n: int, dim: int, times_each: int) -> list[Searches]:
    """Time single searches of a store of n images; none if the engine scans all of them."""
    images = dataset(round(n / IMAGE_SHARE), dim, folder / f"vectors-{n}-images-{dim}").only("image")
    place = folder / f"images-{n}-{dim}"
    fill_store(place, images)
    engine = Engine(place)
    found = [_searches(engine, images, source, times_each) for source in SEARCHED]
    return [searches for searches in found if searches is not None]


def _searches(engine: Engine, data: Dataset, source: str, times_each: int) -> Searches | None:
    queries, rows = data.queries[source], data.vectors["image"]
    setting = engine.hand_setting(queries[0], "image")
    if setting is None:
        return None
    ask, ms, core_ms = engine.contender(to="image").ask, [], []
    for turn in range(-len(queries), times_each):
        started, started_core = time.perf_counter(), time.process_time()
        ask(queries[turn % len(queries)])
        if turn >= 0:
            ms.append(1000 * (time.perf_counter() - started))
            core_ms.append(1000 * (time.process_time() - started_core))
    form = choose_parameters(len(rows), rows.shape[1], IndexSettings(recall=RECALL_SMALL))
    settings = (setting.probes, form.lists, setting.rerank, form.code_bytes)
    return Searches(source, len(rows), *settings, float(np.median(core_ms)), ms)


def dataset(size: int, dim: int, cache: Path) -> Dataset:
    """Return images, texts and sounds of the search benchmark, `size` in all, in `dim` dimensions."""
    share = sum(synthetic.SHARES[name] for name in STORED)
    whole = make_dataset(round(size / share), 200, cache, dim)
    return Dataset(
        {name: whole.vectors[name] for name in STORED},
        {name: whole.queries[name] for name in STORED},
        {name: whole.labels[name] for name in STORED},
        {name: whole.chances[name] for name in STORED},
    )


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


def _import_core_s(folder: Path, store: Path, dim: int) -> float:
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
    runs = [measure_costs(dim, COST_S, seed=seed) for seed in range(COST_RUNS)]
    return [
        cost(f"code_byte_ns {dim}", "ns a byte of codes in a probe", [run.code_ns_per_byte for run in runs]),
        cost(f"list_ns {dim}", "ns a list visited", [run.probe_ns for run in runs]),
        cost(
            f"row_ns {dim}", "ns a row reranked from the page cache", [run.gather_ns_per_byte * 2 * dim for run in runs]
        ),
        cost(f"call_ns {dim}", "ns a call of an index", [run.call_ns for run in runs]),
    ]


def cold_costs(folder: Path, dim: int) -> list[Cost]:
    """Return the cost of a row that is not in the page cache; `folder` is where a file of rows is written."""
    n = COLD_BYTES // (2 * dim)
    path, rng = folder / f"cold-{dim}", np.random.default_rng(5)
    block = rng.standard_normal((4096, dim), np.float32).astype(np.float16)
    with path.open("wb") as file:
        for _ in range(n // len(block)):
            file.write(block.tobytes())
    query, times = rng.standard_normal((1, dim), np.float32), []
    for _ in range(COLD_RUNS):
        drop_cached(path)
        rows = ExactRows(dim, [np.asarray(np.memmap(path, np.float16, "r", shape=(n, dim)))])
        chosen = np.sort(rng.choice(n, (1, COLD_ROWS), replace=False, shuffle=False))
        started = time.perf_counter()
        rows.rerank(query, chosen, 10)
        times.append(1e9 * (time.perf_counter() - started) / COLD_ROWS)
        del rows
    path.unlink()
    return [cost(f"cold_row_ns {dim}", "ns a row reranked from the disk, one at a time", times)]


def drop_cached(path: Path) -> None:
    """Ask the system to drop a file's pages from the page cache."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


# Indexes


@dataclass(frozen=True)
class BuildTime:
    """Core-seconds of training an index and of adding n rows to it, and the bytes of its file beside the codes.

    Attributes:
        n: rows.
        dim: dimensions d of the rows.
        parameters: parameters of the index.
        train_s: core-seconds of training.
        add_s: core-seconds of adding.
        bytes_beside: bytes of its file without codes, matrix (r, d) and centroids (lists + 16, r) in float32.
    """

    n: int
    dim: int
    parameters: IndexParameters
    train_s: float
    add_s: float
    bytes_beside: int

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


def build(rows: NDArray[np.float16], parameters: IndexParameters, folder: Path) -> tuple[IvfPqIndex, BuildTime]:
    """Build an index over rows fp16 (n, d), timed: the time of a core, so that other processes do not count."""
    started = time.process_time()
    index = train_on_blocks([rows], parameters)
    trained = time.process_time()
    index.add(rows)
    added = time.process_time()
    path = folder / "index.faiss"
    index.write(path)
    fixed = 4 * parameters.reduced_dim * (rows.shape[1] + parameters.lists + 2**parameters.bits)
    beside = path.stat().st_size - fixed - len(rows) * parameters.code_bytes
    return index, BuildTime(len(rows), rows.shape[1], parameters, trained - started, added - trained, beside)


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
            clock=time.process_time,
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
