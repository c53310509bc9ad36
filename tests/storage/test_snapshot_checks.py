"""Checks of snapshots beside what their caller does: damage is told in place of its errors, but not of its end."""

from __future__ import annotations

import errno
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from bindsearch.errors import SnapshotDamagedError, StoreError
from bindsearch.storage.snapshot_checks import SMALL_FILE_BYTES, Checks, damage_told

PATH = Path("items.arrow")


def damaged() -> None:
    raise ValueError("it does not match")


def test_small_files_are_checked_at_once() -> None:
    checks = Checks()
    with pytest.raises(SnapshotDamagedError, match=r"items\.arrow is damaged"):
        checks.run(PATH, SMALL_FILE_BYTES - 1, damaged)


def test_large_files_are_checked_beside() -> None:
    started, ended = threading.Event(), threading.Event()

    def check() -> None:
        started.set()
        assert ended.wait(10)

    with Checks() as checks:
        checks.run(PATH, SMALL_FILE_BYTES, check)
        assert started.wait(10)  # while this block runs
        ended.set()
    assert not any(thread.name.startswith("check") for thread in threading.enumerate())


def test_each_check_is_awaited_once() -> None:
    with Checks() as checks:
        for check in (lambda: None, damaged, lambda: None):
            checks.run(PATH, SMALL_FILE_BYTES, check)
        with pytest.raises(SnapshotDamagedError):
            checks.wait()
        checks.wait()
        checks.run(PATH, SMALL_FILE_BYTES, lambda: None)


@pytest.mark.parametrize(
    ("error", "kind", "message"),
    [
        (FileNotFoundError(), SnapshotDamagedError, "is missing: run `bindsearch compact`"),
        (NotADirectoryError(), SnapshotDamagedError, "is missing: run `bindsearch compact`"),
        (IsADirectoryError(errno.EISDIR, "Is a directory"), SnapshotDamagedError, "is damaged"),
        (OSError("of Arrow"), SnapshotDamagedError, "is damaged"),
        (ValueError("x"), SnapshotDamagedError, "is damaged"),
        (OSError(errno.EIO, "Input/output error"), StoreError, r"cannot be read \(Input/output error\)$"),
        (StoreError("its own"), StoreError, "^its own$"),
        (MemoryError("full"), MemoryError, "^full$"),
    ],
)
def test_damage_is_told_from_what_cannot_be_read_now(error: Exception, kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message) as caught, damage_told(PATH):
        raise error
    assert type(caught.value) is kind


def use(check: Callable[[], None], error: type[BaseException]) -> None:
    with Checks() as checks:
        checks.run(PATH, SMALL_FILE_BYTES, check)
        raise error


def test_damage_is_told_in_place_of_the_errors_that_it_causes() -> None:
    with pytest.raises(SnapshotDamagedError):
        use(damaged, IndexError)
    with pytest.raises(KeyboardInterrupt):
        use(damaged, KeyboardInterrupt)


def test_an_error_without_damage_is_the_caller_s_own() -> None:
    with pytest.raises(IndexError):
        use(lambda: None, IndexError)
