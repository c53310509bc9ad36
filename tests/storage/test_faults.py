"""Errors of the system in one line."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from pathlib import Path

import duckdb
import pytest

from bindsearch.atomic import atomic_write, is_there
from bindsearch.errors import StoreError, UsageError
from bindsearch.storage.faults import store_faults, tells_faults


def os_error(number: int, path: str | None = None) -> OSError:
    return OSError(number, os.strerror(number), path)


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (os_error(errno.ENOSPC, "/s/CURRENT"), "cannot write the store /s: No space left on device"),
        (os_error(errno.EACCES, "/media/x"), "cannot write the store /s: Permission denied: /media/x"),
        (duckdb.IOException("Could not write\nmore"), "cannot write the store /s: Could not write"),
        (OSError("no number"), "cannot write the store /s: no number"),
    ],
)
def test_errors_of_the_system_are_one_line_that_names_the_store(error: Exception, message: str) -> None:
    with pytest.raises(StoreError) as told, store_faults(Path("/s")):
        raise error
    assert str(told.value) == f"{message}; committed data is kept"


@pytest.mark.parametrize("error", [UsageError("x"), ValueError("x"), BrokenPipeError(errno.EPIPE, "x")])
def test_other_errors_stay(error: Exception) -> None:
    with pytest.raises(type(error)) as told, store_faults(Path("/s")):
        raise error
    assert told.value is error


def test_a_function_names_the_store_that_it_was_given() -> None:
    @tells_faults("read")
    def read(_store: Path | None, number: int) -> int:
        raise os_error(number)

    with pytest.raises(StoreError, match=r"^cannot read the store /s: Input/output error$"):
        read(Path("/s"), errno.EIO)


def test_a_file_whose_state_cannot_be_told_is_not_taken_for_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_path: Path) -> None:
        raise os_error(errno.ESTALE)

    assert is_there(tmp_path)
    assert not is_there(tmp_path / "x" / "y")
    monkeypatch.setattr(Path, "lstat", refuse)
    with pytest.raises(OSError, match=os.strerror(errno.ESTALE)):
        is_there(tmp_path / "x")


@pytest.mark.parametrize(
    ("call", "number", "tolerated"),
    [
        ("open", errno.EACCES, True),
        ("open", errno.EMFILE, False),
        ("fsync", errno.EINVAL, True),
        ("fsync", errno.ENOTSUP, True),
        ("fsync", errno.EIO, False),
    ],
)
def test_a_folder_that_no_call_can_sync_may_be_written(
    call: str, number: int, tolerated: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real_open, real_sync = os.open, os.fsync

    def opened(path: str | Path, *arguments: int, **options: int) -> int:
        if call == "open" and Path(path) == tmp_path:
            raise os_error(number)
        return real_open(path, *arguments, **options)

    def sync(descriptor: int) -> None:
        if call == "fsync" and stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise os_error(number)
        real_sync(descriptor)

    monkeypatch.setattr(os, "open", opened)
    monkeypatch.setattr(os, "fsync", sync)
    with (
        contextlib.nullcontext() if tolerated else pytest.raises(OSError, match=os.strerror(number)),
        atomic_write(tmp_path / "x") as file,
    ):
        file.write(b"content")
    assert (tmp_path / "x").read_bytes() == b"content"
