"""`bindsearch optimize`: bring the indexes of a store up to date with its vectors."""

from __future__ import annotations

from typing import Annotated

from bindsearch.cli.options import DeviceOption, IndexTypeOptions, JsonOption, OnOption, StoreOption, option
from bindsearch.cli.output import print_json, print_line, show_stages
from bindsearch.cli.parse import read_index_settings


def optimize_command(
    options: IndexTypeOptions,
    force: Annotated[bool, option("--force", "Rebuild all indexes.")] = False,
    device: DeviceOption = "auto",
    store: StoreOption = None,
    on: OnOption = None,
    json: JsonOption = False,
) -> int:
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
    return 0
