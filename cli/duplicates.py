"""`bindsearch duplicates`: identical and near-identical items."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated

from bindsearch.cli.options import JsonOption, StoreOption, ToOption, option
from bindsearch.cli.output import human_bytes, picked, plural, print_json, print_line, print_notices, show_stages

if TYPE_CHECKING:
    from bindsearch.operations.duplicates import NearGroup
    from bindsearch.types import Item


def duplicates_command(
    near: Annotated[bool, option("--near", "Find near-duplicates by similarity, not only identical files.")] = False,
    threshold: Annotated[
        float | None,
        option(
            "--threshold X",
            "Minimum cosine of near-duplicates; default: 0.96 for pictures and videos, 0.97 for others. "
            "Implies --near.",
        ),
    ] = None,
    to: ToOption = None,
    store: StoreOption = None,
    json: JsonOption = False,
) -> None:
    """List identical files, or with --near items that are similar to each other.

    Every item of a group is a near-duplicate of the group's medoid. Recordings are near-duplicates if half of the
    shorter one's segments have a match in the other. Without --threshold, kinds that the encoder cannot tell apart are
    not compared. Links to one file are marked: deleting them frees no space.

    Example: bindsearch duplicates --near --threshold 0.95 --to image
    """
    from bindsearch.operations.duplicates import same_files
    from bindsearch.shards.connect import connect

    opened = connect(store)
    if near or threshold is not None:
        notices: list[str] = []
        with show_stages() as on_stage:
            near_groups = opened.near_duplicates(
                threshold,
                to=to,
                on_rows=lambda modality, done, total: on_stage(f"{modality}: {done:,} of {total:,} rows"),
                on_notice=notices.append,
            )
        if json:
            print_json({"groups": [_near_json(group) for group in near_groups], "notices": notices})
        else:
            _print_near(near_groups)
        print_notices(notices)
        return
    groups = [(group, same_files(group)) for group in opened.duplicates(to=to)]
    if json:
        items = [[_json(item, same.get(item.item_id)) for item in group] for group, same in groups]
        print_json({"groups": [{"items": of_group} for of_group in items]})
    else:
        _print_same(groups)


def _json(item: Item, same_file_as: int | None) -> dict[str, object]:
    return {**picked(item, "item_id path modality size_bytes"), "same_file_as": same_file_as}


def _near_json(group: NearGroup) -> dict[str, object]:
    items = [
        {**_json(one.item, one.same_file_as), "cosine": round(one.cosine, 4), **picked(one, "matching segments")}
        for one in group.items
    ]
    return {**picked(group, "modality medoid_id"), "items": items}


def _print_same(groups: Sequence[tuple[Sequence[Item], Mapping[int, int]]]) -> None:
    spare = 0
    for group, same in groups:
        print_line(f"{len(group)} items of {human_bytes(group[0].size_bytes)}")
        for item in group:
            print_line(f"    {item.path}{_relation(item, group, same)}")
        spare += (len(group) - 1 - len(same)) * group[0].size_bytes
    print_line(f"{plural(len(groups), 'group')}; {human_bytes(spare)} in copies" if groups else "no identical files")


def _print_near(groups: list[NearGroup]) -> None:
    for group in groups:
        items = [one.item for one in group.items]
        same = {one.item.item_id: one.same_file_as for one in group.items if one.same_file_as is not None}
        print_line(f"{len(items)} {group.modality} items")
        for one in group.items:
            medoid = "  (medoid)" if one.item.item_id == group.medoid_id else ""
            share = f"  ({one.matching} of {one.segments} segments)" if one.segments > 1 else ""
            print_line(f"    {one.cosine:.3f}  {one.item.path}{share}{medoid}{_relation(one.item, items, same)}")
    print_line(plural(len(groups), "group") if groups else "no near-duplicates")


def _relation(item: Item, group: Sequence[Item], same: Mapping[int, int]) -> str:
    """Return how an item is related to an earlier one of its group: by a link, or as a copy of the same bytes."""
    earlier = next(one for one in group if one is item or (one.content_hash and one.content_hash == item.content_hash))
    if item.item_id in same:
        first = next(one for one in group if one.item_id == same[item.item_id])
        return f"  (same file as {first.path})"
    return "" if earlier is item else f"  (copy of {earlier.path})"
