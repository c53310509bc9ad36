"""The file of the catalog: connections that run only this program's SQL, and checkpoints that survive power cuts.

DuckDB writes a checkpoint into blocks that the last header uses, so a power cut in between leaves a file that does not
open. Therefore no checkpoint is made in place: changes stay in the log until a copy is checkpointed, which then takes
the place of the file.

| step | after a crash |
| --- | --- |
| copy and checkpoint `.catalog.duckdb.tmp`, sync it | a leftover, removed by the next writer |
| rename it to `catalog.duckdb.next` | it holds everything; the next writer completes the steps below |
| remove `catalog.duckdb.wal` | the same |
| rename `catalog.duckdb.next` to `catalog.duckdb` | done |
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from bindsearch.atomic import TEMPORARY_SUFFIX, is_there, make_folder, sync_file, sync_folder
from bindsearch.small_files import NOT_REGULAR

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

CATALOG_FILE = "catalog.duckdb"

LOST = "lost"
"""Folder of a store with what was given up: damaged vector files, the end of a torn log."""

UNKNOWN = "unknown"
"""Folder in `lost/` with vector files that the catalog does not know; nothing deletes them."""

CONFIG: dict[str, str | bool | int | float | list[str]] = {
    "enable_external_access": False,  # a view in somebody's store must not read files of its user
    "autoinstall_known_extensions": False,
    "autoload_known_extensions": False,
    "allow_community_extensions": False,
    "checkpoint_threshold": "1TB",  # checkpoints are made by `checkpoint` only
}

CLOSE_LOG_BYTES = 4 << 20
"""Size of the log above which closing the catalog makes a checkpoint; replaying so much takes about 70 ms."""

OPEN_LOG_BYTES = 64 << 20
"""Size of the log above which a commit makes a checkpoint."""

_PASSING_ERRORS = (
    *(errno.EACCES, errno.EPERM, errno.EIO, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ESTALE, errno.EROFS),
    *(errno.ENOSPC, errno.EDQUOT, errno.ETIMEDOUT),
)
"""Errors of the operating system that say nothing about the content of a file."""

_FICLONE = 0x40049409
"""ioctl of Linux that makes a file share the blocks of another (linux/fs.h)."""


def is_locked(error: BaseException) -> bool:
    """Return whether a file could not be opened because another process has it open."""
    return "Could not set lock on file" in str(error)


def is_unreadable_now(error: BaseException) -> bool:
    """Return whether DuckDB could not read a file now, or lacked memory, which says nothing about its content."""
    import duckdb

    if is_locked(error) or isinstance(error, duckdb.OutOfMemoryException):
        return True
    return any(os.strerror(number) in str(error) for number in _PASSING_ERRORS)


def torn_log_message(store: Path, cut_bytes: int) -> str:
    """Return the line about a log whose torn end was cut."""
    return (
        f"the log of the catalog of {store} ended within a write, as after a power cut: its last {cut_bytes} bytes "
        f"were not committed and are in {store / LOST} now"
    )


def log_path(path: Path) -> Path:
    """Return the path of the log of a catalog file."""
    return path.with_name(f"{path.name}.wal")


def next_path(path: Path) -> Path:
    """Return the path of the checkpointed copy that is to replace a catalog file."""
    return path.with_name(f"{path.name}.next")


def log_bytes(path: Path) -> int:
    """Return the size of the log of a catalog file; 0 if there is none."""
    try:
        return log_path(path).stat().st_size
    except FileNotFoundError:
        return 0


def connect(path: Path | str, *, read_only: bool = False) -> DuckDBPyConnection:
    """Open a catalog file with no access to anything else, and without checkpoints.

    Raises:
        duckdb.Error: it is damaged, or another process has it open.
        OSError: the file or its log is a pipe or a device, which would hold the process.
    """
    import duckdb

    for file in (Path(path), log_path(Path(path))):
        if is_there(file) and not (file.is_file() or file.is_dir()):
            raise OSError(errno.EINVAL, NOT_REGULAR, str(file))
    connection = duckdb.connect(str(path), read_only=read_only, config=dict(CONFIG))
    try:
        if not read_only:
            connection.execute("PRAGMA disable_checkpoint_on_shutdown")
        connection.execute("SET lock_configuration = true")
    except BaseException:
        connection.close()
        raise
    return connection


def open_for_writing(path: Path, fill: Callable[[DuckDBPyConnection], None]) -> tuple[DuckDBPyConnection, int]:
    """Open a catalog file for the writer; complete an interrupted checkpoint, and cut a torn log.

    Args:
        path: The file; created if it does not exist.
        fill: Creates the tables of a new file.

    Returns:
        The connection, and the number of bytes that were cut from the end of the log.

    Raises:
        duckdb.Error: the file is damaged, or another process has it open.
        OSError: it cannot be written.
    """
    import duckdb

    complete_checkpoint(path)
    if not path.exists():
        _create(path, fill)
    try:
        return connect(path), 0
    except duckdb.Error as error:
        cut = 0 if is_unreadable_now(error) else cut_torn_log(path)
        if not cut:
            raise
        return connect(path), cut


def readable_path(path: Path) -> Path:
    """Return the file to read without writing: the checkpointed copy if it is about to replace `path`."""
    return next_path(path) if next_path(path).exists() else path


def checkpoint(path: Path, rewrite: Callable[[Path, Path], bool] | None = None) -> None:
    """Write the log of a closed catalog file into the file, as a copy that replaces it.

    Args:
        path: The file; nobody has it open.
        rewrite: Writes another file with the same content, and returns whether that is to replace it; None: copy it.

    Raises:
        duckdb.Error: the file is damaged.
        OSError: a step failed; nothing is lost, but `complete_checkpoint` must succeed before the file is opened.
    """
    complete_checkpoint(path)  # of a call that failed halfway: the file alone may be older than the copy
    copy = path.with_name(f".{path.name}{TEMPORARY_SUFFIX}")
    try:
        _remove(copy)
        if not (rewrite or _copy_with_log)(path, copy):
            _remove(copy)
            return
        with contextlib.closing(connect(copy)) as connection:
            connection.execute("CHECKPOINT")
            if log_bytes(copy):  # only the torn beginning of a commit: for DuckDB there was nothing to write
                connection.execute("CREATE TABLE empty_table (x INTEGER)")
                connection.execute("DROP TABLE empty_table")
                connection.execute("CHECKPOINT")
        if log_bytes(copy):
            raise OSError(f"the log of {copy} is not empty after a checkpoint")
        sync_file(copy)
        copy.replace(next_path(path))
    except BaseException:
        _remove(copy)
        raise
    sync_folder(path.parent)
    complete_checkpoint(path)


def complete_checkpoint(path: Path) -> None:
    """Complete the checkpoint of a closed catalog file if one was interrupted.

    Raises:
        OSError: a step failed; nothing is lost, but the file must not be opened before this has succeeded.
    """
    ready = next_path(path)
    if ready.exists():
        log_path(path).unlink(missing_ok=True)
        sync_folder(path.parent)  # before the next step: the log does not fit the new file
        ready.replace(path)
        sync_folder(path.parent)


def cut_torn_log(path: Path) -> int:
    """Cut the end of a log that a power cut has left torn: behind the last commit that is whole.

    The whole log is kept in `lost/` of the folder.

    Returns:
        The number of bytes that were cut; 0 if the log is not why the file does not open.

    Raises:
        duckdb.Error: the file or the log cannot be read now.
        OSError: the same, or nothing can be written.
    """
    log = log_path(path)
    try:
        content = log.read_bytes()
    except FileNotFoundError:
        return 0
    with tempfile.TemporaryDirectory(prefix=f".{path.name}.", suffix=TEMPORARY_SUFFIX, dir=path.parent) as folder:
        trial = Path(folder) / path.name
        try:
            trial.hardlink_to(path)  # DuckDB would look for the log beside the target of a symbolic link
        except OSError:
            _copy(path, trial)

        def opens(size: int) -> bool:
            import duckdb

            log_path(trial).write_bytes(content[:size])
            try:
                connect(trial, read_only=True).close()
            except duckdb.Error as error:
                if is_unreadable_now(error):
                    raise
                return False
            return True

        if not opens(0) or opens(len(content)):
            return 0
        whole, torn = 0, len(content)  # a log cut anywhere opens, up to the end of its last whole transaction
        while torn - whole > 1:
            middle = (whole + torn) // 2
            whole, torn = (middle, torn) if opens(middle) else (whole, middle)
        cut = Path(folder) / "cut"
        cut.write_bytes(content[:whole])
        sync_file(cut)
        copy_aside(path.parent, log)
        cut.replace(log)
    sync_folder(path.parent)
    return len(content) - whole


def keep_aside(store: Path, path: Path, below: str = "") -> Path:
    """Move a file or folder of a store to the same place below `lost/` (or a folder in it); return its new path."""
    target = place_aside(store, path, below)
    try:
        path.rename(target)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        _move_to_store_disk(store, path, target)
    for folder in (target.parent, path.parent):
        sync_folder(folder)
    return target


def copy_aside(store: Path, path: Path) -> Path:
    """Copy a file of a store to the same place below `lost/`, and return the copy's path."""
    target = place_aside(store, path)
    _copy(path, target)
    sync_file(target)
    sync_folder(target.parent)
    return target


def place_aside(store: Path, path: Path, below: str = "") -> Path:
    """Return a new path below `lost/` for what is at `path`; it has a number if that name is taken already."""
    target = store / LOST / below / path.relative_to(store)
    make_folder(target.parent, store)
    number = 0
    while is_there(named := target.with_name(f"{target.name}.{number}") if number else target):
        number += 1
    return named


def _move_to_store_disk(store: Path, path: Path, target: Path) -> None:
    """Move a file or folder to the store's disk from another one; a crash leaves it at one of them or at both."""
    with tempfile.TemporaryDirectory(prefix=".", suffix=TEMPORARY_SUFFIX, dir=store) as folder:
        copy = Path(folder) / path.name
        if path.is_dir() and not path.is_symlink():
            shutil.copytree(path, copy, symlinks=True)
        else:
            shutil.copyfile(path, copy, follow_symlinks=False)
        for file in (copy, *copy.rglob("*")):
            if file.is_file() and not file.is_symlink():
                sync_file(file)
        copy.rename(target)
    sync_folder(target.parent)
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


def _create(path: Path, fill: Callable[[DuckDBPyConnection], None]) -> None:
    """Create a catalog file under a temporary name, so that no crash leaves half of one."""
    new = path.with_name(f".{path.name}{TEMPORARY_SUFFIX}")
    _remove(new)
    try:
        with contextlib.closing(connect(new)) as connection:
            fill(connection)
            connection.execute("CHECKPOINT")
        sync_file(new)
        _remove(log_path(path))  # of a file that was removed by hand
        new.replace(path)
    except BaseException:
        _remove(new)
        raise
    sync_folder(path.parent)


def _copy_with_log(path: Path, copy: Path) -> bool:
    _copy(path, copy)
    if log_path(path).exists():
        _copy(log_path(path), log_path(copy))
    return True


def _copy(source: Path, target: Path) -> None:
    """Copy a file; where the file system can, the copy shares its blocks."""
    with source.open("rb") as read, target.open("wb") as written:
        with contextlib.suppress(ImportError, OSError):
            import fcntl

            fcntl.ioctl(written.fileno(), _FICLONE, read.fileno())
            return
        shutil.copyfileobj(read, written, 1 << 20)


def _remove(path: Path) -> None:
    for file in (path, log_path(path)):
        file.unlink(missing_ok=True)
