"""Scores of hits against what they claim: how many of n unrelated items score as high, and how often hits are right."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from bindsearch.evaluation.figures import Error, Figure
from bindsearch.evaluation.results import Kind, Measurement
from bindsearch.evaluation.score_calibration import (
    DEPTH,
    brier_score,
    calibration_error,
    chance_levels,
    reliability,
    score_pairs,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from bindsearch.evaluation.arrays import Vectors
    from bindsearch.search.scoring.probability import ProbabilityModel
    from bindsearch.types import Modality

MAX_QUERIES, MAX_ITEMS = 500, 5000
"""Queries and items of which all pairs are scored; an even sample of more."""


def calibration(
    queries: Vectors,
    items: Vectors,
    owners: NDArray[np.int64],
    modalities: tuple[Modality, Modality],
    model: ProbabilityModel,
) -> Measurement:
    """Compare the scores of hits with what is counted.

    Args:
        queries: Unit vectors: float32 (q, d).
        items: Unit vectors: float32 (n, d).
        owners: Row of the one item that answers each query: int64 (q,).
        modalities: Modality of the queries and of the items.
        model: Coefficients of the probabilities.
    """
    columns = _even(len(items), MAX_ITEMS)
    place = np.full(len(items), -1, np.int64)
    place[columns] = np.arange(len(columns))
    answered = np.flatnonzero(place[owners] >= 0)
    rows = answered[_even(len(answered), MAX_QUERIES)]
    relevant: Sequence[Sequence[int]] = [[int(place[owners[row]])] for row in rows]
    every = score_pairs(queries[rows], items[columns], relevant, *modalities, model)
    figures, n = [], len(rows)
    for level in chance_levels(every, n):
        if level.claimed < len(columns):
            name = f"unrelated items a query as good by chance, {level.claimed:g} claimed"
            deviation = level.deviation if n > 1 else None
            figures.append(Figure(name, level.counted, n, deviation, Error.QUERIES, level.claimed, is_share=False))
    best = score_pairs(queries[rows], items[columns], relevant, *modalities, model, DEPTH)
    claimed, is_match = best.probability, best.is_match
    bins = ", ".join(
        f"{one.claimed:.2f} claimed, {one.observed:.2f} right (n {one.n})" for one in reliability(claimed, is_match)
    )
    figures += [
        Figure(f"calibration error of the best {DEPTH}", calibration_error(claimed, is_match), len(claimed), note=bins),
        Figure(f"Brier score of the best {DEPTH}", brier_score(claimed, is_match), len(claimed), is_share=False),
    ]
    title, settings = f"scores of {modalities[0]} -> {modalities[1]}", {"queries": n, "items": len(columns)}
    return Measurement(Kind.CALIBRATION, title, tuple(figures), settings=settings)


def _even(n: int, limit: int) -> NDArray[np.int64]:
    """Return at most `limit` evenly spaced numbers below n: int64."""
    return np.unique(np.linspace(0, n - 1, min(n, limit)).astype(np.int64)) if n else np.zeros(0, np.int64)
