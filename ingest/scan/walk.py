"""Walk over the files under a root; it reads no file except ignore files."""

from __future__ import annotations

import errno
import os
import re
import stat
from array import array
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bindsearch.arguments import with_slash
from bindsearch.errors import UsageError
from bindsearch.ingest.inspect.folder_settings import SETTINGS_FILE
from bindsearch.ingest.left_out import HIDDEN, LINK_LOOP, LINK_TO_FOLDER, LINK_TO_NOTHING
from bindsearch.ingest.manifests.rows import MANIFEST_NAMES
from bindsearch.ingest.media.foreign.layouts import find_sidecars, foreign_names
from bindsearch.ingest.media.imu.partners import TEXT_TABLES, parts_version
from bindsearch.ingest.media.pictures.depth_map.units import mask_name
from bindsearch.ingest.media.subtitles.names import (
    LEFT_OUT,
    NO_SUBTITLES,
    SUBTITLES,
    SubtitleNames,
    has_pairs,
    pair_subtitles,
    subtitles_version,
)
from bindsearch.ingest.scan.ignore import IGNORE_FILE, IgnoreRules, rules_down_to
from bindsearch.ingest.scan.target import belongs_always
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

_NOT_UTF8 = re.compile("[\ud800-\udfff]")
"""Part of a name that cannot be stored and printed: Linux allows any bytes, which Python represents so."""


@dataclass(frozen=True, slots=True)
class _Beside:
    """Names in a folder, or those that matter for one file: all, and sidecars and subtitles by the file they are of."""

    names: Collection[str]
    sidecars: Mapping[str, Sequence[str]]
    subtitles: Mapping[str, Sequence[str]]


@dataclass
class Scan:
    """Result of a walk: n regular files, in the order of the walk.

    Attributes:
        root: the root folder.
        belongs: returns whether a file belongs to the share of the run.
        rel_paths: n paths relative to it, with forward slashes.
        fields: the fields of FileState of each file, one after the other.
        unreadable: reason by path of folders and files that could not be read.
        failed: reason by path of files at which the walk failed unexpectedly.
        not_utf8: absolute paths whose names cannot be stored.
        bad_links: paths of symbolic links to anything but a file or a folder, and where they lead.
        unmounted: paths of links to nothing, and where they lead: to a disk that may not be mounted.
        empty: folders without any entries.
        left_out: reason by path of hidden and ignored files and folders, of links to nothing or to a folder, of pipes
            and devices, and of subtitles of recordings; the path of a folder ends with a slash.
        subtitles: names of the subtitle files beside a recording, by its path.
        elsewhere: paths of files of other shares, which are not looked at.
    """

    root: Path
    belongs: Callable[[str], bool] = belongs_always
    rel_paths: list[str] = field(default_factory=list)
    fields: array[int] = field(default_factory=lambda: array("q"))
    unreadable: dict[str, str] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    not_utf8: list[bytes] = field(default_factory=list)
    bad_links: dict[str, str] = field(default_factory=dict)
    unmounted: dict[str, str] = field(default_factory=dict)
    empty: list[str] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)
    subtitles: dict[str, Sequence[str]] = field(default_factory=dict)
    elsewhere: list[str] = field(default_factory=list)
    _paired: tuple[str, SubtitleNames] = ("", NO_SUBTITLES)

    @property
    def states(self) -> NDArray[np.int64]:
        """States of the files, int64 (n, 4): a view of `fields`."""
        return np.frombuffer(self.fields, np.int64).reshape(-1, 4) if self.fields else np.zeros((0, 4), np.int64)

    def state(self, row: int) -> FileState:
        """Return the state of the file in a row."""
        return FileState(*self.fields[4 * row : 4 * row + 4])

    def of_share(self) -> Scan:
        """Return the scan with the files of its share alone; those of other shares are not in `elsewhere` either."""
        if self.belongs is belongs_always:
            return self
        rows = [row for row, path in enumerate(self.rel_paths) if self.belongs(path)]
        fields = array("q", self.states[rows].tobytes())
        return replace(self, rel_paths=[self.rel_paths[row] for row in rows], fields=fields, elsewhere=[])

    def combine_stamps(self, stamps: Mapping[str, int]) -> None:
        """Combine stamps of lists and facts, by path, into the `sidecar_version` of states."""
        for row, path in enumerate(self.rel_paths if stamps else ()):
            self.fields[4 * row + 2] ^= stamps.get(path, 0)

    def subtitles_of(self, rel_path: str) -> tuple[Path, ...]:
        """Return the subtitle files beside a recording."""
        path = self.root / rel_path
        return tuple(path.with_name(name) for name in self.subtitles.get(rel_path, ()))

    def is_elsewhere(self, rel_path: str) -> bool:
        """Add a file of another share; return False for others, and for those that may be lists, which all read."""
        if self.belongs(rel_path) or rel_path.lower().endswith(MANIFEST_NAMES):
            return False
        self.elsewhere.append(rel_path)
        return True

    def add(self, status: os.stat_result, folder: str, rel_folder: str, name: str, beside: _Beside) -> None:
        """Add a regular file; the times of its sidecars, its subtitles and its parts belong to its state."""
        if not stat.S_ISREG(status.st_mode):
            names = {stat.S_IFDIR: LINK_TO_FOLDER, stat.S_IFIFO: "a named pipe", stat.S_IFSOCK: "a socket"}
            self.left_out[rel_folder + name] = names.get(stat.S_IFMT(status.st_mode), "a device")
            return
        sidecar_version = 0
        for sidecar_name in beside.sidecars.get(name, ()):
            sidecar_version ^= _version_of(f"{folder}/{sidecar_name}")
        lower = name.lower()
        if lower.endswith(TEXT_TABLES):  # checked first: most files are pictures
            sidecar_version ^= parts_version(f"{folder}/{name}")
        if "depth" in lower and (mask := mask_name(name)) in beside.names:  # a depth map's
            sidecar_version ^= _version_of(f"{folder}/{mask}")
        if name in beside.subtitles:
            self.subtitles[rel_folder + name] = beside.subtitles[name]
            sidecar_version ^= subtitles_version(folder, beside.subtitles[name])
        state = file_state(status, sidecar_version)
        self.fields.extend((state.size_bytes, state.mtime_ns, state.sidecar_version, state.inode))
        self.rel_paths.append(rel_folder + name)

    def pairs_in(self, folder: str, rel_folder: str, rules: IgnoreRules) -> SubtitleNames:
        """Return the subtitles and recordings of a folder of which single files are walked, those of a list too."""
        if self._paired[0] != folder:
            try:
                self._paired = folder, _pairs(folder, rel_folder, os.listdir(folder), rules)  # noqa: PTH208
            except OSError:
                self._paired = folder, NO_SUBTITLES
        return self._paired[1]

    def add_bad_link(self, status: os.stat_result, path: str, rel_path: str) -> bool:
        """Add a symbolic link if it leads to anything but a file or a folder; return whether it does."""
        target = os.path.realpath(path)
        is_file = stat.S_ISREG(status.st_mode) and not target.startswith(_KERNEL_FOLDERS)
        if is_bad := not (is_file or stat.S_ISDIR(status.st_mode)):
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


def may_be_unmounted(target: str, root: str) -> bool:
    """Return whether a path at which nothing is may be on a disk that is not mounted now, not deleted.

    Its folder is missing or empty then; not so inside the root of the collection, and where git-annex keeps contents,
    whose folders it deletes with them.
    """
    folder = os.path.dirname(target)  # noqa: PTH120
    if not os.path.isdir(folder):  # noqa: PTH112
        return not target.startswith(with_slash(root)) and _ANNEX not in target
    try:
        with os.scandir(folder) as listing:
            return next(listing, None) is None
    except OSError:
        return True


def _version_of(path: str) -> int:
    """Return a number that changes with the time of a file that belongs to another one; 0 if there is none now."""
    try:
        status = os.stat(path)  # noqa: PTH116  (a Path per file is too slow)
    except OSError:  # deleted meanwhile, or a link to nothing
        return 0
    return time_version(status.st_mtime_ns) if stat.S_ISREG(status.st_mode) else 0


def scan(
    root: Path,
    paths: Iterable[str],
    skipped_folders: frozenset[Path],
    *,
    default_ignore: bool = True,
    belongs: Callable[[str], bool] = belongs_always,
) -> Scan:
    """Walk the files at or under `paths`, relative to `root` ("" is the root), each folder in the order of names.

    Hidden files and folders, ignored ones, symbolic links to folders, special files, `skipped_folders` and sidecars of
    other files are skipped. Symbolic links to files are followed. No path is inside another one.

    Args:
        root: the root of the collection.
        paths: relative paths of files and folders.
        skipped_folders: folders that are not walked.
        default_ignore: what default_ignores.py lists is ignored unless an ignore file includes it.
        belongs: returns whether a file belongs to the share of the run; of the others, only the path is taken, unless
            they may be lists of files.

    Raises:
        UsageError: an ignore file is invalid.
    """
    found = Scan(root, belongs)
    skipped = {str(folder) for folder in skipped_folders}
    rules: dict[str, IgnoreRules] = {}
    for path in sorted(paths):
        parent = path.rpartition("/")[0]
        if path and parent not in rules:
            rules[parent] = rules_down_to(root, parent, default_ignore=default_ignore)
        _walk(root, path, rules[parent] if path else IgnoreRules(has_defaults=default_ignore), skipped, found)
    return found


def _walk(root: Path, rel_path: str, rules: IgnoreRules, skipped: Collection[str], found: Scan) -> None:
    """Add the files at or under one path; `rules`: of the folder that contains it."""
    start = f"{root}/{rel_path}" if rel_path else str(root)
    try:
        status = os.stat(start)  # noqa: PTH116  (a Path per file is too slow: a manifest may list a million)
        is_folder = stat.S_ISDIR(status.st_mode)
        if rel_path and (reason := rules.reason(rel_path, is_folder)) is not None:
            found.left_out[rel_path + "/" * is_folder] = reason
            return
        if is_folder:
            pending = [(start, rel_path and rel_path + "/", rules)]
            while pending:
                pending += reversed(_walk_folder(*pending.pop(), skipped, found))
        elif not found.is_elsewhere(rel_path) and not (
            os.path.islink(start) and found.add_bad_link(status, start, rel_path)  # noqa: PTH114
        ):
            folder, _, name = start.rpartition("/")
            others = (name + SIDECAR_SUFFIX, *foreign_names(name))
            siblings = {name} | {other for other in others if Path(folder, other).is_file()}
            rel_folder = rel_path[: len(rel_path) - len(name)]
            pairs = found.pairs_in(folder, rel_folder, rules) if has_pairs(name) else NO_SUBTITLES
            if name in pairs.recordings:
                found.left_out[rel_path] = LEFT_OUT + pairs.recordings[name][0]
                return
            beside = _Beside(siblings, find_sidecars(siblings), pairs.of_recording)
            found.add(status, folder, rel_folder, name, beside)
    except OSError as error:
        found.add_unreadable(error, start, rel_path)
    except UsageError:  # an ignore file
        raise
    except Exception as error:  # one file must not end the run
        found.failed[rel_path] = failure_of(error).reason


def _walk_folder(
    folder: str, rel_folder: str, rules: IgnoreRules, skipped: Collection[str], found: Scan
) -> list[tuple[str, str, IgnoreRules]]:
    """Add the files of a folder; return its subfolders to walk, with their rules."""
    try:
        with os.scandir(folder) as listing:
            entries = sorted(listing, key=lambda entry: entry.name)
    except OSError as error:
        found.unreadable[rel_folder.rstrip("/")] = error.strerror or str(error)
        return []
    if not entries:
        found.empty.append(rel_folder.rstrip("/"))
    names = {entry.name for entry in entries}
    sidecars = find_sidecars(names)
    used = {name for others in sidecars.values() for name in others}
    if IGNORE_FILE in names:
        rules = rules.entering(Path(folder), rel_folder.rstrip("/"))
    pairs = _pairs(folder, rel_folder, names, rules)
    beside = _Beside(names, sidecars, pairs.of_recording)
    subfolders = []
    for entry in entries:
        name = entry.name
        if name in OWN_FILES or name in used:
            continue
        is_hidden = name.startswith(".")
        if _NOT_UTF8.search(name):
            if not is_hidden and found.belongs(rel_folder + name):
                found.not_utf8.append(os.fsencode(entry.path))
            continue
        try:
            is_folder = entry.is_dir(follow_symlinks=False)
            reason = HIDDEN if is_hidden else rules.reason(rel_folder + name, is_folder)
            if reason is not None:
                found.left_out[rel_folder + name + "/" * is_folder] = reason
                continue
            if not is_folder:
                if found.is_elsewhere(rel_folder + name):
                    continue
                if entry.is_symlink() and found.add_bad_link(entry.stat(), entry.path, rel_folder + name):
                    continue
                if name in pairs.recordings:
                    found.left_out[rel_folder + name] = LEFT_OUT + pairs.recordings[name][0]
                    continue
                found.add(entry.stat(), folder, rel_folder, name, beside)
            elif entry.path not in skipped:
                subfolders.append((entry.path, f"{rel_folder}{name}/", rules))
        except OSError as error:
            found.add_unreadable(error, entry.path, rel_folder + name)
        except Exception as error:  # one file must not end the run
            found.failed[rel_folder + name] = failure_of(error).reason
    return subfolders


def _pairs(folder: str, rel_folder: str, names: Collection[str], rules: IgnoreRules) -> SubtitleNames:
    """Return the subtitles and recordings of a folder, without hidden, ignored and other files that are not read."""
    if not any(name.lower().endswith(SUBTITLES) for name in names):  # first: most folders have none
        return NO_SUBTITLES
    return pair_subtitles(
        name
        for name in sorted(names)
        if has_pairs(name)
        and not name.startswith(".")
        and not _NOT_UTF8.search(name)
        and rules.reason(rel_folder + name, False) is None
        and os.path.isfile(f"{folder}/{name}")  # noqa: PTH113
    )
