"""`bindsearch retry`: index failed files again."""

from __future__ import annotations

from bindsearch.cli.options import DecodingOptions, DeviceOption, JsonLinesOption, JsonOption, OnOption, StoreOption
from bindsearch.cli.parse import decoding
from bindsearch.cli.progress import print_report, show_progress
from bindsearch.errors import EXIT_SOME_FAILED


def retry_command(
    store: StoreOption = None,
    on: OnOption = None,
    *,
    decoded: DecodingOptions,
    device: DeviceOption = "auto",
    json: JsonOption = False,
    json_lines: JsonLinesOption = False,
) -> int:
    """Index failed files again (see `bindsearch status --failed`), optionally with other options.

    Example: bindsearch retry --limit pixels=500000000
    """
    from bindsearch.shards.connect import connect

    with connect(store, on=on, device=device) as opened, show_progress(as_lines=json_lines) as (on_progress, _):
        report = opened.retry(**decoding(decoded), on_progress=on_progress)
    print_report(report, as_json=json, as_lines=json_lines)
    return EXIT_SOME_FAILED if report.failures else 0
