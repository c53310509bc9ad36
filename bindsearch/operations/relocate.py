"""Relocation of collections: their folders were moved, and nothing is embedded again.

Collections whose folder is gone while one with the same files is indexed move there by themselves.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bindsearch.arguments import did_you_mean, shell_command, to_absolute
from bindsearch.errors import UsageError
from bindsearch.hashing import hash_file
from bindsearch.ingest.scan.walk import may_be_unmounted
from bindsearch.operations.compact import locked_catalog
from bindsearch.storage.batch import StagedBatch
from bindsearch.storage.catalog import Catalog
from bindsearch.storage.file_state import IndexedFiles
from bindsearch.storage.writer import Writer
from bindsearch.types import PathLike

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
    store: Path, old: PathLike, new: PathLike, *, dry_run: bool = False, is_checked: bool = False
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
        for key, root in others.items():
            if key not in empty and (after.is_relative_to(root) or root.is_relative_to(after)):
                run = f"run `{shell_command('index', after)}`, then `bindsearch forget` the old folder"
                fault = f"{root} is a collection of the store already, and would overlap with {after}"
                raise UsageError(f"{fault}: {run}; nothing is embedded again")
        files = [file for key, root in moved.items() for file in _files_of(catalog, key, root)]
        sample = [files[row] for row in _sampled(np.arange(len(files)))]
        found = sum(is_there_with_size(path, root, size_bytes) for path, root, size_bytes in sample)
        report = RelocateReport({roots[key]: root for key, root in moved.items()}, len(files), len(sample), found)
        if not (dry_run or is_checked):
            check_found(before, after, report)
        if not dry_run:
            Writer(store, catalog, config.dim).commit(StagedBatch(moved_collections=moved, forgotten_collections=empty))
    return report


def check_found(before: PathLike, after: PathLike, report: RelocateReport) -> None:
    """Check that enough of the files are in the new folder.

    Raises:
        UsageError: they are not.
    """
    if report.found < MIN_FOUND_SHARE * report.sampled:
        found = f"{report.found} of {report.sampled} are there with their size"
        way_out = f"give the folder that {before} is now"
        raise UsageError(f"{after} does not contain the files of {before}: {found}; {way_out}")


def _new_roots(before: Path, after: Path, roots: Mapping[int, Path]) -> dict[int, Path]:
    """Return the new roots of moved collections, by id; raise UsageError if there are none, or no new folder."""
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


def _files_of(catalog: Catalog, key: int, root: Path) -> Iterator[tuple[Path, Path, int]]:
    """Yield the files of the items of a collection below its new root: path, root, and size in bytes, -1 if unknown."""
    known = catalog.known_files(key, ("",))
    for row in np.flatnonzero(known.item_ids >= 0).tolist():
        yield root / known.rel_path(row), root, int(known.states[row, 0])


def _sampled(rows: NDArray[np.int64]) -> list[int]:
    """Return at most MAX_SAMPLED of some rows, evenly spread."""
    spread = np.linspace(0, len(rows) - 1, min(len(rows), MAX_SAMPLED)).astype(np.int64)
    chosen: list[int] = rows[np.unique(spread)].tolist()
    return chosen


def is_there_with_size(path: Path, root: Path | None, size_bytes: int) -> bool:
    """Return whether a file has its size, or is a member of an archive below `root` (None: no archives count)."""
    try:
        if path.is_file():
            return size_bytes < 0 or path.stat().st_size == size_bytes
        return root is not None and any(parent.is_file() for parent in path.parents if parent.is_relative_to(root))
    except OSError:
        return False


MIN_SAME_SHARE = 0.9
"""Share of the sampled files that must be there with their size; some may have changed or been deleted since."""

MAX_HASHED = 8
MAX_HASHED_BYTES = 64 << 20
"""Number and size of the files whose content is compared as well."""

_MOUNT_FOLDERS = re.compile(r"/|/(mnt|media|net|Volumes)(/[^/]+)?|/run/media(/[^/]+)?")
"""Folders in which disks and shares are mounted: a copy of an unplugged disk is not the disk."""


def move_gone_collections(paths: Sequence[Path], catalog: Catalog, writer: Writer) -> list[str]:
    """Give collections whose folder is gone their new root, if one of the paths to index is a folder with their files.

    Args:
        paths: absolute paths to index.
        catalog: the open catalog.
        writer: the writer of the store.

    Returns:
        A notice on each such collection. One that was not moved stays as it is: the folder holds only a part of its
        files, is or overlaps with a collection already, or the old one may be on a disk that is not mounted.
    """
    notices = []
    for path in filter(os.path.isdir, paths):
        for key, root in catalog.collections().items():
            if os.path.lexists(root):
                continue
            known = catalog.known_files(key, ("",))
            rows = _sampled(np.flatnonzero(known.item_ids >= 0))
            found = sum(is_there_with_size(path / known.rel_path(row), path, int(known.states[row, 0])) for row in rows)
            if not found:
                continue
            roots = catalog.collections().values()
            is_free = not any(path.is_relative_to(other) or other.is_relative_to(path) for other in roots)
            is_mount = _MOUNT_FOLDERS.fullmatch(str(root.parent)) or may_be_unmounted(str(root), str(path))
            is_same = found >= MIN_SAME_SHARE * len(rows) and _has_same_content(catalog, known, path)
            n = int((known.item_ids >= 0).sum())
            if is_free and is_same and not is_mount:
                writer.commit(StagedBatch(moved_collections={key: path}))
                notices.append(f"{root} is gone, and {n} of its files are in {path}: moved with their vectors")
                continue
            forget = shell_command("forget", root)
            way_out = shell_command("relocate", root, path) if is_free else forget
            fault = f"{root} does not exist, and {found} of {len(rows)} of its files that were looked up are in {path}"
            stay = f"its {n} files stay in the store; if they were moved"
            notices.append(f"{fault}: {stay}, run `{way_out}`, else `{forget}` or mount its disk")
    return notices


def _has_same_content(catalog: Catalog, known: IndexedFiles, path: Path) -> bool:
    """Return whether files that are there with their size have the content that was indexed, by a sample."""
    is_small = (known.states[:, 0] >= 0) & (known.states[:, 0] <= MAX_HASHED_BYTES)
    rows = _sampled(np.flatnonzero((known.item_ids >= 0) & is_small))
    there = [row for row in rows if is_there_with_size(path / known.rel_path(row), None, int(known.states[row, 0]))]
    there = there[:: max(1, len(there) // MAX_HASHED)][:MAX_HASHED]
    table = catalog.items_table([int(known.item_ids[row]) for row in there])
    hashes = dict(zip(table.column("item_id").to_pylist(), table.column("content_hash").to_pylist(), strict=True))
    try:
        return all(hash_file(path / known.rel_path(row)) == hashes[int(known.item_ids[row])] for row in there)
    except OSError:
        return False
