"""Figures of retrieval: recall at k, median rank, mean average precision and nDCG, of one or of both directions.

A query may have several relevant candidates, and a candidate may be relevant for several queries, as a picture is for
its five captions. Recall at k is the share of queries with at least one relevant candidate among the first k, as it is
published for captions of pictures and sounds.

Equal scores never favour an encoder: all figures are expected values with equal scores in random order (McSherry &
Najork 2008, Computing information retrieval performance measures efficiently in the presence of tied scores). So an
encoder that embeds everything alike has the figures of chance.

Letters: q queries, n candidates, d dimensions, g groups of equal scores.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from bindsearch.arguments import to_integer, to_number
from bindsearch.errors import UsageError
from bindsearch.evaluation.arrays import to_relevance, to_same_space, to_scores, to_unit_rows, transposed
from bindsearch.vectors import MIN_SUM_NORM, cosines

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from bindsearch.evaluation.arrays import Relevance, Vectors

KS = (1, 5, 10)

PAPER_VIDEO_WEIGHT = 0.95
"""Weight of the video beside 0.05 of its sound (ImageBind paper, table 4)."""

WEIGHTS = tuple(round(0.05 * step, 2) for step in range(21))
"""Default weights of `sweep_weights`: 0, 0.05 ... 1; PAPER_VIDEO_WEIGHT is one of them."""

BLOCK_SCORES = 1 << 23
"""Scores that are held at a time: 64 MiB of float64."""


class ScoreGroups(NamedTuple):
    """Groups of equal scores with at least one relevant candidate, of one query; best first.

    Attributes:
        above: Number of candidates with a higher score: int64 (g,).
        tied: Number of candidates with this score: int64 (g,).
        relevant: Number of relevant ones among them: int64 (g,).
    """

    above: NDArray[np.int64]
    tied: NDArray[np.int64]
    relevant: NDArray[np.int64]


@dataclass(frozen=True)
class RetrievalFigures:
    """Figures of each query that has a relevant candidate, and of all of them.

    Attributes:
        queries: Rows of these queries: int64 (q,).
        n_candidates: Number of candidates.
        n_unanswered: Number of queries without a relevant candidate, which are left out.
        hits: For each k, the probability that a relevant candidate is among the first k: float64 (q,).
        ranks: Expected rank of the first relevant candidate, from 1: float64 (q,).
        average_precisions: float64 (q,).
        gains: Normalised discounted cumulative gain: float64 (q,).
    """

    queries: NDArray[np.int64]
    n_candidates: int
    n_unanswered: int
    hits: Mapping[int, NDArray[np.float64]]
    ranks: NDArray[np.float64]
    average_precisions: NDArray[np.float64]
    gains: NDArray[np.float64]

    def recall_at(self, k: int) -> float:
        """Return the share of queries with a relevant candidate among the first k, one of the keys of `hits`."""
        if k not in self.hits:
            raise UsageError(f"recall at {k} was not computed: choose from {', '.join(map(str, self.hits))}")
        return float(self.hits[k].mean())

    @property
    def median_rank(self) -> float:
        """Median rank of the first relevant candidate, from 1."""
        return float(np.median(self.ranks))

    @property
    def mean_average_precision(self) -> float:
        """Mean of the average precisions of the queries."""
        return float(self.average_precisions.mean())

    @property
    def ndcg(self) -> float:
        """Mean normalised discounted cumulative gain over the whole list."""
        return float(self.gains.mean())


def retrieval_figures(
    queries: Vectors, candidates: Vectors, relevant: Relevance, ks: Sequence[int] = KS
) -> RetrievalFigures:
    """Return the figures of queries that rank candidates by cosine, which is rounded: see `bindsearch.vectors.cosines`.

    Args:
        queries: Unit vectors: float32 (q, d).
        candidates: Unit vectors: float32 (n, d).
        relevant: Rows of the relevant candidates of each query, or bool (q, n).
        ks: Numbers of candidates for the recall; more than n are allowed.

    Raises:
        UsageError: the arrays do not fit, or no query has a relevant candidate.
    """
    rows, columns = to_unit_rows(queries, "queries"), to_unit_rows(candidates, "candidates")
    to_same_space(rows, columns, ("queries", "candidates"))
    answers = to_relevance(relevant, len(rows), len(columns))
    step = max(1, BLOCK_SCORES // len(columns))
    groups = []
    for start in range(0, len(rows), step):
        scores = cosines(rows[start : start + step], columns)
        groups += [score_groups(*pair) for pair in zip(scores, answers[start : start + step], strict=True)]
    return _figures(groups, len(columns), ks)


def figures_of_scores(scores: NDArray[np.floating], relevant: Relevance, ks: Sequence[int] = KS) -> RetrievalFigures:
    """Return the figures of queries that rank candidates by given scores (q, n), the higher the better.

    Raises:
        UsageError: as for `retrieval_figures`.
    """
    matrix = to_scores(scores)
    answers = to_relevance(relevant, *matrix.shape)
    return _figures([score_groups(*pair) for pair in zip(matrix, answers, strict=True)], matrix.shape[1], ks)


def both_directions(
    a: Vectors, b: Vectors, relevant: Relevance, ks: Sequence[int] = KS
) -> tuple[RetrievalFigures, RetrievalFigures]:
    """Return the figures of `a` as queries for `b`, and of `b` as queries for `a`.

    Args:
        a: Unit vectors: float32 (q, d).
        b: Unit vectors: float32 (n, d).
        relevant: Rows of `b` that are relevant for each row of `a`, or bool (q, n).
        ks: As for `retrieval_figures`.
    """
    return retrieval_figures(a, b, relevant, ks), retrieval_figures(b, a, transposed(relevant, len(b)), ks)


def combine(a: Vectors, b: Vectors, weight: float) -> Vectors:
    """Return the combination of two modalities of each item, weight * a + (1 - weight) * b, normalised: float32 (n, d).

    Args:
        a: Unit vectors of the items in one modality: float32 (n, d).
        b: Unit vectors of the same items in another one: float32 (n, d).
        weight: Weight of `a`, 0 to 1.

    Raises:
        UsageError: the arrays do not fit, the weight is out of range, or the two vectors of an item cancel each other.
    """
    share = to_number(weight, "weight", "give a number from 0 to 1", 0.0, 1.0)
    if a.shape != b.shape:
        raise UsageError(f"vectors to combine have the shapes {a.shape} and {b.shape}: give two for each item")
    sums = share * to_unit_rows(a, "vectors").astype(np.float64) + (1.0 - share) * to_unit_rows(b, "vectors")
    norms = np.linalg.norm(sums, axis=1, keepdims=True)
    if norms.min() <= MIN_SUM_NORM:
        raise UsageError(f"the vectors of row {int(norms.argmin())} cancel each other at weight {share}: change it")
    return np.asarray(sums / norms, np.float32)


def sweep_weights(
    queries: Vectors,
    a: Vectors,
    b: Vectors,
    relevant: Relevance,
    weights: Sequence[float] = WEIGHTS,
    ks: Sequence[int] = KS,
) -> dict[float, RetrievalFigures]:
    """Return the figures of queries for candidates that are combined of two modalities, for each weight of the first.

    The best of these weights is chosen by the answers: its figure is an upper bound, not one of an unseen test.

    Args:
        queries: Unit vectors: float32 (q, d).
        a: Unit vectors of the candidates in one modality: float32 (n, d).
        b: Unit vectors of the same candidates in another one: float32 (n, d).
        relevant: As for `retrieval_figures`.
        weights: Weights of `a`, each 0 to 1.
        ks: As for `retrieval_figures`.
    """
    return {weight: retrieval_figures(queries, combine(a, b, weight), relevant, ks) for weight in weights}


def score_groups(scores: NDArray[np.floating], relevant: NDArray[np.int64]) -> ScoreGroups:
    """Return the groups of equal scores that have relevant candidates.

    Args:
        scores: Scores of the candidates of one query: (n,).
        relevant: Rows of the relevant ones, each once: int64 (r,).
    """
    ascending = np.sort(scores)
    values, counts = np.unique(scores[relevant], return_counts=True)
    starts = np.asarray(np.searchsorted(ascending, values, "left"), np.int64)
    ends = np.asarray(np.searchsorted(ascending, values, "right"), np.int64)
    return ScoreGroups((len(scores) - ends)[::-1], (ends - starts)[::-1], counts.astype(np.int64)[::-1])


def hit_probability(groups: ScoreGroups, k: int) -> float:
    """Return the probability that a relevant candidate is among the first k.

    With m places for the t best scored, of which r are relevant: 1 - C(t - r, m) / C(t, m), hypergeometric.
    """
    above, tied, relevant = (int(column[0]) for column in groups)
    places = min(max(k - above, 0), tied)
    return 1.0 - math.comb(tied - relevant, places) / math.comb(tied, places)


def average_precision(groups: ScoreGroups) -> float:
    """Return the expected average precision: the mean over relevant candidates of the precision at their rank.

    In a group, each of the t places is relevant with probability r / t; then the j - 1 places before it have
    (j - 1)(r - 1) / (t - 1) relevant ones on average.
    """
    above, tied, relevant = groups
    before = np.cumsum(relevant) - relevant
    place = np.arange(tied.sum()) - np.repeat(np.cumsum(tied) - tied, tied)  # j - 1
    share = np.repeat((relevant - 1) / np.maximum(tied - 1, 1), tied)
    found = np.repeat(before, tied) + 1 + place * share
    precisions = np.repeat(relevant / tied, tied) * found / (np.repeat(above, tied) + place + 1)
    return float(precisions.sum() / relevant.sum())


def discounted_gain(groups: ScoreGroups, discounts: NDArray[np.float64]) -> float:
    """Return the expected discounted cumulative gain of one query, divided by that of the best order.

    Järvelin & Kekäläinen 2002, with gain 1 for relevant candidates and the discount 1 / log2(1 + rank).

    Args:
        groups: Groups of equal scores.
        discounts: Sum of the discounts of the first 0, 1, ... n ranks: float64 (n + 1,).
    """
    above, tied, relevant = groups
    gain = (relevant / tied) @ (discounts[above + tied] - discounts[above])
    return float(gain / discounts[relevant.sum()])


def _figures(groups: Sequence[ScoreGroups], n_candidates: int, ks: Sequence[int]) -> RetrievalFigures:
    depths = [to_integer(k, "k", "give the number of candidates that count, at least 1", 1) for k in ks]
    answered = [row for row, group in enumerate(groups) if len(group.above)]
    if not answered:
        raise UsageError(f"none of {len(groups)} queries has a relevant candidate: retrieval needs at least one")
    kept = [groups[row] for row in answered]
    discounts = np.concatenate([[0.0], np.cumsum(1.0 / np.log2(np.arange(2, n_candidates + 2)))])
    return RetrievalFigures(
        queries=np.array(answered, np.int64),
        n_candidates=n_candidates,
        n_unanswered=len(groups) - len(kept),
        hits={k: np.array([hit_probability(group, k) for group in kept]) for k in depths},
        # of r relevant ones in random places among t, the first is expected at (t + 1) / (r + 1)
        ranks=np.array([float(one.above[0] + (one.tied[0] + 1) / (one.relevant[0] + 1)) for one in kept]),
        average_precisions=np.array([average_precision(group) for group in kept]),
        gains=np.array([discounted_gain(group, discounts) for group in kept]),
    )
