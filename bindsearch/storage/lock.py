"""One writer at a time: a lock the operating system lets go of when its process dies, with a note of who holds it."""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from bindsearch.errors import StoreError, StoreLockedError

LOCK_FILE = "writer.lock"
NOTE_FILE = "writer.json"
LOCK_FILES = frozenset({LOCK_FILE, NOTE_FILE})

SAME_START_S = 2.0
"""Two start times so close are of the same process, whose number may be given out again later."""

NOTE_LOOKS, NOTE_PAUSE_S = 10, 0.02
"""Times that a note is read, and the pause between: a process that has just got the lock may not have written its own
yet, and that of a killed one may still be there."""


@contextmanager
def writer_lock(store: Path) -> Iterator[None]:
    """Hold the writer's lock of a store.

    Raises:
        StoreLockedError: another process holds it; the message names it.
        StoreError: the store's folder cannot be written to.
    """
    from filelock import FileLock, Timeout

    note = store / NOTE_FILE
    lock = FileLock(store / LOCK_FILE, timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise StoreLockedError(
            f"the store {store} is being written by {_holder(note)}: wait for it to finish"
        ) from None
    except OSError as error:
        raise StoreError(f"the store {store} cannot be written: {error.strerror or error}") from error
    try:
        write_note(note)
        yield
    finally:
        with suppress(OSError):  # a note of nobody misleads nobody, and what ended the writing is what counts
            note.unlink(missing_ok=True)
        lock.release()


def write_note(path: Path) -> None:
    """Say who holds the lock: this process, its host, and when it started."""
    pid = os.getpid()
    started = _started(pid) or time.time()
    path.write_text(json.dumps({"pid": pid, "host": socket.gethostname(), "started": started}))


def _holder(note: Path) -> str:
    for _ in range(NOTE_LOOKS):
        with suppress(OSError, ValueError, KeyError, TypeError):
            holder = json.loads(note.read_text())
            pid, host, started = int(holder["pid"]), str(holder["host"]), float(holder["started"])
            if host != socket.gethostname() or _lives(pid, started):
                return f"process {pid} on {host}, started {time.strftime('%Y-%m-%d %H:%M:%S', time.localtime(started))}"
        time.sleep(NOTE_PAUSE_S)
    return "another process"


def _lives(pid: int, started: float) -> bool:
    """Return whether that process of this machine is still there, and not another one with its number."""
    found = _started(pid)
    if found is not None:
        return abs(found - started) < SAME_START_S
    if Path("/proc/self/stat").exists():
        return False
    try:
        os.kill(pid, 0)
    except PermissionError:
        return True
    except OSError:
        return False
    return True


def _started(pid: int) -> float | None:
    """Return when a process started, in seconds since 1970; None where there is none, or the system does not tell."""
    try:
        ticks = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])
        booted = next(line for line in Path("/proc/stat").read_text().splitlines() if line.startswith("btime "))
        return int(booted.split()[1]) + ticks / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, IndexError, StopIteration):
        return None
