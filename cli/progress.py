"""Progress of indexing and transfers, and their reports at the end."""

from __future__ import annotations

import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from bindsearch.cli.output import (
    picked,
    plural,
    print_json,
    print_line,
    print_message,
    print_notices,
    reasons_line,
    shorten_middle,
    visible,
)
from bindsearch.media import NO_CONTENT
from bindsearch.types import clock

if TYPE_CHECKING:
    from pathlib import Path

    from rich.console import RenderableType
    from rich.progress import Progress as Bars
    from rich.progress import ProgressColumn, TaskID

    from bindsearch.reports import FailedFile, FileNote, IndexReport, Progress
    from bindsearch.types import Modality

SHOWN_FAILURES = 20
SHOWN_NOTES = 20
LINE_SECONDS = 0.5
"""Between two lines of progress for programs."""

COLUMNS_BESIDE_BAR = 44
"""For the word before the bar, seven digits on each side of the count, the rate and the time left."""

SLOW_S = 1.0
"""From here on progress of what is usually quick is shown."""

SLOW_FILE_SECONDS = 10.0
"""From here on the time that a file takes is shown."""


ProgressCallbacks = tuple[Callable[["Progress"], None], Callable[[str], None]]
"""Callbacks for a run's progress and for its stages after the files."""


@dataclass(slots=True)
class Status:
    """Content of the lines below the bar: the progress and when it was received, or the stage after the files."""

    progress: Progress | None = None
    received: float = field(default_factory=time.monotonic)
    stage: str = ""

    def lines(self, width: int) -> list[str]:
        """Return the lines below the bar, at most `width` columns wide: counts, and the current file or the stage."""
        if self.stage or self.progress is None:
            return [shorten_middle(visible(self.stage), width)]
        progress = self.progress
        counts = [plural(progress.segments, "segment"), *_by_modality(progress.items)]
        if progress.failed:
            counts.append(f"{progress.failed} failed")
        lines = [shorten_middle(", ".join(counts), width)]
        if progress.file is not None:
            file_s = progress.file_s + time.monotonic() - self.received
            note = f" ({clock(int(file_s))} so far)" if file_s >= SLOW_FILE_SECONDS else ""
            lines.append(shorten_middle(visible(str(progress.file)), width - len(note)) + note)
        return lines


def _by_modality(items: Mapping[Modality, int]) -> list[str]:
    """Return counts by modality in words."""
    return [f"{n} {modality}" for modality, n in sorted(items.items())]


@contextmanager
def show_progress(*, as_lines: bool) -> Iterator[ProgressCallbacks]:
    """Yield callbacks that show progress: a bar on a terminal, or with `as_lines` JSON lines on stdout.

    The bar has a line of its own, so that it, the rate and the time left are whole on 80 columns. Below are the counts
    and the current file.
    """
    if as_lines:
        yield _lines()
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, ProgressColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars
    from rich.text import Text

    status = Status()

    class Rate(ProgressColumn):
        def render(self, task: Any) -> Text:
            return Text(f"{task.speed:.1f}/s" if task.speed else "")

    console = Console(stderr=True)

    class BarWithStatus(Bars):
        def get_renderables(self) -> Iterator[RenderableType]:
            yield from super().get_renderables()
            for line in status.lines(console.width):
                yield Text(line, no_wrap=True)

    bar_columns = max(4, min(40, console.width - COLUMNS_BESIDE_BAR))
    columns = (TextColumn("indexing"), BarColumn(bar_columns), MofNCompleteColumn(), Rate(), TimeRemainingColumn())
    with BarWithStatus(*columns, console=console, transient=True, disable=not sys.stderr.isatty()) as bar:
        task = bar.add_task("", total=None)

        def show(progress: Progress) -> None:
            status.progress, status.received = progress, time.monotonic()
            bar.update(task, completed=progress.done, total=progress.total)

        def show_stage(stage: str) -> None:
            status.stage = stage
            bar.refresh()

        yield show, show_stage


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
        file = {"file": progress.file, "file_s": round(progress.file_s, 1)}
        counts = {**picked(progress, "done total failed segments"), "items": dict(progress.items)}
        print_event("progress", {**counts, **file, "rate": round(rate, 1), "left_s": left_s})

    return show, lambda stage: print_event("stage", {"stage": stage})


def _bars(*columns: ProgressColumn) -> Bars:
    """Return progress bars on stderr, which end with it; without a terminal nothing is shown."""
    from rich.console import Console
    from rich.progress import Progress

    return Progress(*columns, console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty())


@contextmanager
def show_steps(verbs: Mapping[str, str], *columns: ProgressColumn) -> Iterator[Callable[..., None]]:
    """Yield a function of step, number done and total, which shows a bar for each step on a terminal.

    Args:
        verbs: What is shown for a step.
        columns: Columns of the bars; what they need besides is given to the function by name.
    """
    with _bars(*columns) as bars:
        tasks: dict[str, TaskID] = {}

        def show(step: str, done: int, total: int | None, **fields: Any) -> None:
            if step not in tasks:  # what an earlier run had done is no part of this one's rate
                tasks[step] = bars.add_task(verbs.get(step, step), completed=done, **fields)
            bars.update(tasks[step], completed=done, total=total, **fields)

        yield show


@contextmanager
def show_rows(verb: str) -> Iterator[tuple[Callable[[int, int], None], Callable[[str], None]]]:
    """Two functions that show how many vectors are dealt with, and what is done besides; nothing where nobody looks."""
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn

    columns = (TextColumn(verb), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with _bars(*columns, TextColumn("{task.description}", markup=False)) as bar:
        task = bar.add_task("", total=None)
        yield (
            lambda done, total: bar.update(task, completed=done, total=total),
            lambda text: bar.update(task, description=visible(text)),
        )


@contextmanager
def show_slow(verb: str) -> Iterator[Callable[[int, int], None]]:
    """Yield a function that shows how many of all are done, once it takes over a second; only on a terminal."""
    if not sys.stderr.isatty():
        yield lambda _done, _total: None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn

    bar = _bars(TextColumn(verb), BarColumn(), MofNCompleteColumn())
    task = bar.add_task("", total=None)
    timer = threading.Timer(SLOW_S, bar.start)
    timer.start()
    try:
        yield lambda done, total: bar.update(task, completed=done, total=total)
    finally:
        timer.cancel()
        timer.join()
        if bar.live.is_started:
            bar.stop()


def print_event(event: str, facts: dict[str, Any]) -> None:
    """One JSON object on a line of stdout, flushed: whoever reads may act on it at once."""
    print_json({"event": event, **facts}, indent=None)
    sys.stdout.flush()


def report_facts(report: IndexReport) -> dict[str, Any]:
    """Return a report for `--json`."""
    return {
        **picked(report, "added unchanged changed moved removed failed"),
        "without_content": len(report.without_content),
        **picked(report, "items segments"),
        "skipped": dict(report.skipped.most_common()),
        "failures_by_reason": report.failures_by_reason,
        "failures": [picked(file, "path reason") for file in report.failures],
        "notices": report.notices,
        "notes": [{"note": one.text, "files": one.files, "example": str(one.example)} for one in report.notes],
        "took_s": round(report.took_s, 3),
    }


def print_notes(notes: Sequence[FileNote]) -> None:
    """Print what the decoders noted about files, on stderr."""
    for note in notes[:SHOWN_NOTES]:
        files = str(note.example) if note.files == 1 else f"{note.files} files, such as {note.example}"
        print_message(f"note: {note.text} ({files})")
    if len(notes) > SHOWN_NOTES:
        print_message(f"... and {len(notes) - SHOWN_NOTES} more kinds of notes (index --json lists them)")
    if notes:
        print_message("note: `bindsearch show FILE` shows how a file is read")


def _print_failures(failures: Sequence[FailedFile]) -> None:
    """Print failed files, those with the same reason as one line, on stderr."""
    by_reason: dict[str, list[Path]] = {}
    for failure in failures:
        by_reason.setdefault(failure.reason, []).append(failure.path)
    for reason, paths in [*by_reason.items()][:SHOWN_FAILURES]:
        files = str(paths[0]) if len(paths) == 1 else f"{len(paths)} files, such as {paths[0]}"
        print_message(f"failed: {files}: {reason}")
    if rest := sum(map(len, [*by_reason.values()][SHOWN_FAILURES:])):
        print_message(f"... and {rest} more: bindsearch status --failed")


def print_report(report: IndexReport, *, as_json: bool, as_lines: bool) -> None:
    """Return what came of a run; notices and failures on stderr."""
    if as_lines:
        print_event("done", report_facts(report))
        return
    if as_json:
        print_json(report_facts(report))
    print_notices(report.notices)
    print_notes(report.notes)
    _print_failures(report.failures)
    if report.without_content:
        kinds = Counter(file.reason.removeprefix(NO_CONTENT) for file in report.without_content)
        counted = ", ".join(f"{n} {kind}" for kind, n in kinds.most_common())
        print_message(f"note: files without content, which no query finds: {counted} (bindsearch status --failed)")
    if as_json:
        return
    print_line(f"{counts_line(report)}, {report.unchanged} unchanged, {report.failed} failed in {report.took_s:.1f} s")
    if report.items:
        print_line(f"indexed: {', '.join(_by_modality(report.items))}; {plural(report.segments, 'segment')} embedded")
    if len(report.failures) > SHOWN_FAILURES:
        print_line(f"failed: {reasons_line(report.failures_by_reason)} (bindsearch status --failed)")
    if report.skipped:
        print_line(f"left out: {reasons_line(report.skipped)} (bindsearch status --left-out)")


def counts_line(report: IndexReport) -> str:
    """Return what changed, in words."""
    moved = f"{report.moved} moved, " if report.moved else ""
    return f"{report.added} added, {report.changed} changed, {moved}{report.removed} removed"
