"""The map of a collection as a figure of a page: points in SVG, a legend, and a table of the modality gap.

Points have no names: a page of a few answers does not tell what else is in the store.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bindsearch.types import Modality
from bindsearch.views.html import Html, element, joined

POINTS = 1500
_SIDE = 600
_RADIUS, _LARGE_RADIUS = 3, 5
_LARGE_BELOW = 300
"""Number of points below which they are drawn larger."""


def map_figure(found: Mapping[str, Any]) -> Html:
    """Return the map that `collection_map` made."""
    radius = _LARGE_RADIUS if len(found["x"]) < _LARGE_BELOW else _RADIUS
    points = zip(found["x"], found["y"], found["modality"], strict=True)
    circles = [
        element(
            "circle",
            cx=_place(x, radius),
            cy=_place(-y, radius),
            r=radius,
            class_=f"of-{modality}",
        )
        for x, y, modality in points
    ]
    shown = [modality.value for modality in Modality if modality.value in found["modality"]]
    legend = [element("li", _dot(name), f" {name}, {found['modality'].count(name)}") for name in shown]
    label = f"Map of {len(found['x'])} of {found['segments']} segments by modality"
    chart = element("svg", *circles, viewBox=f"0 0 {_SIDE} {_SIDE}", role="img", aria_label=label, class_="map")
    about = (
        f"{label}: points are near each other where their vectors are; distances between groups mean little. The table "
        "has the distance of the means of the unit vectors of each two modalities, 0 to 2."
    )
    names = element("ul", *legend, class_="terms")
    return joined([element("p", about, class_="soft"), names, chart, _gaps(found, shown)])


def _dot(modality: str) -> Html:
    """Return the sign of a modality in the legend."""
    dot = element("circle", cx=6, cy=6, r=5, class_=f"of-{modality}")
    return element("svg", dot, width=12, height=12, aria_hidden="true")


def _place(value: float, radius: int) -> float:
    """Return the place of a coordinate in -1..1 in the chart."""
    return round(radius + (value + 1) / 2 * (_SIDE - 2 * radius), 1)


def _gaps(found: Mapping[str, Any], shown: list[str]) -> Html:
    """Return the gaps as a table, each pair once."""
    gaps = {(gap["a"], gap["b"]): gap["distance"] for gap in found["gaps"]}
    if not gaps:
        return Html()
    header = element("tr", element("td"), *(element("th", name, scope="col") for name in shown[1:]))
    rows = [
        element("tr", element("th", a, scope="row"), *(element("td", _number(gaps.get((a, b)))) for b in shown[1:]))
        for a in shown[:-1]
    ]
    return element("div", element("table", header, *rows), class_="scrolled", tabindex="0")


def _number(distance: float | None) -> str:
    return "" if distance is None else f"{distance:.2f}"
