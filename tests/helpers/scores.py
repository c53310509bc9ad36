"""Scores z of cosines, in one call."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from bindsearch.search.scoring.calibration import PartitionStatistics, score_scales, z_scores


def calibrate(
    cosines: Sequence[NDArray[np.float32]],
    query: NDArray[np.float32],
    partitions: Sequence[PartitionStatistics],
    own: Sequence[float] | None = None,
) -> list[NDArray[np.float32]]:
    """Return the scores of cosines (m,) of each partition: float32 (m,) each."""
    scales = score_scales([query] * len(partitions), partitions, own)
    return [z_scores(part, scale) for part, scale in zip(cosines, scales, strict=True)]
