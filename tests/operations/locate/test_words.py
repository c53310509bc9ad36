"""Places in words, as tables, galleries and the page say them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from bindsearch.operations.locate.words import boxes_of_one_picture, place_in_words, relevance_in_words


def located(**parts: Any) -> dict[str, Any]:
    nothing: dict[str, Any] = {"boxes": [], "spans": [], "peak": None, "curve": None, "notices": []}
    return {"method": "dense features of mini", **nothing, **parts}


def box(left: float, top: float, right: float, bottom: float, at_s: float | None = None) -> dict[str, Any]:
    return {"left": left, "top": top, "right": right, "bottom": bottom, "relevance": 0.9712, "at_s": at_s}


CORNER = box(0.12, 0.1, 0.48, 0.4)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (located(boxes=[CORNER]), "upper left, 12-48% x 10-40%, relevance 0.97"),
        (located(boxes=[CORNER, CORNER, CORNER]), "upper left, 12-48% x 10-40%, relevance 0.97, and 2 more"),
        (located(boxes=[box(0, 0, 1, 1, 3.25)]), "whole picture at 0:03.2, relevance 0.97"),
        (located(boxes=[box(0.9, 0.9, 1, 1)]), "lower right, 90-100% x 90-100%, relevance 0.97"),
        (
            located(spans=[{"start_s": 3.5, "end_s": 6, "relevance": 0.9}], curve={"times_s": [1], "relevance": [0.9]}),
            "0:03.5-0:06, relevance 0.90",
        ),
        (
            located(peak={"x": 1.0, "y": 1.0, "relevance": 0.62, "at_s": None}),
            "no part reaches the threshold; nearest: lower right, relevance 0.62",
        ),
        (
            located(curve={"times_s": [1.0, 2.0, 3.0], "relevance": [0.1, 0.5, 0.2]}),
            "no part reaches the threshold; nearest: 0:02, relevance 0.50",
        ),
        (located(curve={"times_s": [], "relevance": []}), "no part reaches the threshold"),
        (located(method=None, notices=["the file is gone"]), "not located: the file is gone"),
    ],
)
def test_a_place_in_words(given: dict[str, Any], expected: str) -> None:
    assert place_in_words(given) == expected


def test_boxes_of_one_picture_are_those_of_the_best_frame() -> None:
    boxes = [box(0, 0, 1, 1, 2.0), box(0, 0, 0.5, 1, 1.0), box(0.5, 0, 1, 1, 2.0)]
    assert boxes_of_one_picture(located(boxes=boxes)) == [boxes[0], boxes[2]]
    assert boxes_of_one_picture(located()) == []


@pytest.mark.parametrize(
    ("relevance", "words"),
    [
        (0.9964, "0.99"),
        (0.8999, "0.89"),
        (float(np.float32(0.9)), "0.90"),
        (0.29, "0.29"),
        (1.0, "1.00"),
        (0.0, "0.00"),
    ],
)
def test_a_relevance_is_rounded_down(relevance: float, words: str) -> None:
    assert relevance_in_words(relevance) == words
    assert relevance_in_words(0.9999, 3) == "0.999"
