"""`bindsearch watch`: keep a store up to date with folders while they change."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Annotated

from bindsearch.cli import options as opts
from bindsearch.cli.options import argument, option
from bindsearch.cli.output import print_line, print_message, print_notices
from bindsearch.cli.progress import counts_line, print_event, print_notes, report_facts
from bindsearch.cli.settings.complete import complete_encoders

if TYPE_CHECKING:
    from collections.abc import Callable

    from bindsearch.reports import FailedFile, IndexReport


def watch_command(
    paths: Annotated[list[str], argument("PATH...", "Folders to watch.")],
    store: opts.StoreOption = None,
    on: opts.OnOption = None,
    modality_rule: opts.ModalityRuleOption = None,
    encoder: Annotated[str | None, option("--encoder NAME", "Encoder of a new store.", complete_encoders)] = None,
    include: opts.IncludeOption = None,
    exclude: opts.ExcludeOption = None,
    rescan: Annotated[
        float, option("--rescan S", "Full rescan interval in seconds, to catch missed events.", min=1)
    ] = 300.0,
    polling: Annotated[bool, option("--polling", "Poll instead of using file events (network drives).")] = False,
    json_lines: opts.JsonLinesOption = False,
) -> int:
    """Index folders, then watch them: changes are searchable within seconds.

    Runs until interrupted; waits for missing folders (an unmounted disk or share).

    Example: bindsearch watch ~/Pictures ~/Recordings
    """
    from bindsearch.shards.connect import connect

    try:
        with connect(store, on=on, encoder=encoder) as opened:
            if not json_lines:
                print_message(f"watching {', '.join(paths)}; press Ctrl-C to stop")
            opened.watch(
                *paths,
                rules=modality_rule or (),
                include=include or (),
                exclude=exclude or (),
                rescan_s=rescan,
                polling=polling,
                on_report=_print_lines if json_lines else _texts(),
                stop=threading.Event(),
            )
    except KeyboardInterrupt:  # the way to end it
        return 0
    return 0


def _print_lines(report: IndexReport) -> None:
    if _says_something(report, report.failures):
        print_event("changes", {"time": time.strftime("%Y-%m-%dT%H:%M:%S%z"), **report_facts(report)})


def _texts() -> Callable[[IndexReport], None]:
    told: set[FailedFile | str] = set()
    told_kinds: set[str] = set()

    def show(report: IndexReport) -> None:
        failures = [failure for failure in report.failures if failure not in told]
        notices = [notice for notice in report.notices if notice not in told]
        told.update(failures, notices)
        print_notices(notices)
        print_notes([note for kind, note in report.notes_by_kind.items() if kind not in told_kinds])
        told_kinds.update(report.notes_by_kind)
        for failure in failures:
            print_message(f"failed: {failure.path}: {failure.reason}")
        if _says_something(report, failures):
            failed = f", {len(failures)} failed" if failures else ""
            print_line(f"{time.strftime('%H:%M:%S')} {counts_line(report)}{failed}")

    return show


def _says_something(report: IndexReport, failures: list[FailedFile]) -> bool:
    return bool(report.added or report.changed or report.moved or report.removed or failures)
