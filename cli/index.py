"""`bindsearch index`: bring a store up to date with folders."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from bindsearch.cli.options import (
    DeviceOption,
    EncoderOptions,
    ImuRateOption,
    IndexOption,
    IndexParameterOption,
    JsonOption,
    MemoryOption,
    RecallOption,
    StoreOption,
    parse_encoder_options,
    wished,
)
from bindsearch.cli.output import print_json, print_line, print_message, visible
from bindsearch.errors import UsageError

if TYPE_CHECKING:
    from bindsearch.indexes.base import IndexWishes
    from bindsearch.ingest.report import IndexReport, PlannedFile
    from bindsearch.store import Store

EXIT_SOME_FAILED = 3
SHOWN_FAILURES = 20


def index_command(
    paths: Annotated[list[str], typer.Argument(help="Folders or files to index.", metavar="PATH...")],
    store: StoreOption = None,
    as_: Annotated[
        list[str] | None,
        typer.Option(
            "--as", help="Say what files are, such as depth='**/depth/*.png'. Repeatable.", metavar="MODALITY=GLOB"
        ),
    ] = None,
    encoder: Annotated[
        str | None, typer.Option(help="The encoder; default: the store's, mini for a new store.", metavar="NAME")
    ] = None,
    encoder_option: EncoderOptions = None,
    device: DeviceOption = "auto",
    compile_: Annotated[
        bool, typer.Option("--compile", help="Let torch.compile fuse the towers first: pays for long runs on a GPU.")
    ] = False,
    imu_rate: ImuRateOption = None,
    segment: Annotated[
        list[str] | None,
        typer.Option(
            "--segment", help="Length of segments in a new store, such as audio=5. Repeatable.", metavar="MODALITY=S"
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what each file would be taken for, and why; write nothing.")
    ] = False,
    index: IndexOption = None,
    memory: MemoryOption = None,
    recall: RecallOption = None,
    index_option: IndexParameterOption = None,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Try files again that failed and have not changed.")
    ] = False,
    json: JsonOption = False,
) -> int:
    """Index folders: add new files, update changed ones, remove what is gone. Run it again any time.

    Examples: bindsearch index ~/Media --as thermal='flir/*.png'
    bindsearch index ~/Media --encoder imagebind-huge --encoder-option spatial_crops=3 --store imagebind-store
    """
    from bindsearch.store import connect

    with connect(
        store,
        encoder=encoder,
        encoder_options=parse_encoder_options(encoder_option),
        device=device,
        compile=compile_,
        segment_s=_segment_lengths(segment or []),
    ) as opened:
        if dry_run:
            planned = opened.plan_index(*paths, rules=as_ or (), imu_rate_hz=imu_rate)
            _print_plan(planned, as_json=json)
            return 0
        wishes = wished(lambda: opened.wishes, index, memory, recall, index_option)
        report = _run(opened, paths, as_ or [], imu_rate, wishes, retry_failed=retry_failed)
    if json:
        print_json(
            {
                "added": report.added,
                "unchanged": report.unchanged,
                "changed": report.changed,
                "removed": report.removed,
                "failed": report.failed,
                "failures": [{"path": str(file.path), "reason": file.reason} for file in report.failures],
                "took_s": round(report.took_s, 3),
            }
        )
    _print_report(report, as_json=json)
    return EXIT_SOME_FAILED if report.failures else 0


def _run(
    store: Store,
    paths: list[str],
    rules: list[str],
    imu_rate_hz: float | None,
    wishes: IndexWishes | None,
    *,
    retry_failed: bool,
) -> IndexReport:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from bindsearch.ingest import report

    counts = (MofNCompleteColumn(), TimeRemainingColumn(), TextColumn("{task.description}"))
    columns = (TextColumn("indexing"), BarColumn(), *counts)
    with Progress(*columns, console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty()) as bar:
        task = bar.add_task("", total=None)

        def show(progress: report.Progress) -> None:
            failed = f"{progress.failed} failed" if progress.failed else ""
            bar.update(task, completed=progress.done, total=progress.total, description=failed)

        return store.index(
            *paths,
            rules=rules,
            imu_rate_hz=imu_rate_hz,
            retry_failed=retry_failed,
            wishes=wishes,
            on_progress=show,
            on_stage=lambda stage: bar.update(task, description=visible(stage)),
        )


def _print_report(report: IndexReport, *, as_json: bool) -> None:
    for notice in report.notices:
        print_message(f"note: {notice}")
    for failure in report.failures[:SHOWN_FAILURES]:
        print_message(f"failed: {failure.path}: {failure.reason}")
    if len(report.failures) > SHOWN_FAILURES:
        print_message(f"... and {len(report.failures) - SHOWN_FAILURES} more: bindsearch status --failed")
    if not as_json:
        print_line(
            f"{report.added} added, {report.changed} changed, {report.removed} removed, "
            f"{report.unchanged} unchanged, {report.failed} failed in {report.took_s:.1f} s"
        )


def _print_plan(planned: list[PlannedFile], *, as_json: bool) -> None:
    if as_json:
        files = [
            {"path": str(file.path), "modality": file.modality, "why": file.why, "note": file.note or None}
            for file in planned
        ]
        print_json({"files": files})
        return
    for file in planned:
        note = f"; {file.note}" if file.note else ""
        print_line(f"{file.modality or '-':8} {file.path}  ({file.why}{note})")


def _segment_lengths(segments: list[str]) -> dict[str, float]:
    """{"audio": 5.0} from ["audio=5"]."""
    lengths = {}
    for segment in segments:
        modality, _, seconds = segment.partition("=")
        try:
            lengths[modality] = float(seconds)
        except ValueError:
            raise UsageError(f"--segment {segment!r}: expected MODALITY=SECONDS, such as audio=5") from None
    return lengths
