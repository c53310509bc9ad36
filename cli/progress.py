"""Progress of indexing and transfers, and their reports at the end."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bindsearch.cli.output import plural, print_json, print_line, print_message, visible
from bindsearch.media import NO_CONTENT

if TYPE_CHECKING:
    from bindsearch.operations.vector_import import ImportReport
    from bindsearch.reports import IndexReport, Progress

SHOWN_FAILURES = 20
LINE_SECONDS = 0.5
"""Between two lines of progress for programs."""


@dataclass(frozen=True, slots=True)
class ProgressCallbacks:
    """Callbacks for a run's progress and for its stages after the files."""

    progress: Callable[[Progress], None]
    stage: Callable[[str], None]


@contextmanager
def show_progress(*, as_lines: bool) -> Iterator[ProgressCallbacks]:
    """Yield callbacks that show progress: a bar on a terminal, or with `as_lines` JSON lines on stdout."""
    if as_lines:
        yield _lines()
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, TextColumn, TimeRemainingColumn
    from rich.text import Text

    class Rate(ProgressColumn):
        def render(self, task: Any) -> Text:
            return Text(f"{task.speed:.1f}/s" if task.speed else "")

    counts = (MofNCompleteColumn(), Rate(), TimeRemainingColumn(), TextColumn("{task.description}", markup=False))
    columns = (TextColumn("indexing"), BarColumn(), *counts)
    with Progress(*columns, console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty()) as bar:
        task = bar.add_task("", total=None)

        def show(progress: Any) -> None:
            described = [f"{n} {modality}" for modality, n in sorted(progress.items.items())]
            if progress.failed:
                described.append(f"{progress.failed} failed")
            bar.update(task, completed=progress.done, total=progress.total, description=", ".join(described))

        yield ProgressCallbacks(show, lambda stage: bar.update(task, description=visible(stage)))


def _lines() -> ProgressCallbacks:
    started = time.monotonic()
    last = 0.0

    def show(progress: Progress) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last < LINE_SECONDS and progress.done < progress.total:
            return
        last = now
        rate = progress.done / max(now - started, 1e-9)
        left_s = round((progress.total - progress.done) / rate, 1) if rate else None
        print_event(
            "progress",
            {
                "done": progress.done,
                "total": progress.total,
                "failed": progress.failed,
                "segments": progress.segments,
                "items": dict(progress.items),
                "rate": round(rate, 1),
                "left_s": left_s,
            },
        )

    return ProgressCallbacks(show, lambda stage: print_event("stage", {"stage": stage}))


@contextmanager
def show_rows(verb: str) -> Iterator[tuple[Callable[[int, int], None], Callable[[str], None]]]:
    """Two functions that show how many vectors are dealt with, and what is done besides; nothing where nobody looks."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn(verb), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    stage = TextColumn("{task.description}", markup=False)
    with Progress(
        *columns, stage, console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty()
    ) as bar:
        task = bar.add_task("", total=None)
        yield (
            lambda done, total: bar.update(task, completed=done, total=total),
            lambda text: bar.update(task, description=visible(text)),
        )


def print_event(event: str, facts: dict[str, Any]) -> None:
    """One JSON object on a line of stdout, flushed: whoever reads may act on it at once."""
    print_json({"event": event, **facts}, indent=None)
    sys.stdout.flush()


def report_facts(report: IndexReport) -> dict[str, Any]:
    """Return a report for `--json`."""
    return {
        "added": report.added,
        "unchanged": report.unchanged,
        "changed": report.changed,
        "moved": report.moved,
        "removed": report.removed,
        "failed": report.failed,
        "without_content": len(report.without_content),
        "items": dict(report.items),
        "failures": [{"path": str(file.path), "reason": file.reason} for file in report.failures],
        "notices": report.notices,
        "took_s": round(report.took_s, 3),
    }


def print_report(report: IndexReport, *, as_json: bool, as_lines: bool) -> None:
    """Return what came of a run; notices and failures on stderr."""
    if as_lines:
        print_event("done", report_facts(report))
        return
    if as_json:
        print_json(report_facts(report))
    for notice in report.notices:
        print_message(f"note: {notice}")
    for failure in report.failures[:SHOWN_FAILURES]:
        print_message(f"failed: {failure.path}: {failure.reason}")
    if len(report.failures) > SHOWN_FAILURES:
        print_message(f"... and {len(report.failures) - SHOWN_FAILURES} more: bindsearch status --failed")
    if report.without_content:
        kinds = Counter(file.reason.removeprefix(NO_CONTENT) for file in report.without_content)
        counted = ", ".join(f"{n} {kind}" for kind, n in kinds.most_common())
        print_message(f"note: files without content, which no query finds: {counted} (bindsearch status --failed)")
    if not as_json:
        print_line(
            f"{counts_line(report)}, {report.unchanged} unchanged, {report.failed} failed in {report.took_s:.1f} s"
        )


def counts_line(report: IndexReport) -> str:
    """Return what changed, in words."""
    moved = f"{report.moved} moved, " if report.moved else ""
    return f"{report.added} added, {report.changed} changed, {moved}{report.removed} removed"


def print_intake(report: ImportReport, *, as_json: bool) -> None:
    """Return what an import or a merge has done."""
    for notice in report.notices:
        print_message(f"note: {notice}")
    if as_json:
        print_json(_intake_facts(report))
        return
    failures = f", {plural(report.failures, 'failure')} recorded" if report.failures else ""
    print_line(
        f"{report.added} added, {report.replaced} replaced, {report.unchanged} kept{failures}: "
        f"{plural(report.vectors, 'vector')} in {report.took_s:.1f} s"
    )


def _intake_facts(report: ImportReport) -> dict[str, Any]:
    return {
        "added": report.added,
        "replaced": report.replaced,
        "kept": report.unchanged,
        "vectors": report.vectors,
        "failures": report.failures,
        "notices": report.notices,
        "indexes": [{"modality": one.modality.value, "work": one.need.work.value} for one in report.optimized],
        "took_s": round(report.took_s, 3),
    }
