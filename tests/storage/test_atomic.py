"""Atomic and durable writes: the old file or the new one, synced before anything refers to it, and nothing else."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from bindsearch.atomic import atomic_write, folder_size, make_folder, sync_file, sync_folder


@pytest.fixture
def synced(monkeypatch: pytest.MonkeyPatch) -> set[int]:
    """Return the inodes of what is synced from now on."""
    inodes: set[int] = set()
    real = os.fsync

    def sync(descriptor: int) -> None:
        inodes.add(os.fstat(descriptor).st_ino)
        real(descriptor)

    monkeypatch.setattr(os, "fsync", sync)
    return inodes


def inode(path: Path) -> int:
    return path.stat().st_ino


@pytest.mark.parametrize("exists", [False, True])
def test_a_file_is_replaced_and_durable_with_its_entry(exists: bool, tmp_path: Path, synced: set[int]) -> None:
    path = tmp_path / "file"
    if exists:
        path.write_text("old")
    with atomic_write(path) as file:
        file.write(b"new")
        assert path.exists() == exists
        assert not synced
    assert path.read_text() == "new"
    assert synced == {inode(path), inode(tmp_path)}
    assert [*tmp_path.iterdir()] == [path]


@pytest.mark.parametrize("is_removed", [False, True])
def test_a_write_that_fails_leaves_the_old_file_and_its_error(is_removed: bool, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    with pytest.raises(KeyboardInterrupt), atomic_write(path) as file:  # noqa: PT012
        file.write(b"half")
        if is_removed:
            next(other for other in tmp_path.iterdir() if other != path).unlink()
        raise KeyboardInterrupt
    assert path.read_text() == "old"
    assert [*tmp_path.iterdir()] == [path]


def test_folders_are_made_with_durable_entries(tmp_path: Path, synced: set[int]) -> None:
    folder = tmp_path / "a" / "b" / "c"
    make_folder(folder, tmp_path)
    assert folder.is_dir()
    assert synced == {inode(tmp_path), inode(folder.parent.parent), inode(folder.parent)}
    synced.clear()
    make_folder(folder, tmp_path)
    assert not synced
    make_folder(tmp_path / "root", tmp_path / "root")
    assert synced == {inode(tmp_path)}


def test_a_file_and_a_folder_are_synced_alone(tmp_path: Path, synced: set[int]) -> None:
    (tmp_path / "file").write_text("x")
    sync_file(tmp_path / "file")
    assert synced == {inode(tmp_path / "file")}
    sync_folder(tmp_path)
    assert synced == {inode(tmp_path / "file"), inode(tmp_path)}


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs the list of open files")
def test_no_file_stays_open(tmp_path: Path) -> None:
    make_folder(tmp_path / "folder", tmp_path)
    with atomic_write(tmp_path / "folder" / "file"):
        pass
    sync_file(tmp_path / "folder" / "file")
    # other files may be closed meanwhile, such as those that earlier tests left to the garbage collector
    opened = [os.path.realpath(link) for link in Path("/proc/self/fd").iterdir()]
    assert opened
    assert [path for path in opened if path.startswith(str(tmp_path))] == []


def test_the_size_of_a_folder_is_that_of_its_files(tmp_path: Path) -> None:
    assert folder_size(tmp_path) == folder_size(tmp_path / "nothing") == 0
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "one").write_bytes(b"123")
    (tmp_path / "two").write_bytes(b"4567")
    (tmp_path / "broken").symlink_to(tmp_path / "nothing")
    assert folder_size(tmp_path) == 7
