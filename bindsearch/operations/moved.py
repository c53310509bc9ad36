"""Collections whose folder is gone while one with the same files is indexed: they move there, with their vectors."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from bindsearch.arguments import shell_command
from bindsearch.hashing import hash_file
from bindsearch.ingest.scan.walk import may_be_unmounted
from bindsearch.operations.relocate import MAX_SAMPLED, is_there_with_size
from bindsearch.storage.batch import StagedBatch
from bindsearch.storage.catalog import Catalog
from bindsearch.storage.file_state import IndexedFiles
from bindsearch.storage.writer import Writer

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
            sampled, found = _same_files(known, path)
            if not found:
                continue
            roots = catalog.collections().values()
            is_free = not any(path.is_relative_to(other) or other.is_relative_to(path) for other in roots)
            is_mount = _MOUNT_FOLDERS.fullmatch(str(root.parent)) or may_be_unmounted(str(root), str(path))
            is_same = found >= MIN_SAME_SHARE * sampled and _has_same_content(catalog, known, path)
            n = int((known.item_ids >= 0).sum())
            if is_free and is_same and not is_mount:
                writer.commit(StagedBatch(moved_collections={key: path}))
                notices.append(f"{root} is gone, and {n} of its files are in {path}: moved with their vectors")
                continue
            way_out = shell_command("relocate", root, path) if is_free else shell_command("forget", root)
            notices.append(
                f"{root} does not exist, and {found} of {sampled} of its files that were looked up are in {path}: its "
                f"{n} files stay in the store; if they were moved, run `{way_out}`, else "
                f"`{shell_command('forget', root)}` or mount its disk"
            )
    return notices


def _same_files(known: IndexedFiles, path: Path) -> tuple[int, int]:
    """Return how many of the files of a collection were looked up in a folder, and how many are there."""
    rows = np.flatnonzero(known.item_ids >= 0)
    rows = rows[np.unique(np.linspace(0, len(rows) - 1, min(len(rows), MAX_SAMPLED)).astype(np.int64))]
    there = [is_there_with_size(path / known.rel_path(row), path, int(known.states[row, 0])) for row in rows.tolist()]
    return len(there), sum(there)


def _has_same_content(catalog: Catalog, known: IndexedFiles, path: Path) -> bool:
    """Return whether files that are there with their size have the content that was indexed, by a sample."""
    is_small = (known.states[:, 0] >= 0) & (known.states[:, 0] <= MAX_HASHED_BYTES)
    rows = np.flatnonzero((known.item_ids >= 0) & is_small)
    rows = rows[np.unique(np.linspace(0, len(rows) - 1, min(len(rows), MAX_SAMPLED)).astype(np.int64))]
    there = [row for row in rows.tolist() if _is_same_size(path / known.rel_path(row), int(known.states[row, 0]))]
    there = there[:: max(1, len(there) // MAX_HASHED)][:MAX_HASHED]
    table = catalog.items_table([int(known.item_ids[row]) for row in there])
    hashes = dict(zip(table.column("item_id").to_pylist(), table.column("content_hash").to_pylist(), strict=True))
    try:
        return all(hash_file(path / known.rel_path(row)) == hashes[int(known.item_ids[row])] for row in there)
    except OSError:
        return False


def _is_same_size(path: Path, size_bytes: int) -> bool:
    """Return whether there is a file, no member of an archive, of this size."""
    try:
        return path.is_file() and path.stat().st_size == size_bytes
    except OSError:
        return False
