"""Atomic and durable file writes: temporary name, fsync, rename."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

TEMPORARY_SUFFIX = ".tmp"

CANNOT_SYNC = frozenset({errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP})
"""Errors of file systems that cannot sync a folder."""


@contextmanager
def atomic_write(path: Path) -> Iterator[BinaryIO]:
    """Open a file for writing that replaces `path` atomically when the block ends.

    On success the file and its folder entry are durable (fsync). On an exception the temporary file is removed and
    `path` stays unchanged. Several processes and threads may write the same file: each writes one of its own, and the
    last one stays.

    Args:
        path: The file to create or replace.

    Yields:
        The temporary file, open for binary writing.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}{TEMPORARY_SUFFIX}")
    try:
        with temporary.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def sync_file(path: Path) -> None:
    """Make the content of a file durable (fsync)."""
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Make new, renamed and removed entries of a folder durable (fsync), if the system can.

    Windows cannot open a folder; its renames are journalled. A user cannot open one that is not readable, such as the
    one above all homes. Some file systems, among them shared folders, cannot sync one.
    """
    if os.name == "nt":
        return
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except PermissionError:
        return
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in CANNOT_SYNC:
            raise
    finally:
        os.close(descriptor)


def make_folder(folder: Path, root: Path) -> None:
    """Create a folder below `root`, and those above it, with durable entries; does nothing if it exists."""
    if folder.is_dir():
        return
    if folder != root:
        make_folder(folder.parent, root)
    folder.mkdir(exist_ok=True)
    sync_folder(folder.parent)


def is_there(path: Path) -> bool:
    """Return whether a file, folder or link exists.

    Unlike `os.path.lexists`, which takes every error for "no".

    Raises:
        OSError: the system cannot say.
    """
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def folder_size(folder: Path) -> int:
    """Return the size in bytes of all files under `folder`; files that disappear meanwhile are ignored."""
    size = 0
    for path, _, names in os.walk(folder):
        for name in names:
            with suppress(OSError):
                size += (Path(path) / name).stat().st_size
    return size
