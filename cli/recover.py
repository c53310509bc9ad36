"""`bindsearch recover`: make a store usable again whose catalog is damaged."""

from __future__ import annotations

from bindsearch.cli.options import JsonOption, StoreOption
from bindsearch.cli.output import picked, plural, print_json, print_line, show_stages
from bindsearch.errors import EXIT_SOME_FAILED


def recover_command(store: StoreOption = None, json: JsonOption = False) -> int:
    """Rebuild a damaged, missing or outdated catalog from the snapshot that searches use.

    Nothing is embedded again. What is replaced is kept in the folder `lost` of the store. The next `bindsearch index`
    reads changed files, archives and manifests again. Exits with 3 if something was lost.

    Example: bindsearch recover --store my-store
    """
    from bindsearch.shards.connect import connect

    with show_stages() as on_stage:
        done = connect(store).recover(on_stage=on_stage)
    if json:
        print_json(picked(done, "reason source items segments losses"))
        return EXIT_SOME_FAILED if done.losses else 0
    held = f"{plural(done.items, 'item')}, {plural(done.segments, 'segment')}"
    if done.reason:
        print_line(f"recovered from the {done.source}: {held}")
        print_line(f"reason: {done.reason}")
        for loss in done.losses:
            print_line(f"lost: {loss}")
    else:
        print_line(f"the catalog is sound: {held}")
    return EXIT_SOME_FAILED if done.losses else 0
