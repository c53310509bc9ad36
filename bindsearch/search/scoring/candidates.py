"""Scores of candidates: standard deviations above chance (z), and the log odds of a match.

Letters: m candidates, d dimensions, t terms.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from bindsearch.search.partition import FilteredPartition
from bindsearch.search.plan import Plan, Strategy, TermStep
from bindsearch.search.scoring.calibration import ScoreScale, Statistics, score_scales, z_scores
from bindsearch.search.scoring.probability import (
    CERTAIN_LOG_ODDS,
    MAX_LOG_ODDS,
    Coefficients,
    ProbabilityModel,
    features_of,
    rarities,
    tower_of,
)
from bindsearch.types import Modality

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True)
class QueryVector:
    """A composed query vector.

    Attributes:
        vector: float32 (d,), unit norm.
        parts: Weighted share of each term: float32 (t, d); their sum is `vector`.
        by_target: Query vectors of the modalities that the encoder embeds queries apart for.
    """

    vector: NDArray[np.float32]
    parts: NDArray[np.float32]
    by_target: Mapping[Modality, QueryVector] = field(default_factory=dict)

    def for_target(self, modality: Modality) -> QueryVector:
        """Return the query vector to search a modality with."""
        return self.by_target.get(modality, self)


class Candidates(NamedTuple):
    """Segments found in one partition.

    Attributes:
        modality: Modality of the partition.
        rows: Row of each segment's vector in the partition: int64 (m,).
        segment_rows: Row of each segment in the snapshot: int64 (m,).
        item_ids: Item of each segment: int64 (m,).
        cosines: float32 (m,).
        chances: Number of segments in the partition of each segment's item: int64 (m,).
        added: Number of them, the last, that words alone found.
    """

    modality: Modality
    rows: NDArray[np.int64]
    segment_rows: NDArray[np.int64]
    item_ids: NDArray[np.int64]
    cosines: NDArray[np.float32]
    chances: NDArray[np.int64]
    added: int = 0

    def take(self, mask: NDArray[np.bool_]) -> Candidates:
        """Return the segments where a mask is true: bool (m,); none of them may be `added`."""
        columns: Any = self[1:-1]
        return Candidates(self.modality, *(column[mask] for column in columns))


class PartitionScale(NamedTuple):
    """Scale of one query's cosines over a partition.

    Attributes:
        scale: Scale of the scores z.
        coefficients: Coefficients of the log odds of a match.
        items: Number of items of the partition that match the filter; with candidates of several partitions, float64
            (m,), and so are the values of the others.
    """

    scale: ScoreScale
    coefficients: Coefficients
    items: float | NDArray[np.float64]


class Scored(NamedTuple):
    """The candidates of a query over all partitions, with their scores: (m,) each.

    Attributes:
        modalities: Modality of each partition.
        owner: Number of the partition: int64.
        rows: Row of the vector in its partition: int64.
        segment_rows: Row of the segment in the snapshot: int64.
        item_ids: Item: int64.
        cosines: float32.
        chances: Number of segments of the item in its partition: int64.
        is_added: Whether words alone found it: bool.
        z: float32.
        log_odds: Log odds of a match: float64.
        word_chances: Probability of a match that words give: float64; 0 without such a match.
    """

    modalities: tuple[Modality, ...]
    owner: NDArray[np.int64]
    rows: NDArray[np.int64]
    segment_rows: NDArray[np.int64]
    item_ids: NDArray[np.int64]
    cosines: NDArray[np.float32]
    chances: NDArray[np.int64]
    is_added: NDArray[np.bool_]
    z: NDArray[np.float32]
    log_odds: NDArray[np.float64]
    word_chances: NDArray[np.float64]

    def take(self, numbers: NDArray[np.int64]) -> Scored:
        """Return the candidates with these numbers: int64 (m,)."""
        columns: Any = self[1:]
        return Scored(self.modalities, *(column[numbers] for column in columns))


def joined(parts: Sequence[tuple[Any, ...]]) -> Any:
    """Return the columns of several `Candidates` or `Scored`, one after the other; the first field is no column."""
    return tuple(np.concatenate(column) for column in zip(*(part[1:] for part in parts), strict=True))


class ScaleTarget(NamedTuple):
    """Properties of a partition that scales of queries depend on.

    Attributes:
        statistics: Statistics of its vectors.
        items: Number of its items that match the filter, or an estimate.
    """

    statistics: Statistics
    items: float


def partition_scales(
    plan: Plan, query: QueryVector, targets: Mapping[Modality, FilteredPartition], model: ProbabilityModel
) -> dict[Modality, PartitionScale]:
    """Return the scale of each partition that is searched."""
    searched = {}
    for step in plan.partitions:
        if step.strategy is not Strategy.SKIP:
            partition = targets[step.modality].partition
            items = partition.items * step.matching_rows / max(step.live_rows, 1)
            searched[step.modality] = ScaleTarget(partition.statistics, items)
    return make_scales(plan.terms, query, searched, model)


def make_scales(
    terms: Iterable[TermStep], query: QueryVector, targets: Mapping[Modality, ScaleTarget], model: ProbabilityModel
) -> dict[Modality, PartitionScale]:
    """Return the scale of a query's cosines over each partition.

    Images and videos count as one modality: every encoder embeds them with one tower, without a modality gap.

    Args:
        terms: The terms of the query.
        query: The query.
        targets: The partitions that are searched.
        model: Model of the probability of a match.
    """
    if not targets:
        return {}
    terms = tuple(terms)
    total = sum(abs(term.weight) for term in terms)
    shares: dict[Modality | None, float] = {}  # of the query that has each modality
    for term in terms:
        share = abs(term.weight) / total if total else 1.0 / len(terms)
        shares[term.source] = shares.get(term.source, 0.0) + share
    own = None
    if None not in shares:
        own = [sum(share for one, share in shares.items() if one and tower_of(one) is tower_of(to)) for to in targets]
    vectors = [query.by_target.get(modality, query).vector for modality in targets]
    scales = score_scales(vectors, [target.statistics for target in targets.values()], own)
    return {
        modality: PartitionScale(scale, model.mixture(shares, modality), max(1.0, target.items))
        for (modality, target), scale in zip(targets.items(), scales, strict=True)
    }


def score_candidates(
    present: Sequence[Candidates], scales: Sequence[PartitionScale] | None, identical: NDArray[np.int64]
) -> Scored:
    """Return the candidates of all partitions with their scores.

    Args:
        present: The candidates of each partition.
        scales: Scale of each partition; None: the query has no vector, z is 0, and nothing is probable.
        identical: Ids of items that certainly match: int64.
    """
    if len(present) == 1:
        rows, segment_rows, item_ids, cosines, chances = present[0][1:-1]
        owner = np.zeros(len(rows), np.int64)
    else:
        rows, segment_rows, item_ids, cosines, chances = joined([one[:-1] for one in present])
        owner = np.repeat(np.arange(len(present)), [len(one.rows) for one in present])
    if scales is None:
        z, log_odds = np.zeros(len(cosines), np.float32), np.full(len(cosines), -CERTAIN_LOG_ODDS)
    else:
        scale = scales[0]
        if len(scales) > 1:
            columns = np.array([(*one.scale, *one.coefficients, one.items) for one in scales], np.float64).T[:, owner]
            n = len(ScoreScale._fields)
            scale = PartitionScale(ScoreScale(*columns[:n]), Coefficients(*columns[n:-1]), columns[-1])
        z, log_odds = log_odds_of(cosines.astype(np.float64), chances, scale)
    if len(identical):
        same = np.isin(item_ids, identical)
        log_odds[same] = CERTAIN_LOG_ODDS + cosines[same]
    is_added = np.zeros(len(owner), np.bool_)
    end = 0
    for one in present:
        end += len(one.rows)
        is_added[end - one.added : end] = True
    modalities = tuple(one.modality for one in present)
    word_chances = np.zeros(len(owner))
    return Scored(
        modalities, owner, rows, segment_rows, item_ids, cosines, chances, is_added, z, log_odds, word_chances
    )


def log_odds_of(
    cosines: NDArray[np.floating], chances: NDArray[np.int64], scale: PartitionScale
) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Return scores z and log odds of a match of candidates (m,): float32 (m,), float64 (m,)."""
    z, rarity = z_and_rarity(cosines, chances, scale)
    intercept, *slopes = scale.coefficients
    columns = features_of(cosines, rarity)
    log_odds = intercept + sum(slope * column for slope, column in zip(slopes, columns, strict=True))
    return z, np.minimum(log_odds, MAX_LOG_ODDS)


def z_and_rarity(
    cosines: NDArray[np.floating], chances: NDArray[np.int64], scale: PartitionScale
) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Return scores z and rarities of candidates (m,): float32 (m,), float64 (m,)."""
    z = z_scores(cosines, scale.scale)
    return z, rarities(z, chances, scale.items)
