"""Walk over the files under a root; it reads no file except ignore files."""

from __future__ import annotations

import errno
import os
import stat
from array import array
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bindsearch.errors import UsageError
from bindsearch.ingest.inspect.folder_settings import SETTINGS_FILE
from bindsearch.ingest.left_out import HIDDEN, LINK_LOOP, LINK_TO_FOLDER, LINK_TO_NOTHING
from bindsearch.ingest.media.foreign.names import find_sidecars, foreign_names
from bindsearch.ingest.media.imu.partners import TEXT_TABLES, parts_version
from bindsearch.ingest.media.pictures.depth_map.names import mask_name
from bindsearch.ingest.scan.ignore import IGNORE_FILE, IgnoreRules, rules_down_to
from bindsearch.ingest.workers.prepare import failure_of
from bindsearch.storage.file_state import FileState, file_state, time_version

if TYPE_CHECKING:
    from numpy.typing import NDArray

_ANNEX = "/.git/annex/objects/"

SIDECAR_SUFFIX = ".json"
OWN_FILES = frozenset({IGNORE_FILE, SETTINGS_FILE})
"""Hidden files that say what to do with others."""

_KERNEL_FOLDERS = ("/dev/", "/proc/", "/sys/")
"""Folders of files that the kernel makes up, some of them without an end."""


@dataclass(frozen=True)
class Scan:
    """Result of a walk: n regular files, in the order of the walk.

    Attributes:
        root: the root folder.
        rel_paths: n paths relative to it, with forward slashes.
        states: int64 (n, 4), the fields of FileState.
        unreadable: reason by path of folders and files that could not be read.
        failed: reason by path of files at which the walk failed unexpectedly.
        not_utf8: absolute paths whose names cannot be stored.
        bad_links: paths of symbolic links to anything but a file or a folder, and where they lead.
        unmounted: paths of links to nothing, and where they lead: to a disk that may not be mounted.
        empty: folders without any entries.
        left_out: reason by path of hidden and ignored files and folders, of links to nothing or to a folder, of pipes
            and devices; the path of a folder ends with a slash.
    """

    root: Path
    rel_paths: Sequence[str]
    states: NDArray[np.int64]
    unreadable: dict[str, str] = field(default_factory=dict)
    not_utf8: tuple[bytes, ...] = ()
    empty: tuple[str, ...] = ()
    bad_links: Mapping[str, str] = field(default_factory=dict)
    unmounted: Mapping[str, str] = field(default_factory=dict)
    left_out: Mapping[str, str] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)

    def with_stamps(self, stamps: Mapping[str, int]) -> Scan:
        """Return the scan with stamps of lists and facts, by path, combined into the `sidecar_version` of states."""
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

    root: Path
    rel_paths: list[str] = field(default_factory=list)
    states: array[int] = field(default_factory=lambda: array("q"))
    unreadable: dict[str, str] = field(default_factory=dict)
    not_utf8: list[bytes] = field(default_factory=list)
    empty: list[str] = field(default_factory=list)
    bad_links: dict[str, str] = field(default_factory=dict)
    unmounted: dict[str, str] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)

    def add(
        self,
        status: os.stat_result,
        folder: str,
        rel_folder: str,
        name: str,
        siblings: Collection[str],
        sidecars: Mapping[str, Sequence[str]],
    ) -> None:
        """Add a regular file; the times of its sidecars and its parts belong to its state."""
        if not stat.S_ISREG(status.st_mode):
            self.left_out[rel_folder + name] = _kind_of(status.st_mode)
            return
        sidecar_version = 0
        for sidecar_name in sidecars.get(name, ()):
            sidecar_version ^= _version_of(f"{folder}/{sidecar_name}")
        lower = name.lower()
        if lower.endswith(TEXT_TABLES):  # checked first: most files are pictures
            sidecar_version ^= parts_version(f"{folder}/{name}")
        if "depth" in lower and (mask := mask_name(name)) in siblings:  # a depth map is read with the mask beside it
            sidecar_version ^= _version_of(f"{folder}/{mask}")
        state = file_state(status, sidecar_version)
        self.states.extend((state.size_bytes, state.mtime_ns, state.sidecar_version, state.inode))
        self.rel_paths.append(rel_folder + name)

    def add_bad_link(self, status: os.stat_result, path: str, rel_path: str) -> bool:
        """Add a symbolic link if it leads to anything but a file or a folder; return whether it does."""
        target = os.path.realpath(path)
        is_bad = not stat.S_ISDIR(status.st_mode) and (
            not stat.S_ISREG(status.st_mode) or target.startswith(_KERNEL_FOLDERS)
        )
        if is_bad:
            self.bad_links[rel_path] = target
        return is_bad

    def add_unreadable(self, error: OSError, path: str, rel_path: str) -> None:
        """Add what cannot be read: links to nothing are left out, and what was deleted meanwhile is not there."""
        is_link = bool(rel_path) and os.path.islink(path)  # noqa: PTH114  (a Path per file is too slow)
        if is_link and error.errno == errno.ELOOP:
            self.left_out[rel_path] = LINK_LOOP
        elif is_link and isinstance(error, FileNotFoundError | NotADirectoryError):
            self.left_out[rel_path] = LINK_TO_NOTHING
            target = os.path.realpath(path)
            if may_be_unmounted(target, os.path.realpath(self.root)):
                self.unmounted[rel_path] = target
        elif not isinstance(error, FileNotFoundError | NotADirectoryError):
            self.unreadable[rel_path] = error.strerror or str(error)

    def as_scan(self) -> Scan:
        """Return the result of the walk."""
        states = np.frombuffer(self.states, np.int64).reshape(-1, 4) if self.states else np.zeros((0, 4), np.int64)
        return Scan(
            self.root,
            self.rel_paths,
            states,
            self.unreadable,
            tuple(self.not_utf8),
            tuple(self.empty),
            self.bad_links,
            self.unmounted,
            self.left_out,
            self.failed,
        )


def may_be_unmounted(target: str, root: str) -> bool:
    """Return whether a path at which nothing is may be on a disk that is not mounted now, not deleted.

    Its folder is missing or empty then; not so inside the root of the collection, and where git-annex keeps contents,
    whose folders it deletes with them.
    """
    folder = os.path.dirname(target)  # noqa: PTH120
    if not os.path.isdir(folder):  # noqa: PTH112
        return not target.startswith(f"{root.rstrip('/')}/") and _ANNEX not in target
    try:
        with os.scandir(folder) as listing:
            return next(listing, None) is None
    except OSError:
        return True


def _kind_of(mode: int) -> str:
    """Return what is there, other than a file: a link to a folder, or something that is not read."""
    if stat.S_ISDIR(mode):
        return LINK_TO_FOLDER
    return "a named pipe" if stat.S_ISFIFO(mode) else "a socket" if stat.S_ISSOCK(mode) else "a device"


def _version_of(path: str) -> int:
    """Return a number that changes with the time of a file that belongs to another one; 0 if there is none now."""
    try:
        status = os.stat(path)  # noqa: PTH116  (a Path per file is too slow)
    except OSError:  # deleted meanwhile, or a link to nothing
        return 0
    return time_version(status.st_mtime_ns) if stat.S_ISREG(status.st_mode) else 0


def scan(root: Path, paths: Iterable[str], skipped_folders: frozenset[Path], *, default_ignore: bool = True) -> Scan:
    """Walk the files at or under `paths`, relative to `root` ("" is the root), each folder in the order of names.

    Hidden files and folders, ignored ones, symbolic links to folders, special files, `skipped_folders` and sidecars of
    other files are skipped. Symbolic links to files are followed. No path is inside another one.

    Args:
        root: the root of the collection.
        paths: relative paths of files and folders.
        skipped_folders: folders that are not walked.
        default_ignore: what default_ignores.py lists is ignored unless an ignore file includes it.

    Raises:
        UsageError: an ignore file is invalid.
    """
    builder = _ScanBuilder(root)
    skipped = {str(folder) for folder in skipped_folders}
    rules: dict[str, IgnoreRules] = {}
    for path in sorted(paths):
        parent = path.rpartition("/")[0]
        if path and parent not in rules:
            rules[parent] = rules_down_to(root, parent, default_ignore=default_ignore)
        _walk(root, path, rules[parent] if path else IgnoreRules(has_defaults=default_ignore), skipped, builder)
    return builder.as_scan()


def _walk(root: Path, rel_path: str, rules: IgnoreRules, skipped: Collection[str], builder: _ScanBuilder) -> None:
    """Add the files at or under one path; `rules`: of the folder that contains it."""
    start = f"{root}/{rel_path}" if rel_path else str(root)
    try:
        status = os.stat(start)  # noqa: PTH116  (a Path per file is too slow: a manifest may list a million)
        is_folder = stat.S_ISDIR(status.st_mode)
        if rel_path and (reason := rules.reason(rel_path, is_folder)) is not None:
            builder.left_out[rel_path + "/" * is_folder] = reason
            return
        if is_folder:
            pending = [(start, rel_path and rel_path + "/", rules)]
            while pending:
                pending += reversed(_walk_folder(*pending.pop(), skipped, builder))
        elif not (os.path.islink(start) and builder.add_bad_link(status, start, rel_path)):  # noqa: PTH114
            folder, _, name = start.rpartition("/")
            others = (name + SIDECAR_SUFFIX, *foreign_names(name))
            siblings = {name} | {other for other in others if Path(folder, other).is_file()}
            rel_folder = rel_path[: len(rel_path) - len(name)]
            builder.add(status, folder, rel_folder, name, siblings, find_sidecars(siblings))
    except OSError as error:
        builder.add_unreadable(error, start, rel_path)
    except UsageError:  # an ignore file
        raise
    except Exception as error:  # one file must not end the run
        builder.failed[rel_path] = failure_of(error).reason


def _walk_folder(
    folder: str, rel_folder: str, rules: IgnoreRules, skipped: Collection[str], builder: _ScanBuilder
) -> list[tuple[str, str, IgnoreRules]]:
    """Add the files of a folder; return its subfolders to walk, with their rules."""
    try:
        with os.scandir(folder) as listing:
            entries = sorted(listing, key=lambda entry: entry.name)
    except OSError as error:
        builder.unreadable[rel_folder.rstrip("/")] = error.strerror or str(error)
        return []
    if not entries:
        builder.empty.append(rel_folder.rstrip("/"))
    names = {entry.name for entry in entries}
    sidecars = find_sidecars(names)
    used = {name for others in sidecars.values() for name in others}
    if IGNORE_FILE in names:
        rules = rules.entering(Path(folder), rel_folder.rstrip("/"))
    subfolders = []
    for entry in entries:
        name = entry.name
        if name in OWN_FILES or name in used:
            continue
        is_hidden = name.startswith(".")
        if not _is_utf8(name):
            if not is_hidden:
                builder.not_utf8.append(os.fsencode(entry.path))
            continue
        try:
            is_folder = entry.is_dir(follow_symlinks=False)
            reason = HIDDEN if is_hidden else rules.reason(rel_folder + name, is_folder)
            if reason is not None:
                builder.left_out[rel_folder + name + "/" * is_folder] = reason
                continue
            if not is_folder:
                if entry.is_symlink() and builder.add_bad_link(entry.stat(), entry.path, rel_folder + name):
                    continue
                builder.add(entry.stat(), folder, rel_folder, name, names, sidecars)
            elif entry.path not in skipped:
                subfolders.append((entry.path, f"{rel_folder}{name}/", rules))
        except OSError as error:
            builder.add_unreadable(error, entry.path, rel_folder + name)
        except Exception as error:  # one file must not end the run
            builder.failed[rel_folder + name] = failure_of(error).reason
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
