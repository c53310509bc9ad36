"""Scores z of cosines, in one call."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from bindsearch.search.scoring.probability import DEFAULT_MODEL
from bindsearch.search.scoring.scores import PartitionStatistics, TargetScale, log_odds_of, make_scales
from bindsearch.types import Modality


def calibrate(
    cosines: Sequence[NDArray[np.float32]],
    query: NDArray[np.float32],
    partitions: Sequence[PartitionStatistics],
    own: Sequence[float] | None = None,
) -> list[NDArray[np.float32]]:
    """Return the scores of cosines (m,) of each partition: float32 (m,) each."""
    shares = [None] * len(partitions) if own is None else own
    targets = {
        modality: TargetScale(share, DEFAULT_MODEL.same, 1.0) for modality, share in zip(Modality, shares, strict=False)
    }
    moments = [one.moments(query) for one in partitions]
    scales = make_scales(targets, moments).values()
    return [
        log_odds_of(part, np.ones(len(part), np.int64), scale)[0] for part, scale in zip(cosines, scales, strict=True)
    ]
