"""The value of `--store`: a path, or the name of a store."""

from __future__ import annotations

import os
from typing import Any

from bindsearch.arguments import did_you_mean, shown
from bindsearch.errors import StoreNotFoundError

CREATE_STORES = frozenset({"import", "index", "merge", "recover", "watch"})
"""Commands that may create the store that they are given."""


def store_folder(ctx: Any, value: str | None) -> str | None:
    """Return the folder of a store as a text. The callback of `--store`.

    Raises:
        UsageError: the name is ambiguous.
        StoreNotFoundError: nothing has this name, some stores have names, and the command does not create a store.
    """
    if value is None or ctx.resilient_parsing:
        return value
    from bindsearch.storage.user_file import STORE_NAME, find_store, named_stores

    folder = find_store(value)
    is_unknown = STORE_NAME.fullmatch(value) and str(folder) == value and not os.path.lexists(value)
    if is_unknown and ctx.command.name not in CREATE_STORES and (stores := named_stores()):
        near = did_you_mean(value, stores)
        names = ", ".join(sorted(stores))
        raise StoreNotFoundError(f"no store at or named {shown(value)}: {near}the named stores are {names}")
    return str(folder)
