"""A folder that was moved keeps its vectors: only the root of its collection changes."""

from __future__ import annotations

import shutil
import zipfile
from pathlib import Path

import pytest

from bindsearch.errors import UsageError
from bindsearch.operations.compact import locked_catalog
from bindsearch.storage.catalog import CatalogTransaction
from helpers.command import Run
from helpers.stores import connect


@pytest.fixture
def media(tmp_path: Path) -> Path:
    """Return a folder of ten texts, one of them in an archive."""
    folder = tmp_path / "media"
    (folder / "inner").mkdir(parents=True)
    for number in range(9):
        (folder / "inner" / f"{number}.txt").write_text(f"note {number}" * (number + 1))
    with zipfile.ZipFile(folder / "old.zip", "w") as archive:
        archive.writestr("letter.txt", "a letter")
    return folder


@pytest.fixture
def store(media: Path, tmp_path: Path) -> Path:
    with connect(tmp_path / "store", encoder="null") as opened:
        assert opened.index(media).added == 10
    return tmp_path / "store"


def test_a_moved_folder_is_searched_and_not_embedded_again(
    media: Path, store: Path, tmp_path: Path, bindsearch_command: Run
) -> None:
    with connect(store) as opened:
        before = [(hit.item_id, hit.score) for hit in opened.search("note 3", k=10)]
    new = tmp_path / "disk" / "my media"
    new.parent.mkdir()
    shutil.copytree(media, new)  # other inodes, as on another disk
    shutil.rmtree(media)
    done = bindsearch_command(["relocate", media, new])
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{media} is now {new}\n10 items; 10 of 10 sampled files found there\n"
    with connect(store) as opened:
        hits = opened.search("note 3", k=10)
        assert [(hit.item_id, hit.score) for hit in hits] == before
        assert all(hit.path.is_relative_to(new) for hit in hits)
        report = opened.index(new)
        assert (report.added, report.changed, report.moved, report.removed, report.unchanged) == (0, 0, 0, 0, 10)
        assert opened.status().collections == (new,)
        assert opened.verify(check_media=True).findings == ()


def test_collections_below_a_moved_folder_move_with_it(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / "media" / name).mkdir(parents=True)
        (tmp_path / "media" / name / "note.txt").write_text(f"note {name}")
    with connect(tmp_path / "store", encoder="null") as store:
        store.index(tmp_path / "media" / "a", tmp_path / "media" / "b")
        (tmp_path / "media").rename(tmp_path / "other")
        report = store.relocate(tmp_path / "media", tmp_path / "other")
        assert sorted(report.collections.values()) == [tmp_path / "other" / "a", tmp_path / "other" / "b"]
        assert {hit.path.parent.parent for hit in store.search("note")} == {tmp_path / "other"}


def test_a_wrong_folder_is_refused_and_nothing_changes(media: Path, store: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "x.txt").write_text("another text")
    with connect(store) as opened:
        opened.index(tmp_path / "other")
        for old, new, message in (
            (media, tmp_path / "nowhere", "nowhere does not exist"),
            (media, tmp_path / "empty", "0 of 10 are there with their size"),
            (media, tmp_path / "other", "is a collection of the store already"),
            (media, tmp_path, "is a collection of the store already"),
            (tmp_path / "medias", tmp_path / "empty", "is not a collection of the store: did you mean"),
            (media / "inner", tmp_path / "empty", "is in the collection"),
            (media, "", "the path is empty"),
        ):
            with pytest.raises(UsageError, match=message):
                opened.relocate(old, new)
        assert set(opened.status().collections) == {media, tmp_path / "other"}


def test_changed_files_are_counted_and_embedded_by_the_next_run(media: Path, store: Path, tmp_path: Path) -> None:
    new = media.rename(tmp_path / "new")
    media.symlink_to(new)
    (new / "inner" / "0.txt").write_text("quite another text")
    (new / "inner" / "1.txt").unlink()
    with connect(store) as opened:
        report = opened.relocate(media, new)
        assert (report.items, report.sampled, report.found) == (10, 10, 8)
        report_of_run = opened.index(new)
    assert (report_of_run.added, report_of_run.changed, report_of_run.removed) == (0, 1, 1)


def test_a_crash_after_the_transaction_leaves_it_done(media: Path, store: Path, tmp_path: Path) -> None:
    new = media.rename(tmp_path / "new")
    with locked_catalog(store) as (_, catalog):  # what a process that is killed before it publishes has done
        (key,) = catalog.collections()
        catalog.commit(CatalogTransaction(moved_collections={key: new}))
    with connect(store) as opened:
        assert {hit.collection for hit in opened.search("note")} == {media}
        report = opened.index(new)
        assert (report.added, report.unchanged) == (0, 10)
        assert {hit.collection for hit in opened.search("note")} == {new}


def test_a_folder_that_was_indexed_while_it_was_empty_is_taken(media: Path, store: Path, tmp_path: Path) -> None:
    (tmp_path / "moved").mkdir()
    with connect(store) as opened:
        opened.index(tmp_path / "moved")
        (tmp_path / "moved").rmdir()
        media.rename(tmp_path / "moved")
        assert opened.relocate(media, tmp_path / "moved").found
        assert opened.status().collections == (tmp_path / "moved",)
        assert not opened.verify().findings
