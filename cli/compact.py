"""`bindsearch compact`: mend what `verify` has found, and give back the room of what is deleted."""

from __future__ import annotations

from bindsearch.cli.options import JsonOption, StoreOption
from bindsearch.cli.output import human_bytes, print_json, print_line, show_stages


def compact_command(store: StoreOption = None, json: JsonOption = False) -> int:
    """Drop deleted rows and files that nobody refers to, write the catalog small, and mend what can be mended.

    Vectors that are not as they were written are given up: `bindsearch index` on their collection embeds them anew.
    Example: bindsearch compact
    """
    from bindsearch.operations.verify.findings import finding_record
    from bindsearch.store import connect

    with show_stages() as on_stage:
        done = connect(store).compact(on_stage=on_stage)
    if json:
        print_json(
            {
                "before_bytes": done.before_bytes,
                "after_bytes": done.after_bytes,
                "mended": [finding_record(one) for one in done.repaired],
                "left": [finding_record(one) for one in done.remaining],
            }
        )
        return 0
    for one in done.repaired:
        print_line(f"mended: {one.kind}: {one.message}")
    for one in done.remaining:
        print_line(f"left: {one.kind}: {one.message}")
    print_line(f"{human_bytes(done.before_bytes)} before, {human_bytes(done.after_bytes)} now")
    return 0
