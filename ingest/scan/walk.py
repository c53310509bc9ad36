"""Files under a root: a plain walk that reads no file but ignore files."""

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
"""Some file systems number files with 64 bits; the catalog's integers have a sign."""


@dataclass(frozen=True)
class Scan:
    """Result of a walk: n regular files by relative path with forward slashes, in the order of the walk.

    `states`: int64 (n, 4), the fields of FileState. `unreadable`: folders and files that could not be looked at.
    `not_utf8`: absolute paths whose names cannot be stored. `empty`: folders with nothing in them at all.
    """

    root: Path
    rel_paths: Sequence[str]
    states: NDArray[np.int64]
    unreadable: tuple[str, ...] = ()
    not_utf8: tuple[bytes, ...] = ()
    empty: tuple[str, ...] = ()

    def with_stamps(self, stamps: Mapping[str, int]) -> Scan:
        """The same where more is said about some files: a stamp for each."""
        if not stamps:
            return self
        rows = [row for row, path in enumerate(self.rel_paths) if path in stamps]
        states = self.states.copy()
        states[rows, 2] ^= np.array([stamps[self.rel_paths[row]] for row in rows], np.int64)
        return replace(self, states=states)

    def state(self, row: int) -> FileState:
        """State of the file in that row."""
        return FileState(*self.states[row].tolist())


@dataclass
class _Found:
    rel_paths: list[str] = field(default_factory=list)
    states: array[int] = field(default_factory=lambda: array("q"))
    unreadable: list[str] = field(default_factory=list)
    not_utf8: list[bytes] = field(default_factory=list)
    empty: list[str] = field(default_factory=list)

    def add(self, facts: os.stat_result, folder: str, rel_folder: str, name: str, siblings: Collection[str]) -> None:
        """Add a file; not a special one, nor the sidecar of another. A sidecar's time is part of its file's state."""
        if not stat.S_ISREG(facts.st_mode):
            return
        if name.endswith(SIDECAR_SUFFIX) and name[: -len(SIDECAR_SUFFIX)] in siblings:
            return
        stamp = 0
        if name + SIDECAR_SUFFIX in siblings:
            sidecar = os.stat(f"{folder}/{name}{SIDECAR_SUFFIX}")  # noqa: PTH116  (a Path a file is what a walk spends)
            stamp = sidecar.st_mtime_ns if stat.S_ISREG(sidecar.st_mode) else 0
        self.rel_paths.append(rel_folder + name)
        self.states.extend((facts.st_size, facts.st_mtime_ns, stamp, facts.st_ino & _LARGEST))

    def as_scan(self, root: Path) -> Scan:
        states = np.frombuffer(self.states, np.int64).reshape(-1, 4) if self.states else np.zeros((0, 4), np.int64)
        return Scan(root, self.rel_paths, states, tuple(self.unreadable), tuple(self.not_utf8), tuple(self.empty))


def file_state(facts: os.stat_result, stamp: int = 0) -> FileState:
    """State of a file; `stamp`: of what is said about it."""
    return FileState(facts.st_size, facts.st_mtime_ns, stamp, facts.st_ino & _LARGEST)


def scan(root: Path, places: Iterable[str], skipped_folders: frozenset[Path]) -> Scan:
    """Walk what lies at or under these places, relative to `root` ("" is all of it), each folder in the order of names.

    Hidden files and folders, what ignore files name, symbolic links to folders, special files, `skipped_folders` and
    the sidecars of other files are left out. No place lies in another one.

    Raises:
        UsageError: an ignore file is damaged.
    """
    found = _Found()
    skipped = {str(folder) for folder in skipped_folders}
    rules: dict[str, IgnoreRules] = {}
    for place in sorted(places):
        above = place.rpartition("/")[0]
        if place and above not in rules:
            rules[above] = rules_down_to(root, above)
        _walk(root, place, rules[above] if place else IgnoreRules.none(), skipped, found)
    return found.as_scan(root)


def _walk(root: Path, place: str, rules: IgnoreRules, skipped: Collection[str], found: _Found) -> None:
    """Add what lies at or under one place; `rules`: of the folder it lies in."""
    start = root / place
    try:
        is_folder = start.is_dir()
        if place and rules.ignores(place, is_folder):
            return
        if is_folder:
            pending = [(str(start), place and place + "/", rules)]
            while pending:
                pending += reversed(_walk_folder(*pending.pop(), skipped, found))
        elif start.exists():
            beside = start.with_name(start.name + SIDECAR_SUFFIX)
            siblings = {start.name} | ({beside.name} if beside.is_file() else set())
            found.add(start.stat(), str(start.parent), place[: len(place) - len(start.name)], start.name, siblings)
    except (FileNotFoundError, NotADirectoryError):  # gone just now
        return
    except OSError:
        found.unreadable.append(place)


def _walk_folder(
    folder: str, rel_folder: str, rules: IgnoreRules, skipped: Collection[str], found: _Found
) -> list[tuple[str, str, IgnoreRules]]:
    """Add the files of a folder; the folders in it that are to be walked."""
    try:
        with os.scandir(folder) as listing:
            entries = sorted(listing, key=lambda entry: entry.name)
    except OSError:
        found.unreadable.append(rel_folder.rstrip("/"))
        return []
    if not entries:
        found.empty.append(rel_folder.rstrip("/"))
    names = {entry.name for entry in entries}
    if IGNORE_FILE in names:
        rules = rules.entering(Path(folder), rel_folder.rstrip("/"))
    subfolders = []
    for entry in entries:
        name = entry.name
        if name.startswith("."):
            continue
        if not _is_utf8(name):
            found.not_utf8.append(os.fsencode(entry.path))
            continue
        try:
            is_folder = entry.is_dir(follow_symlinks=False)
            if rules.ignores(rel_folder + name, is_folder):
                continue
            if not is_folder:
                found.add(entry.stat(), folder, rel_folder, name, names)
            elif entry.path not in skipped:
                subfolders.append((entry.path, f"{rel_folder}{name}/", rules))
        except FileNotFoundError:
            # Gone since; but a link to nowhere may point to a disk that is not mounted now.
            if entry.is_symlink():
                found.unreadable.append(rel_folder + name)
        except OSError:
            found.unreadable.append(rel_folder + name)
    return subfolders


def _is_utf8(name: str) -> bool:
    """Return whether a name can be stored and printed: Linux allows any bytes, which Python keeps as lone
    surrogates."""
    if name.isascii():
        return True
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True
