"""One writer at a time: a lock the operating system lets go of when its process dies, with a note of who holds it."""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bindsearch.errors import StoreLockedError

LOCK_FILE = "writer.lock"
NOTE_FILE = "writer.json"
LOCK_FILES = frozenset({LOCK_FILE, NOTE_FILE})


@contextmanager
def writer_lock(store: Path) -> Iterator[None]:
    """Hold the writer's lock of a store.

    Raises:
        StoreLockedError: another process holds it; the message names it.
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
    try:
        note.write_text(json.dumps({"pid": os.getpid(), "host": socket.gethostname(), "since": time.time()}))
        yield
    finally:
        note.unlink(missing_ok=True)
        lock.release()


def _holder(note: Path) -> str:
    try:
        holder = json.loads(note.read_text())
        since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(holder["since"]))
        return f"process {holder['pid']} on {holder['host']} since {since}"
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"
