"""Sessions of writers: the lock of a store, which the system releases if its process dies, and what a writer opens."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from inspect import signature
from pathlib import Path
from typing import Any

from bindsearch.atomic import TEMPORARY_SUFFIX, is_there, make_folder, sync_folder
from bindsearch.encoders.base import Encoder
from bindsearch.errors import StoreError, StoreLockedError, StoreNotFoundError, StoreUnwritableError, UsageError
from bindsearch.small_files import read_json_object
from bindsearch.storage.catalog import Catalog, may_be_sound
from bindsearch.storage.catalog_file import CATALOG_FILE, LOST, keep_aside, readable_path
from bindsearch.storage.class_columns import stored_columns
from bindsearch.storage.config import (
    STORE_FILE,
    SegmentLengths,
    StoreConfig,
    check_encoder,
    new_config,
    read_config,
    write_config,
)
from bindsearch.storage.faults import store_faults
from bindsearch.storage.snapshot import Snapshot
from bindsearch.storage.snapshot_format import CURRENT, part_of_tables
from bindsearch.storage.vector_files import VECTORS
from bindsearch.storage.writer import Writer, base_manifest, check_is_newest, log_loss

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
        holder = None
        for _ in range(NOTE_READ_ATTEMPTS):
            if (holder := _holder(note)) is not None:
                break
            time.sleep(NOTE_PAUSE_S)
        by = holder or "another process"
        raise StoreLockedError(f"the store {store} is being written by {by}: wait for it to finish") from None
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


@contextmanager
def open_writer(
    store: Path, encoder: Encoder, segments: SegmentLengths, tell: Callable[[str], None] = log_loss
) -> Iterator[tuple[StoreConfig, Catalog, Writer]]:
    """Open a store for writing under the writer lock; create it if it does not exist.

    Args:
        store: Folder of the store.
        encoder: Encoder of the store.
        segments: Lengths of segments in a new store.
        tell: Called with a line about each part of the store that is given up.

    Yields:
        Configuration, catalog and writer of the store.

    Raises:
        StoreLockedError: another process holds the lock.
        StoreError: the encoder is not the store's, or the store cannot be written.
    """
    with store_faults(store):  # errors of media files are recorded, so others are about the store
        _make_folder(store)
        with writer_lock(store):
            # with a new, empty catalog, all vectors would be removed
            if not readable_path(store / CATALOG_FILE).is_file() and any((store / VECTORS).glob("*/*")):
                raise StoreError(
                    f"{CATALOG_FILE} of the store {store} is missing: restore it, or run `bindsearch recover` to "
                    "rebuild it from the snapshot"
                )
            if not (store / STORE_FILE).is_file():
                write_config(store, new_config(encoder, segments))
            config = read_config(store)
            check_encoder(config, encoder, store)
            with _open_catalog(store, tell) as catalog:
                yield config, catalog, Writer(store, catalog, config.dim, tell)


def snapshot_from_catalog(store: Path) -> Snapshot:
    """Return the newest generation, read from the catalog into memory; nothing on disk is changed.

    For readers whose snapshot is damaged or lost; writers rebuild it on disk. Its indexes are unknown.

    Raises:
        StoreNotFoundError: there is no store.
        StoreLockedError: another process is writing, and will rebuild the snapshot.
        StoreError: the catalog cannot be read either.
    """
    read_config(store)
    path = store / CATALOG_FILE
    if not is_there(readable_path(path)):
        if not any((store / VECTORS).glob("*/*")):
            raise StoreNotFoundError(f"nothing is indexed yet in {store}: run `bindsearch index FOLDER`")
        raise StoreError(f"the catalog {path} is missing: run `bindsearch recover`")
    with ExitStack() as held:
        with contextlib.suppress(StoreUnwritableError):  # a store that cannot be written has no writer
            held.enter_context(writer_lock(store))
        catalog = held.enter_context(Catalog(path, read_only=True))
        check_is_newest(store, catalog, None)
        failures, columns = catalog.failures_table(), catalog.class_columns()
        manifest = base_manifest(catalog, failures, columns)
        part = part_of_tables(catalog.items_table(), catalog.segments_table())
        stored = None if columns is None else stored_columns(columns)
        return Snapshot(manifest, (part,), failures if failures.num_rows else None, stored)


def _make_folder(store: Path) -> None:
    """Create the store's folder, or accept one that is empty or a store; raise UsageError or StoreError for others."""
    if store.exists() and not store.is_dir():
        raise UsageError(f"{store} is not a folder: pass a folder with --store")
    absolute = store.absolute()
    make_folder(absolute, Path(absolute.anchor))
    names = {path.name for path in store.iterdir() if not path.name.endswith(TEMPORARY_SUFFIX)} - LOCK_FILES - {LOST}
    if STORE_FILE in names:
        return
    if CATALOG_FILE in names:
        raise StoreError(f"{STORE_FILE} of the store {store} is missing: restore it, or index into another store")
    if names:
        raise UsageError(f"{store} is not empty and not a store: pass another folder with --store")
    sync_folder(absolute.parent)  # a killed run may have made the folder, but not its entry durable


def _open_catalog(store: Path, tell: Callable[[str], None]) -> Catalog:
    """Open the catalog; one that cannot be opened is created again if the store holds nothing else yet.

    Such a file is left by versions before 0.2 that were killed, or whose disk was full, while they created it.
    """
    path = store / CATALOG_FILE
    try:
        return Catalog(path)
    except StoreError as error:
        holds_something = (store / CURRENT).exists() or any((store / VECTORS).glob("*/*"))
        if not path.is_file() or holds_something or may_be_sound(error):
            raise
        try:
            path.read_bytes()
            return Catalog(path)  # it could not be read once
        except OSError:  # a file that only cannot be read now is kept
            raise error from None
        except StoreError:
            kept = keep_aside(store, path)
        tell(f"{error}; nothing is indexed yet, so it is created again, and the old file is in {kept}")
        return Catalog(path)
