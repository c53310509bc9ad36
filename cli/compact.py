"""`bindsearch compact`: repair a store and reclaim disk space."""

from __future__ import annotations

from bindsearch.cli.options import JsonOption, OnOption, StoreOption
from bindsearch.cli.output import human_bytes, picked, print_json, print_line, show_stages


def compact_command(store: StoreOption = None, on: OnOption = None, json: JsonOption = False) -> int:
    """Repair the store, remove deleted rows and unreferenced files, and compact the catalog.

    Damaged vectors are discarded: run `bindsearch index` on their collection to embed them again.

    Example: bindsearch compact
    """
    from bindsearch.operations.verify.findings import finding_record
    from bindsearch.shards.connect import connect

    with connect(store, on=on) as opened, show_stages() as on_stage:
        done = opened.compact(on_stage=on_stage)
    if json:
        found = {"mended": done.repaired, "left": done.remaining}
        data = {name: [finding_record(one) for one in findings] for name, findings in found.items()}
        print_json({**picked(done, "before_bytes after_bytes"), **data})
        return 0
    for one in done.repaired:
        print_line(f"repaired: {one.kind}: {one.message}")
    for one in done.remaining:
        print_line(f"remaining: {one.kind}: {one.message}")
    print_line(f"{human_bytes(done.before_bytes)} before, {human_bytes(done.after_bytes)} now")
    return 0
