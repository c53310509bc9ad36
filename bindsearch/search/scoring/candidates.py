"""Scores of candidates: standard deviations above chance (z), and the log odds of a match.

Letters: m candidates, d dimensions, t terms.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from bindsearch.indexes.row_mask import RowMask
from bindsearch.search.partition import Partition
from bindsearch.search.plan import Plan, Strategy
from bindsearch.search.scoring.calibration import ScoreScale, score_scales, z_scores
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
    """

    vector: NDArray[np.float32]
    parts: NDArray[np.float32]


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


@dataclass(frozen=True)
class PartitionScale:
    """Scale of one query's cosines over a partition.

    Attributes:
        scale: Scale of the scores z.
        coefficients: Coefficients of the log odds of a match.
        items: Number of items of the partition that match the filter.
    """

    scale: ScoreScale
    coefficients: Coefficients
    items: float


@dataclass(frozen=True)
class Scored:
    """Scores of all candidates of a query, over all partitions: (m,) each.

    Attributes:
        owner: Number of the partition.
        position: Position in its candidates.
        z: float32.
        log_odds: Log odds of a match: float64.
        word_chances: Probability of a match that words give: float64; 0 without such a match.
    """

    owner: NDArray[np.int64]
    position: NDArray[np.int64]
    z: NDArray[np.float32]
    log_odds: NDArray[np.float64]
    word_chances: NDArray[np.float64]


def partition_scales(
    plan: Plan, query: QueryVector, searched: Mapping[Modality, FilteredPartition], model: ProbabilityModel
) -> dict[Modality, PartitionScale]:
    """Return the scale of each partition that is searched."""
    steps = [step for step in plan.partitions if step.strategy is not Strategy.SKIP and step.modality in searched]
    partitions = [searched[step.modality].partition for step in steps]
    shares = _source_shares(plan)
    own = None if None in shares else [_own_share(shares, step.modality) for step in steps]
    scales = score_scales(query.vector, [partition.statistics for partition in partitions], own)
    return {
        step.modality: PartitionScale(
            scale,
            model.mixture(shares, step.modality),
            max(1.0, partition.items * step.matching_rows / max(step.live_rows, 1)),
        )
        for step, partition, scale in zip(steps, partitions, scales, strict=True)
    }


def _source_shares(plan: Plan) -> dict[Modality | None, float]:
    """Return the share of the query that has each modality; None: an unknown modality."""
    total = sum(abs(term.weight) for term in plan.terms)
    shares: dict[Modality | None, float] = {}
    for term in plan.terms:
        share = abs(term.weight) / total if total else 1.0 / len(plan.terms)
        shares[term.source] = shares.get(term.source, 0.0) + share
    return shares


def _own_share(shares: Mapping[Modality | None, float], target: Modality) -> float:
    """Return the share of the query that has a partition's modality.

    Images and videos count as one modality: every encoder embeds them with one tower, without a modality gap.
    """
    return sum(share for source, share in shares.items() if source is not None and tower_of(source) is tower_of(target))


def score_candidates(
    present: Sequence[Candidates], scales: Sequence[PartitionScale], identical: NDArray[np.int64]
) -> Scored:
    """Return the scores of all candidates."""
    lengths = [len(candidates.rows) for candidates in present]
    z, log_odds = log_odds_of(present, scales)
    if len(identical):
        items = np.concatenate([candidates.item_ids for candidates in present])
        cosines = np.concatenate([candidates.cosines for candidates in present])
        same = np.isin(items, identical)
        log_odds[same] = CERTAIN_LOG_ODDS + cosines[same]
    return Scored(
        np.repeat(np.arange(len(present)), lengths),
        np.concatenate([np.arange(length) for length in lengths]),
        z,
        log_odds,
        np.zeros(len(z)),
    )


def unscored(present: Sequence[Candidates]) -> Scored:
    """Return the scores of all candidates of a query without a vector: z is 0, and nothing is probable."""
    lengths = [len(candidates.rows) for candidates in present]
    n = sum(lengths)
    return Scored(
        np.repeat(np.arange(len(present)), lengths),
        np.concatenate([np.arange(length) for length in lengths]),
        np.zeros(n, np.float32),
        np.full(n, -CERTAIN_LOG_ODDS),
        np.zeros(n),
    )


def log_odds_of(
    present: Sequence[Candidates], scales: Sequence[PartitionScale]
) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Return scores z and log odds of a match of all candidates: float32 (m,), float64 (m,)."""
    z, rarity = z_and_rarity(present, scales)
    intercept, *slopes = _repeated([one.coefficients for one in scales], present)
    features = features_of(np.concatenate([one.cosines for one in present]), rarity)
    return z, np.minimum(intercept + np.einsum("mf,fm->m", features, np.array(slopes)), MAX_LOG_ODDS)


def z_and_rarity(
    present: Sequence[Candidates], scales: Sequence[PartitionScale]
) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Return scores z and rarities of all candidates: float32 (m,), float64 (m,)."""
    z = np.concatenate(z_scores([one.cosines for one in present], [one.scale for one in scales]))
    (items,) = _repeated([(one.items,) for one in scales], present)
    return z, rarities(z, np.concatenate([one.chances for one in present]), items)


def _repeated(rows: Sequence[tuple[float, ...]], present: Sequence[Candidates]) -> NDArray[np.float64]:
    """Return the values of each partition for each of its candidates: float64 (values, m)."""
    return np.repeat(np.array(rows, np.float64).T, [len(one.cosines) for one in present], axis=1)
