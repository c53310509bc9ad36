"""A report as data: what `bindsearch eval --json` prints."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from bindsearch.evaluation.datasets.dataset import EvalItem
from bindsearch.evaluation.engine import EngineFigure
from bindsearch.evaluation.figures import Figure
from bindsearch.evaluation.results import Example, Measurement, SetResult

DIGITS = 6
"""Decimals of values in JSON."""


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
        "left_out": [{"name": one.name, "reason": one.reason} for one in report.left_out],
        "notes": list(report.notes),
        "is_reached": report.is_reached,
        "took_s": round(report.seconds, 3),
    }


def _set_data(one: SetResult) -> dict[str, Any]:
    return {
        "name": one.name,
        "modality": one.modality,
        "split": one.split,
        "listed": one.listed,
        "items": one.items,
        "took_s": round(one.seconds, 3),
        "measurements": [_measurement_data(part) for part in one.measurements],
        "failures": [
            {"name": failure.name, "path": str(failure.path), "reason": failure.reason} for failure in one.failures
        ],
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
