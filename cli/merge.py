"""`bindsearch merge`: several stores into one."""

from __future__ import annotations

from typing import Annotated

from bindsearch.cli.options import DeviceOption, JsonOption, OptimizeOption, StoreOption, argument
from bindsearch.cli.progress import print_intake, show_rows


def merge_command(
    stores: Annotated[list[str], argument("STORE...", "Stores of the same encoder, also s3://BUCKET/PATH.")],
    device: DeviceOption = "auto",
    optimize: OptimizeOption = True,
    store: StoreOption = None,
    json: JsonOption = False,
) -> int:
    """Merge stores into --store (created if missing), without embedding anything.

    If a file is in several stores, the newest content is kept.

    Example: bindsearch merge old new --store both
    """
    from bindsearch.shards.connect import connect

    with show_rows("merging") as (on_progress, on_stage):
        report = connect(store, device=device).merge(
            *stores, optimize=optimize, on_progress=on_progress, on_stage=on_stage
        )
    print_intake(report, as_json=json)
    return 0
