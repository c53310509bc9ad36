"""`bindsearch reindex`: move a store over to another encoder."""

from __future__ import annotations

from typing import Annotated

from bindsearch.cli import options as opts
from bindsearch.cli.options import option
from bindsearch.cli.parse import decoding, parse_encoder_options
from bindsearch.cli.progress import print_report, show_progress
from bindsearch.cli.settings.complete import complete_encoders
from bindsearch.errors import EXIT_SOME_FAILED


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
