"""Boxes of relevance maps: properties against plain versions."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from bindsearch.operations.locate.boxes import (
    MAX_OVERLAP,
    Rectangles,
    boxes_of,
    enlarged,
    intersection_over_union,
    rectangles_of,
    share_of_smaller,
    suppress,
)

SHARES = st.floats(0, 1, width=32)
CORNERS = st.lists(st.tuples(SHARES, SHARES, SHARES, SHARES), min_size=1, max_size=12)
MAPS = arrays(np.float32, st.tuples(st.integers(1, 9), st.integers(1, 9)), elements=st.floats(0, 1, width=32))


def to_sides(corners: list[tuple[float, float, float, float]]) -> np.ndarray:
    rows = np.array(corners, np.float64)
    return np.concatenate([np.minimum(rows[:, :2], rows[:, 2:]), np.maximum(rows[:, :2], rows[:, 2:])], 1)


def plain_overlap(first: np.ndarray, second: np.ndarray, *, of_smaller: bool) -> float:
    across = min(first[2], second[2]) - max(first[0], second[0])
    down = min(first[3], second[3]) - max(first[1], second[1])
    shared = max(0.0, across) * max(0.0, down)
    areas = [(one[2] - one[0]) * (one[3] - one[1]) for one in (first, second)]
    total = min(areas) if of_smaller else sum(areas) - shared
    return shared / total if total > 0 else 0.0


@given(CORNERS)
def test_overlaps_are_those_of_a_plain_version(corners: list[tuple[float, float, float, float]]) -> None:
    sides = to_sides(corners)
    for row in sides:
        for overlap, of_smaller in ((intersection_over_union, False), (share_of_smaller, True)):
            expected = [plain_overlap(row, other, of_smaller=of_smaller) for other in sides]
            assert overlap(row, sides) == pytest.approx(expected, abs=1e-9)


@given(CORNERS, st.data(), st.booleans())
def test_suppression_keeps_the_best_of_those_that_overlap(
    corners: list[tuple[float, float, float, float]], data: st.DataObject, of_smaller: bool
) -> None:
    sides = to_sides(corners)
    values = data.draw(arrays(np.float64, len(sides), elements=st.floats(0, 1)))
    overlap = share_of_smaller if of_smaller else intersection_over_union
    kept = suppress(Rectangles(sides, values), MAX_OVERLAP, overlap).tolist()
    expected: list[int] = []
    for row in sorted(range(len(sides)), key=lambda row: (-values[row], row)):
        if all(
            plain_overlap(sides[row], sides[other], of_smaller=of_smaller) <= MAX_OVERLAP + 1e-12 for other in expected
        ):
            expected.append(row)
    assert kept == expected


@given(MAPS, st.floats(0.05, 1))
def test_boxes_hold_the_greatest_cell_and_are_in_the_picture(values: np.ndarray, threshold: float) -> None:
    boxes = boxes_of(values, threshold)
    assert all(0 <= box.left < box.right <= 1 and 0 <= box.top < box.bottom <= 1 for box in boxes)
    assert [box.relevance for box in boxes] == sorted((box.relevance for box in boxes), reverse=True)
    assert all(threshold <= box.relevance <= 1 for box in boxes)
    assert bool(boxes) == (float(values.max()) >= threshold)
    if boxes:
        assert boxes[0].relevance == pytest.approx(float(values.max()), abs=0.01)
    for number, box in enumerate(boxes):
        for better in boxes[:number]:
            sides = (np.array([one.left, one.top, one.right, one.bottom]) for one in (box, better))
            assert plain_overlap(*sides, of_smaller=True) <= MAX_OVERLAP + 1e-9  # none in a better one


@given(MAPS)
def test_every_reached_cell_is_in_a_rectangle(values: np.ndarray) -> None:
    found = rectangles_of(values, 0.5)
    height, width = values.shape
    for row, column in product(range(height), range(width)):
        x, y = (column + 0.5) / width, (row + 0.5) / height
        if values[row, column] < 0.6:
            continue
        inside = (
            (found.sides[:, 0] <= x) & (x <= found.sides[:, 2]) & (found.sides[:, 1] <= y) & (y <= found.sides[:, 3])
        )
        assert inside.any()


def test_parts_are_boxes_of_at_least_a_cell() -> None:
    values = np.zeros((10, 10), np.float32)
    values[1:3, 1:4] = 1
    values[7:9, 6:9] = 0.95
    first, second = boxes_of(values, 0.9)
    assert (first.left, first.top, first.right, first.bottom) == pytest.approx((0.1, 0.1, 0.4, 0.3), abs=0.06)
    assert (second.left, second.top, second.right, second.bottom) == pytest.approx((0.6, 0.7, 0.9, 0.9), abs=0.06)
    assert len(boxes_of(values, 0.99)) == 1
    values[:] = 0
    values[0, 9] = 1
    (corner,) = boxes_of(values, 0.9)
    assert (corner.left, corner.top, corner.right, corner.bottom) == pytest.approx((0.9, 0.0, 1.0, 0.1), abs=0.06)


@pytest.mark.parametrize("values", [np.full((3, 4), np.nan), np.zeros((1, 1)), np.zeros((1, 500))])
def test_nothing_relevant_has_no_box(values: np.ndarray) -> None:
    assert boxes_of(values.astype(np.float32), 0.5) == []


@given(MAPS)
def test_enlarging_keeps_the_middles_of_cells_and_the_range(values: np.ndarray) -> None:
    fine = enlarged(values)
    factor = fine.shape[0] // values.shape[0]
    assert factor % 2 == 1
    middles = fine[factor // 2 :: factor, factor // 2 :: factor]
    assert middles == pytest.approx(values, abs=1e-6)
    assert values.min() - 1e-6 <= fine.min() <= fine.max() <= values.max() + 1e-6
