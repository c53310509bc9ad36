"""Walk over the files under a root; it reads no file except ignore files."""

from __future__ import annotations

import os
import stat
from array import array
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bindsearch.ingest.scan.ignore import IGNORE_FILE, IgnoreRules, rules_down_to
from bindsearch.storage.file_state import FileState

if TYPE_CHECKING:
    from numpy.typing import NDArray

SIDECAR_SUFFIX = ".json"
_LARGEST = (1 << 63) - 1
"""Maximum inode number: some file systems use 64 bits unsigned; the catalog's integers are signed."""


@dataclass(frozen=True)
class Scan:
    """Result of a walk: n regular files, in the order of the walk.

    Attributes:
        root: the root folder.
        rel_paths: n paths relative to it, with forward slashes.
        states: int64 (n, 4), the fields of FileState.
        unreadable: folders and files that could not be read.
        not_utf8: absolute paths whose names cannot be stored.
        empty: folders without any entries.
    """

    root: Path
    rel_paths: Sequence[str]
    states: NDArray[np.int64]
    unreadable: tuple[str, ...] = ()
    not_utf8: tuple[bytes, ...] = ()
    empty: tuple[str, ...] = ()

    def with_stamps(self, stamps: Mapping[str, int]) -> Scan:
        """Return the scan with stamps of manifest entries, by path, combined into the `sidecar_version` of states."""
        if not stamps:
            return self
        rows = [row for row, path in enumerate(self.rel_paths) if path in stamps]
        states = self.states.copy()
        states[rows, 2] ^= np.array([stamps[self.rel_paths[row]] for row in rows], np.int64)
        return replace(self, states=states)

    def state(self, row: int) -> FileState:
        """Return the state of the file in a row."""
        return FileState(*self.states[row].tolist())


@dataclass
class _ScanBuilder:
    """Collects the files of a walk."""

    rel_paths: list[str] = field(default_factory=list)
    states: array[int] = field(default_factory=lambda: array("q"))
    unreadable: list[str] = field(default_factory=list)
    not_utf8: list[bytes] = field(default_factory=list)
    empty: list[str] = field(default_factory=list)

    def add(self, status: os.stat_result, folder: str, rel_folder: str, name: str, siblings: Collection[str]) -> None:
        """Add a regular file that is not a sidecar; the time of its sidecar is part of its state."""
        if not stat.S_ISREG(status.st_mode):
            return
        if name.endswith(SIDECAR_SUFFIX) and name[: -len(SIDECAR_SUFFIX)] in siblings:
            return
        sidecar_version = 0
        if name + SIDECAR_SUFFIX in siblings:
            sidecar = os.stat(f"{folder}/{name}{SIDECAR_SUFFIX}")  # noqa: PTH116  (a Path per file is too slow)
            sidecar_version = sidecar.st_mtime_ns if stat.S_ISREG(sidecar.st_mode) else 0
        self.rel_paths.append(rel_folder + name)
        self.states.extend((status.st_size, status.st_mtime_ns, sidecar_version, status.st_ino & _LARGEST))

    def as_scan(self, root: Path) -> Scan:
        """Return the result of the walk."""
        states = np.frombuffer(self.states, np.int64).reshape(-1, 4) if self.states else np.zeros((0, 4), np.int64)
        return Scan(root, self.rel_paths, states, tuple(self.unreadable), tuple(self.not_utf8), tuple(self.empty))


def file_state(status: os.stat_result) -> FileState:
    """Return the state of a file without metadata from sidecars or manifests."""
    return FileState(status.st_size, status.st_mtime_ns, 0, status.st_ino & _LARGEST)


def scan(root: Path, paths: Iterable[str], skipped_folders: frozenset[Path]) -> Scan:
    """Walk the files at or under `paths`, relative to `root` ("" is the root), each folder in the order of names.

    Hidden files and folders, ignored ones, symbolic links to folders, special files, `skipped_folders` and sidecars of
    other files are skipped. No path is inside another one.

    Raises:
        UsageError: an ignore file is invalid.
    """
    builder = _ScanBuilder()
    skipped = {str(folder) for folder in skipped_folders}
    rules: dict[str, IgnoreRules] = {}
    for path in sorted(paths):
        parent = path.rpartition("/")[0]
        if path and parent not in rules:
            rules[parent] = rules_down_to(root, parent)
        _walk(root, path, rules[parent] if path else IgnoreRules.none(), skipped, builder)
    return builder.as_scan(root)


def _walk(root: Path, rel_path: str, rules: IgnoreRules, skipped: Collection[str], builder: _ScanBuilder) -> None:
    """Add the files at or under one path; `rules`: of the folder that contains it."""
    start = root / rel_path
    try:
        is_folder = start.is_dir()
        if rel_path and rules.ignores(rel_path, is_folder):
            return
        if is_folder:
            pending = [(str(start), rel_path and rel_path + "/", rules)]
            while pending:
                pending += reversed(_walk_folder(*pending.pop(), skipped, builder))
        elif start.exists():
            sidecar = start.with_name(start.name + SIDECAR_SUFFIX)
            siblings = {start.name} | ({sidecar.name} if sidecar.is_file() else set())
            builder.add(
                start.stat(), str(start.parent), rel_path[: len(rel_path) - len(start.name)], start.name, siblings
            )
    except (FileNotFoundError, NotADirectoryError):  # deleted meanwhile
        return
    except OSError:
        builder.unreadable.append(rel_path)


def _walk_folder(
    folder: str, rel_folder: str, rules: IgnoreRules, skipped: Collection[str], builder: _ScanBuilder
) -> list[tuple[str, str, IgnoreRules]]:
    """Add the files of a folder; return its subfolders to walk, with their rules."""
    try:
        with os.scandir(folder) as listing:
            entries = sorted(listing, key=lambda entry: entry.name)
    except OSError:
        builder.unreadable.append(rel_folder.rstrip("/"))
        return []
    if not entries:
        builder.empty.append(rel_folder.rstrip("/"))
    names = {entry.name for entry in entries}
    if IGNORE_FILE in names:
        rules = rules.entering(Path(folder), rel_folder.rstrip("/"))
    subfolders = []
    for entry in entries:
        name = entry.name
        if name.startswith("."):
            continue
        if not _is_utf8(name):
            builder.not_utf8.append(os.fsencode(entry.path))
            continue
        try:
            is_folder = entry.is_dir(follow_symlinks=False)
            if rules.ignores(rel_folder + name, is_folder):
                continue
            if not is_folder:
                builder.add(entry.stat(), folder, rel_folder, name, names)
            elif entry.path not in skipped:
                subfolders.append((entry.path, f"{rel_folder}{name}/", rules))
        except FileNotFoundError:
            # Deleted meanwhile; but a dangling link may point to a disk that is not mounted.
            if entry.is_symlink():
                builder.unreadable.append(rel_folder + name)
        except OSError:
            builder.unreadable.append(rel_folder + name)
    return subfolders


def _is_utf8(name: str) -> bool:
    """Return whether a name can be stored and printed.

    Linux allows any bytes, which Python represents as lone surrogates.
    """
    if name.isascii():
        return True
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True
