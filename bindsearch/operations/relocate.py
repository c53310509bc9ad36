"""Relocation of collections: their folders were moved, and nothing is embedded again."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bindsearch.arguments import did_you_mean, shell_command, to_absolute
from bindsearch.errors import UsageError
from bindsearch.operations.compact import locked_catalog
from bindsearch.storage.batch import StagedBatch
from bindsearch.storage.catalog import Catalog
from bindsearch.storage.writer import Writer

MAX_SAMPLED = 200
"""Number of files that are looked up in the new folder."""

MIN_FOUND_SHARE = 0.5
"""Share of the sampled files that must be in the new folder: others may have changed or been deleted since."""


@dataclass(frozen=True, slots=True)
class RelocateReport:
    """Report of a relocation.

    Attributes:
        collections: New root of each relocated collection, by its old one.
        items: Number of items of these collections.
        sampled: Number of files that were looked up in the new folder.
        found: Number of them that are there with the size that was indexed.
    """

    collections: Mapping[Path, Path]
    items: int
    sampled: int
    found: int


def relocate(
    store: Path,
    old: str | os.PathLike[str],
    new: str | os.PathLike[str],
    *,
    dry_run: bool = False,
    is_checked: bool = False,
) -> RelocateReport:
    """Give the collections at or below a folder that was moved their new roots, in one transaction.

    Args:
        store: Folder of the store, which is not open.
        old: Folder that was moved: the root of a collection, or a folder above it.
        new: Folder that it is now.
        dry_run: Change nothing, and accept any number of files that are there.
        is_checked: Accept any number of files that are there: with the other shards, they are enough.

    Raises:
        UsageError: `old` is not the root of a collection or above one, `new` does not exist, is in another collection,
            contains one, or does not contain the files; nothing is changed.
        StoreNotFoundError: there is no store.
        StoreLockedError: another process is writing.
    """
    before, after = to_absolute(old), to_absolute(new)
    with locked_catalog(store) as (config, catalog):
        roots = catalog.collections()
        with_links = Path(os.path.abspath(Path(old).expanduser()))  # noqa: PTH100  (a link may be in its place now)
        if any(root.is_relative_to(with_links) for root in roots.values()):
            before = with_links
        moved = _new_roots(before, after, roots)
        others = {key: root for key, root in roots.items() if key not in moved}
        # the new folder was indexed before the files were there
        empty = [key for key, root in others.items() if root == after and not catalog.known_files(key, ("",)).n]
        _check_is_free(after, {key: root for key, root in others.items() if key not in empty})
        files = [file for key, root in moved.items() for file in _files_of(catalog, key, root)]
        rows = np.unique(np.linspace(0, len(files) - 1, min(len(files), MAX_SAMPLED)).astype(np.int64))
        sample = [files[row] for row in rows.tolist()]
        found = sum(is_there_with_size(path, root, size_bytes) for path, root, size_bytes in sample)
        report = RelocateReport({roots[key]: root for key, root in moved.items()}, len(files), len(sample), found)
        if not (dry_run or is_checked):
            check_found(before, after, report)
        if not dry_run:
            Writer(store, catalog, config.dim).commit(StagedBatch(moved_collections=moved, forgotten_collections=empty))
    return report


def check_found(before: str | os.PathLike[str], after: str | os.PathLike[str], report: RelocateReport) -> None:
    """Check that enough of the files are in the new folder.

    Raises:
        UsageError: they are not.
    """
    if report.found < MIN_FOUND_SHARE * report.sampled:
        raise UsageError(
            f"{after} does not contain the files of {before}: {report.found} of {report.sampled} are there with their "
            f"size; give the folder that {before} is now"
        )


def _new_roots(before: Path, after: Path, roots: Mapping[int, Path]) -> dict[int, Path]:
    """Return the new roots of the collections that are moved, by their ids.

    Raises:
        UsageError: there are none, or the new folder does not exist.
    """
    moved = {key: after / root.relative_to(before) for key, root in roots.items() if root.is_relative_to(before)}
    if not moved:
        names = sorted(map(str, roots.values()))
        for root in roots.values():
            if before.is_relative_to(root):
                raise UsageError(f"{before} is in the collection {root}: run `{shell_command('index', root)}` instead")
        advice = f"{did_you_mean(str(before), names)}choose from {', '.join(names)}" if names else "the store has none"
        raise UsageError(f"{before} is not a collection of the store: {advice}")
    if not after.is_dir():
        raise UsageError(f"{after} does not exist or is not a folder: give the folder that {before} is now")
    try:
        str(after).encode()
    except UnicodeEncodeError:
        raise UsageError(f"the name of {str(after)!r} is not UTF-8: rename it") from None
    return moved


def _check_is_free(after: Path, others: Mapping[int, Path]) -> None:
    """Raise UsageError if the new folder is in another collection, or contains one."""
    for root in others.values():
        if after.is_relative_to(root) or root.is_relative_to(after):
            raise UsageError(
                f"{root} is a collection of the store already, and would overlap with {after}: run "
                f"`{shell_command('index', after)}`, then `bindsearch forget` the old folder; nothing is embedded again"
            )


def _files_of(catalog: Catalog, key: int, root: Path) -> Iterator[tuple[Path, Path, int]]:
    """Yield the files of the items of a collection below its new root: path, root, and size in bytes, -1 if unknown."""
    known = catalog.known_files(key, ("",))
    for row in np.flatnonzero(known.item_ids >= 0).tolist():
        yield root / known.rel_path(row), root, int(known.states[row, 0])


def is_there_with_size(path: Path, root: Path, size_bytes: int) -> bool:
    """Return whether a file has its size, or is a member of an archive that is there."""
    try:
        if path.is_file():
            return size_bytes < 0 or path.stat().st_size == size_bytes
        return any(parent.is_file() for parent in path.parents if parent.is_relative_to(root))
    except OSError:
        return False
