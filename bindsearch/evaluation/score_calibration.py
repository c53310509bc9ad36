"""Calibration of scores: whether hits are as rare by chance, and as often right, as they claim.

Every hit carries two claims (docs/ranking.md): its rarity, ln(1 / E), where E is the number of items that chance makes
as good; and the probability that it is what the query means. Both are measured on queries whose answers are known, with
the functions that searches use.

Letters: q queries, n items of a partition, d dimensions, m pairs of a query and an item.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from bindsearch.arguments import to_integer
from bindsearch.errors import UsageError
from bindsearch.evaluation.arrays import to_relevance, to_same_space, to_unit_rows
from bindsearch.search.scoring.calibration import partition_statistics
from bindsearch.search.scoring.probability import ProbabilityModel, tower_of
from bindsearch.search.scoring.scores import TargetScale, log_odds_of, make_scales, probabilities
from bindsearch.types import Modality

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from bindsearch.evaluation.arrays import Relevance, Vectors

LEVELS = (0.01, 0.1, 1.0, 10.0)
"""Claimed numbers E of items that are as good by chance, at which claims are compared with counts."""

DEPTH = 20
"""Best items of each query whose probabilities are compared: what a list shows, and what `calibrate` fits."""

BINS = 10

MAX_PAIRS = 20_000_000
"""Pairs that are held: 41 bytes each."""


@dataclass(frozen=True)
class ScoredPairs:
    """Claims of pairs of a query and an item.

    Attributes:
        query: Row of the query: int64 (m,).
        item: Row of the item: int64 (m,).
        is_match: Whether the item is an answer of the query: bool (m,).
        expected: Number E of items that are as good by chance, by the rarity of the pair: float64 (m,).
        probability: Claimed probability of a match: float64 (m,).
    """

    query: NDArray[np.int64]
    item: NDArray[np.int64]
    is_match: NDArray[np.bool_]
    expected: NDArray[np.float64]
    probability: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class ChanceLevel:
    """Unrelated items that are as good as a hit: the number claimed, and the number counted.

    Attributes:
        claimed: Number E of items a query that chance makes as good.
        counted: Mean number of unrelated items a query that are as good.
        deviation: Standard error of `counted`, over queries.
    """

    claimed: float
    counted: float
    deviation: float


@dataclass(frozen=True, slots=True)
class ReliabilityBin:
    """Pairs of similar probability.

    Attributes:
        n: Number of pairs.
        claimed: Mean of their probabilities.
        observed: Share of them that are matches.
    """

    n: int
    claimed: float
    observed: float


def score_pairs(
    queries: Vectors,
    items: Vectors,
    relevant: Relevance,
    source: Modality,
    target: Modality,
    model: ProbabilityModel,
    depth: int | None = None,
) -> ScoredPairs:
    """Return the claims of all pairs, or of the best `depth` items of each query, with one segment an item.

    The items are the only partition of the store; the words of queries are not used.

    Args:
        queries: Unit vectors: float32 (q, d).
        items: Unit vectors: float32 (n, d).
        relevant: Rows of the items that answer each query, or bool (q, n).
        source: Modality of the queries.
        target: Modality of the items.
        model: Coefficients of the probabilities, such as `load_calibration` returns.
        depth: Number of best items of each query (None: all).

    Raises:
        UsageError: the arrays do not fit, or there are more than MAX_PAIRS pairs.
    """
    rows, columns = to_unit_rows(queries, "queries"), to_unit_rows(items, "items")
    to_same_space(rows, columns, ("queries", "items"))
    answers = to_relevance(relevant, len(rows), len(columns))
    kept = len(columns) if depth is None else to_integer(depth, "depth", "give a number of items, at least 1", 1)
    if len(rows) * min(kept, len(columns)) > MAX_PAIRS:
        raise UsageError(f"{len(rows)} queries with {kept} items each: give a sample with at most {MAX_PAIRS} pairs")
    statistics = partition_statistics(columns)
    own = 1.0 if tower_of(source) is tower_of(target) else 0.0
    known = {target: TargetScale(own, model.pair(source, target), float(len(columns)))}
    parts = []
    for number, (query, answer) in enumerate(zip(rows, answers, strict=True)):
        cosines = np.asarray(columns @ query, np.float32)
        best = np.argsort(-cosines, kind="stable")[:kept].astype(np.int64)
        scale = make_scales(known, [statistics.moments(query)])[target]
        _, rarity, log_odds = log_odds_of(cosines[best], np.ones(len(best), np.int64), scale)
        claims = np.exp(-rarity), probabilities(log_odds)
        parts.append((np.full(len(best), number, np.int64), best, np.isin(best, answer), *claims))
    return ScoredPairs(*map(np.concatenate, zip(*parts, strict=True)))


def chance_levels(pairs: ScoredPairs, n_queries: int, levels: Sequence[float] = LEVELS) -> list[ChanceLevel]:
    """Compare how many unrelated items are claimed to be as good by chance with how many are.

    A claim holds if `counted` is `claimed`. More: a hit looks rarer than it is. Pairs that match are left out, so a
    level near the number of items cannot be reached.

    Args:
        pairs: All pairs of `score_pairs`.
        n_queries: Number q of queries, at least 1.
        levels: Claimed numbers E.
    """
    n = to_integer(n_queries, "n_queries", "give the number of queries, at least 1", 1)
    found = []
    for level in levels:
        counts = np.bincount(pairs.query[~pairs.is_match & (pairs.expected <= level)], minlength=n)
        deviation = float(counts.std(ddof=1)) / n**0.5 if n > 1 else float("nan")
        found.append(ChanceLevel(level, float(counts.mean()), deviation))
    return found


def reliability(claimed: NDArray[np.floating], is_match: NDArray[np.bool_], bins: int = BINS) -> list[ReliabilityBin]:
    """Return the bins of a reliability diagram: claimed probability and share of matches, empty bins left out.

    Args:
        claimed: Probabilities, 0 to 1: (m,).
        is_match: Whether it is a match: bool (m,).
        bins: Number of bins of equal width.

    Raises:
        UsageError: the arrays do not fit or are empty.
    """
    values, matches = _probabilities(claimed, is_match)
    count = to_integer(bins, "bins", "give the number of bins, at least 1", 1)
    number = np.minimum((values * count).astype(np.int64), count - 1)
    return [
        ReliabilityBin(int(inside.sum()), float(values[inside].mean()), float(matches[inside].mean()))
        for inside in (number == one for one in range(count))
        if inside.any()
    ]


def calibration_error(claimed: NDArray[np.floating], is_match: NDArray[np.bool_], bins: int = BINS) -> float:
    """Return the expected calibration error, the mean of |claimed - observed| of a pair's bin (Guo et al. 2017)."""
    found = reliability(claimed, is_match, bins)
    return sum(one.n * abs(one.claimed - one.observed) for one in found) / sum(one.n for one in found)


def brier_score(claimed: NDArray[np.floating], is_match: NDArray[np.bool_]) -> float:
    """Return the mean squared difference of probability and outcome (Brier 1950): 0 is best."""
    values, matches = _probabilities(claimed, is_match)
    return float(np.square(values - matches).mean())


def _probabilities(
    claimed: NDArray[np.floating], is_match: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    values, matches = np.asarray(claimed, np.float64), np.asarray(is_match)
    if values.ndim != 1 or not len(values) or matches.shape != values.shape or matches.dtype != np.bool_:
        raise UsageError(
            f"probabilities have the shape {values.shape}, matches {matches.shape} and the type {matches.dtype}: "
            "give a probability and a bool for each pair, and at least one pair"
        )
    if not ((values >= 0) & (values <= 1)).all():
        raise UsageError("a probability is not 0 to 1: give probabilities of matches")
    return values, matches
