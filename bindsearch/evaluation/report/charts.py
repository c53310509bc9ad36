"""Charts of a report in SVG: confusion matrices, recall curves, and sweeps of weights."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from bindsearch.views.html import Html, element, joined

if TYPE_CHECKING:
    from bindsearch.evaluation.results import Confusion, Curve, Sweep

WIDTH, HEIGHT = 600, 320
LEFT, BOTTOM, TOP, RIGHT = 44, 34, 12, 12
CLASSES = 30
"""Most classes of a matrix that is drawn; of more, the most frequent confusions are listed."""

CONFUSIONS = 20
LABEL = 18
"""Characters of a label beside a matrix."""

SERIES = ("", "second", "third")
"""Classes of the lines of a chart."""


def recall_chart(curve: Curve) -> Html:
    """Return the recall by number of results, on a logarithmic axis, with that of chance."""
    xs = [math.log10(k) for k in curve.ks]
    ticks = [(math.log10(k), str(k)) for k in (1, 2, 5, 10, 20, 50, 100) if k <= curve.ks[-1]]
    label = f"recall by number of results, {curve.title}"
    lines = [(xs, curve.recalls, ""), (xs, curve.chance, "chance")]
    return _chart(label, xs, ticks, lines, "dashed: chance")


def sweep_chart(sweeps: Sequence[Sweep]) -> Html:
    """Return figures of a combination by the weight of the first modality, at most three."""
    shown = sweeps[: len(SERIES)]
    first = shown[0]
    ticks = [(weight, f"{weight:g}") for weight in (0.0, 0.25, 0.5, 0.75, 1.0)]
    lines = [(one.weights, one.values, name) for one, name in zip(shown, SERIES, strict=False)]
    label = f"{', '.join(one.figure for one in shown)} by the weight of {first.first}, the rest is {first.second}"
    best = [f"{one.figure}: best {max(one.values):.1%} at {one.weights[int(np.argmax(one.values))]:g}" for one in shown]
    note = element("p", f"{'; '.join(best)}. The best weight is chosen by the answers: an upper bound.", class_="soft")
    return joined([_chart(label, first.weights, ticks, lines), note])


def confusion_chart(confusion: Confusion) -> Html:
    """Return a confusion matrix, or of many classes the most frequent confusions."""
    if len(confusion.labels) > CLASSES:
        return _confusions(confusion)
    counts, labels = confusion.counts, confusion.labels
    side = max(14, min(40, 480 // len(labels)))
    margin = 6 * min(LABEL, max(map(len, labels))) + 12
    rows = counts.sum(axis=1, keepdims=True)
    shares = np.divide(counts, rows, out=np.zeros_like(counts), where=rows > 0)
    parts = []
    for row, label in enumerate(labels):
        y = row * side + 8
        parts.append(element("text", _short(label), x=margin - 4, y=y + side / 2 + 4, text_anchor="end"))
        for column, other in enumerate(labels):
            tip = element("title", f"{label} assigned to {other}: {counts[row, column]:.4g}")
            x = margin + column * side
            share = round(float(shares[row, column]), 3)
            parts.append(element("rect", tip, x=x, y=y, width=side, height=side, class_="cell", fill_opacity=share))
            if counts[row, column] >= 0.5 and side >= 22:
                n, middle = f"{counts[row, column]:.0f}", y + side / 2 + 4
                parts.append(element("text", n, x=x + side / 2, y=middle, text_anchor="middle"))
    size = len(labels) * side
    for column, label in enumerate(labels):
        across, down = margin + (column + 0.5) * side, size + 14
        turn = f"rotate(-60 {across} {down})"
        parts.append(element("text", _short(label), x=across, y=down, text_anchor="end", transform=turn))
    label = f"confusion matrix of {len(labels)} classes: rows are right, columns are assigned"
    box = f"0 0 {margin + size + 12} {size + margin + 8}"
    chart = element("svg", *parts, viewBox=box, role="img", aria_label=label, class_="chart")
    return joined([element("p", f"{label}.", class_="soft"), chart])


def _confusions(confusion: Confusion) -> Html:
    """Return a table of the most frequent confusions."""
    counts = confusion.counts.copy()
    np.fill_diagonal(counts, 0)
    order = np.argsort(-counts, axis=None, kind="stable")[:CONFUSIONS]
    pairs = [divmod(int(one), len(confusion.labels)) for one in order]
    rows = []
    for row, column in pairs:
        if counts[row, column] > 0:
            labels = (element("td", confusion.labels[number]) for number in (row, column))
            rows.append(element("tr", *labels, element("td", f"{counts[row, column]:.4g}", class_="number")))
    head = element("tr", *(element("th", name, scope="col") for name in ("class", "assigned to", "items")))
    about = f"The most frequent confusions of {len(confusion.labels)} classes; --json has all of them."
    table = element("table", element("thead", head), element("tbody", *rows))
    return joined([element("p", about, class_="soft"), table])


def _chart(
    label: str,
    xs: Sequence[float],
    ticks: Sequence[tuple[float, str]],
    lines: Sequence[tuple[Sequence[float], Sequence[float], str]],
    key: str = "",
) -> Html:
    """Return a chart of lines whose values are shares."""
    low, high = min(xs), max(max(xs), min(xs) + 1e-9)

    def place(x: float, y: float) -> tuple[float, float]:
        across = LEFT + (x - low) / (high - low) * (WIDTH - LEFT - RIGHT)
        return round(across, 1), round(TOP + (1 - y) * (HEIGHT - TOP - BOTTOM), 1)

    parts = []
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        _, y = place(low, share)
        parts.append(element("line", x1=LEFT, y1=y, x2=WIDTH - RIGHT, y2=y, class_="grid"))
        parts.append(element("text", f"{share:.0%}", x=LEFT - 6, y=y + 4, text_anchor="end"))
    for value, text in ticks:
        x, y = place(value, 0.0)
        parts.append(element("text", text, x=x, y=y + 18, text_anchor="middle"))
    for xs_of, ys, name in lines:
        points = " ".join(f"{x},{y}" for x, y in (place(*one) for one in zip(xs_of, ys, strict=True)))
        parts.append(element("polyline", points=points, class_=name or None))
    chart = element("svg", *parts, viewBox=f"0 0 {WIDTH} {HEIGHT}", role="img", aria_label=label, class_="chart")
    legend = element("p", f"{label}. ", element("span", key, class_="key") if key else Html(), class_="soft")
    return joined([chart, legend])


def _short(label: str) -> str:
    return label if len(label) <= LABEL else f"{label[: LABEL - 1]}…"
