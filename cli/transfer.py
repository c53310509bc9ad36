"""What `export`, `import` and `merge` show: a bar while vectors move, and what came of it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from bindsearch.cli.output import plural, print_json, print_line, print_message, visible

if TYPE_CHECKING:
    from bindsearch.operations.vector_import import IntakeReport


@contextmanager
def show_rows(verb: str) -> Iterator[tuple[Callable[[int, int], None], Callable[[str], None]]]:
    """Two functions that show how many vectors are dealt with, and what is done besides; nothing where nobody looks."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn(verb), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    stage = TextColumn("{task.description}")
    with Progress(
        *columns, stage, console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty()
    ) as bar:
        task = bar.add_task("", total=None)
        yield (
            lambda done, total: bar.update(task, completed=done, total=total),
            lambda text: bar.update(task, description=visible(text)),
        )


def print_intake(report: IntakeReport, *, as_json: bool) -> None:
    """What an import or a merge has done."""
    for notice in report.notices:
        print_message(f"note: {notice}")
    if as_json:
        print_json(_json(report))
        return
    failures = f", {plural(report.failures, 'failure')} noted" if report.failures else ""
    print_line(
        f"{report.added} added, {report.replaced} replaced, {report.kept} kept{failures}: "
        f"{plural(report.vectors, 'vector')} in {report.took_s:.1f} s"
    )


def _json(report: IntakeReport) -> dict[str, Any]:
    return {
        "added": report.added,
        "replaced": report.replaced,
        "kept": report.kept,
        "vectors": report.vectors,
        "failures": report.failures,
        "notices": report.notices,
        "indexes": [{"modality": one.modality.value, "work": one.need.work.value} for one in report.optimized],
        "took_s": round(report.took_s, 3),
    }
