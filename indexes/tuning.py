"""Operating points: the cheapest probes and rerank width that reach the wanted recall, measured on stored vectors.

What a query needs depends on its modality: one within the partition's finds its neighbours in few lists, one from
across the modality gap in many. So each source modality is measured with queries of its own.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from bindsearch.indexes.exact import ExactRows
from bindsearch.indexes.row_mask import RowMask
from bindsearch.indexes.types import MIXED, UNMEASURED, OperatingPoint, UnitCosts

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from bindsearch.indexes.ivf_pq import IvfPqIndex

RERANKS = (50, 100, 200, 400, 800, 1600)
"""Rerank widths tried: each costs twice the one before, less than probing more where codes are good."""

KS = (10, 100)
"""Numbers of results that points are measured for."""

SELECTIVITIES = (1.0, 0.5, 0.1)
"""Shares of the rows kept by the filters that points are measured under."""

MIN_QUERIES = 50
"""With fewer, the standard error of a recall near .98 is beyond .01."""

CONFIDENCE_SIGMA = 2.0
"""Standard errors that a mean recall must lie above what is wanted: the cheapest of many settings that just reach it is
one that the sample flatters."""

TRUTH_ROWS = 16_384
"""Rows scored at once to find the true nearest: 64 MB as float32 of 1024 dimensions."""

PILOT_QUERIES = 10
"""Queries that tell, before the first source is measured, how long one will take."""

TIMED_QUERIES = 30
"""Queries run one by one for the median latency of a point."""

DEFAULT_COSTS = UnitCosts()

OUTSIDE = 2.0
"""An `in_distribution_cosine` that no query reaches."""


@dataclass(frozen=True)
class _FilterCase:
    """A filter to measure under: `selectivity` the share it stands for, `mask` a case of it (None: every row)."""

    selectivity: float
    mask: RowMask | None


@dataclass(frozen=True)
class _Setting:
    """Recall of one setting over all cases of a filter: the worst mean, and what it surely is."""

    probes: int
    rerank: int
    cost_ns: float
    recall: float
    recall_bound: float
    mask: RowMask | None


@dataclass(frozen=True)
class Tuner:
    """Common data of all measurements of a partition.

    `index` covers the first rows of `rows`; `alive`: those of its rows that searches may find (None: all); `recall`:
    the wanted one.
    """

    index: IvfPqIndex
    rows: ExactRows
    alive: RowMask | None
    recall: float
    ks: tuple[int, ...] = KS
    selectivities: tuple[float, ...] = SELECTIVITIES
    costs: UnitCosts = DEFAULT_COSTS
    clock: Callable[[], float] = time.perf_counter

    def trials(self, seed: int) -> list[_FilterCase]:
        """For each share the cases that are measured; without lists to take whole, rows at random are the only one."""
        rng = np.random.default_rng(seed)
        alive = np.ones(self.index.n, np.bool_) if self.alive is None else self.alive.flags[: self.index.n]
        trials = []
        for share in self.selectivities:
            if share == 1.0:
                trials.append(_FilterCase(share, None if self.alive is None else RowMask(alive)))
                continue
            trials.append(_FilterCase(share, RowMask(alive & (rng.random(self.index.n) < share))))
            if self.index.lists > 1:
                trials.append(_FilterCase(share, RowMask(alive & _whole_lists(self.index, share, rng))))
        return [trial for trial in trials if trial.mask is None or trial.mask.count]

    def points(
        self, source: str, queries: NDArray[np.float32], own: NDArray[np.int64] | None, trials: Sequence[_FilterCase]
    ) -> list[OperatingPoint]:
        """The points for queries (nq, d) of one source; `own` int64 (nq,): their own rows, left out of the truth."""
        masks = [trial.mask for trial in trials]
        truths = exact_nearest(self.rows, queries, max(self.ks), masks, self.index.n, own)
        points = []
        for share in dict.fromkeys(trial.selectivity for trial in trials):
            cases = [
                (mask, truth)
                for trial, mask, truth in zip(trials, masks, truths, strict=True)
                if trial.selectivity == share
            ]
            for k, setting in self._cheapest(queries, cases).items():
                latency_ms = self._latency_ms(queries, k, setting)
                points.append(
                    OperatingPoint(source, k, share, setting.probes, setting.rerank, setting.recall, latency_ms)
                )
        return points

    def _cheapest(
        self, queries: NDArray[np.float32], cases: Sequence[tuple[RowMask | None, NDArray[np.int64]]]
    ) -> dict[int, _Setting]:
        """For each k the cheapest setting that is sure to reach the recall, or else the widest."""
        best: dict[int, _Setting] = {}
        widest: dict[int, _Setting] = {}
        for probes in _doublings(self.index.lists):
            floor = self.cost_ns(probes, RERANKS[0])
            if all(k in best and best[k].cost_ns <= floor for k in self.ks):
                break
            ranks = [self._ranks(queries, probes, *case) for case in cases]
            for k in self.ks:
                for rerank in (width for width in RERANKS if width >= k):
                    outcomes = [
                        (*_recall(rank[:, :k], rerank), mask) for rank, (mask, _) in zip(ranks, cases, strict=True)
                    ]
                    sure, mean, mask = min(outcomes, key=lambda outcome: outcome[0])
                    setting = _Setting(probes, rerank, self.cost_ns(probes, rerank), mean, sure, mask)
                    widest[k] = setting
                    if sure >= self.recall and (k not in best or setting.cost_ns < best[k].cost_ns):
                        best[k] = setting
        return {k: best.get(k, widest[k]) for k in self.ks}

    def cost_ns(self, probes: int, rerank: int) -> float:
        """Return what a search is taken to cost, its fixed part apart."""
        return setting_cost_ns(self.index, self.costs, probes, rerank)

    def _ranks(
        self, queries: NDArray[np.float32], probes: int, mask: RowMask | None, truth: NDArray[np.int64]
    ) -> NDArray[np.int64]:
        """Place of each of the true nearest (nq, k) among the candidates: beyond them all where it is none; -1 where
        there is no k-th."""
        width = min(RERANKS[-1], self.index.n)
        candidates = self.index.candidates(queries, width, probes, mask)
        place = np.full(self.index.n + 1, RERANKS[-1], np.int64)  # the last one is for -1
        ranks = np.empty_like(truth)
        for found, true, rank in zip(candidates, truth, ranks, strict=True):
            place[found] = np.arange(width)
            place[-1] = -1
            rank[:] = place[true]
            place[found] = RERANKS[-1]
        return ranks

    def _latency_ms(self, queries: NDArray[np.float32], k: int, setting: _Setting) -> float:
        times = []
        for number in range(min(len(queries), TIMED_QUERIES)):
            query = queries[number : number + 1]
            start = self.clock()
            candidates = self.index.candidates(query, setting.rerank, setting.probes, setting.mask)
            self.rows.rerank(query, candidates, k)
            times.append(self.clock() - start)
        return float(np.median(times)) * 1e3


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
    kept: tuple[float, ...] = SELECTIVITIES,
    budget_s: float,
    costs: UnitCosts = DEFAULT_COSTS,
    clock: Callable[[], float] = time.perf_counter,
    seed: int = 0,
) -> tuple[OperatingPoint, ...]:
    """Points of every source in `queries`, each float32 (nq, d), and of MIXED: per (k, kept) the dearest of them.

    `modality` is the partition's own; it is measured last, and `own` int64 (nq,) gives the rows its queries are, which
    are left out of the truth (without it they stay in, and recall looks better by a k-th of what is missing). Where
    `budget_s` would not suffice for all queries, fewer are used, but no fewer than MIN_QUERIES; a source that it does
    not suffice for at all gets the widest measured cross-modal point, named in `stand_in`. The first source is always
    measured.
    """
    tuner = Tuner(index, rows, alive, recall, ks, kept, costs, clock)
    trials = tuner.trials(seed)
    start = clock()
    points: list[OperatingPoint] = []
    waiting = sorted((source for source, held in queries.items() if len(held)), key=lambda source: source == modality)
    seconds = _pilot_seconds(tuner, queries[waiting[0]], trials) if waiting else 0.0
    for number, source in enumerate(waiting):
        share_s = (budget_s - (clock() - start)) / (len(waiting) - number)
        count = min(len(queries[source]), int(share_s / max(seconds, 1e-9)))
        if count < MIN_QUERIES and number and count < len(queries[source]):
            continue
        chosen = _evenly(len(queries[source]), max(count, MIN_QUERIES))
        begun = clock()
        own_rows = own[chosen] if own is not None and source == modality else None
        points += tuner.points(source, queries[source][chosen], own_rows, trials)
        seconds = (clock() - begun) / len(chosen)
    return fill_missing(points, waiting, modality, index, costs)


def fill_missing(
    points: Sequence[OperatingPoint],
    sources: Sequence[str],
    modality: str,
    index: IvfPqIndex,
    costs: UnitCosts = DEFAULT_COSTS,
) -> tuple[OperatingPoint, ...]:
    """The points, with a stand-in for each of `sources` that has none, and with MIXED: per (k, kept) the dearest.

    A stand-in is the widest point measured across modalities, never one of the partition's own `modality`, whose
    queries lie among its vectors. Where there is none, it is all lists and the largest rerank, which nothing measured.
    """
    measured = [point for point in points if point.fallback_source is None]
    filled = [point for point in points if point.source != MIXED]
    cases = dict.fromkeys((point.k, point.selectivity) for point in measured) or [
        (k, kept) for k in KS for kept in SELECTIVITIES
    ]
    for source in dict.fromkeys(sources):
        if any(point.source == source for point in filled):
            continue
        for k, kept in cases:
            across = [p for p in measured if (p.k, p.selectivity) == (k, kept) and p.source not in (modality, MIXED)]
            point = max(
                across, key=lambda p: (setting_cost_ns(index, costs, p.probes, p.rerank), -p.recall), default=None
            )
            if point is None:
                filled.append(OperatingPoint(source, k, kept, index.lists, RERANKS[-1], 0.0, 0.0, UNMEASURED))
            else:
                filled.append(replace(point, source=source, fallback_source=point.source))
    for k, kept in cases:
        here = [point for point in filled if (point.k, point.selectivity) == (k, kept)]
        # Of points that cost the same, the one that finds least: what it states must hold for all.
        dearest = max(here, key=lambda p: (setting_cost_ns(index, costs, p.probes, p.rerank), -p.recall), default=None)
        if dearest is not None:
            filled.append(replace(dearest, source=MIXED, fallback_source=dearest.fallback_source or dearest.source))
    return tuple(filled)


def setting_cost_ns(index: IvfPqIndex, costs: UnitCosts, probes: int, rerank: int) -> float:
    """Return what one query with this setting costs, calls apart: codes scanned, lists visited, rows fetched and
    scored."""
    scanned = index.n * min(1.0, probes / index.lists) * index.parameters.code_bytes
    gathered = rerank * index.dim * 2
    return scanned * costs.code_ns_per_byte + probes * costs.probe_ns + gathered * costs.gather_ns_per_byte


def in_distribution_cosine(
    rows: NDArray[np.float32], mu: NDArray[np.float32], strangers: Sequence[NDArray[np.float32]] = ()
) -> float:
    """The cosine to the mean `mu` (d,) from which on a query lies among the partition's vectors `rows` (m, d).

    All but 1% of them reach it, and hardly any of the `strangers`, queries (nq, d) of other modalities: where 1% of
    those would too, the answer is OUTSIDE, as it is where the mean says nothing.
    """
    length = float(np.linalg.norm(mu))
    if not len(rows) or length == 0:
        return OUTSIDE
    centre = mu / np.float32(length)
    threshold = float(np.quantile(rows @ centre, 0.01))
    highest = max((float(np.quantile(held @ centre, 0.99)) for held in strangers if len(held)), default=-1.0)
    return threshold if threshold > highest else OUTSIDE


def exact_nearest(
    rows: ExactRows,
    queries: NDArray[np.float32],
    k: int,
    masks: Sequence[RowMask | None],
    n: int,
    own: NDArray[np.int64] | None = None,
) -> list[NDArray[np.int64]]:
    """The true k nearest of the first n rows for each query (nq, d), under each of the masks: int64 (nq, k), -1 padded.

    One pass over the rows, in float32, serves all masks. `own` int64 (nq,): a row of each query to leave out.
    """
    import faiss

    heaps = [faiss.ResultHeap(len(queries), k, keep_max=True) for _ in masks]
    for start in range(0, n, TRUTH_ROWS):
        stop = min(n, start + TRUTH_ROWS)
        scores = queries @ rows.embeddings(np.arange(start, stop)).T
        if own is not None:
            here = np.flatnonzero((own >= start) & (own < stop))
            scores[here, own[here] - start] = -np.inf
        for heap, mask in zip(heaps, masks, strict=True):
            columns = np.arange(stop - start) if mask is None else mask.slice(start, stop).positions
            picked = scores if mask is None else np.ascontiguousarray(scores[:, columns])
            ids = columns + start
            heap.heaps.addn_with_ids(len(ids), faiss.swig_ptr(picked), faiss.swig_ptr(ids), 0, 0, len(queries))
    for heap in heaps:
        heap.finalize()
    return [heap.I for heap in heaps]


def _pilot_seconds(tuner: Tuner, queries: NDArray[np.float32], trials: Sequence[_FilterCase]) -> float:
    """Seconds that one query is likely to take: the truth and the widest search of a few."""
    few = queries[_evenly(len(queries), PILOT_QUERIES)]
    start = tuner.clock()
    masks = [trial.mask for trial in trials]
    exact_nearest(tuner.rows, few, max(tuner.ks), masks, min(TRUTH_ROWS, tuner.index.n))
    blocks = -(-tuner.index.n // TRUTH_ROWS)
    middle = tuner.clock()
    for mask in masks:
        tuner.index.candidates(few, min(RERANKS[-1], tuner.index.n), tuner.index.lists, mask)
    searches = tuner.clock() - middle
    return ((middle - start) * blocks + 2 * searches) / len(few)


def _evenly(n: int, count: int) -> NDArray[np.int64]:
    return np.linspace(0, n - 1, min(n, count)).astype(np.int64)


def _doublings(most: int) -> Iterator[int]:
    """1, 2, 4, ... and `most` itself."""
    probes = 1
    while probes < most:
        yield probes
        probes *= 2
    yield most


def _whole_lists(index: IvfPqIndex, share: float, rng: np.random.Generator) -> NDArray[np.bool_]:
    """Rows of inverted lists taken whole, as a label would keep what is alike, until they are `share` of all."""
    kept = np.zeros(index.n, np.bool_)
    count = 0
    for number in rng.permutation(index.lists):
        ordinals = index.list_ordinals(int(number))
        kept[ordinals] = True
        count += len(ordinals)
        if count >= share * index.n:
            break
    return kept


def _recall(ranks: NDArray[np.int64], rerank: int) -> tuple[float, float]:
    """Mean recall less SURE_ERRORS standard errors, and the mean itself, over queries that have anything to find."""
    due = (ranks >= 0).sum(axis=1)
    found = ((ranks >= 0) & (ranks < rerank)).sum(axis=1)[due > 0]
    shares = found / due[due > 0]
    if not len(shares):
        return 1.0, 1.0
    mean = float(shares.mean())
    return mean - CONFIDENCE_SIGMA * float(shares.std()) / np.sqrt(len(shares)), mean
