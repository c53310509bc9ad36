"""Operating points: the cheapest probes and rerank width that reach the wanted recall, measured on stored vectors.

The settings a query needs depend on its modality: a query within the partition's distribution finds its neighbours in
few lists, one across the modality gap in many. So each source modality is measured with queries of its own.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bindsearch.indexes.exact import ExactRows
from bindsearch.indexes.row_mask import RowMask
from bindsearch.indexes.types import MIXED, UNMEASURED, OperatingPoint, UnitCosts

if TYPE_CHECKING:
    from bindsearch.indexes.ivf_pq import IvfPqIndex

RERANKS = (50, 100, 200, 400, 800, 1600)
"""Rerank widths tried: each costs twice the previous one, which is less than more probes where codes are good."""

KS = (10, 100)
"""Numbers of results k that points are measured for."""

SELECTIVITIES = (1.0, 0.5, 0.1)
"""Shares of the rows matching the filters that points are measured with."""

MIN_QUERIES = 50
"""Minimum queries per source: with fewer, the standard error of a recall near .98 exceeds .01."""

CONFIDENCE_SIGMA = 2.0
"""Standard errors that a mean recall must lie above the target.

The cheapest of many settings that just reach the target is one that the sample overestimates.
"""

TRUTH_ROWS = 16_384
"""Rows scored at once to find the true nearest: 64 MB as float32 of 1024 dimensions."""

PILOT_QUERIES = 10
"""Queries that estimate, before the first source is measured, how long one query takes."""

TIMED_QUERIES = 30
"""Queries run one by one to measure the median latency of a point."""

DEFAULT_COSTS = UnitCosts()

OUTSIDE = 2.0
"""An `in_distribution_cosine` that no query reaches."""


class _FilterCase(NamedTuple):
    """A filter to measure with: the share of rows it represents, and an example; None: all rows."""

    selectivity: float
    mask: RowMask | None


class _Setting(NamedTuple):
    """Estimated cost of a query with one setting, and mean recall@k in the worst of all cases, which is `mask`."""

    probes: int
    rerank: int
    cost_ns: float
    recall: float
    mask: RowMask | None


@dataclass(frozen=True)
class Tuner:
    """Common data of all measurements of a partition.

    Attributes:
        index: covers the first rows of `rows`.
        rows: the partition's rows.
        alive: those of the index's rows that searches may return; None: all.
        recall: the target recall.
        ks: numbers of results.
        selectivities: shares of rows matching the filters.
        costs: unit costs of this machine.
        clock: returns seconds.
    """

    index: IvfPqIndex
    rows: ExactRows
    alive: RowMask | None
    recall: float
    ks: tuple[int, ...] = KS
    selectivities: tuple[float, ...] = SELECTIVITIES
    costs: UnitCosts = DEFAULT_COSTS
    clock: Callable[[], float] = time.perf_counter

    def filter_cases(self, seed: int) -> list[_FilterCase]:
        """Return the filter cases of each share: random rows, and whole lists if there are several."""
        rng = np.random.default_rng(seed)
        alive = np.ones(self.index.n, np.bool_) if self.alive is None else self.alive.flags[: self.index.n]
        cases = []
        for share in self.selectivities:
            if share == 1.0:
                cases.append(_FilterCase(share, None if self.alive is None else RowMask(alive)))
                continue
            cases.append(_FilterCase(share, RowMask(alive & (rng.random(self.index.n) < share))))
            if self.index.lists > 1:
                mask = np.zeros(self.index.n, np.bool_)
                lists, count = iter(rng.permutation(self.index.lists).tolist()), 0
                while count < share * self.index.n:
                    ordinals = self.index.list_ordinals(next(lists))
                    mask[ordinals] = True
                    count += len(ordinals)
                cases.append(_FilterCase(share, RowMask(alive & mask)))
        return [case for case in cases if case.mask is None or case.mask.count]

    def points(
        self,
        source: str,
        queries: NDArray[np.float32],
        own: NDArray[np.int64] | None,
        filter_cases: Sequence[_FilterCase],
    ) -> list[OperatingPoint]:
        """Return the points for queries float32 (nq, d) of one source.

        `own`: int64 (nq,), the queries' own rows, excluded from the true results; None: no exclusion.
        """
        masks = [case.mask for case in filter_cases]
        truths = exact_nearest(self.rows, queries, max(self.ks), masks, self.index.n, own)
        points = []
        for share in dict.fromkeys(case.selectivity for case in filter_cases):
            cases = [
                (mask, truth)
                for case, mask, truth in zip(filter_cases, masks, truths, strict=True)
                if case.selectivity == share
            ]
            for k, setting in self._cheapest(queries, cases).items():
                times = []
                for number in range(min(len(queries), TIMED_QUERIES)):
                    query = queries[number : number + 1]
                    start = self.clock()
                    candidates = self.index.candidates(query, setting.rerank, setting.probes, setting.mask)
                    self.rows.rerank(query, candidates, k)
                    times.append(self.clock() - start)
                figures = setting.probes, setting.rerank, setting.recall, float(np.median(times)) * 1e3
                points.append(OperatingPoint(source, k, share, *figures))
        return points

    def _cheapest(
        self, queries: NDArray[np.float32], cases: Sequence[tuple[RowMask | None, NDArray[np.int64]]]
    ) -> dict[int, _Setting]:
        """Return for each k the cheapest setting whose recall bound reaches the target, else the widest."""
        best: dict[int, _Setting] = {}
        widest: dict[int, _Setting] = {}
        lists = self.index.lists
        for probes in (*(1 << bit for bit in range((lists - 1).bit_length())), lists):
            floor = setting_cost_ns(self.index, self.costs, probes, RERANKS[0])
            if all(k in best and best[k].cost_ns <= floor for k in self.ks):
                break
            ranks = [self._ranks(queries, probes, *case) for case in cases]
            for k in self.ks:
                for rerank in (width for width in RERANKS if width >= k):
                    outcomes = [
                        (*_recall(rank[:, :k], rerank), mask) for rank, (mask, _) in zip(ranks, cases, strict=True)
                    ]
                    bound, mean, mask = min(outcomes, key=lambda outcome: outcome[0])
                    cost_ns = setting_cost_ns(self.index, self.costs, probes, rerank)
                    widest[k] = setting = _Setting(probes, rerank, cost_ns, mean, mask)
                    if bound >= self.recall and (k not in best or setting.cost_ns < best[k].cost_ns):
                        best[k] = setting
        return {k: best.get(k, widest[k]) for k in self.ks}

    def _ranks(
        self, queries: NDArray[np.float32], probes: int, mask: RowMask | None, truth: NDArray[np.int64]
    ) -> NDArray[np.int64]:
        """Return the ranks of the true nearest (nq, k): RERANKS[-1] for no candidate, -1 if there is no k-th row."""
        width = min(RERANKS[-1], self.index.n)
        candidates = self.index.candidates(queries, width, probes, mask)
        rank_of = np.full(self.index.n + 1, RERANKS[-1], np.int64)  # the last one is for -1
        ranks = np.empty_like(truth)
        for candidate_ids, true, rank in zip(candidates, truth, ranks, strict=True):
            rank_of[candidate_ids] = np.arange(width)
            rank_of[-1] = -1
            rank[:] = rank_of[true]
            rank_of[candidate_ids] = RERANKS[-1]
        return ranks


def measure_points(
    index: IvfPqIndex,
    rows: ExactRows,
    queries: Mapping[str, NDArray[np.float32]],
    *,
    modality: str,
    own: NDArray[np.int64] | None = None,
    alive: RowMask | None = None,
    recall: float,
    ks: tuple[int, ...] = KS,
    selectivities: tuple[float, ...] = SELECTIVITIES,
    budget_s: float,
    costs: UnitCosts = DEFAULT_COSTS,
    clock: Callable[[], float] = time.perf_counter,
    seed: int = 0,
) -> tuple[OperatingPoint, ...]:
    """Measure the points of every source, and of MIXED: the most expensive of them per k and share.

    The partition's own modality is measured last; the first source is always measured. If `budget_s` is too short for
    all queries of a source, fewer are used, but no fewer than MIN_QUERIES. A source that it is too short for gets the
    widest measured cross-modal point, named in its `fallback_source`.

    Args:
        index: covers the first rows of `rows`.
        rows: the partition's rows.
        queries: by source modality, each float32 (nq, d).
        modality: modality of the partition.
        own: int64 (nq,), the rows that the queries of `modality` are, excluded from the true results. None: not
            excluded, which overestimates recall by 1/k of what is missed.
        alive: rows of the index that searches may return; None: all.
        recall: the target recall.
        ks: numbers of results.
        selectivities: shares of the rows matching the filters.
        budget_s: seconds for all measurements.
        costs: unit costs of this machine.
        clock: returns seconds.
        seed: seed of the filters.
    """
    tuner = Tuner(index, rows, alive, recall, ks, selectivities, costs, clock)
    filter_cases = tuner.filter_cases(seed)
    start = clock()
    points: list[OperatingPoint] = []
    sampled = [source for source, sample in queries.items() if len(sample)]
    sources = sorted(sampled, key=lambda source: source == modality)
    seconds = _pilot_seconds(tuner, queries[sources[0]], filter_cases) if sources else 0.0
    for number, source in enumerate(sources):
        share_s = (budget_s - (clock() - start)) / (len(sources) - number)
        count = min(len(queries[source]), int(share_s / max(seconds, 1e-9)))
        if count < MIN_QUERIES and number and count < len(queries[source]):
            continue
        chosen = _evenly(len(queries[source]), max(count, MIN_QUERIES))
        source_start = clock()
        own_rows = own[chosen] if own is not None and source == modality else None
        points += tuner.points(source, queries[source][chosen], own_rows, filter_cases)
        seconds = (clock() - source_start) / len(chosen)
    return fill_missing(points, sources, modality, index, costs)


def fill_missing(
    points: Sequence[OperatingPoint],
    sources: Sequence[str],
    modality: str,
    index: IvfPqIndex,
    costs: UnitCosts = DEFAULT_COSTS,
) -> tuple[OperatingPoint, ...]:
    """Return the points with those that are missing: a fallback for each source without points, and MIXED.

    A fallback is the widest point measured across modalities, never one of the partition's own `modality`, whose
    queries are among its vectors. If there is none, it is all lists and the largest rerank, which is not measured.
    MIXED is the most expensive point per k and share.

    `modality` is that of the partition; `sources` need points.
    """

    def cost(point: OperatingPoint) -> tuple[float, float]:
        """Of points that cost the same, the one with the lowest recall is greater: it is valid for all sources."""
        return setting_cost_ns(index, costs, point.probes, point.rerank), -point.recall

    measured = [point for point in points if point.fallback_source is None]
    filled = [point for point in points if point.source != MIXED]
    cases = dict.fromkeys((point.k, point.selectivity) for point in measured) or [*product(KS, SELECTIVITIES)]
    for source in dict.fromkeys(sources):
        if any(point.source == source for point in filled):
            continue
        for k, share in cases:
            across = [p for p in measured if (p.k, p.selectivity) == (k, share) and p.source not in (modality, MIXED)]
            point = max(across, key=cost, default=None)
            if point is None:
                filled.append(OperatingPoint(source, k, share, index.lists, RERANKS[-1], 0.0, 0.0, UNMEASURED))
            else:
                filled.append(replace(point, source=source, fallback_source=point.source))
    for k, share in cases:
        group = [point for point in filled if (point.k, point.selectivity) == (k, share)]
        if (costliest := max(group, key=cost, default=None)) is not None:
            fallback = costliest.fallback_source or costliest.source
            filled.append(replace(costliest, source=MIXED, fallback_source=fallback))
    return tuple(filled)


def setting_cost_ns(index: IvfPqIndex, costs: UnitCosts, probes: int, rerank: int) -> float:
    """Estimate the cost of one query with this setting, in nanoseconds, without the fixed cost of calls.

    It is the sum over codes scanned, lists visited, and rows fetched and scored.
    """
    scanned = index.n * min(1.0, probes / index.lists) * index.parameters.code_bytes
    gathered = rerank * index.dim * 2
    return scanned * costs.code_ns_per_byte + probes * costs.probe_ns + gathered * costs.gather_ns_per_byte


def in_distribution_cosine(
    rows: NDArray[np.float32], mu: NDArray[np.float32], foreign_queries: Sequence[NDArray[np.float32]] = ()
) -> float:
    """Return the minimum cosine to the mean of a query within the partition's distribution.

    99% of the rows reach it, and fewer than 1% of the foreign queries. OUTSIDE if more of those reach it, if there
    are no rows, or if the mean is zero.

    Args:
        rows: vectors of the partition, float32 (m, d).
        mu: their mean, float32 (d,).
        foreign_queries: samples of queries of other modalities, each float32 (nq, d).
    """
    length = float(np.linalg.norm(mu))
    if not len(rows) or length == 0:
        return OUTSIDE
    centre = mu / np.float32(length)
    threshold = float(np.quantile(rows @ centre, 0.01))
    foreign = (float(np.quantile(queries @ centre, 0.99)) for queries in foreign_queries if len(queries))
    return threshold if threshold > max(foreign, default=-1.0) else OUTSIDE


def exact_nearest(
    rows: ExactRows,
    queries: NDArray[np.float32],
    k: int,
    masks: Sequence[RowMask | None],
    n: int,
    own: NDArray[np.int64] | None = None,
) -> list[NDArray[np.int64]]:
    """Return the true k nearest of the first n rows for each query, for each of the masks.

    One pass over the rows, in float32, serves all masks.

    Args:
        rows: the partition's rows.
        queries: float32 (nq, d).
        k: results per query.
        masks: rows that match; None: all.
        n: rows to scan.
        own: int64 (nq,), a row of each query to exclude; None: none.

    Returns:
        For each mask int64 (nq, k), padded with -1.
    """
    import faiss

    heaps = [faiss.ResultHeap(len(queries), k, keep_max=True) for _ in masks]
    for start in range(0, n, TRUTH_ROWS):
        stop = min(n, start + TRUTH_ROWS)
        scores = queries @ rows.embeddings(np.arange(start, stop)).T
        if own is not None:
            in_block = np.flatnonzero((own >= start) & (own < stop))
            scores[in_block, own[in_block] - start] = -np.inf
        for heap, mask in zip(heaps, masks, strict=True):
            columns = np.arange(stop - start) if mask is None else mask.slice(start, stop).positions
            picked = scores if mask is None else np.ascontiguousarray(scores[:, columns])
            ids = columns + start
            heap.heaps.addn_with_ids(len(ids), faiss.swig_ptr(picked), faiss.swig_ptr(ids), 0, 0, len(queries))
    for heap in heaps:
        heap.finalize()
    return [heap.I for heap in heaps]


def _pilot_seconds(tuner: Tuner, queries: NDArray[np.float32], filter_cases: Sequence[_FilterCase]) -> float:
    """Estimate the seconds that one query takes: exact results and the widest search of a few queries."""
    sample = queries[_evenly(len(queries), PILOT_QUERIES)]
    start = tuner.clock()
    masks = [case.mask for case in filter_cases]
    exact_nearest(tuner.rows, sample, max(tuner.ks), masks, min(TRUTH_ROWS, tuner.index.n))
    blocks = -(-tuner.index.n // TRUTH_ROWS)
    middle = tuner.clock()
    for mask in masks:
        tuner.index.candidates(sample, min(RERANKS[-1], tuner.index.n), tuner.index.lists, mask)
    searches = tuner.clock() - middle
    return ((middle - start) * blocks + 2 * searches) / len(sample)


def _evenly(n: int, count: int) -> NDArray[np.int64]:
    """Return up to `count` positions, evenly spaced over 0..n-1: int64 (count,)."""
    return np.linspace(0, n - 1, min(n, count)).astype(np.int64)


def _recall(ranks: NDArray[np.int64], rerank: int) -> tuple[float, float]:
    """Return the mean recall less CONFIDENCE_SIGMA standard errors, and the mean, over queries with true results."""
    relevant = (ranks >= 0).sum(axis=1)
    retrieved = ((ranks >= 0) & (ranks < rerank)).sum(axis=1)[relevant > 0]
    shares = retrieved / relevant[relevant > 0]
    if not len(shares):
        return 1.0, 1.0
    mean = float(shares.mean())
    return mean - CONFIDENCE_SIGMA * float(shares.std()) / np.sqrt(len(shares)), mean
