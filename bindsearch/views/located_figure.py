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
        The picture with its boxes, the best one emphasised; the relevance over a recording; the best place in words;
        if there are several, a list of them, which has their numbers.
    """
    boxes = boxes_of_one_picture(located)
    places = places_in_words(located)
    listed = element("ol", *(element("li", one) for one in places)) if len(places) > 1 else Html()
    has_curve = located["curve"] is not None and located["curve"]["times_s"]
    words = place_in_words(located)
    notes = [] if located["method"] is None else [element("div", notice) for notice in located["notices"]]
    return element(
        "figure",
        element("div", picture, _boxes(boxes), _numbers(located), class_="boxes") if picture else Html(),
        _curve(located) if has_curve else Html(),
        element("figcaption", words[:1].upper() + words[1:], listed, *notes),
        class_="located",
    )


def places_in_words(located: Mapping[str, Any]) -> list[str]:
    """Return all boxes, or all spans, in words, in their order."""
    parts = [{"boxes": [box], "spans": []} for box in located["boxes"]]
    parts += [{"boxes": [], "spans": [span]} for span in located["spans"]]
    return [place_in_words({**located, **part}) for part in parts]


def _numbers(located: Mapping[str, Any]) -> Html:
    """Return the numbers of the boxes of the picture in the list of all; nothing if there is one.

    They are in a figure of their own, whose coordinates are not stretched.
    """
    boxes = located["boxes"]
    if len(boxes) < 2:
        return Html()
    texts = [
        element("text", number, x=f"{100 * box['left']:.1f}%", y=f"{100 * box['top']:.1f}%", dx=4, dy=13)
        for number, box in zip(map(str, range(1, len(boxes) + 1)), boxes, strict=True)
        if box["at_s"] == boxes[0]["at_s"]
    ]
    return element("svg", *texts, aria_hidden="true")


def _boxes(boxes: Sequence[Mapping[str, float]]) -> Html:
    rects = []
    for rank, box in reversed([*enumerate(boxes)]):
        left, top, width, height = box["left"], box["top"], box["right"] - box["left"], box["bottom"] - box["top"]
        place = zip(("x", "y", "width", "height"), (left, top, width, height), strict=True)
        along = {name: round(_UNIT * share, 1) for name, share in place}
        rects += [element("rect", **along, class_=name) for name in ("halo", "box" if rank else "box best")]
    return element("svg", *rects, viewBox=f"0 0 {_UNIT} {_UNIT}", preserveAspectRatio="none", aria_hidden="true")


def _curve(located: Mapping[str, Any]) -> Html:
    """Return the relevance over a recording as a curve, with its spans shaded."""
    curve = located["curve"]
    start_s, end_s = curve["start_s"], curve["end_s"]
    across = _WIDTH / max(end_s - start_s, 1e-9)
    spans = []
    for one in located["spans"]:
        left, width = (one["start_s"] - start_s) * across, (one["end_s"] - one["start_s"]) * across
        spans.append(element("rect", x=round(left, 1), y=0, width=round(width, 1), height=_HEIGHT, class_="span"))
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
    ends = (f"{start_s:.1f} s", "relevance: 0 below, 1 above", f"{end_s:.1f} s")
    return element("div", chart, element("div", *(element("span", one) for one in ends), class_="ends"))
