"""Rows that each of S shards has to score exactly, so that the merged list keeps the recall of a single store.

One collection of images is searched as a whole and as S random parts, each with an index and operating points of its
own. A true neighbour is found if its shard probes its list, and its rank among the shard's candidates is below the
shard's rerank; so every rule is evaluated from the same ranks.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import synthetic

from bindsearch.indexes.exact import ExactRows
from bindsearch.indexes.ivf_pq import IvfPqIndex, build_index
from bindsearch.indexes.parameters import choose_parameters
from bindsearch.indexes.tuning import exact_nearest, measure_points
from bindsearch.indexes.types import IndexSettings, OperatingPoint

if TYPE_CHECKING:
    from numpy.typing import NDArray

TARGET = "image"
KS = (10, 100)
WIDTH = 1600
"""Candidates ranked: the widest rerank that is tuned."""
TUNE_S = 20.0
SLACK = 4.0
"""Standard deviations that a shard's rows exceed its share by: they are about Poisson, with variance R/S."""


SEGMENT_NOISE = 0.33
"""Norm of what distinguishes the segments of a file: a cosine of 0.9 between two of them."""


@dataclass(frozen=True)
class Case:
    """One modality of queries and one number of results: the single store's rerank, and the true neighbours.

    Attributes:
        source: modality of the queries.
        k: number of results.
        rerank: rows that the single store scores exactly, from its operating point.
    """

    source: str
    k: int
    rerank: int


@dataclass(frozen=True)
class Kept:
    """Result of a rule: recall@k of the merged list, rows scored in one shard (mean), and lists probed in one."""

    case: Case
    shards: int
    rule: str
    recall: float
    rows: float
    probes: float


@dataclass(frozen=True)
class Shard:
    """A part of the collection: its ordinals in the whole (m,), its index, and its operating points by depth."""

    ordinals: NDArray[np.int64]
    index: IvfPqIndex
    points: Sequence[OperatingPoint]

    def point(self, source: str, k: int) -> OperatingPoint:
        """Return the point measured for queries of a modality and k results."""
        return next(point for point in self.points if (point.source, point.k) == (source, k))


def depth(results: float, shards: int, slack: float = SLACK) -> int:
    """Return the number of `results` that one of several random shards has at most, but for `slack` deviations."""
    share = results / shards
    return min(math.ceil(results), math.ceil(share + slack * math.sqrt(share)))


def measure(
    rows: NDArray[np.float16],
    tuning: dict[str, NDArray[np.float32]],
    queries: dict[str, NDArray[np.float32]],
    counts: Sequence[int],
    settings: IndexSettings,
    segments: int = 1,
) -> list[Kept]:
    """Return the recall of every rule, number of shards, k and modality of queries.

    Args:
        rows: fp16 (n, d), in random order but for the segments of a file.
        tuning: queries that operating points are measured with, by modality, float32 (nq, d).
        queries: other queries, that recall is measured with.
        counts: numbers of shards.
        settings: settings of every index.
        segments: rows of a file, which are in one shard.
    """
    exact = ExactRows(rows.shape[1], [rows])
    truths = {
        source: exact_nearest(exact, asked, max(KS), [None], len(rows), None)[0] for source, asked in queries.items()
    }
    (whole,) = _shards(rows, 1, tuning, settings, segments)
    cases = [Case(source, k, whole.point(source, k).rerank) for source in queries for k in KS]
    kept = [_kept(case, [whole], queries, truths, "single store", whole_rows(case), case.k) for case in cases]
    for count in counts:
        parts = _shards(rows, count, tuning, settings, segments)
        print(f"{count} shards of {len(parts[0].ordinals):,} rows: {parts[0].index.parameters}", flush=True)
        for case in cases:
            for rule, rows_of, k in rules(case, count):
                kept.append(_kept(case, parts, queries, truths, rule, rows_of, k))
    return kept


RowsOf = Callable[[Shard], int]


def whole_rows(case: Case) -> RowsOf:
    """Return the rule of a single store."""
    return lambda _: case.rerank


def rules(case: Case, shards: int) -> list[tuple[str, RowsOf, int]]:
    """Return name, rows and the k whose tuned probes apply, of each rule."""
    low = depth(case.k, shards)
    return [
        ("R/S", lambda _: math.ceil(case.rerank / shards), case.k),
        ("R/S + 4 sqrt(R/S)", lambda _: depth(case.rerank, shards), case.k),
        ("r/S + 4 sqrt(r/S)", lambda shard: depth(shard.point(case.source, case.k).rerank, shards), case.k),
        ("r between points", lambda shard: between(shard, case, low), case.k),
        ("r of k/S + 4 sqrt(k/S)", lambda shard: shard.point(case.source, low).rerank, low),
        ("r", lambda shard: shard.point(case.source, case.k).rerank, case.k),
    ]


def between(shard: Shard, case: Case, results: int) -> int:
    """Return the rerank for a number of results, between those of the two tuned numbers (log-linear)."""
    few, many = (shard.point(case.source, k).rerank for k in KS)
    share = math.log(min(max(results, KS[0]), KS[1]) / KS[0]) / math.log(KS[1] / KS[0])
    return math.ceil(few * math.pow(many / few, share))


def _shards(
    rows: NDArray[np.float16],
    count: int,
    tuning: dict[str, NDArray[np.float32]],
    settings: IndexSettings,
    segments: int,
) -> list[Shard]:
    ks = tuple(sorted({*KS, *(depth(k, count) for k in KS)}))
    shards: list[Shard] = []
    for number in range(count):
        ordinals = np.flatnonzero(np.arange(len(rows)) // segments % count == number)
        own = np.ascontiguousarray(rows[ordinals])
        index = build_index([own], choose_parameters(len(own), own.shape[1], settings))
        # Random parts of one collection are alike: the points of the first hold for all.
        points = shards[0].points if shards else _points(index, own, tuning, ks, settings.recall)
        shards.append(Shard(ordinals, index, points))
    return shards


def _segments(files: NDArray[np.float16], segments: int, rng: np.random.Generator) -> NDArray[np.float16]:
    """Return several rows for each of the files (n, d), with a cosine of about 0.9 to one another."""
    rows = np.repeat(files, segments, axis=0)
    for start in range(0, len(rows), synthetic.BLOCK):
        block = rows[start : start + synthetic.BLOCK].astype(np.float32)
        noise = rng.standard_normal(block.shape, np.float32) / np.float32(math.sqrt(block.shape[1]))
        block += np.float32(SEGMENT_NOISE) * noise
        rows[start : start + len(block)] = block / np.linalg.norm(block, axis=1, keepdims=True)
    return rows


def _points(
    index: IvfPqIndex,
    rows: NDArray[np.float16],
    tuning: dict[str, NDArray[np.float32]],
    ks: tuple[int, ...],
    recall: float,
) -> Sequence[OperatingPoint]:
    return measure_points(
        index,
        ExactRows(rows.shape[1], [rows]),
        tuning,
        modality=TARGET,
        recall=recall,
        ks=ks,
        selectivities=(1.0,),
        budget_s=TUNE_S,
    )


def _kept(
    case: Case,
    shards: Sequence[Shard],
    queries: dict[str, NDArray[np.float32]],
    truths: dict[str, NDArray[np.int64]],
    rule: str,
    rows_of: RowsOf,
    k: int,
) -> Kept:
    asked, truth = queries[case.source], truths[case.source][:, : case.k]
    found = np.zeros(truth.shape, np.bool_)
    for shard in shards:
        width = rows_of(shard)
        probes = shard.point(case.source, k).probes
        candidates = shard.index.candidates(asked, width, probes)
        ordinals = np.where(candidates < 0, -1, shard.ordinals[candidates])
        for row, given, true in zip(found, ordinals, truth, strict=True):
            row |= np.isin(true, given)
    rows = float(np.mean([rows_of(shard) for shard in shards]))
    probes_mean = float(np.mean([shard.point(case.source, k).probes for shard in shards]))
    return Kept(case, len(shards), rule, float(found.mean()), rows, probes_mean)


def collection(
    size: int, dim: int, sources: Sequence[str], n_queries: int, segments: int = 1
) -> tuple[NDArray[np.float16], dict[str, NDArray[np.float32]], dict[str, NDArray[np.float32]]]:
    """Return images fp16 (size, dim) in random order, and queries to tune and to measure with, by modality.

    With several segments a file, the rows of a file are consecutive, and alike as those of a video are.
    """
    space = synthetic.make_space(dim)
    rng = np.random.default_rng(3)
    files = synthetic.vectors(space, TARGET, size // segments)[rng.permutation(size // segments)]
    rows = files if segments == 1 else _segments(files, segments, rng)
    after = -(-size // synthetic.BLOCK)
    tuning, queries = {}, {}
    for source in sources:
        sample = synthetic.block(space, source, after, 2 * n_queries).astype(np.float32)
        sample /= np.linalg.norm(sample, axis=1, keepdims=True)
        tuning[source], queries[source] = sample[:n_queries], sample[n_queries:]
    return rows, tuning, queries
