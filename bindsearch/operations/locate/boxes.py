"""Boxes of a relevance map: connected components above a threshold, without those that overlap a better one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from bindsearch.operations.locate.located import Box

FINE_CELLS = 256
"""Cells of the longer side of a map that boxes are cut from: sides are exact to 0.4%."""

MAX_OVERLAP = 0.5
"""Overlap above which the less relevant of two boxes is left out."""

Overlap: TypeAlias = "Callable[[NDArray[np.float64], NDArray[np.float64]], NDArray[np.float64]]"
"""Overlap of a rectangle (4,) with others (n, 4), 0..1: float64 (n,)."""


@dataclass(frozen=True, slots=True)
class Rectangles:
    """Rectangles in a picture.

    Attributes:
        sides: Left, top, right and bottom as shares of the width and height, 0..1: float64 (n, 4).
        relevance: Relevance of each, 0..1: float64 (n,).
    """

    sides: NDArray[np.float64]
    relevance: NDArray[np.float64]


def boxes_of(relevance: NDArray[np.float32], threshold: float, at_s: float | None = None) -> list[Box]:
    """Return the boxes of a relevance map, best first.

    Args:
        relevance: Relevance of each cell, 0..1; NaN where it is not known: float32 (h, w).
        threshold: Least relevance in a box.
        at_s: Time of the frame; None: a picture.
    """
    return to_boxes(rectangles_of(relevance, threshold), at_s, share_of_smaller)


def to_boxes(found: Rectangles, at_s: float | None = None, overlap: Overlap | None = None) -> list[Box]:
    """Return rectangles as boxes after non-maximum suppression, best first.

    Args:
        found: The rectangles.
        at_s: Time of the frame; None: a picture.
        overlap: Measure of the overlap; None: `intersection_over_union`, as boxes of detectors are of whole things, and
            a thing may stand before another one. Of a map, a box in another one is a part of the same.
    """
    boxes = []
    for row in suppress(found, MAX_OVERLAP, overlap or intersection_over_union).tolist():
        left, top, right, bottom = found.sides[row].tolist()
        boxes.append(Box(left, top, right, bottom, float(found.relevance[row]), at_s))
    return boxes


def rectangles_of(relevance: NDArray[np.float32], threshold: float) -> Rectangles:
    """Return the rectangle around each connected part of a map that reaches a threshold.

    The map is interpolated linearly between the middles of its cells first. Parts that touch at a corner are one. A
    rectangle is at least as large as a cell: what is smaller is not known.

    Args:
        relevance: Relevance of each cell, float32 (h, w); NaN counts as below the threshold.
        threshold: Least relevance.
    """
    from scipy import ndimage

    fine = enlarged(np.nan_to_num(relevance, nan=0.0))
    labels, count = ndimage.label(fine >= threshold, structure=np.ones((3, 3)))
    if count == 0:
        return Rectangles(np.zeros((0, 4)), np.zeros(0))
    greatest = np.asarray(ndimage.maximum(fine, labels, np.arange(1, count + 1)), np.float64)
    found = ndimage.find_objects(labels)
    ends = [
        _at_least_a_cell(np.array([(part[axis].start, part[axis].stop) for part in found]) / fine.shape[axis], cells)
        for axis, cells in enumerate(relevance.shape)
    ]
    (top, bottom), (left, right) = (axis.T for axis in ends)
    return Rectangles(np.stack([left, top, right, bottom], 1), greatest)


def _at_least_a_cell(ends: NDArray[np.float64], cells: int) -> NDArray[np.float64]:
    """Return the starts and ends (n, 2) of shares of a side, grown around their middles to the size of a cell."""
    middle = ends.mean(axis=1, keepdims=True)
    half = np.maximum(0.5 / cells, np.abs(ends - middle))
    return np.asarray(np.clip(middle + half * np.array([-1.0, 1.0]), 0.0, 1.0), np.float64)


def enlarged(values: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return a map enlarged by a whole factor to about FINE_CELLS, linear between the middles of its cells.

    The middle of each cell keeps its value where the factor is odd, as it is.
    """
    factor = max(1, FINE_CELLS // max(values.shape))
    factor -= 1 - factor % 2
    for axis, cells in enumerate(values.shape):
        place = np.clip(((np.arange(cells * factor) + 0.5) / factor - 0.5).round(9), 0, cells - 1)
        low = np.floor(place).astype(np.int64)
        share = np.expand_dims(place - low, 1 - axis)
        above = np.take(values, np.minimum(low + 1, cells - 1), axis)
        values = np.take(values, low, axis) * (1 - share) + above * share
    return np.asarray(values, np.float64)


def suppress(found: Rectangles, max_overlap: float, overlap: Overlap) -> NDArray[np.int64]:
    """Return the rows of rectangles that overlap no better one by more than `max_overlap`, best first: int64 (m,).

    Greedy non-maximum suppression: of equal ones the first is kept.
    """
    order = np.argsort(-found.relevance, kind="stable")
    kept: list[int] = []
    for row in order.tolist():
        if not kept or overlap(found.sides[row], found.sides[kept]).max() <= max_overlap:
            kept.append(row)
    return np.array(kept, np.int64)


def intersection_over_union(side: NDArray[np.float64], others: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the intersection over union of a rectangle (4,) with others (n, 4): float64 (n,), 0 of empty ones."""
    return _shared(side, others, lambda shared, own, of_others: own + of_others - shared)


def share_of_smaller(side: NDArray[np.float64], others: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the intersection of a rectangle (4,) with others (n, 4) as a share of the smaller one: float64 (n,)."""
    return _shared(side, others, lambda _, own, of_others: np.minimum(own, of_others))


def _shared(
    side: NDArray[np.float64], others: NDArray[np.float64], whole: Callable[..., NDArray[np.float64]]
) -> NDArray[np.float64]:
    """Return the intersections of a rectangle with others as shares of `whole` of their areas and of both areas."""
    inner = np.minimum(side[2:], others[:, 2:]) - np.maximum(side[:2], others[:, :2])
    shared = np.maximum(inner, 0).prod(axis=1)
    total = whole(shared, (side[2:] - side[:2]).prod(), (others[:, 2:] - others[:, :2]).prod(axis=1))
    return np.asarray(np.divide(shared, total, out=np.zeros(len(shared)), where=total > 0), np.float64)
