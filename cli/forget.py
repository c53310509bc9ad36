"""`bindsearch forget`: remove items from a store."""

from __future__ import annotations

from typing import Annotated

import typer

from bindsearch.cli.options import JsonOption, OnOption, StoreOption
from bindsearch.cli.output import plural, print_json, print_line


def forget_command(
    paths: Annotated[
        list[str] | None,
        typer.Argument(help="Files, folders, archives or archive members (photos.zip/a.jpg).", metavar="PATH"),
    ] = None,
    item: Annotated[list[int] | None, typer.Option("--item", help="Item id. Repeatable.", metavar="ID")] = None,
    store: StoreOption = None,
    on: OnOption = None,
    json: JsonOption = False,
) -> int:
    """Remove files or folders from the store, with their recorded failures; the files on disk are kept.

    The next `index` of the folder adds them again, unless a .bindsearchignore file there excludes them.

    Example: bindsearch forget ~/Media/old
    """
    from bindsearch.shards.connect import connect

    forgotten = connect(store, on=on).forget(*(paths or ()), item_ids=item or ())
    if json:
        print_json({"forgotten": forgotten})
    else:
        print_line(f"removed {plural(forgotten, 'item')}; run `bindsearch compact` to free disk space")
    return 0
