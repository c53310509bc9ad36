"""A report as one HTML file, which opens offline: charts and pictures are inside, and nothing is loaded or run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from importlib.resources import files
from pathlib import Path

from bindsearch.atomic import atomic_write
from bindsearch.errors import UsageError
from bindsearch.evaluation.datasets.dataset import EvalItem
from bindsearch.evaluation.report.charts import confusion_chart, recall_chart, sweep_chart
from bindsearch.evaluation.report.data import ENGINE_COLUMNS, Report, engine_row, figure_row, name_of, summary_of
from bindsearch.evaluation.results import Example, Measurement, SetResult
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
        return embedder.medium(item.media, THUMBNAIL_PX)
    start_s, end_s = (item.span.start_s, item.span.end_s) if item.span else (None, None)
    place = Place(item.path, item.path.parent, item.modality, start_s, end_s)
    return embedder.segment(place) if item.modality is Modality.AUDIO else embedder.thumbnail(place, THUMBNAIL_PX)
