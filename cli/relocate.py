"""`bindsearch relocate`: tell a store that a folder was moved."""

from __future__ import annotations

from typing import Annotated

from bindsearch.cli.options import JsonOption, StoreOption, argument
from bindsearch.cli.output import picked, plural, print_json, print_line


def relocate_command(
    old: Annotated[str, argument("OLD", "Folder that was indexed, or one above it.")],
    new: Annotated[str, argument("NEW", "Folder that it is now.")],
    store: StoreOption = None,
    json: JsonOption = False,
) -> int:
    """Change the root of a collection whose folder was moved. Nothing is embedded again.

    A sample of its files is looked up in the new folder.

    Example: bindsearch relocate ~/Media /mnt/disk/Media
    """
    from bindsearch.shards.connect import connect

    report = connect(store).relocate(old, new)
    if json:
        collections = {str(before): after for before, after in report.collections.items()}
        print_json({"collections": collections, **picked(report, "items sampled found")})
        return 0
    for before, after in report.collections.items():
        print_line(f"{before} is now {after}")
    print_line(f"{plural(report.items, 'item')}; {report.found} of {report.sampled} sampled files found there")
    return 0
