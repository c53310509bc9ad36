"""Places in hits as figures of a page: boxes over a picture, and the relevance over a recording, in SVG."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from bindsearch.operations.locate.words import boxes_of_one_picture, place_in_words
from bindsearch.views.html import Html, element

_WIDTH, _HEIGHT = 600, 120
_UNIT = 1000
"""Width and height of the coordinates over a picture, whatever its size."""


def located_figure(located: Mapping[str, Any], picture: Html) -> Html:
    """Return the places in a hit as a figure.

    Args:
        located: The places, as data.
        picture: The picture that the boxes are in; empty: there is none.

    Returns:
        The picture with its boxes, the best one emphasised; the relevance over a recording; the best place in words.
    """
    boxes = boxes_of_one_picture(located)
    has_curve = located["curve"] is not None and located["curve"]["times_s"]
    words = place_in_words(located)
    notes = [] if located["method"] is None else [element("div", notice) for notice in located["notices"]]
    return element(
        "figure",
        element("div", picture, _boxes(boxes), class_="boxes") if picture else Html(),
        _curve(located) if has_curve else Html(),
        element("figcaption", words[:1].upper() + words[1:], *notes),
        class_="located",
    )


def _boxes(boxes: Sequence[Mapping[str, float]]) -> Html:
    rects = [
        element(
            "rect",
            x=_along(box["left"]),
            y=_along(box["top"]),
            width=_along(box["right"] - box["left"]),
            height=_along(box["bottom"] - box["top"]),
            class_=name,
        )
        for rank, box in reversed([*enumerate(boxes)])
        for name in ("halo", "box" if rank else "box best")
    ]
    return element("svg", *rects, viewBox=f"0 0 {_UNIT} {_UNIT}", preserveAspectRatio="none", aria_hidden="true")


def _along(share: float) -> float:
    return round(_UNIT * share, 1)


def _curve(located: Mapping[str, Any]) -> Html:
    """Return the relevance over a recording as a curve, with its spans shaded."""
    curve = located["curve"]
    start_s, end_s = curve["start_s"], curve["end_s"]
    across = _WIDTH / max(end_s - start_s, 1e-9)
    spans = [
        element(
            "rect",
            x=round((one["start_s"] - start_s) * across, 1),
            y=0,
            width=round((one["end_s"] - one["start_s"]) * across, 1),
            height=_HEIGHT,
            class_="span",
        )
        for one in located["spans"]
    ]
    times, relevance = curve["times_s"], curve["relevance"]
    points = " ".join(
        f"{(time_s - start_s) * across:.1f},{(1 - value) * _HEIGHT:.1f}"
        for time_s, value in zip((start_s, *times, end_s), (relevance[0], *relevance, relevance[-1]), strict=True)
    )
    chart = element(
        "svg",
        *spans,
        element("polyline", points=points),
        viewBox=f"0 0 {_WIDTH} {_HEIGHT}",
        preserveAspectRatio="none",
        role="img",
        aria_label=f"Relevance from 0 to 1 over {start_s:.1f}-{end_s:.1f} s",
        class_="curve",
    )
    ends = element("div", *(element("span", f"{edge:.1f} s") for edge in (start_s, end_s)), class_="ends")
    return element("div", chart, ends)
