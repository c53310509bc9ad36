"""`bindsearch watch`: keep a store up to date with folders while they change."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Annotated

import typer

from bindsearch.cli.options import AsOption, ExcludeOption, IncludeOption, JsonLinesOption, StoreOption
from bindsearch.cli.output import print_line, print_message
from bindsearch.cli.progress import counts_line, print_event, report_facts

if TYPE_CHECKING:
    from collections.abc import Callable

    from bindsearch.reports import FailedFile, IndexReport


def watch_command(
    paths: Annotated[list[str], typer.Argument(help="Folders to keep up with.", metavar="PATH...")],
    store: StoreOption = None,
    as_: AsOption = None,
    encoder: Annotated[str | None, typer.Option(help="The encoder of a new store.", metavar="NAME")] = None,
    include: IncludeOption = None,
    exclude: ExcludeOption = None,
    rescan: Annotated[
        float,
        typer.Option(
            "--rescan", help="Look at everything again after so many seconds, for what nobody told.", metavar="S", min=1
        ),
    ] = 300.0,
    polling: Annotated[
        bool, typer.Option("--polling", help="Ask instead of being told: for network folders that others write to.")
    ] = False,
    json_lines: JsonLinesOption = False,
) -> int:
    """Index folders, then keep up with them: what is added, changed or removed can be found within seconds.

    Runs until it is interrupted; a folder that is not there now (a disk, a share) is waited for.
    Example: bindsearch watch ~/Pictures ~/Recordings
    """
    from bindsearch.store import connect

    try:
        with connect(store, encoder=encoder) as opened:
            if not json_lines:
                print_message(f"watching {', '.join(paths)}; Ctrl-C ends it")
            opened.watch(
                *paths,
                rules=as_ or (),
                include=include or (),
                exclude=exclude or (),
                rescan_s=rescan,
                polling=polling,
                on_report=_lines() if json_lines else _texts(),
                stop=threading.Event(),
            )
    except KeyboardInterrupt:  # the way to end it
        return 0
    return 0


def _lines() -> Callable[[IndexReport], None]:
    def show(report: IndexReport) -> None:
        if _says_something(report, report.failures):
            print_event("changes", {"time": time.strftime("%Y-%m-%dT%H:%M:%S%z"), **report_facts(report)})

    return show


def _texts() -> Callable[[IndexReport], None]:
    told: set[FailedFile | str] = set()

    def show(report: IndexReport) -> None:
        failures = [failure for failure in report.failures if failure not in told]
        notices = [notice for notice in report.notices if notice not in told]
        told.update(failures, notices)
        for notice in notices:
            print_message(f"note: {notice}")
        for failure in failures:
            print_message(f"failed: {failure.path}: {failure.reason}")
        if _says_something(report, failures):
            failed = f", {len(failures)} failed" if failures else ""
            print_line(f"{time.strftime('%H:%M:%S')} {counts_line(report)}{failed}")

    return show


def _says_something(report: IndexReport, failures: list[FailedFile]) -> bool:
    return bool(report.added or report.changed or report.moved or report.removed or failures)
