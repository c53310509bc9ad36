"""The writer's lock where the file system has none."""

from __future__ import annotations

import errno
import fcntl
import os
from pathlib import Path

import pytest

from bindsearch.errors import StoreLockedError, StoreUnwritableError
from bindsearch.storage import session
from bindsearch.storage.session import LOCK_FILE, writer_lock


@pytest.mark.parametrize("error", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
@pytest.mark.parametrize("is_used", [False, True])
def test_a_file_system_without_locks_is_told_apart_from_a_lock_that_is_held(
    error: int, is_used: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(error, os.strerror(error))

    if is_used:
        (tmp_path / LOCK_FILE).touch()
    with monkeypatch.context() as patch:
        patch.setattr(fcntl, "flock", refuse)
        for _ in range(2):
            with pytest.raises(StoreUnwritableError, match=r"has no locks .*: mount it with locks, or move"):
                writer_lock(tmp_path).__enter__()
    with (
        writer_lock(tmp_path),
        pytest.raises(StoreLockedError, match=f"is being written by process {os.getpid()}"),
        writer_lock(tmp_path),
    ):
        pass


def test_on_a_full_disk_the_lock_is_held_without_a_note(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_path: Path) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(session, "write_note", fail)
    with (
        writer_lock(tmp_path),
        pytest.raises(StoreLockedError, match="is being written by another process"),
        writer_lock(tmp_path),
    ):
        pass
