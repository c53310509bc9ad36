"""LanceDB, Chroma, hnswlib and usearch on the same vectors, each used as documented.

LanceDB and Chroma store all modalities and filter; hnswlib and usearch, which have no columns, get a graph of the
images only, which is the best case for them.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from search_data import Dataset, K, recall
from search_timing import Ask, Contender, RowsOf

if TYPE_CHECKING:
    from numpy.typing import NDArray

MODULES = {"lancedb": "lancedb", "chroma": "chromadb", "hnswlib": "hnswlib", "usearch": "usearch"}
ADD_ROWS = 4096
CONNECTIVITY, EXPANSION_ADD = 32, 200
"""Links per node and search width while a graph is built: recommended by their documentation for high recall."""
WIDTHS = (10, 16, 24, 32, 48, 64, 100, 150, 200, 300, 400, 600, 800, 1200, 1600, 2400, 3200, 4800, 6400)
"""Widths of the search (ef, expansion) tried on graphs."""
LANCE_PROBES = (20, 256)
"""Its default, and more than its default number of partitions at any size measured here."""
LANCE_REFINE = (5, 10, 20, 50, 100, 200, 500)
SLOW_SWEEP_QUERIES = 50
"""Queries that slow systems are tried with; graphs answer all."""


@dataclass(frozen=True)
class PeerSetting:
    """One way to search a peer for the images nearest to a query."""

    name: str
    ask: Ask


@dataclass(frozen=True)
class Peer:
    """An open peer with its settings.

    Attributes:
        ladder: settings of increasing recall and cost, tried up to the first with enough recall.
        others: further settings, all tried.
        default: its default setting.
    """

    system: str
    ladder: tuple[PeerSetting, ...]
    others: tuple[PeerSetting, ...]
    default: PeerSetting
    rows: RowsOf
    build_s: float

    def contender(self, setting: PeerSetting) -> Contender:
        """Return the peer at one setting."""
        return Contender(self.system, setting.name, setting.ask, self.rows)


@dataclass(frozen=True)
class Sweep:
    """Recall@10 and median milliseconds of one setting over a few queries."""

    system: str
    source: str
    setting: PeerSetting
    recall: float
    p50_ms: float


def missing(names: Sequence[str]) -> list[str]:
    """Return those of the peers that are not installed."""
    return [name for name in names if name in MODULES and find_spec(MODULES[name]) is None]


def open_peers(names: Sequence[str], data: Dataset, folder: Path) -> Iterator[Peer]:
    """Build those peers that are installed, and yield them."""
    absent = missing(names)
    for name, build in BUILDERS.items():
        if name in names and name not in absent:
            started = time.perf_counter()
            subfolder = folder / name
            subfolder.mkdir(parents=True, exist_ok=True)
            ladder, others, default, rows = build(data, subfolder)
            yield Peer(name, ladder, others, default, rows, time.perf_counter() - started)


def sweep(
    peer: Peer, source: str, queries: NDArray[np.float32], truth: NDArray[np.int64], wanted: float
) -> list[Sweep]:
    """Try all other settings, and those of the ladder up to the first that reaches `wanted`."""
    slow = slice(None if peer.ladder else SLOW_SWEEP_QUERIES)
    tried = [try_setting(peer, source, setting, queries[slow], truth[slow]) for setting in peer.others]
    for setting in peer.ladder:
        tried.append(try_setting(peer, source, setting, queries, truth))
        if tried[-1].recall >= wanted:
            break
    return tried


def try_setting(
    peer: Peer, source: str, setting: PeerSetting, queries: NDArray[np.float32], truth: NDArray[np.int64]
) -> Sweep:
    """Try one setting with all the given queries, after a warm-up with the first."""
    setting.ask(queries[0])
    results, times = [], []
    for query in queries:
        started = time.perf_counter()
        answer = setting.ask(query)
        times.append(1000 * (time.perf_counter() - started))
        results.append(peer.rows(answer))
    return Sweep(peer.system, source, setting, recall(results, truth), float(np.median(times)))


def fastest(tried: Sequence[Sweep], wanted: float) -> Sweep:
    """Return the fastest that reaches `wanted`, else the one with the highest recall."""
    enough = [attempt for attempt in tried if attempt.recall >= wanted]
    return min(enough, key=lambda attempt: attempt.p50_ms) if enough else max(tried, key=lambda attempt: attempt.recall)


Built = tuple[tuple[PeerSetting, ...], tuple[PeerSetting, ...], PeerSetting, RowsOf]


def build_lancedb(data: Dataset, folder: Path) -> Built:
    """Build one table of all modalities, IVF_PQ by cosine with the default number of partitions.

    A bitmap index on the modality filters before the vectors are searched.
    """
    import lancedb
    import pyarrow as pa

    dim = next(iter(data.vectors.values())).shape[1]
    schema = pa.schema([("modality", pa.string()), ("row", pa.int64()), ("vector", pa.list_(pa.float32(), dim))])

    def batches() -> Iterator[pa.RecordBatch]:
        for modality, start, block in _blocks(data):
            values = pa.FixedSizeListArray.from_arrays(pa.array(block.astype(np.float32).reshape(-1)), dim)
            names = pa.array([modality] * len(block))
            yield pa.record_batch([names, pa.array(np.arange(start, start + len(block))), values], schema=schema)

    table = lancedb.connect(str(folder)).create_table("vectors", batches(), schema=schema, mode="overwrite")
    table.create_index(metric="cosine", vector_column_name="vector", index_type="IVF_PQ")
    table.create_scalar_index("modality", index_type="BITMAP")

    def search(query: NDArray[np.float32]) -> Any:
        return table.search(query).where("modality = 'image'", prefilter=True).select(["row", "_distance"]).limit(K)

    def at(probes: int, refine: int) -> PeerSetting:
        name = f"{probes} probes, refine {refine}"
        return PeerSetting(name, lambda query: search(query).nprobes(probes).refine_factor(refine).to_arrow())

    settings = [at(probes, refine) for probes in LANCE_PROBES for refine in LANCE_REFINE]
    exact = PeerSetting("exact", lambda query: search(query).bypass_vector_index().to_arrow())
    default = PeerSetting("defaults", lambda query: search(query).to_arrow())
    return (), (*settings, exact), default, lambda answer: answer["row"].to_pylist()


def build_chroma(data: Dataset, folder: Path) -> Built:
    """Build one collection of all modalities by cosine, with Chroma's defaults; `where` on the modality."""
    os.environ.setdefault("ANONYMIZED_TELEMETRY", "False")
    import chromadb
    from chromadb.config import Settings

    client = chromadb.PersistentClient(str(folder), Settings(anonymized_telemetry=False))
    collection = client.create_collection(
        "vectors", configuration={"hnsw": {"space": "cosine"}}, embedding_function=None
    )
    for modality, start, block in _blocks(data):
        collection.add(
            ids=[f"{modality}/{row}" for row in range(start, start + len(block))],
            embeddings=block.astype(np.float32),
            metadatas=[{"modality": modality}] * len(block),
        )

    def ask(query: NDArray[np.float32]) -> Any:
        return collection.query(query_embeddings=query[None], n_results=K, where={"modality": "image"}, include=[])

    default = PeerSetting("defaults (ef 100)", ask)
    return (), (default,), default, lambda answer: [int(name.split("/")[1]) for name in answer["ids"][0]]


def build_hnswlib(data: Dataset, folder: Path) -> Built:
    """Build a graph of the images only, inner products of float32."""
    del folder
    import hnswlib

    rows = data.vectors["image"]
    index = hnswlib.Index("ip", rows.shape[1])
    index.init_index(len(rows), ef_construction=EXPANSION_ADD, M=CONNECTIVITY)
    for start in range(0, len(rows), ADD_ROWS):
        block = rows[start : start + ADD_ROWS].astype(np.float32)
        index.add_items(block, np.arange(start, start + len(block)))
    index.set_num_threads(1)  # one query at a time: more threads would have no work

    def at(width: int) -> PeerSetting:
        def ask(query: NDArray[np.float32]) -> Any:
            index.set_ef(width)
            return index.knn_query(query, K)

        return PeerSetting(f"ef {width}", ask)

    settings = tuple(at(width) for width in WIDTHS if width <= len(rows))
    return settings, (), settings[0], lambda answer: answer[0][0].tolist()


def build_usearch(data: Dataset, folder: Path) -> Built:
    """Build a graph of the images only, inner products of fp16; its own exact search is a setting too."""
    del folder
    from usearch.index import Index

    rows = data.vectors["image"]
    index = Index(
        ndim=rows.shape[1],
        metric="ip",
        dtype="f16",
        connectivity=CONNECTIVITY,
        expansion_add=EXPANSION_ADD,
    )
    for start in range(0, len(rows), ADD_ROWS):
        index.add(np.arange(start, min(start + ADD_ROWS, len(rows))), np.asarray(rows[start : start + ADD_ROWS]))

    def at(width: int) -> PeerSetting:
        def ask(query: NDArray[np.float32]) -> Any:
            index.expansion_search = width
            return index.search(query.astype(np.float16), K, threads=1)

        return PeerSetting(f"ef {width}", ask)

    settings = tuple(at(width) for width in WIDTHS if width <= len(rows))
    exact = PeerSetting("exact", lambda query: index.search(query.astype(np.float16), K, exact=True))
    return settings, (exact,), settings[0], lambda answer: answer.keys.tolist()


BUILDERS: Mapping[str, Callable[[Dataset, Path], Built]] = {
    "lancedb": build_lancedb,
    "chroma": build_chroma,
    "hnswlib": build_hnswlib,
    "usearch": build_usearch,
}


def _blocks(data: Dataset) -> Iterator[tuple[str, int, NDArray[np.float16]]]:
    for modality, rows in data.vectors.items():
        for start in range(0, len(rows), ADD_ROWS):
            yield modality, start, rows[start : start + ADD_ROWS]
