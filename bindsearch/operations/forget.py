"""Removal of items from a store by path or id; the files themselves are not changed, and `index` adds them again."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from bindsearch.arguments import at_and_above, name_forms, to_absolute
from bindsearch.errors import UsageError
from bindsearch.ingest.left_out import forget_left_out
from bindsearch.operations.compact import locked_catalog
from bindsearch.storage.batch import StagedBatch
from bindsearch.storage.catalog import Catalog
from bindsearch.storage.file_state import positions_at_or_below
from bindsearch.storage.writer import Writer
from bindsearch.types import PathLike


def forget(store: Path, paths: Sequence[PathLike], item_ids: Sequence[int] = ()) -> int:
    """Remove items from a store that is not open; no encoder is loaded.

    Args:
        store: Folder of the store.
        paths: Files, folders, archives and archive members, as for `forget_paths`.
        item_ids: Ids of items.

    Returns:
        Number of items removed.

    Raises:
        UsageError: as `forget_paths`.
        StoreNotFoundError: there is no store.
        StoreLockedError: another process is writing.
    """
    with locked_catalog(store) as (config, catalog):
        known = catalog.collections().keys()
        removed = forget_paths(catalog, Writer(store, catalog, config.dim), paths, item_ids)
        for collection_id in known - catalog.collections().keys():
            forget_left_out(store, collection_id)
        return removed


class KnownItems(NamedTuple):
    """Part of a request to forget that a store knows: positions of paths with anything indexed below, and item ids."""

    paths: frozenset[int]
    item_ids: frozenset[int]


def known_to(store: Path, paths: Sequence[PathLike], item_ids: Sequence[int] = ()) -> KnownItems:
    """Return which paths and item ids a store that is not open knows; nothing is changed.

    Raises:
        StoreNotFoundError: there is no store.
        StoreLockedError: another process is writing.
    """
    with locked_catalog(store) as (_, catalog):
        _, known = _stage_paths(catalog, [os.fspath(path) for path in paths], StagedBatch())
        found = catalog.items_table(item_ids).column("item_id").to_pylist() if item_ids else ()
    return KnownItems(frozenset(known), frozenset(found))


def forget_paths(catalog: Catalog, writer: Writer, paths: Sequence[PathLike], item_ids: Sequence[int] = ()) -> int:
    """Remove items by path and id, and the failures recorded there, in one commit.

    A collection is removed if its root is at or below one of the paths.

    Args:
        catalog: Open catalog of the store.
        writer: Writer of the store.
        paths: Files, folders, archives and archive members; all items at and below them are removed.
        item_ids: Ids of items.

    Returns:
        Number of items removed.

    Raises:
        UsageError: nothing is given, nothing was indexed at or below one of the paths, or an item id is unknown;
            nothing is changed.
    """
    if not paths and not item_ids:
        raise UsageError("nothing to forget: give a path or an item id")
    batch = StagedBatch()
    at_paths, known = _stage_paths(catalog, [os.fspath(path) for path in paths], batch)
    if missing := next((path for number, path in enumerate(paths) if number not in known), None):
        raise UsageError(f"{missing} is not in the store: nothing at or below it was indexed")
    items = set(_stage_items(catalog, item_ids, batch)) | at_paths
    batch.removed = sorted(items)
    for name in ("forgotten_containers", "forgotten_failures", "forgotten_collections"):
        setattr(batch, name, sorted(set(getattr(batch, name))))
    writer.commit(batch)
    return len(items)


def _stage_items(catalog: Catalog, item_ids: Sequence[int], batch: StagedBatch) -> list[int]:
    """Return the ids, and stage the archives that contain the items so that they are inspected again."""
    rows = catalog.items_table(item_ids).to_pylist() if item_ids else []
    if unknown := {*item_ids} - {row["item_id"] for row in rows}:
        raise UsageError(f"no item has the id {min(unknown)}: `bindsearch search --json` prints ids")
    containers = {key: set(catalog.containers(key)) for key in {row["collection_id"] for row in rows}}
    for row in rows:
        key, rel_path = row["collection_id"], row["rel_path"]
        batch.forgotten_containers += [(key, parent) for parent in at_and_above(rel_path) if parent in containers[key]]
    return [row["item_id"] for row in rows]


def _stage_paths(catalog: Catalog, paths: Sequence[str], batch: StagedBatch) -> tuple[set[int], set[int]]:
    """Stage failures, archives and collections at or below paths; return ids of items, and positions of known paths."""
    collections = [*catalog.collections().items()]
    prefixes: dict[int, dict[str, list[int]]] = {}
    for number, path in enumerate(paths):
        for key, prefix in _matching_collections(path, collections):
            prefixes.setdefault(key, {}).setdefault(prefix, []).append(number)
    items, known = set[int](), set[int]()
    for key, numbers_of in prefixes.items():
        files = catalog.known_files(key, tuple(numbers_of))
        containers = sorted(catalog.containers(key))
        present = set(containers)
        for prefix, numbers in numbers_of.items():
            rows = files.rows_at_or_below(prefix)
            items.update(files.item_ids[rows][files.item_ids[rows] >= 0].tolist())
            batch.forgotten_failures += [(key, files.rel_path(row)) for row in rows[files.failed[rows]].tolist()]
            below = positions_at_or_below(prefix, len(containers), containers.__getitem__)
            batch.forgotten_containers += [(key, containers[position]) for position in below]
            if len(rows):
                batch.forgotten_containers += [(key, path) for path in at_and_above(prefix) if path in present]
            if not prefix:
                batch.forgotten_collections.append(key)
            if len(rows) or not prefix:
                known.update(numbers)
    return items, known


def _matching_collections(path: str, collections: Sequence[tuple[int, Path]]) -> Iterator[tuple[int, str]]:
    """Yield the collections that a path concerns, each with the relative path in it, "" for the whole collection."""
    resolved = to_absolute(path)
    with_links = Path(os.path.abspath(Path(path).expanduser()))  # noqa: PTH100  (links stay)
    forms = (Path(form) for given in (with_links, resolved) for form in name_forms(str(given)))
    for absolute in dict.fromkeys(forms):
        for key, root in collections:
            if root.is_relative_to(absolute):
                yield key, ""
            elif absolute.is_relative_to(root):
                yield key, absolute.relative_to(root).as_posix()
