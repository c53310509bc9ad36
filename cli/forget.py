"""`bindsearch forget`: take items out of a store, and leave their files as they are."""

from __future__ import annotations

from typing import Annotated

import typer

from bindsearch.cli.options import JsonOption, StoreOption
from bindsearch.cli.output import plural, print_json, print_line


def forget_command(
    paths: Annotated[
        list[str] | None,
        typer.Argument(help="Files, folders, archives, members of archives (photos.zip/a.jpg).", metavar="PATH"),
    ] = None,
    item: Annotated[list[int] | None, typer.Option("--item", help="An item's id. Repeatable.", metavar="ID")] = None,
    store: StoreOption = None,
    json: JsonOption = False,
) -> int:
    """Take what lies at or below paths out of the store, and what failed there; the files stay as they are.

    The next `index` of their folder adds them again: to keep them out, name them in a .bindsearchignore file there.
    Example: bindsearch forget ~/Media/old
    """
    from bindsearch.store import connect

    forgotten = connect(store).forget(*(paths or ()), item_ids=item or ())
    if json:
        print_json({"forgotten": forgotten})
    else:
        print_line(f"{plural(forgotten, 'item')} forgotten; `bindsearch compact` gives back the room")
    return 0
