"""A report as one HTML file, which opens offline: charts and pictures are inside, and nothing is loaded or run."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from importlib.resources import files
from pathlib import Path

import numpy as np

from bindsearch.atomic import atomic_write
from bindsearch.errors import UsageError
from bindsearch.evaluation.datasets.dataset import EvalItem
from bindsearch.evaluation.report.data import ENGINE_COLUMNS, Report, engine_row, figure_row, name_of, summary_of
from bindsearch.evaluation.results import Confusion, Curve, Example, Measurement, SetResult, Sweep
from bindsearch.ingest.media.options import DecodeOptions
from bindsearch.operations.segment_media import Place
from bindsearch.types import Modality
from bindsearch.views.embedded import Embedded, Embedder, PageLimits
from bindsearch.views.html import Html, element, joined, page_start
from bindsearch.views.html_page import check_target

MAX_FAILURES = 100
MAX_TEXT = 500
THUMBNAIL_PX = 240
COLUMNS = ("figure", "value", "standard error", "n", "chance", "published", "wanted", "")
LIMITS = PageLimits(max_clip_bytes=1 << 20)

WIDTH, HEIGHT = 600, 320
LEFT, BOTTOM, TOP, RIGHT = 44, 34, 12, 12
CLASSES = 30
"""Most classes of a matrix that is drawn; of more, the most frequent confusions are listed."""

CONFUSIONS = 20
LABEL = 18
"""Characters of a label beside a matrix."""

SERIES = ("", "second", "third")
"""Classes of the lines of a chart."""


def write_report(path: Path, report: Report) -> None:
    """Write a report; an existing file is replaced when all is written.

    Args:
        path: The file to write, .html.
        report: The report.

    Raises:
        UsageError: the file cannot be written.
    """
    check_target(path)
    embedder = Embedder(LIMITS, DecodeOptions())
    try:
        with atomic_write(path) as file:
            for part in _page(report, embedder):
                file.write(part.encode(errors="backslashreplace"))
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror or error}") from error


def _page(report: Report, embedder: Embedder) -> Iterator[str]:
    """Yield the page in parts."""
    style = "".join(
        files(package).joinpath(name).read_text(encoding="utf-8")
        for package, name in (("bindsearch.views", "page.css"), ("bindsearch.evaluation.report", "report.css"))
    )
    title = f"{report.title}: {report.encoder}"
    yield page_start(title, style)
    settings = ", ".join(f"{name} {value}" for name, value in report.settings.items() if value not in (None, [], {}))
    about = (
        f"encoder {report.encoder}, digest {report.digest}, {report.dim} dimensions; {settings}; {report.seconds:.1f} s"
    )
    contents = [element("li", element("a", one.name, href=f"#set-{number}")) for number, one in enumerate(report.sets)]
    nav = element("nav", element("ol", *contents), aria_label="Data sets") if len(contents) > 1 else Html()
    yield element("header", element("h1", title), element("p", about, class_="soft"), nav)
    yield "<main>"
    for number, one in enumerate(report.sets):
        yield from _set(number, one, embedder)
    if report.engine:
        yield element("h2", "Engine")
        yield element("p", "Recall of the exact nearest k at each operating point, by modality of query and target.")
        yield _table(ENGINE_COLUMNS, [engine_row(one) for one in report.engine])
    if report.left_out:
        yield element("h2", "Not measured")
        yield element("ul", *(element("li", f"{one.name}: {one.reason}") for one in report.left_out))
    for note in report.notes:
        yield element("p", note, class_="notice")
    yield "</main></body></html>\n"


def _set(number: int, one: SetResult, embedder: Embedder) -> Iterator[str]:
    """Yield the section of a data set."""
    yield f'<section id="set-{number}">'
    yield element("h2", one.name)
    yield element("p", summary_of(one), class_="soft")
    for note in one.notes:
        yield element("p", note, class_="notice")
    for part in one.measurements:
        yield from _measurement(part, embedder)
    if one.failures:
        shown = [element("li", f"{failure.name}: {failure.reason}") for failure in one.failures[:MAX_FAILURES]]
        if rest := len(one.failures) - len(shown):
            shown.append(element("li", f"and {rest} more, see --json"))
        summary = element("summary", f"{len(one.failures)} items without a vector")
        yield element("details", summary, element("ul", *shown))
    yield "</section>"


def _measurement(part: Measurement, embedder: Embedder) -> Iterator[str]:
    """Yield a measurement: its figures, charts and examples."""
    yield element("h3", f"{part.kind}: {part.title}")
    if part.settings:
        yield element("p", ", ".join(f"{name} {value}" for name, value in part.settings.items()), class_="soft")
    rows = [(*figure_row(figure), figure.note) for figure in part.figures]
    yield _table((*COLUMNS, "note"), rows)
    for curve in part.curves:
        yield recall_chart(curve)
    if part.sweeps:
        yield sweep_chart(part.sweeps)
    if part.confusion is not None:
        yield element("details", element("summary", "Confusion"), confusion_chart(part.confusion))
    for title, examples in (
        ("Best", [one for one in part.examples if one.is_best]),
        ("Worst", [one for one in part.examples if not one.is_best]),
    ):
        if examples:
            cards = [_card(one, embedder) for one in examples]
            yield element("details", element("summary", f"{title} examples"), element("ul", *cards, class_="hits"))


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> Html:
    """Return a table without the columns that are empty."""
    kept = [column for column in range(len(columns)) if any(row[column] for row in rows)]
    head = element("tr", *(element("th", columns[column], scope="col") for column in kept))
    shown = [[row[column] for column in kept] for row in rows]
    cells = [[element("td", cell, class_="below" if cell == "below" else None) for cell in row] for row in shown]
    body = [element("tr", *row) for row in cells]
    table = element("table", element("thead", head), element("tbody", *body))
    return element("div", table, class_="scrolled", tabindex="0")


def _card(one: Example, embedder: Embedder) -> Html:
    """Return an example: what was asked, what was found, and what is right."""
    parts = [_shown("asked", one.asked, embedder), _shown("found", one.found, embedder)]
    if not one.is_best:
        parts.append(_shown("right", one.wanted, embedder))
    return element("li", *parts, element("p", f"margin {one.margin:+.3f}", class_="soft"))


def _shown(role: str, what: str | EvalItem, embedder: Embedder) -> Html:
    """Return a text, or an item with its picture."""
    if isinstance(what, str):
        return element("p", f"{role}: ", element("bdi", what[:MAX_TEXT]))
    shown = _embedded(what, embedder)
    name = name_of(what)
    picture = element("img", src=shown.picture, alt=name, loading="lazy") if shown.picture else Html()
    player = element("audio", src=shown.clip, controls=True, preload="none", aria_label=name) if shown.clip else Html()
    labels = f" ({', '.join(what.labels)})" if what.labels else ""
    crop = f", crop {what.crop}" if what.crop else ""
    span = f", {what.span.start_s:g}-{what.span.end_s:g} s" if what.span else ""
    problem = element("p", shown.problem, class_="soft") if shown.problem else Html()
    line = element("p", f"{role}: ", element("bdi", Path(name).name), f"{labels}{crop}{span}")
    return joined([picture, player, line, problem])


def _embedded(item: EvalItem, embedder: Embedder) -> Embedded:
    """Return the picture of an item, and the clip of a sound."""
    if item.media is not None:
        return embedder.thumbnail(item.media, THUMBNAIL_PX)
    start_s, end_s = (item.span.start_s, item.span.end_s) if item.span else (None, None)
    place = Place(item.path, item.path.parent, item.modality, start_s, end_s)
    return embedder.segment(place) if item.modality is Modality.AUDIO else embedder.thumbnail(place, THUMBNAIL_PX)


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
