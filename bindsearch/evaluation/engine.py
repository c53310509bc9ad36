"""Recall of a store's searches against the exact search, for each pair of modalities at each operating point.

It is the index's own loss: what a model puts far away, the exact search does not find either. Queries are stored
vectors that the indexes were not tuned with where there are enough, generic captions, and sums of two modalities.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from bindsearch.indexes.row_mask import RowMask
from bindsearch.indexes.tuning import KS, MIN_QUERIES, SELECTIVITIES, TIMED_QUERIES, exact_nearest
from bindsearch.indexes.types import MIXED, IndexForm, OperatingPoint
from bindsearch.reports import OnStage, ignore_stage
from bindsearch.types import Modality
from bindsearch.vectors import l2_normalize

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from bindsearch.evaluation.arrays import Vectors
    from bindsearch.search.generation import Generation
    from bindsearch.search.partition import Partition

QUERIES = 200
"""Queries of a pair of modalities; the standard error of a recall near .98 is then below .01."""

SEED = 7
EXACT = "exact"


@dataclass(frozen=True, slots=True)
class EngineFigure:
    """Recall at one operating point.

    Attributes:
        source: Modality of the queries, or "mixed": sums of two modalities.
        target: Modality that is searched.
        form: Form of the index; "exact": all rows are scanned.
        k: Number of results.
        share: Share of the rows that match the filter; 1: no filter.
        probes: Inverted lists that are searched, 0 for a scan.
        rerank: Candidates that are scored exactly, 0 for a scan.
        rows: Number of rows of the target.
        queries: Number of queries.
        recall: Share of the exact k nearest that are found, mean over the queries.
        error: Standard error of the recall over the queries; None: an exact scan.
        tuned: Recall that was measured when the index was tuned; None: not measured then.
        latency_ms: Median time of one query in milliseconds.
        scan_ms: Median time of the exact scan of one query in milliseconds.
    """

    source: str
    target: Modality
    form: str
    k: int
    share: float
    probes: int
    rerank: int
    rows: int
    queries: int
    recall: float
    error: float | None
    tuned: float | None
    latency_ms: float
    scan_ms: float


def measure_engine(
    generation: Generation, captions: Callable[[], Vectors] | None = None, on_stage: OnStage = ignore_stage
) -> tuple[EngineFigure, ...]:
    """Return the recall of every pair of modalities at every operating point; nothing is changed.

    Args:
        generation: The generation of the store.
        captions: Returns vectors of texts, float32 (m, d), for a store with few texts; None: there are none.
        on_stage: Called with the name of each stage.
    """
    samples = engine_queries(generation, captions)
    found: list[EngineFigure] = []
    for target, partition in generation.partitions.items():
        if not partition.live_rows:
            continue
        for source, (queries, rows) in samples.items():
            on_stage(f"{source} -> {target}, {partition.live_rows} rows")
            found += _pair(partition, source, queries, rows if source == target else None)
    return tuple(found)


def engine_queries(
    generation: Generation, captions: Callable[[], Vectors] | None, *, mixed: bool = True
) -> dict[str, tuple[Vectors, NDArray[np.int64] | None]]:
    """Return queries of each source, float32 (nq, d), and the rows that they are, int64 (nq,); None: no rows.

    Args:
        generation: The generation of the store.
        captions: Returns vectors of texts for a store with few of them; None: there are none.
        mixed: Whether there are queries of two modalities too, if there are two.
    """
    rng = np.random.default_rng(SEED)
    samples: dict[str, tuple[Vectors, NDArray[np.int64] | None]] = {}
    for modality, partition in generation.partitions.items():
        live = np.arange(partition.n) if partition.alive is None else partition.alive.positions
        if len(live):
            rows = np.sort(rng.choice(live, min(QUERIES, len(live)), replace=False)).astype(np.int64)
            samples[modality.value] = partition.rows.embeddings(rows), rows
    texts = samples.get(Modality.TEXT.value)
    if captions is not None and (texts is None or len(texts[0]) < MIN_QUERIES):
        samples[Modality.TEXT.value] = captions()[:QUERIES], None
    if mixed and len(samples) > 1:
        samples[MIXED] = _mixed([queries for queries, _ in samples.values()], rng), None
    return samples


def _mixed(queries: list[Vectors], rng: np.random.Generator) -> Vectors:
    """Return normalised sums of two random queries of different modalities: float32 (QUERIES, d)."""
    sums = []
    for _ in range(QUERIES):
        first, second = rng.choice(len(queries), 2, replace=False)
        sums.append(rng.choice(queries[first]) + rng.choice(queries[second]))
    return l2_normalize(np.stack(sums))


def _pair(partition: Partition, source: str, queries: Vectors, own: NDArray[np.int64] | None) -> list[EngineFigure]:
    """Return the figures of one pair of modalities."""
    scan_ms = _median_ms(lambda query: partition.rows.scan(query, KS[0], partition.alive), queries)
    opened = partition.index
    if opened is None or opened.index is None or opened.manifest.parameters.form is IndexForm.EXACT:
        n = partition.live_rows, len(queries)
        scan = EngineFigure(source, partition.modality, EXACT, 0, 1.0, 0, 0, *n, 1.0, None, None, scan_ms, scan_ms)
        return [replace(scan, k=k) for k in KS]
    masks = _masks(partition)
    nearest = exact_nearest(partition.rows, queries, max(KS), [*masks.values()], partition.n, own)
    parts = {share: (mask, truth) for (share, mask), truth in zip(masks.items(), nearest, strict=True)}
    points = [point for point in opened.manifest.points if point.source == source and point.selectivity in parts]
    return [_figure(partition, point, queries, own, *parts[point.selectivity], scan_ms) for point in points]


def _masks(partition: Partition) -> Mapping[float, RowMask | None]:
    """Return a mask of live rows for each share that points are tuned for; other rows than those of the tuning."""
    rng = np.random.default_rng(SEED)
    alive = np.ones(partition.n, np.bool_) if partition.alive is None else partition.alive.flags
    masks: dict[float, RowMask | None] = {}
    for share in SELECTIVITIES:
        mask = partition.alive if share == 1.0 else RowMask(alive & (rng.random(partition.n) < share))
        if mask is None or mask.count:
            masks[share] = mask
    return masks


def _figure(
    partition: Partition,
    point: OperatingPoint,
    queries: Vectors,
    own: NDArray[np.int64] | None,
    mask: RowMask | None,
    truth: NDArray[np.int64],
    scan_ms: float,
) -> EngineFigure:
    """Return the recall of one point: candidates of the index and rows that it does not cover yet, scored exactly."""
    k, opened = point.k, partition.index
    assert opened is not None
    shares = []
    for number in range(len(queries)):
        best = _search(partition, queries[number : number + 1], point, mask, k if own is None else k + 1)
        if own is not None:
            best = best[best != own[number]][:k]
        wanted = truth[number, :k]
        wanted = wanted[wanted >= 0]
        if len(wanted):
            shares.append(float(np.isin(wanted, best).mean()))
    return EngineFigure(
        point.source,
        partition.modality,
        opened.manifest.parameters.form.value,
        k=k,
        share=point.selectivity,
        probes=point.probes,
        rerank=point.rerank,
        rows=partition.live_rows,
        queries=len(shares),
        recall=float(np.mean(shares)) if shares else 1.0,
        error=float(np.std(shares, ddof=1)) / math.sqrt(len(shares)) if len(shares) > 1 else None,
        tuned=point.recall if point.fallback_source is None else None,
        latency_ms=_median_ms(lambda query: _search(partition, query, point, mask, k), queries),
        scan_ms=scan_ms,
    )


def _search(
    partition: Partition, query: Vectors, point: OperatingPoint, mask: RowMask | None, k: int
) -> NDArray[np.int64]:
    """Return the rows that are found for one query (1, d) at a point: int64, best first."""
    candidates = partition.candidates(query, max(point.rerank, k), point.probes, mask)
    found = partition.rows.rerank(query, candidates, k)
    rows, cosines = found.positions[0], found.cosines[0]
    if partition.tail_start < partition.n:
        tail = partition.rows.scan(query, k, mask, partition.tail_start)
        rows = np.concatenate([rows, tail.positions[0]])
        cosines = np.concatenate([cosines, tail.cosines[0]])
    best = np.argsort(-cosines, kind="stable")[:k]
    return np.asarray(rows[best][rows[best] >= 0], np.int64)


def _median_ms(search: Callable[[Vectors], object], queries: Vectors) -> float:
    """Return the median time of a search for one query in milliseconds."""
    times = []
    for number in range(min(len(queries), TIMED_QUERIES)):
        started = time.perf_counter()
        search(queries[number : number + 1])
        times.append(time.perf_counter() - started)
    return float(np.median(times)) * 1e3
