"""Places where a medium answers a query, in words; the places are given as by `located_data`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

_NINTHS = (
    ("upper left", "top", "upper right"),
    ("left", "middle", "right"),
    ("lower left", "bottom", "lower right"),
)


def place_in_words(located: Mapping[str, Any]) -> str:
    """Return the best place in words, such as `upper left, 12-48% x 30-80%, relevance 0.97`, or why there is none."""
    boxes, spans = located["boxes"], located["spans"]
    if located["method"] is None:
        return f"not located: {located['notices'][0]}"
    if boxes:
        return _box_in_words(boxes[0]) + _others(boxes)
    if spans:
        best = spans[0]
        return f"{best['start_s']:.1f}-{best['end_s']:.1f} s, relevance {best['relevance']:.2f}{_others(spans)}"
    if (peak := located["peak"]) is not None:
        where = f"{_ninth(peak['x'], peak['y'])}{_time_in_words(peak['at_s'])}"
        return f"no part reaches the threshold; nearest: {where}, relevance {peak['relevance']:.2f}"
    if (curve := located["curve"]) is not None and curve["times_s"]:
        best_s, relevance = max(zip(curve["times_s"], curve["relevance"], strict=True), key=lambda one: one[1])
        return f"no part reaches the threshold; nearest: {best_s:.1f} s, relevance {relevance:.2f}"
    return "no part reaches the threshold"


def boxes_of_one_picture(located: Mapping[str, Any]) -> list[dict[str, float]]:
    """Return the boxes of a picture; of a video, those of the frame that has the best one."""
    boxes: list[dict[str, float]] = located["boxes"]
    return [box for box in boxes if box["at_s"] == boxes[0]["at_s"]]


def _box_in_words(box: Mapping[str, Any]) -> str:
    across = f"{100 * box['left']:.0f}-{100 * box['right']:.0f}%"
    down = f"{100 * box['top']:.0f}-{100 * box['bottom']:.0f}%"
    where = _ninth((box["left"] + box["right"]) / 2, (box["top"] + box["bottom"]) / 2)
    return f"{where}, {across} x {down}{_time_in_words(box['at_s'])}, relevance {box['relevance']:.2f}"


def _ninth(x: float, y: float) -> str:
    """Return the part of a picture, of nine, that a point is in."""
    row, column = (min(2, int(3 * share)) for share in (y, x))
    return _NINTHS[row][column]


def _time_in_words(at_s: float | None) -> str:
    return "" if at_s is None else f" at {at_s:.1f} s"


def _others(places: Sequence[object]) -> str:
    return f", and {len(places) - 1} more" if len(places) > 1 else ""
