"""Scores of candidates: standard deviations above chance (z), and the log odds of a match.

Letters: m candidates, d dimensions, t terms.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from bindsearch.indexes.row_mask import RowMask
from bindsearch.search.partition import Partition
from bindsearch.search.plan import Plan, Strategy
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


@dataclass(frozen=True)
class FilteredPartition:
    """A partition with the filter of a search.

    Attributes:
        partition: The partition.
        rows: Rows that are live and match the filter; None for all.
        segments: True for the segments that match the filter, over the snapshot's rows: bool; None for all.
    """

    partition: Partition
    rows: RowMask | None
    segments: NDArray[np.bool_] | None


@dataclass(frozen=True)
class Candidates:
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
        return Candidates(
            self.modality,
            self.rows[mask],
            self.segment_rows[mask],
            self.item_ids[mask],
            self.cosines[mask],
            self.chances[mask],
        )


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


@dataclass(frozen=True)
class Scored:
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
        columns = [one.name for one in fields(self) if one.name != "modalities"]
        return replace(self, **{name: getattr(self, name)[numbers] for name in columns})


def partition_scales(
    plan: Plan, query: QueryVector, searched: Mapping[Modality, FilteredPartition], model: ProbabilityModel
) -> dict[Modality, PartitionScale]:
    """Return the scale of each partition that is searched."""
    steps = [step for step in plan.partitions if step.strategy is not Strategy.SKIP and step.modality in searched]
    targets = {}
    for step in steps:
        partition = searched[step.modality].partition
        targets[step.modality] = ScaleTarget(
            partition.statistics, partition.items * step.matching_rows / max(step.live_rows, 1)
        )
    return make_scales([(term.source, term.weight) for term in plan.terms], query, targets, model)


class ScaleTarget(NamedTuple):
    """Properties of a partition that scales of queries depend on.

    Attributes:
        statistics: Statistics of its vectors.
        items: Number of its items that match the filter, or an estimate.
    """

    statistics: Statistics
    items: float


def make_scales(
    terms: Sequence[tuple[Modality | None, float]],
    query: QueryVector,
    targets: Mapping[Modality, ScaleTarget],
    model: ProbabilityModel,
) -> dict[Modality, PartitionScale]:
    """Return the scale of a query's cosines over each partition.

    Args:
        terms: Modality, None if unknown, and weight of each term.
        query: The query.
        targets: The partitions that are searched.
        model: Model of the probability of a match.
    """
    shares = _source_shares(terms)
    own = None if None in shares else [_own_share(shares, modality) for modality in targets]
    vectors = [query.for_target(modality).vector for modality in targets]
    scales = score_scales(vectors, [target.statistics for target in targets.values()], own)
    return {
        modality: PartitionScale(scale, model.mixture(shares, modality), max(1.0, target.items))
        for (modality, target), scale in zip(targets.items(), scales, strict=True)
    }


def _source_shares(terms: Sequence[tuple[Modality | None, float]]) -> dict[Modality | None, float]:
    """Return the share of the query that has each modality; None: an unknown modality."""
    total = sum(abs(weight) for _, weight in terms)
    shares: dict[Modality | None, float] = {}
    for source, weight in terms:
        share = abs(weight) / total if total else 1.0 / len(terms)
        shares[source] = shares.get(source, 0.0) + share
    return shares


def _own_share(shares: Mapping[Modality | None, float], target: Modality) -> float:
    """Return the share of the query that has a partition's modality.

    Images and videos count as one modality: every encoder embeds them with one tower, without a modality gap.
    """
    return sum(share for source, share in shares.items() if source is not None and tower_of(source) is tower_of(target))


def score_candidates(
    present: Sequence[Candidates], scales: Sequence[PartitionScale] | None, identical: NDArray[np.int64]
) -> Scored:
    """Return the candidates of all partitions with their scores.

    Args:
        present: The candidates of each partition.
        scales: Scale of each partition; None: the query has no vector, z is 0, and nothing is probable.
        identical: Ids of items that certainly match: int64.
    """
    lengths = [len(one.rows) for one in present]
    cosines = np.concatenate([one.cosines for one in present])
    chances = np.concatenate([one.chances for one in present])
    item_ids = np.concatenate([one.item_ids for one in present])
    if scales is None:
        z, log_odds = np.zeros(len(cosines), np.float32), np.full(len(cosines), -CERTAIN_LOG_ODDS)
    else:
        z, log_odds = log_odds_of(cosines, chances, _repeated(scales, lengths))
    if len(identical):
        same = np.isin(item_ids, identical)
        log_odds[same] = CERTAIN_LOG_ODDS + cosines[same]
    return Scored(
        modalities=tuple(one.modality for one in present),
        owner=np.repeat(np.arange(len(present)), lengths),
        rows=np.concatenate([one.rows for one in present]),
        segment_rows=np.concatenate([one.segment_rows for one in present]),
        item_ids=item_ids,
        cosines=cosines,
        chances=chances,
        is_added=np.concatenate([np.arange(n) >= n - one.added for n, one in zip(lengths, present, strict=True)]),
        z=z,
        log_odds=log_odds,
        word_chances=np.zeros(len(z)),
    )


def log_odds_of(
    cosines: NDArray[np.float32], chances: NDArray[np.int64], scale: PartitionScale
) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Return scores z and log odds of a match of candidates (m,): float32 (m,), float64 (m,)."""
    z, rarity = z_and_rarity(cosines, chances, scale)
    intercept, *slopes = scale.coefficients
    columns = features_of(cosines, rarity)
    log_odds = intercept + sum(slope * column for slope, column in zip(slopes, columns, strict=True))
    return z, np.minimum(log_odds, MAX_LOG_ODDS)


def z_and_rarity(
    cosines: NDArray[np.float32], chances: NDArray[np.int64], scale: PartitionScale
) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Return scores z and rarities of candidates (m,): float32 (m,), float64 (m,)."""
    z = z_scores(cosines, scale.scale)
    return z, rarities(z, chances, scale.items)


def _repeated(scales: Sequence[PartitionScale], lengths: Sequence[int]) -> PartitionScale:
    """Return the scale of each candidate, given the scale of each partition and its number of candidates."""
    rows = np.array([(*one.scale, *one.coefficients, one.items) for one in scales], np.float64)
    columns = np.repeat(rows.T, lengths, axis=1)
    n = len(ScoreScale._fields)
    return PartitionScale(ScoreScale(*columns[:n]), Coefficients(*columns[n:-1]), columns[-1])
