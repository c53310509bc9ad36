"""Changes under folders, as they happen: settled, merged, and robust against lost events.

watchfiles reports the events it received, but not those it missed: an overflow of the kernel's queue, and files put
into a new folder before it was watched. So a new folder is reported as a whole, and a burst of events, like every
start of a watcher, is followed by a rescan.
"""

from __future__ import annotations

import os
import stat
import threading
import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from bindsearch.arguments import at_and_above, is_at_or_below
from bindsearch.errors import UsageError
from bindsearch.ingest.inspect.folder_settings import SETTINGS_FILE
from bindsearch.ingest.media.foreign.layouts import may_be_foreign
from bindsearch.ingest.media.imu.partners import recording_of
from bindsearch.ingest.media.subtitles.names import has_pairs, pair_subtitles
from bindsearch.ingest.scan.ignore import IGNORE_FILE
from bindsearch.ingest.scan.walk import SIDECAR_SUFFIX

if TYPE_CHECKING:
    from watchfiles import Change

SETTLE_S = 0.4
MAX_WAIT_S = 5.0
RESCAN_S = 300.0
MAX_PENDING_PATHS = 10_000
OVERFLOW_THRESHOLD = 2_000
"""Changes in one batch after which events may be missing: the kernel queues 16,384, about five per new file."""

_BATCH_TIMEOUT_MS = 100
_GROUP_MS = 200
_STEP_MS = 50
_POLL_MS = 1_000
_ROOT_CHECK_S = 0.5
_RETRY_S = 1.0
_MODIFIED, _DELETED = 2, 3  # values of watchfiles.Change, whose import is slow

_Changes: TypeAlias = "set[tuple[Change, str]]"


@dataclass(frozen=True, slots=True)
class ChangeSet:
    """Changed files and folders.

    A folder stands for everything below it. A sidecar is reported as its file, a file of rules as its folder, a part of
    a recording as the file that is its item, a recording with subtitles and each of them as their folder.

    Attributes:
        paths: written files, and files and folders that appeared or disappeared.
        rescan: anything may have changed.
    """

    paths: tuple[Path, ...] = ()
    rescan: bool = False


def watch_changes(
    folders: Sequence[Path],
    *,
    stop: threading.Event,
    skipped_folders: frozenset[Path] = frozenset(),
    settle_s: float = SETTLE_S,
    max_wait_s: float = MAX_WAIT_S,
    rescan_s: float = RESCAN_S,
    polling: bool = False,
) -> Generator[ChangeSet]:
    """Yield what changes under `folders` until `stop` is set; first, and every `rescan_s`, a rescan.

    A folder that disappears is waited for; its disappearance and its return cause a rescan. More than
    MAX_PENDING_PATHS paths cause a rescan. Hidden files are skipped.

    Args:
        folders: the folders to watch.
        stop: ends the generator.
        skipped_folders: folders that are not watched (the store).
        settle_s: a path is reported when neither it nor anything below it has changed for this many seconds, so that
            no file is read while it is written.
        max_wait_s: a path that changes continuously is reported after this many seconds.
        rescan_s: interval of full rescans in seconds.
        polling: poll for changes, for network folders without change events.

    Raises:
        UsageError: a folder is a file, or the system does not allow more watches.
    """
    roots = tuple(dict.fromkeys(os.path.abspath(folder) for folder in folders))  # noqa: PTH100  (keeps links as named)
    for root in roots:
        if os.path.exists(root) and not os.path.isdir(root):  # noqa: PTH110, PTH112
            raise UsageError(f"{root} is not a folder: watch its parent folder")
    watched = _WatchedFolders(roots, tuple(str(folder) for folder in skipped_folders))
    pending = _Pending(settle_s, max_wait_s)
    watcher = _Watcher(watched, stop, polling=polling)
    while not stop.is_set():
        rescan_at = 0.0  # anything may have changed while nothing was watched
        with closing(watcher.change_batches()) as change_batches:
            for changes in change_batches:
                now = time.monotonic()
                for change, path in changes:
                    if (changed := watched.path_to_scan(path)) is not None:
                        pending.add(changed, now, whole=change != _MODIFIED or changed != path)
                if len(changes) > OVERFLOW_THRESHOLD or len(pending.paths) > MAX_PENDING_PATHS:
                    rescan_at = min(rescan_at, now + settle_s)
                if now >= rescan_at:
                    pending.paths.clear()  # files that are still being written cause new events
                    yield ChangeSet(rescan=True)
                    rescan_at = time.monotonic() + rescan_s
                elif rescan_at > now + settle_s and (settled := pending.take(now)):
                    yield ChangeSet(tuple(map(Path, settled)))
                    watcher.on_reported(settled)


@dataclass(frozen=True)
class _WatchedFolders:
    """The watched roots and skipped folders, as absolute paths."""

    roots: tuple[str, ...]
    skipped: tuple[str, ...]

    def existing_roots(self) -> dict[str, tuple[int, int]]:
        """Return the existing roots with device and inode, which a watch is bound to."""
        roots = {}
        for root in self.roots:
            try:
                status = os.stat(root)  # noqa: PTH116
            except OSError:
                continue
            if stat.S_ISDIR(status.st_mode):
                roots[root] = (status.st_dev, status.st_ino)
        return roots

    def path_to_scan(self, path: str) -> str | None:
        """Return the path to scan when `path` changed; None if it is hidden or skipped."""
        if any(is_at_or_below(path, folder) for folder in self.skipped):
            return None
        root = max((root for root in self.roots if is_at_or_below(path, root)), key=len, default=None)
        if root is None:
            return None
        folder, name = os.path.split(path)
        if path != root and name in (IGNORE_FILE, SETTINGS_FILE):
            path = folder
        if any(part.startswith(".") for part in path[len(root) :].split("/")):
            return None
        if name.endswith(SIDECAR_SUFFIX) and os.path.lexists(path.removesuffix(SIDECAR_SUFFIX)):
            return path.removesuffix(SIDECAR_SUFFIX)
        if path != root and name.endswith(SIDECAR_SUFFIX) and may_be_foreign(name):
            return folder  # its file is found by the names of all files there
        if path != root and has_pairs(name) and _has_subtitles(folder, name):
            return folder  # what is an item may change there: a recording with its subtitles, or each text alone
        recording = recording_of(path)
        return path if recording is None else recording.main


class _Pending:
    """Changed paths until no more changes follow; times are in seconds of one clock."""

    def __init__(self, settle_s: float, max_wait_s: float) -> None:
        self._settle_s = settle_s
        self._max_wait_s = max_wait_s
        self.paths: dict[str, _PendingChange] = {}

    def add(self, path: str, now: float, *, whole: bool) -> None:
        """Record a change of `path`; `whole`: it appeared or disappeared, so a folder is scanned completely."""
        change = self.paths.setdefault(path, _PendingChange(now, now))
        change.last = now
        change.whole |= whole
        parent = os.path.dirname(path)  # noqa: PTH120
        while len(parent) > 1:  # a folder that still receives files has not settled
            if parent in self.paths:
                self.paths[parent].last = now
            parent = os.path.dirname(parent)  # noqa: PTH120

    def take(self, now: float) -> list[str]:
        """Remove and return the paths that are due, sorted, without those below another one."""
        ready: set[str] = set()
        for path, change in sorted(self.paths.items()):  # a folder precedes its contents
            if now - change.last < self._settle_s and now - change.first < self._max_wait_s:
                continue
            del self.paths[path]
            if ready.isdisjoint(at_and_above(path)) and _is_relevant(path, whole=change.whole):
                ready.add(path)
        return sorted(ready)


@dataclass(slots=True)
class _PendingChange:
    """Times of the first and last change of a path, and whether it appeared or vanished."""

    first: float
    last: float
    whole: bool = False


class _Watcher:
    """watchfiles over the existing roots; if a folder below cannot be read, each readable one has its own watch."""

    def __init__(self, watched_folders: _WatchedFolders, stop: threading.Event, *, polling: bool) -> None:
        self._watched_folders, self._stop, self._polling = watched_folders, stop, polling
        self._one_by_one = self._has_new_folder = False

    def on_reported(self, paths: Sequence[str]) -> None:
        """Prepare for changes that were reported: a new folder needs a new watch if each folder has its own."""
        if self._one_by_one:
            self._has_new_folder = any(os.path.isdir(path) for path in paths)  # noqa: PTH112

    def change_batches(self) -> Generator[_Changes]:
        """Yield sets of changes, often empty, from when the watches are active until new ones are needed."""
        existing = self._watched_folders.existing_roots()
        self._has_new_folder = False
        try:
            yield from self._watch_until_stale(existing)
        except FileNotFoundError:  # a root was deleted meanwhile
            self._stop.wait(_RETRY_S)
        except PermissionError:
            if self._one_by_one:
                self._stop.wait(_RETRY_S)
            self._one_by_one = True
        except OSError as error:
            raise _no_more_watches(error) from error
        except RuntimeError as error:  # WatchfilesRustInternalError, which watchfiles does not export
            if str(error).startswith("Error creating"):
                raise _no_more_watches(error) from error
            self._one_by_one |= "Permission denied" in str(error)
            self._stop.wait(_RETRY_S)  # a name that is not UTF-8, a disk error: followed by a rescan

    def _watch_until_stale(self, existing: dict[str, tuple[int, int]]) -> Generator[_Changes]:
        """Yield sets of changes until a root disappears or a new watch is needed."""
        check_at = time.monotonic() + _ROOT_CHECK_S
        folders = [*existing]
        if self._one_by_one:
            folders = [folder for root in existing for folder in self._readable(root)]
        with closing(self._watch(folders)) as source:
            for changes in source:
                yield changes
                is_stale = any(change == _DELETED and path in existing for change, path in changes)
                if is_stale or self._has_new_folder:
                    return
                if time.monotonic() >= check_at:
                    if self._watched_folders.existing_roots() != existing:
                        return
                    check_at = time.monotonic() + _ROOT_CHECK_S

    def _readable(self, root: str) -> Iterator[str]:
        """Yield the readable folders at and below a root."""
        pending = [root]
        while pending:
            folder = pending.pop()
            try:
                with os.scandir(folder) as entries:
                    subfolders = [entry.path for entry in entries if entry.is_dir(follow_symlinks=False)]
            except OSError:
                continue
            yield folder
            pending.extend(path for path in subfolders if self._watched_folders.path_to_scan(path) is not None)

    def _watch(self, folders: list[str]) -> Generator[_Changes]:
        """Yield sets of changes of the watched folders."""
        from watchfiles import watch

        if not folders:
            while not self._stop.wait(_BATCH_TIMEOUT_MS / 1000):
                yield set()
            return
        batches = watch(
            *folders,
            watch_filter=None,
            debounce=_GROUP_MS,
            step=_STEP_MS,
            rust_timeout=_BATCH_TIMEOUT_MS,
            yield_on_timeout=True,
            stop_event=self._stop,
            force_polling=self._polling or None,
            poll_delay_ms=_POLL_MS,
            recursive=not self._one_by_one,
            ignore_permission_denied=False,
        )
        with closing(batches):
            yield from batches


def _no_more_watches(error: Exception) -> UsageError:
    """Return the error for a refused watch."""
    reason = str(error).split(" about ")[0].rstrip(".")
    return UsageError(
        f"the system refuses to watch ({reason}): raise fs.inotify.max_user_watches and fs.inotify.max_user_instances, "
        "or use --polling"
    )


def _has_subtitles(folder: str, name: str) -> bool:
    """Return whether a file, deleted or not, is a recording with subtitles or one of them, by the names beside it."""
    try:
        names = {*filter(has_pairs, os.listdir(folder)), name}  # noqa: PTH208
    except OSError:
        return False
    pairs = pair_subtitles(names)
    return name in pairs.recordings or name in pairs.of_recording


def _is_relevant(path: str, *, whole: bool) -> bool:
    """Return whether a settled path has to be scanned: not a folder of which only a date or permission changed."""
    try:
        mode = os.lstat(path).st_mode
    except OSError:
        return True  # deleted
    return whole if stat.S_ISDIR(mode) else stat.S_ISREG(mode) or stat.S_ISLNK(mode)
