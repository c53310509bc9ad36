"""The writer lock of a store, which the operating system releases if its process dies, and the note of its holder."""

from __future__ import annotations

import errno
import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from inspect import signature
from pathlib import Path
from typing import Any

from bindsearch.errors import StoreLockedError, StoreUnwritableError
from bindsearch.small_files import read_json_object

LOCK_FILE = "writer.lock"
NOTE_FILE = "writer.json"
LOCK_FILES = frozenset({LOCK_FILE, NOTE_FILE})

MAX_NOTE_BYTES = 4096

SAME_START_S = 2.0
"""Start times that differ by less belong to the same process; needed because process ids are reused."""

NOTE_READ_ATTEMPTS, NOTE_PAUSE_S = 10, 0.02
"""Number of attempts to read a note, and the pause between them.

A process that has just acquired the lock may not have written its note yet, and the note of a killed process may still
exist."""


NO_LOCKS = frozenset({errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP})
"""Errors of file systems without locks."""


@contextmanager
def writer_lock(store: Path) -> Iterator[None]:
    """Hold the writer lock of a store.

    Raises:
        StoreLockedError: another process holds the lock; the message names it.
        StoreUnwritableError: the store's folder cannot be written to, or its file system has no locks.
    """
    from filelock import FileLock, Timeout

    note = store / NOTE_FILE
    options: dict[str, Any] = {}
    if "fallback_to_soft" in signature(FileLock.__init__).parameters:
        options["fallback_to_soft"] = False  # files as locks: one that a killed process leaves is held for ever
    lock = FileLock(store / LOCK_FILE, timeout=0, **options)
    try:
        lock.acquire()
    except Timeout:
        for _ in range(NOTE_READ_ATTEMPTS):
            if (holder := _holder(note)) is not None:
                break
            time.sleep(NOTE_PAUSE_S)
        raise StoreLockedError(
            f"the store {store} is being written by {holder or 'another process'}: wait for it to finish"
        ) from None
    except NotImplementedError as error:  # what filelock before 4 makes of ENOSYS
        raise _without_locks(store, os.strerror(errno.ENOSYS)) from error
    except OSError as error:
        if error.errno in NO_LOCKS:
            raise _without_locks(store, os.strerror(error.errno)) from error
        raise StoreUnwritableError(f"the store {store} cannot be written: {error.strerror or error}") from error
    try:
        with suppress(OSError):  # it is for messages only; on a full disk, readers still take the lock
            write_note(note)
        yield
    finally:
        with suppress(OSError):  # a stale note is harmless, and must not hide the error that ended the block
            note.unlink(missing_ok=True)
        lock.release()


def _without_locks(store: Path, reason: str) -> StoreUnwritableError:
    return StoreUnwritableError(
        f"the file system of the store {store} has no locks ({reason}), and without one two processes could write at "
        "once: mount it with locks, or move the store to a local disk"
    )


def write_note(path: Path) -> None:
    """Write the note of the lock's holder: process id, host and start time of this process."""
    pid = os.getpid()
    started = _start_time(pid) or time.time()
    path.write_text(json.dumps({"pid": pid, "host": socket.gethostname(), "started": started}))


def is_being_written(store: Path) -> bool:
    """Return whether the note of the lock names a process that is running; a store is not locked to find out."""
    return _holder(store / NOTE_FILE) is not None


def _holder(note: Path) -> str | None:
    """Return the process that a note names and that may be running; None if there is none."""
    with suppress(OSError, ValueError, KeyError, TypeError, OverflowError):
        holder: Any = read_json_object(note, MAX_NOTE_BYTES)
        pid, host, started = int(holder["pid"]), str(holder["host"]), float(holder["started"])
        if host != socket.gethostname() or _is_running(pid, started):
            return f"process {pid} on {host}, started {time.strftime('%Y-%m-%d %H:%M:%S', time.localtime(started))}"
    return None


def _is_running(pid: int, started: float) -> bool:
    """Return whether a process of this machine is still running, and is not another one with the same id."""
    actual = _start_time(pid)
    if actual is not None:
        return abs(actual - started) < SAME_START_S
    if Path("/proc/self/stat").exists():
        return False
    try:
        os.kill(pid, 0)
    except PermissionError:
        return True
    except OSError:
        return False
    return True


def _start_time(pid: int) -> float | None:
    """Return the start time of a process in seconds since 1970; None if there is no such process or no /proc."""
    try:
        ticks = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])
        booted = next(line for line in Path("/proc/stat").read_text().splitlines() if line.startswith("btime "))
        return int(booted.split()[1]) + ticks / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, IndexError, StopIteration):
        return None
