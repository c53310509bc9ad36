"""A report as lines of a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import zip_longest

from bindsearch.evaluation.engine import EngineFigure
from bindsearch.evaluation.figures import Figure
from bindsearch.evaluation.report.data import Report
from bindsearch.evaluation.results import SetResult

SHOWN_FAILURES = 5
FIGURE_COLUMNS = ("", "figure", "value", "error", "n", "chance", "published", "wanted", "")
ENGINE_COLUMNS = (
    "query",
    "target",
    "rows",
    "index",
    "k",
    "filter",
    "probes",
    "rerank",
    "recall",
    "tuned",
    "ms",
    "scan",
)


def report_lines(report: Report) -> Iterator[str]:
    """Yield the lines of a report."""
    for one in report.sets:
        yield from _set_lines(one)
        yield ""
    if report.engine:
        yield "engine: recall of the exact nearest k, by query and target"
        yield from table([ENGINE_COLUMNS, *map(engine_row, report.engine)])
        yield ""
    for left_out in report.left_out:
        yield f"left out: {left_out.name}: {left_out.reason}"
    yield f"encoder {report.encoder}, digest {report.digest}, {report.seconds:.1f} s"


def _set_lines(one: SetResult) -> Iterator[str]:
    left_out = "" if one.items == one.listed else f" of {one.listed} listed"
    yield f"{one.name}: {one.modality}, split {one.split}, {one.items} items{left_out}, {one.seconds:.1f} s"
    rows: list[Sequence[str]] = [FIGURE_COLUMNS]
    for part in one.measurements:
        title = f"{part.kind}, {part.title}"
        rows += [
            (label, *figure_row(figure))
            for label, figure in zip_longest([title], part.figures, fillvalue="")
            if isinstance(figure, Figure)
        ]
    keep = [column for column in range(len(FIGURE_COLUMNS)) if column < 2 or any(row[column] for row in rows[1:])]
    yield from table([[row[column] for column in keep] for row in rows])
    for note in one.notes:
        yield f"  note: {note}"
    for failure in one.failures[:SHOWN_FAILURES]:
        yield f"  failed: {failure.name}: {failure.reason}"
    if len(one.failures) > SHOWN_FAILURES:
        yield f"  ... and {len(one.failures) - SHOWN_FAILURES} more, see --json"


def figure_row(figure: Figure) -> tuple[str, ...]:
    """Return name, value, error, n, chance, published and wanted value of a figure, and whether it is reached."""
    verdict = {True: "reached", False: "below", None: ""}[figure.is_reached]
    error = "" if figure.error is None else f"±{number(figure.error, figure)} {figure.error_by}"
    return (
        figure.name,
        number(figure.value, figure),
        error,
        str(figure.n),
        number(figure.chance, figure),
        number(figure.published, figure),
        number(figure.least, figure),
        verdict,
    )


def number(value: float | None, figure: Figure) -> str:
    """Return a value in percent if the figure is a share, else as it is; "" for none."""
    if value is None:
        return ""
    return f"{100 * value:.1f}%" if figure.is_share else f"{value:.4g}"


def engine_row(one: EngineFigure) -> tuple[str, ...]:
    """Return the cells of one operating point, for ENGINE_COLUMNS."""
    error = "" if one.error is None else f" ±{one.error:.4f}"
    return (
        one.source,
        one.target.value,
        str(one.rows),
        one.form,
        str(one.k),
        f"{one.share:.0%}",
        str(one.probes),
        str(one.rerank),
        f"{one.recall:.4f}{error}",
        "" if one.tuned is None else f"{one.tuned:.4f}",
        f"{one.latency_ms:.2f}",
        f"{one.scan_ms:.2f}",
    )


def table(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Yield rows with their columns aligned."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        yield "  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
