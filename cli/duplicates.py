"""`bindsearch duplicates`: identical and near-identical items."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from bindsearch.cli.options import JsonOption, StoreOption, ToOption
from bindsearch.cli.output import human_bytes, plural, print_json, print_line, show_stages

if TYPE_CHECKING:
    from bindsearch.operations.duplicates import NearDuplicate, NearGroup
    from bindsearch.store import Store
    from bindsearch.types import Item, Modality


def duplicates_command(
    near: Annotated[
        bool, typer.Option("--near", help="Find near-duplicates by similarity, not only identical files.")
    ] = False,
    threshold: Annotated[
        float | None,
        typer.Option(
            "--threshold", help="Minimum cosine of near-duplicates; default: 0.97. Implies --near.", metavar="X"
        ),
    ] = None,
    to: ToOption = None,
    store: StoreOption = None,
    json: JsonOption = False,
) -> int:
    """List identical files, or with --near items that are similar to each other.

    Recordings are near-duplicates if half of the shorter one's segments have a match in the other.

    Example: bindsearch duplicates --near --threshold 0.95 --to image
    """
    from bindsearch.store import connect

    opened = connect(store)
    if near or threshold is not None:
        near_groups = _near(opened, to, threshold)
        if json:
            print_json({"groups": [_near_json(group) for group in near_groups]})
        else:
            _print_near(near_groups)
        return 0
    groups = opened.duplicates(to=to)
    if json:
        print_json({"groups": [{"items": [_json(item) for item in group]} for group in groups]})
    else:
        _print_same(groups)
    return 0


def _near(opened: Store, to: str | None, threshold: float | None) -> list[NearGroup]:
    with show_stages() as on_stage:

        def show(modality: Modality, done: int, total: int) -> None:
            on_stage(f"{modality}: {done:,} of {total:,} rows")

        return opened.near_duplicates(threshold, to=to, on_rows=show)


def _json(item: Item) -> dict[str, object]:
    return {
        "item_id": item.item_id,
        "path": str(item.path),
        "modality": item.modality.value,
        "size_bytes": item.size_bytes,
    }


def _near_json(group: NearGroup) -> dict[str, object]:
    items = [
        {**_json(one.item), "cosine": round(one.cosine, 4), "matching": one.matching, "segments": one.segments}
        for one in group.items
    ]
    return {"modality": group.modality.value, "items": items}


def _print_same(groups: list[tuple[Item, ...]]) -> None:
    for group in groups:
        print_line(f"{len(group)} items of {human_bytes(group[0].size_bytes)}")
        for item in group:
            print_line(f"    {item.path}")
    spare = sum((len(group) - 1) * group[0].size_bytes for group in groups)
    print_line(f"{plural(len(groups), 'group')}; {human_bytes(spare)} in copies" if groups else "no identical files")


def _print_near(groups: list[NearGroup]) -> None:
    for group in groups:
        print_line(f"{len(group.items)} {group.modality} items")
        for one in group.items:
            print_line(f"    {one.cosine:.3f}  {one.item.path}{_share(one)}")
    print_line(plural(len(groups), "group") if groups else "no near-duplicates")


def _share(one: NearDuplicate) -> str:
    return f"  ({one.matching} of {one.segments} segments)" if one.segments > 1 else ""
