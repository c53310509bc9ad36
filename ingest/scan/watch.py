"""Changes under folders, as they happen: settled, coalesced, and safe against lost events.

watchfiles tells what it saw, not what it missed: it passes over the kernel's word that its queue overflowed, and the
files that were put into a new folder before the watch on it stood. So a new folder is handed over as a whole, a burst
is followed by a look at everything, and so is every start of a watcher.
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

from bindsearch.errors import UsageError
from bindsearch.ingest.inspect.classify import RULES_FILE
from bindsearch.ingest.scan.ignore import IGNORE_FILE
from bindsearch.ingest.scan.walk import SIDECAR_SUFFIX

if TYPE_CHECKING:
    from watchfiles import Change

SETTLE_S = 0.4
MAX_WAIT_S = 5.0
RESCAN_S = 300.0
MAX_PENDING_PATHS = 10_000
OVERFLOW_THRESHOLD = 2_000
"""Changes in one look after which events may be missing: the kernel queues 16,384, about five a new file."""

_LOOK_MS = 100
_GROUP_MS = 200
_STEP_MS = 50
_POLL_MS = 1_000
_ROOT_CHECK_S = 0.5
_RETRY_S = 1.0
_MODIFIED, _DELETED = 2, 3  # watchfiles.Change, whose import takes its time

_Changes: TypeAlias = "set[tuple[Change, str]]"


@dataclass(frozen=True, slots=True)
class ChangeSet:
    """Files that were written, and files and folders that appeared or are gone; or `rescan`: anything may have changed.

    A folder stands for all below it. A sidecar is handed over as its file, a file of rules as its folder.
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

    A path is handed over when nothing has happened to it (or below it) for `settle_s`, so that no file is read half
    written; one that changes without end after `max_wait_s`. Hidden files and `skipped_folders` (the store) are left
    out. More than MOST_PENDING paths become a rescan. A folder that vanishes is waited for, with a rescan when it goes
    and when it comes back. `polling`: for network folders, whose changes on other machines no kernel tells.

    Raises:
        UsageError: a folder is a file, or the system allows no more watches.
    """
    roots = tuple(dict.fromkeys(os.path.abspath(folder) for folder in folders))  # noqa: PTH100  (keeps links as named)
    for root in roots:
        if os.path.exists(root) and not os.path.isdir(root):  # noqa: PTH110, PTH112
            raise UsageError(f"{root} is not a folder: watch the folder it is in")
    places = _Places(roots, tuple(str(folder) for folder in skipped_folders))
    pending = _Pending(settle_s, max_wait_s)
    watcher = _Watcher(places, stop, polling=polling)
    while not stop.is_set():
        rescan_at = 0.0  # anything may have changed while no watcher stood
        with closing(watcher.looks()) as looks:
            for changes in looks:
                now = time.monotonic()
                for change, path in changes:
                    if (place := places.meant_by(path)) is not None:
                        pending.add(place, now, whole=change != _MODIFIED or place != path)
                if len(changes) > OVERFLOW_THRESHOLD or len(pending) > MAX_PENDING_PATHS:
                    rescan_at = min(rescan_at, now + settle_s)
                if now >= rescan_at:
                    pending.clear()  # what is still being written will be heard of again
                    yield ChangeSet(rescan=True)
                    rescan_at = time.monotonic() + rescan_s
                elif rescan_at > now + settle_s and (settled := pending.take(now)):
                    yield ChangeSet(tuple(map(Path, settled)))
                    watcher.handed_over(settled)


@dataclass(frozen=True)
class _Places:
    """The watched roots, and what in them is left out; paths are absolute strings."""

    roots: tuple[str, ...]
    skipped: tuple[str, ...]

    def standing(self) -> dict[str, tuple[int, int]]:
        """The roots that are there, by the device and inode that a watch on them is bound to."""
        found = {}
        for root in self.roots:
            try:
                facts = os.stat(root)  # noqa: PTH116
            except OSError:
                continue
            if stat.S_ISDIR(facts.st_mode):
                found[root] = (facts.st_dev, facts.st_ino)
        return found

    def meant_by(self, path: str) -> str | None:
        """The place to look at when `path` changed; None: none, it is hidden or left out."""
        if self.is_skipped(path):
            return None
        root = max((root for root in self.roots if _is_below(path, root)), key=len, default=None)
        if root is None:
            return None
        folder, name = os.path.split(path)
        if path != root and name in (IGNORE_FILE, RULES_FILE):
            path = folder
        if any(part.startswith(".") for part in path[len(root) :].split("/")):
            return None
        if name.endswith(SIDECAR_SUFFIX) and os.path.lexists(path.removesuffix(SIDECAR_SUFFIX)):
            return path.removesuffix(SIDECAR_SUFFIX)
        return path

    def is_skipped(self, path: str) -> bool:
        """Return whether it lies in one of the folders to leave out."""
        return any(_is_below(path, folder) for folder in self.skipped)


class _Pending:
    """Paths to which something happened, until nothing more does. Times are in seconds of one clock."""

    def __init__(self, settle_s: float, max_wait_s: float) -> None:
        self._settle_s = settle_s
        self._max_wait_s = max_wait_s
        self._paths: dict[str, _PendingChange] = {}

    def __len__(self) -> int:
        return len(self._paths)

    def add(self, path: str, now: float, *, whole: bool) -> None:
        """Something happened to `path`; `whole`: it appeared or vanished, so a folder there is to be looked through."""
        stir = self._paths.setdefault(path, _PendingChange(now))
        stir.last = now
        stir.whole |= whole
        above = os.path.dirname(path)  # noqa: PTH120
        while len(above) > 1:  # a folder that is still being filled has not settled
            if above in self._paths:
                self._paths[above].last = now
            above = os.path.dirname(above)  # noqa: PTH120

    def take(self, now: float) -> list[str]:
        """The paths that are due, sorted, without those below another one."""
        due = [path for path, stir in self._paths.items() if self._is_due(stir, now)]
        taken: set[str] = set()
        for path in sorted(due):  # a folder comes before what lies in it
            stir = self._paths.pop(path)
            if not _has_one_of(path, taken) and _counts(path, whole=stir.whole):
                taken.add(path)
        return sorted(taken)

    def clear(self) -> None:
        """Forget all."""
        self._paths.clear()

    def _is_due(self, stir: _PendingChange, now: float) -> bool:
        return now - stir.last >= self._settle_s or now - stir.first >= self._max_wait_s


class _PendingChange:
    """Times of the first and last change of a path, and whether it appeared or vanished."""

    __slots__ = ("first", "last", "whole")

    def __init__(self, now: float) -> None:
        self.first = self.last = now
        self.whole = False


class _Watcher:
    """watchfiles over the roots that are there: with one watcher over whole trees, or, where a folder below cannot be
    read, which makes that one blind, with a watch on each readable folder."""

    def __init__(self, places: _Places, stop: threading.Event, *, polling: bool) -> None:
        self._places = places
        self._stop = stop
        self._polling = polling
        self._one_by_one = False
        self._has_new_folder = False

    def handed_over(self, paths: Sequence[str]) -> None:
        """Told what the user of the changes was told: a new folder needs a new watch where each has one of its own."""
        if self._one_by_one:
            self._has_new_folder = any(os.path.isdir(path) for path in paths)  # noqa: PTH112

    def looks(self) -> Generator[_Changes]:
        """Yield what changed, often nothing, the first time when the watches stand; end when new ones are needed."""
        standing = self._places.standing()
        self._has_new_folder = False
        try:
            yield from self._look(standing)
        except FileNotFoundError:  # a root has gone since
            self._stop.wait(_RETRY_S)
        except PermissionError:
            if self._one_by_one:
                self._stop.wait(_RETRY_S)
            self._one_by_one = True
        except OSError as error:
            raise _no_more_watches(error) from error
        except RuntimeError as error:  # WatchfilesRustInternalError, which watchfiles keeps to itself
            if str(error).startswith("Error creating"):
                raise _no_more_watches(error) from error
            self._one_by_one |= "Permission denied" in str(error)
            self._stop.wait(_RETRY_S)  # a name that is not UTF-8, an error of a disk: a rescan sees to it

    def _look(self, standing: dict[str, tuple[int, int]]) -> Generator[_Changes]:
        check_at = time.monotonic() + _ROOT_CHECK_S
        with closing(self._watch(self._watched(standing))) as source:
            for changes in source:
                yield changes
                lost = any(change == _DELETED and path in standing for change, path in changes)
                if lost or self._has_new_folder:
                    return
                if time.monotonic() >= check_at:
                    if self._places.standing() != standing:
                        return
                    check_at = time.monotonic() + _ROOT_CHECK_S

    def _watched(self, standing: dict[str, tuple[int, int]]) -> list[str]:
        if not self._one_by_one:
            return list(standing)
        return [folder for root in standing for folder in self._readable(root)]

    def _readable(self, root: str) -> Iterator[str]:
        pending = [root]
        while pending:
            folder = pending.pop()
            try:
                with os.scandir(folder) as entries:
                    inside = [entry.path for entry in entries if entry.is_dir(follow_symlinks=False)]
            except OSError:
                continue
            yield folder
            pending.extend(path for path in inside if self._places.meant_by(path) is not None)

    def _watch(self, watched: list[str]) -> Generator[_Changes]:
        from watchfiles import watch

        if not watched:
            while not self._stop.wait(_LOOK_MS / 1000):
                yield set()
            return
        looks = watch(
            *watched,
            watch_filter=None,
            debounce=_GROUP_MS,
            step=_STEP_MS,
            rust_timeout=_LOOK_MS,
            yield_on_timeout=True,
            stop_event=self._stop,
            force_polling=self._polling or None,
            poll_delay_ms=_POLL_MS,
            recursive=not self._one_by_one,
            ignore_permission_denied=False,
        )
        with closing(looks):
            yield from looks


def _no_more_watches(error: Exception) -> UsageError:
    what = str(error).split(" about ")[0].rstrip(".")
    return UsageError(
        f"the system refuses to watch ({what}): raise fs.inotify.max_user_watches and fs.inotify.max_user_instances, "
        "or poll"
    )


def _is_below(path: str, folder: str) -> bool:
    """Return whether it is the folder or lies in it."""
    return path == folder or path.startswith(folder.rstrip("/") + "/")


def _has_one_of(path: str, folders: set[str]) -> bool:
    """Return whether it lies in one of them."""
    above = os.path.dirname(path)  # noqa: PTH120
    while above not in folders:
        if len(above) <= 1:
            return False
        above = os.path.dirname(above)  # noqa: PTH120
    return True


def _counts(path: str, *, whole: bool) -> bool:
    """Return whether a settled path is worth a look: a folder of which only a date or a right changed is not."""
    try:
        mode = os.lstat(path).st_mode
    except OSError:
        return True  # gone
    return whole if stat.S_ISDIR(mode) else stat.S_ISREG(mode) or stat.S_ISLNK(mode)
