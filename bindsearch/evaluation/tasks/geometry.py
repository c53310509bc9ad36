"""The geometry of the space of several modalities: gap, alignment, uniformity, hubness, intrinsic dimension."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations
from typing import TYPE_CHECKING

from bindsearch.errors import UsageError
from bindsearch.evaluation.figures import Figure
from bindsearch.evaluation.results import Kind, Measurement
from bindsearch.evaluation.space import (
    NEIGHBOURS,
    alignment,
    hubness,
    intrinsic_dimension,
    modality_gap,
    sample_rows,
    uniformity,
)

if TYPE_CHECKING:
    from bindsearch.evaluation.arrays import Vectors

LEAST_FOR_HUBS = 10 * NEIGHBOURS
"""Vectors from which on hubness is counted: of few, all are in most lists."""

Pair = tuple["Vectors", "Vectors"]


def space_of_sets(
    vectors_of: Mapping[str, Vectors], pairs: Mapping[tuple[str, str], Pair] | None = None
) -> list[Measurement]:
    """Return the geometry of sets of vectors.

    Args:
        vectors_of: Vectors of each modality: float32 (n, d); a sample of large ones is used.
        pairs: Vectors of what belongs together, row by row, of two modalities; None: no pairs are known.
    """
    sets = {name: vectors[sample_rows(len(vectors))] for name, vectors in vectors_of.items() if len(vectors) > 1}
    figures: list[Figure] = []
    for (first, a), (second, b) in combinations(sets.items(), 2):
        figures.append(_plain(f"gap {first}, {second}", modality_gap(a, b), min(len(a), len(b))))
    for (first, second), (a, b) in (pairs or {}).items():
        rows = sample_rows(len(a))
        if len(rows):
            figures.append(_plain(f"alignment {first}, {second}", alignment(a[rows], b[rows]), len(rows)))
    for name, vectors in sets.items():
        figures.append(_plain(f"uniformity {name}", uniformity(vectors), len(vectors)))
        if len(vectors) >= LEAST_FOR_HUBS:
            hubs = hubness(vectors)
            note = f"the most frequent is in {hubs.largest:.0f} lists, {hubs.never:.0%} are in none"
            title = f"hubness {name}, skewness of {hubs.k}-occurrence"
            figures.append(_plain(title, hubs.skewness, len(vectors), note))
        try:
            dimension = intrinsic_dimension(vectors)
        except UsageError:  # too few different vectors for an estimate: not a figure
            continue
        note = f"{dimension.copies} copies are left out" if dimension.copies else ""
        figures.append(_plain(f"intrinsic dimension {name}", dimension.dimension, dimension.n, note))
    return [Measurement(Kind.SPACE, "geometry of the space", tuple(figures))] if figures else []


def _plain(name: str, value: float, n: int, note: str = "") -> Figure:
    return Figure(name, value, n, is_share=False, note=note)
