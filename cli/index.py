"""The commands that embed files, and bring the indexes of vectors up to date."""

from __future__ import annotations

import shlex
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated

from bindsearch.cli import options as opts
from bindsearch.cli.options import argument, option
from bindsearch.cli.output import picked, print_json, print_line, print_message, print_notices, show_stages
from bindsearch.cli.parse import decoding, parse_encoder_options, parse_numbers, read_index_settings
from bindsearch.cli.progress import (
    counts_line,
    print_event,
    print_notes,
    print_report,
    report_facts,
    show_progress,
    show_rows,
)
from bindsearch.cli.settings.complete import complete_encoders
from bindsearch.errors import EXIT_SOME_FAILED
from bindsearch.types import Modality

if TYPE_CHECKING:
    from bindsearch.reports import FailedFile, IndexReport, PlannedFile

EXAMPLES: Mapping[Modality, str] = MappingProxyType(
    {
        Modality.TEXT: "how to begin",
        Modality.IMAGE: "a dog on a beach",
        Modality.VIDEO: "children playing",
        Modality.AUDIO: "a dog barking",
        Modality.DEPTH: "a room with a table",
        Modality.THERMAL: "cars on a street",
        Modality.IMU: "walking upstairs",
    }
)
"""Queries to try, by the modality of what was indexed."""


def index_command(
    paths: Annotated[list[str], argument("PATH...", "Folders or files to index.")],
    store: opts.StoreOption = None,
    on: opts.OnOption = None,
    shards: Annotated[
        int | None, option("--shards N", "Number of shards of a new store, each a store of its own.")
    ] = None,
    workers: Annotated[
        int | None, option("--workers N", "With --on: cores, and decoders, of each task; default: 1.")
    ] = None,
    gpus: Annotated[float, option("--gpus N", "With --on: GPUs of each task, such as 0.5.")] = 0.0,
    modality_rule: opts.ModalityRuleOption = None,
    encoder: Annotated[
        str | None,
        option("--encoder NAME", "Encoder; default: that of the store, mini for a new store.", complete_encoders),
    ] = None,
    encoder_option: opts.EncoderOptions = None,
    device: opts.DeviceOption = "auto",
    compile_: Annotated[bool, option("--compile", "Use torch.compile (worth it for long GPU runs).")] = False,
    imu_rate: opts.ImuRateOption = None,
    segment: Annotated[
        list[str] | None,
        option("--segment MODALITY=S", "Segment length in a new store, in seconds, such as audio=5. Repeatable."),
    ] = None,
    dry_run: Annotated[
        bool, option("--dry-run", "Show each file's modality, why, and how it is read; write nothing.")
    ] = False,
    *,
    options: opts.IndexTypeOptions,
    retry_failed: Annotated[bool, option("--retry-failed", "Retry files that failed, even if unchanged.")] = False,
    include: opts.IncludeOption = None,
    exclude: opts.ExcludeOption = None,
    prune: Annotated[bool, option("--prune", "Remove items even if a whole folder disappeared.")] = False,
    limit: opts.LimitOption = None,
    json: opts.JsonOption = False,
    json_lines: opts.JsonLinesOption = False,
) -> int:
    """Index folders: add new files, update changed ones, remove deleted ones. Run it again at any time.

    Files listed in `.bindsearchignore` (.gitignore syntax) are skipped. Moved files and copies are not embedded again.

    Examples: bindsearch index ~/Media --modality-rule thermal='flir/*.png'
    bindsearch index ~/Media --exclude '**/cache/**' --limit pixels=500000000
    bindsearch index ~/Media --encoder imagebind-huge --encoder-option spatial_crops=3 --store imagebind-store
    bindsearch index /data/media --shards 64 --store /data/store --on ray://head:10001
    """
    from bindsearch.shards.connect import connect

    with connect(
        store,
        on=on,
        encoder=encoder,
        encoder_options=parse_encoder_options(encoder_option),
        device=device,
        compile=compile_,
        segment_s=parse_numbers("--segment", segment, "MODALITY=SECONDS, such as audio=5"),
        shards=shards,
        workers=workers,
        gpus=gpus,
    ) as opened:
        decoded = opts.DecodingOptions(modality_rule=modality_rule, imu_rate=imu_rate, limit=limit)
        chosen = {**decoding(decoded), "include": include or (), "exclude": exclude or ()}
        if dry_run:
            with show_rows("reading") as (on_rows, _):
                planned = opened.plan_index(*paths, **chosen, on_rows=on_rows)
            _print_plan(planned, as_json=json or json_lines)
            return 0
        settings = read_index_settings(lambda: opened.index_settings, options)
        with show_progress(as_lines=json_lines) as (on_progress, on_stage):
            report = opened.index(
                *paths,
                **chosen,
                retry_failed=retry_failed,
                prune=prune,
                index_settings=settings,
                on_progress=on_progress,
                on_stage=on_stage,
            )
        has_texts = Modality.TEXT in opened.encoder.modalities
    print_report(report, as_json=json, as_lines=json_lines)
    if report.added and has_texts and not (json or json_lines):
        print_line(f"try: {suggested_search(report.items, store)}")
    return EXIT_SOME_FAILED if report.failures or report.losses else 0


def suggested_search(items: Counter[Modality], store: str | None) -> str:
    """Return a search to try, quoted for a shell; it suits the modality of most items, and has the store if needed."""
    from bindsearch.storage.config import default_store, resolve_store

    words = ["bindsearch", "search", EXAMPLES[items.most_common(1)[0][0]]]
    if store is not None and resolve_store(store).absolute() != default_store().absolute():
        words += ["--store", store]
    return shlex.join(words)


def _print_plan(planned: list[PlannedFile], *, as_json: bool) -> None:
    if as_json:
        print_json({"files": [{**picked(file, "path modality why"), "note": file.note or None} for file in planned]})
        return
    for file in planned:
        note = f"; {file.note}" if file.note else ""
        print_line(f"{file.modality or '-':8} {file.path}  ({file.why}{note})")


def reindex_command(
    encoder: Annotated[str, option("--encoder NAME", "Encoder to change to.", complete_encoders)],
    encoder_option: opts.EncoderOptions = None,
    store: opts.StoreOption = None,
    *,
    decoded: opts.DecodingOptions,
    prune: Annotated[bool, option("--prune", "Drop items that cannot be embedded now, instead of stopping.")] = False,
    device: opts.DeviceOption = "auto",
    json: opts.JsonOption = False,
    json_lines: opts.JsonLinesOption = False,
) -> int:
    """Re-embed everything with another encoder. Searches use the old index until it finishes.

    Interrupted runs are resumed. Needs disk space for a second store; item ids change.

    Example: bindsearch reindex --encoder imagebind-huge
    """
    from bindsearch.shards.connect import connect

    with connect(store, device=device) as opened, show_progress(as_lines=json_lines) as (on_progress, on_stage):
        report = opened.reindex(
            encoder,
            encoder_options=parse_encoder_options(encoder_option),
            **decoding(decoded),
            prune=prune,
            on_progress=on_progress,
            on_stage=on_stage,
        )
    print_report(report, as_json=json, as_lines=json_lines)
    return EXIT_SOME_FAILED if report.failures else 0


def retry_command(
    store: opts.StoreOption = None,
    on: opts.OnOption = None,
    *,
    decoded: opts.DecodingOptions,
    device: opts.DeviceOption = "auto",
    json: opts.JsonOption = False,
    json_lines: opts.JsonLinesOption = False,
) -> int:
    """Index failed files again (see `bindsearch status --failed`), optionally with other options.

    Example: bindsearch retry --limit pixels=500000000
    """
    from bindsearch.shards.connect import connect

    with connect(store, on=on, device=device) as opened, show_progress(as_lines=json_lines) as (on_progress, _):
        report = opened.retry(**decoding(decoded), on_progress=on_progress)
    print_report(report, as_json=json, as_lines=json_lines)
    return EXIT_SOME_FAILED if report.failures else 0


def optimize_command(
    options: opts.IndexTypeOptions,
    force: Annotated[bool, option("--force", "Rebuild all indexes.")] = False,
    device: opts.DeviceOption = "auto",
    store: opts.StoreOption = None,
    on: opts.OnOption = None,
    json: opts.JsonOption = False,
) -> None:
    """Create, extend or rebuild indexes if needed, and tune search parameters.

    `index` runs this at its end.

    Example: bindsearch optimize --recall 0.99
    """
    from bindsearch.shards.connect import connect

    with connect(store, on=on, device=device) as opened, show_stages() as on_stage:
        settings = read_index_settings(lambda: opened.index_settings, options)
        done = opened.optimize(index_settings=settings, force=force, on_stage=on_stage)
    if json:
        named = [{"modality": one.modality, "work": one.need.work, "reason": one.need.reason} for one in done]
        print_json({"partitions": named})
    elif not done:
        print_line("all indexes are up to date")
    else:
        for one in done:
            print_line(f"{one.modality:8} {one.need.work}: {one.need.reason}")


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
) -> None:
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
        return


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
