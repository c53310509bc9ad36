"""Forget: take items out of a store by path or id. Their files stay as they are, and indexing adds them again."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from bindsearch.errors import UsageError
from bindsearch.operations.compact import locked_catalog
from bindsearch.storage.batch import StagedBatch
from bindsearch.storage.catalog import Catalog
from bindsearch.storage.writer import Writer


def forget(store: Path, paths: Sequence[str | os.PathLike[str]], item_ids: Sequence[int] = ()) -> int:
    """`forget_paths` in a store that is not open; no encoder is asked for.

    Raises:
        UsageError: as `forget_paths`.
        StoreNotFoundError: there is no store.
        StoreLockedError: another process is writing.
    """
    with locked_catalog(store) as (config, catalog):
        return forget_paths(catalog, Writer(store, catalog, config.dim), paths, item_ids)


def forget_paths(
    catalog: Catalog, writer: Writer, paths: Sequence[str | os.PathLike[str]], item_ids: Sequence[int] = ()
) -> int:
    """Take out the items at or below `paths` (files, folders, archives, members of archives) and those of these ids,
    with what failed there, in one commit; the number of items. A collection whose root is among it goes too.

    Raises:
        UsageError: nothing is given, nothing was indexed at or below one of the paths, or there is no such item;
            nothing is changed.
    """
    if not paths and not item_ids:
        raise UsageError("nothing to forget: give a path, or an item's id")
    batch = StagedBatch()
    items = set(_known_items(catalog, item_ids, batch))
    for path in paths:
        items |= _stage_path(catalog, os.fspath(path), batch)
    batch.removed = sorted(items)
    batch.forgotten_containers = sorted(set(batch.forgotten_containers))
    batch.forgotten_failures = sorted(set(batch.forgotten_failures))
    batch.forgotten_collections = sorted(set(batch.forgotten_collections))
    writer.commit(batch)
    return len(items)


def _known_items(catalog: Catalog, item_ids: Sequence[int], batch: StagedBatch) -> list[int]:
    """The ids as they are; the archives that the items lie in are staged to be looked at again."""
    rows = catalog.items_table(item_ids).to_pylist() if item_ids else []
    if unknown := {*item_ids} - {row["item_id"] for row in rows}:
        raise UsageError(f"no item has the id {min(unknown)}: see `bindsearch search --json` for ids")
    for row in rows:
        key, rel_path = row["collection_id"], row["rel_path"]
        batch.forgotten_containers += [
            (key, held) for held in catalog.containers(key) if _is_at_or_below(rel_path, held)
        ]
    return [row["item_id"] for row in rows]


def _stage_path(catalog: Catalog, path: str, batch: StagedBatch) -> set[int]:
    """Stage all that is known at or below a path but its items, whose ids are returned."""
    items: set[int] = set()
    known = False
    for key, prefix in _places(path, [*catalog.collections().items()]):
        found = catalog.known_files(key, (prefix,))
        items.update(found.item_ids[found.item_ids >= 0].tolist())
        below = [row["rel_path"] for row in catalog.failures_table().to_pylist() if row["collection_id"] == key]
        batch.forgotten_failures += [(key, failed) for failed in below if _is_at_or_below(failed, prefix)]
        batch.forgotten_containers += [
            (key, held)
            for held in catalog.containers(key)
            if _is_at_or_below(held, prefix) or (found.n and _is_at_or_below(prefix, held))
        ]
        if not prefix:
            batch.forgotten_collections.append(key)
        known = known or bool(found.n) or not prefix
    if not known:
        raise UsageError(f"{path} is not in the store: nothing at or below it was indexed")
    return items


def _places(path: str, collections: Sequence[tuple[int, Path]]) -> Iterator[tuple[int, str]]:
    """Collections that a path concerns, each with the relative path in it, "" where all of it is meant."""
    given = Path(path).expanduser()
    for absolute in dict.fromkeys((Path(os.path.abspath(given)), given.resolve())):  # noqa: PTH100  (links stay)
        for key, root in collections:
            if root.is_relative_to(absolute):
                yield key, ""
            elif absolute.is_relative_to(root):
                yield key, absolute.relative_to(root).as_posix()


def _is_at_or_below(rel_path: str, place: str) -> bool:
    return not place or rel_path == place or rel_path.startswith(f"{place}/")
