"""Checks of snapshots beside what their caller does: damage is told in place of its errors, but not of its end."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from bindsearch.errors import SnapshotDamagedError
from bindsearch.storage.snapshot_checks import SMALL_FILE_BYTES, Checks

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
