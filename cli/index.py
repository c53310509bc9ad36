"""`bindsearch index`: bring a store up to date with folders."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated

from bindsearch.cli import options as opts
from bindsearch.cli.options import argument, option
from bindsearch.cli.output import picked, print_json, print_line
from bindsearch.cli.parse import decoding, parse_encoder_options, parse_numbers, read_index_settings
from bindsearch.cli.progress import print_report, show_progress, show_rows
from bindsearch.cli.settings.complete import complete_encoders
from bindsearch.errors import EXIT_SOME_FAILED
from bindsearch.types import Modality

if TYPE_CHECKING:
    from bindsearch.reports import PlannedFile


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
