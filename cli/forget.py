"""`bindsearch forget`: remove items from a store."""

from __future__ import annotations

from typing import Annotated

from bindsearch.cli.options import JsonOption, OnOption, StoreOption, argument, option
from bindsearch.cli.output import plural, print_json, print_line


def forget_command(
    paths: Annotated[
        list[str] | None, argument("PATH", "Files, folders, archives or archive members (photos.zip/a.jpg).")
    ] = None,
    item: Annotated[list[int] | None, option("--item ID", "Item id. Repeatable.")] = None,
    store: StoreOption = None,
    on: OnOption = None,
    json: JsonOption = False,
) -> int:
    """Remove files or folders from the store, with their recorded failures; the files on disk are kept.

    The next `index` of the folder adds them again, unless a .bindsearchignore file there excludes them.

    Example: bindsearch forget ~/Media/old
    """
    from bindsearch.shards.connect import connect

    with connect(store, on=on) as opened:
        forgotten = opened.forget(*(paths or ()), item_ids=item or ())
    if json:
        print_json({"forgotten": forgotten})
    else:
        print_line(f"removed {plural(forgotten, 'item')}; run `bindsearch compact` to free disk space")
    return 0
