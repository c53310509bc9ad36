"""Places where a medium answers a query, in words; the places are given as by `located_data`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from bindsearch.types import clock

NEARLY_ALL = 0.95
"""Share of both sides from which a box is said to be the whole picture."""

_UPPER, _LOWER = ("upper left", "top", "upper right"), ("lower left", "bottom", "lower right")
_NINTHS = (_UPPER, ("left", "middle", "right"), _LOWER)


def place_in_words(located: Mapping[str, Any]) -> str:
    """Return the best place in words, such as `upper left, 12-48% x 30-80%, relevance 0.97`, or why there is none."""
    boxes, spans = located["boxes"], located["spans"]
    if located["method"] is None:
        return f"not located: {located['notices'][0]}"
    if boxes:
        best = boxes[0]
        where = f"{box_in_words(best)}{at_in_words(best['at_s'])}"
        return f"{where}, relevance {relevance_in_words(best['relevance'])}{others_in_words(boxes)}"
    if spans:
        relevance = relevance_in_words(spans[0]["relevance"])
        return f"{span_in_words(spans[0])}, relevance {relevance}{others_in_words(spans)}"
    if (nearest := nearest_in_words(located)) is not None:
        return f"no part reaches the threshold; nearest: {nearest[0]}, relevance {relevance_in_words(nearest[1])}"
    return "no part reaches the threshold"


def nearest_in_words(located: Mapping[str, Any]) -> tuple[str, float] | None:
    """Return the point or moment that answers best in words, and its relevance; None if there is none."""
    if (peak := located["peak"]) is not None:
        return f"{_ninth(peak['x'], peak['y'])}{at_in_words(peak['at_s'])}", peak["relevance"]
    if (curve := located["curve"]) is not None and curve["times_s"]:
        best_s, relevance = max(zip(curve["times_s"], curve["relevance"], strict=True), key=lambda one: one[1])
        return clock(best_s), relevance
    return None


def boxes_of_one_picture(located: Mapping[str, Any]) -> list[dict[str, float]]:
    """Return the boxes of a picture; of a video, those of the frame that has the best one."""
    boxes: list[dict[str, float]] = located["boxes"]
    return [box for box in boxes if box["at_s"] == boxes[0]["at_s"]]


def box_in_words(box: Mapping[str, Any]) -> str:
    """Return the part of a picture that a box is, such as `upper left, 12-48% x 30-80%`, or `whole picture`."""
    if box["right"] - box["left"] >= NEARLY_ALL and box["bottom"] - box["top"] >= NEARLY_ALL:
        return "whole picture"
    across = f"{100 * box['left']:.0f}-{100 * box['right']:.0f}%"
    down = f"{100 * box['top']:.0f}-{100 * box['bottom']:.0f}%"
    where = _ninth((box["left"] + box["right"]) / 2, (box["top"] + box["bottom"]) / 2)
    return f"{where}, {across} x {down}"


def span_in_words(span: Mapping[str, Any]) -> str:
    """Return start and end of a span, such as `0:03.5-0:06`."""
    return f"{clock(span['start_s'])}-{clock(span['end_s'])}"


def at_in_words(at_s: float | None) -> str:
    """Return the time of a frame, such as ` at 0:03.2`; nothing for a picture."""
    return "" if at_s is None else f" at {clock(at_s)}"


def others_in_words(places: Sequence[object]) -> str:
    """Return how many places there are besides the first one."""
    return f", and {len(places) - 1} more" if len(places) > 1 else ""


def relevance_in_words(relevance: float, decimals: int = 2) -> str:
    """Return a relevance, rounded down: it is never shown as 1, or as at the threshold, if it is below."""
    unit = 10**decimals
    most = unit if relevance >= 1 else unit - 1
    rounded = min(most, math.floor(relevance * unit + 1e-4))  # as 0.9 in float32 is a little less
    return f"{rounded / unit:.{decimals}f}"


def _ninth(x: float, y: float) -> str:
    """Return the part of a picture, of nine, that a point is in."""
    row, column = (min(2, max(0, int(3 * share))) for share in (y, x))
    return _NINTHS[row][column]
