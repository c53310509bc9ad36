"""`bindsearch reshard`: another number of shards for a sharded store."""

from __future__ import annotations

from typing import Annotated

from bindsearch.cli.options import DeviceOption, JsonOption, OnOption, StoreOption, option
from bindsearch.cli.output import picked, plural, print_json, print_line, print_notices, show_stages


def reshard_command(
    shards: Annotated[int, option("--shards N", "Number of shards.", min=1)],
    device: DeviceOption = "auto",
    store: StoreOption = None,
    on: OnOption = None,
    json: JsonOption = False,
) -> int:
    """Distribute the items of a sharded store to another number of shards. Nothing is embedded again.

    Items get new ids. If it is interrupted, run it again; searches use the old shards until it is done.

    Example: bindsearch reshard --shards 128 --store /data/store
    """
    from bindsearch.errors import UsageError
    from bindsearch.shards.connect import connect
    from bindsearch.shards.store import ShardedStore

    with connect(store, on=on, device=device) as opened, show_stages() as on_stage:
        if not isinstance(opened, ShardedStore):
            opened.config  # noqa: B018  (raises if there is no store)
            raise UsageError(f"the store {opened.path} has no shards: index into another folder with --shards {shards}")
        done = opened.reshard(shards, on_stage=on_stage)
    if json:
        data = picked(done, "before after items segments failures notices")
        print_json({**data, "took_s": round(done.took_s, 3)})
        return 0
    print_line(
        f"{plural(done.after, 'shard')}, {done.before} before: {plural(done.items, 'item')}, "
        f"{plural(done.segments, 'segment')}"
    )
    print_notices(done.notices)
    return 0
