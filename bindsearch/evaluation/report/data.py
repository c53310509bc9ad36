"""A report as data, which `bindsearch eval --json` prints, and as lines of a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from bindsearch.evaluation.datasets.dataset import EvalItem
from bindsearch.evaluation.engine import EngineFigure
from bindsearch.evaluation.figures import Figure
from bindsearch.evaluation.results import Example, Measurement, SetResult

DIGITS = 6
"""Decimals of values in JSON."""

SHOWN_FAILURES = 5
FIGURE_COLUMNS = ("", "figure", "value", "error", "n", "chance", "published", "wanted", "")
ENGINE_COLUMNS = (
    "query", "target", "rows", "index", "k", "filter", "probes", "rerank", "recall", "tuned", "ms", "scan",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class LeftOutSet:
    """A data set that was not measured, and why."""

    name: str
    reason: str


@dataclass(frozen=True, slots=True)
class Report:
    """Results of one run.

    Attributes:
        title: Title of the page.
        encoder: Name of the encoder.
        digest: Its digest.
        dim: Dimensions of its vectors.
        settings: Options of the run.
        sets: Results by data set.
        engine: Recall of a store's indexes.
        left_out: Data sets that were not measured.
        notes: Other notes, one line each.
        seconds: Time that all of it took.
    """

    title: str
    encoder: str
    digest: str
    dim: int
    settings: Mapping[str, Any] = field(default_factory=dict)
    sets: tuple[SetResult, ...] = ()
    engine: tuple[EngineFigure, ...] = ()
    left_out: tuple[LeftOutSet, ...] = ()
    notes: tuple[str, ...] = ()
    seconds: float = 0.0

    @property
    def is_reached(self) -> bool:
        """Return whether no figure is below what is wanted of it."""
        return not any(
            figure.is_reached is False for one in self.sets for part in one.measurements for figure in part.figures
        )


def report_data(report: Report) -> dict[str, Any]:
    """Return a report as JSON values."""
    return {
        "title": report.title,
        "encoder": {"name": report.encoder, "digest": report.digest, "dim": report.dim},
        "settings": dict(report.settings),
        "sets": [_set_data(one) for one in report.sets],
        "engine": [{**_rounded(asdict(one)), "target": one.target.value} for one in report.engine],
        "left_out": [asdict(one) for one in report.left_out],
        "notes": list(report.notes),
        "is_reached": report.is_reached,
        "took_s": round(report.seconds, 3),
    }


def _set_data(one: SetResult) -> dict[str, Any]:
    return {
        **{name: getattr(one, name) for name in ("name", "modality", "split", "listed", "items")},
        "took_s": round(one.seconds, 3),
        "measurements": [_measurement_data(part) for part in one.measurements],
        "failures": [{**asdict(failure), "path": str(failure.path)} for failure in one.failures],
        "notes": list(one.notes),
    }


def _measurement_data(part: Measurement) -> dict[str, Any]:
    confusion = None
    if part.confusion is not None:
        counts = part.confusion.counts
        cells = [
            {"row": int(row), "column": int(column), "items": round(float(counts[row, column]), DIGITS)}
            for row, column in zip(*counts.nonzero(), strict=True)
        ]
        confusion = {"labels": list(part.confusion.labels), "counts": cells}
    return {
        "kind": part.kind.value,
        "title": part.title,
        "settings": _rounded(dict(part.settings)),
        "figures": [_figure_data(figure) for figure in part.figures],
        "confusion": confusion,
        "curves": [_rounded(asdict(curve)) for curve in part.curves],
        "sweeps": [_rounded(asdict(sweep)) for sweep in part.sweeps],
        "examples": [_example_data(example) for example in part.examples],
    }


def _figure_data(figure: Figure) -> dict[str, Any]:
    error_by = None if figure.error is None or figure.error_by is None else figure.error_by.value
    return {**_rounded(asdict(figure)), "error_by": error_by, "is_reached": figure.is_reached}


def _example_data(example: Example) -> dict[str, Any]:
    shown = {name: name_of(getattr(example, name)) for name in ("asked", "found", "wanted")}
    return {"is_best": example.is_best, **shown, "margin": round(example.margin, DIGITS)}


def name_of(shown: str | EvalItem) -> str:
    """Return an item's name, or a text itself."""
    return shown if isinstance(shown, str) else shown.name or str(shown.path)


def _rounded(value: Any) -> Any:
    """Return JSON values with all numbers in them rounded."""
    match value:
        case float():
            return round(value, DIGITS)
        case Mapping():
            return {name: _rounded(one) for name, one in value.items()}
        case list() | tuple():
            return [_rounded(one) for one in value]
    return value


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
    yield f"{one.name}: {summary_of(one)}"
    rows: list[Sequence[str]] = [FIGURE_COLUMNS]
    for part in one.measurements:
        title = f"{part.kind}, {part.title}"
        rows += [("" if place else title, *figure_row(figure)) for place, figure in enumerate(part.figures)]
    keep = [column for column in range(len(FIGURE_COLUMNS)) if column < 2 or any(row[column] for row in rows[1:])]
    yield from table([[row[column] for column in keep] for row in rows])
    for note in one.notes:
        yield f"  note: {note}"
    for failure in one.failures[:SHOWN_FAILURES]:
        yield f"  failed: {failure.name}: {failure.reason}"
    if len(one.failures) > SHOWN_FAILURES:
        yield f"  ... and {len(one.failures) - SHOWN_FAILURES} more, see --json"


def summary_of(one: SetResult) -> str:
    """Return the modality, the split and the number of items of a data set, and the time that it took."""
    left_out = "" if one.items == one.listed else f" of {one.listed} listed"
    return f"{one.modality}, split {one.split}, {one.items} items{left_out}, {one.seconds:.1f} s"


def figure_row(figure: Figure) -> tuple[str, ...]:
    """Return name, value, error, n, chance, published and wanted value of a figure, and whether it is reached."""
    verdict = {True: "reached", False: "below", None: ""}[figure.is_reached]
    error = "" if figure.error is None else f"±{number(figure.error, figure)} {figure.error_by}"
    others = (number(value, figure) for value in (figure.chance, figure.published, figure.least))
    return (figure.name, number(figure.value, figure), error, str(figure.n), *others, verdict)


def number(value: float | None, figure: Figure) -> str:
    """Return a value in percent if the figure is a share, else as it is; "" for none."""
    if value is None:
        return ""
    return f"{100 * value:.1f}%" if figure.is_share else f"{value:.4g}"


def engine_row(one: EngineFigure) -> tuple[str, ...]:
    """Return the cells of one operating point, for ENGINE_COLUMNS."""
    error = "" if one.error is None else f" ±{one.error:.4f}"
    tuned = "" if one.tuned is None else f"{one.tuned:.4f}"
    point = one.source, one.target.value, one.rows, one.form, one.k, f"{one.share:.0%}", one.probes, one.rerank
    return (*map(str, point), f"{one.recall:.4f}{error}", tuned, f"{one.latency_ms:.2f}", f"{one.scan_ms:.2f}")


def table(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Yield rows with their columns aligned."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        yield "  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
