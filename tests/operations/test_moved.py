"""A collection whose folder is gone moves to a folder with its files, and nothing is embedded again."""

from __future__ import annotations

import shutil
import zipfile
from pathlib import Path

import pytest

import bindsearch as bs
from helpers.stores import connect


@pytest.fixture
def old(tmp_path: Path) -> Path:
    old = tmp_path / "old"
    (old / "sub").mkdir(parents=True)
    for i in range(20):
        (old / "sub" / f"{i}.txt").write_text(f"words number {i} of twenty")
    with zipfile.ZipFile(old / "z.zip", "w") as archive:
        archive.writestr("a.txt", "words in an archive")
    return old


def paths(store: bs.Store) -> set[Path]:
    return {hit.path for hit in store.search("words", k=100)}


@pytest.mark.parametrize("is_copy", [False, True])
def test_a_moved_collection_keeps_its_items(old: Path, tmp_path: Path, is_copy: bool) -> None:
    new = tmp_path / "elsewhere" / "new"
    new.parent.mkdir()
    with connect(tmp_path / "store", encoder="null") as store:
        assert store.index(old).added == 21
        ids = {hit.item_id for hit in store.search("words", k=100)}
        if is_copy:
            shutil.copytree(old, new, copy_function=shutil.copyfile)
            shutil.rmtree(old)
        else:
            old.rename(new)
        (new / "more.txt").write_text("more words")
        (new / "sub" / "3.txt").unlink()
        report = store.index(new)
        assert report.notices[0] == f"{old} is gone, and 21 of its files are in {new}: moved with their vectors"
        assert (report.added, report.removed, report.changed, report.segments) == (1, 1, 0, 1)
        assert store.status().collections == (new,)
        assert all(path.is_relative_to(new) for path in paths(store))
        assert len({hit.item_id for hit in store.search("words", k=100)} & ids) == 20
        assert store.index(new).notices == []


def test_a_part_of_the_files_moves_nothing_and_names_the_commands(old: Path, tmp_path: Path) -> None:
    new = tmp_path / "new"
    with connect(tmp_path / "store", encoder="null") as store:
        store.index(old)
        old.rename(new)
        for i in range(5, 20):
            (new / "sub" / f"{i}.txt").unlink()
        report = store.index(new)
        (notice,) = report.notices
        assert f"{old} does not exist, and 6 of 21 of its files that were looked up are in {new}" in notice
        assert f"bindsearch relocate {old} {new}" in notice
        assert f"bindsearch forget {old}" in notice
        assert report.removed == 0
        assert len(paths(store)) >= 21
        (notice,) = store.index(new).notices  # and again, until it is decided
        assert "relocate" not in notice
        store.forget(old)
        assert store.index(new).notices == []


@pytest.mark.parametrize("why", ["other content", "parent is missing", "parent is empty"])
def test_files_that_may_be_others_are_not_moved(old: Path, tmp_path: Path, why: str) -> None:
    root = tmp_path / "disk" / "media"
    root.parent.mkdir()
    old.rename(root)
    new = tmp_path / "new"
    with connect(tmp_path / "store", encoder="null") as store:
        store.index(root)
        (tmp_path / "disk" / "other").mkdir()
        root.rename(new)
        if why == "other content":
            for path in (new / "sub").iterdir():
                path.write_bytes(b"W" + path.read_bytes()[1:])
        else:
            (tmp_path / "disk" / "other").rmdir()
        if why == "parent is missing":
            (tmp_path / "disk").rmdir()
        (notice,) = store.index(new).notices
        assert notice.startswith(f"{root} does not exist, and 21 of 21")
        assert set(store.status().collections) == {root, new}


def test_unrelated_folders_are_indexed_without_a_notice(old: Path, tmp_path: Path) -> None:
    new = tmp_path / "new"
    new.mkdir()
    (new / "a.txt").write_text("a dog")
    with connect(tmp_path / "store", encoder="null") as store:
        store.index(old)
        shutil.rmtree(old)
        assert store.index(new).notices == []
        assert len(store.status().collections) == 2
