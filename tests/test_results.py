"""What is said of hits whose files have changed since."""

from __future__ import annotations

import copy
import os
import pickle
import zipfile
from dataclasses import FrozenInstanceError, asdict, fields, replace
from pathlib import Path

import pytest

from bindsearch.results import missing_paths
from bindsearch.types import Hit, Modality
from helpers.stores import connect


@pytest.fixture
def media(tmp_path: Path) -> Path:
    folder = tmp_path / "media"
    (folder / "inner").mkdir(parents=True)
    for name in ("a.txt", "inner/b.txt", "c.txt"):
        (folder / name).write_text(f"note {name}")
    with zipfile.ZipFile(folder / "old.zip", "w") as archive:
        archive.writestr("letters/d.txt", "a letter")
    return folder


def test_paths_of_deleted_and_moved_files_are_missing(media: Path, tmp_path: Path) -> None:
    with connect(tmp_path / "store", encoder="null") as store:
        store.index(media)
        hits = store.search("note", k=10)
        assert len(hits) == 4
        assert missing_paths(hits) == set()
        (media / "a.txt").unlink()
        (media / "inner").rename(media / "other")
        assert missing_paths(hits) == {media / "a.txt", media / "inner" / "b.txt"}
        (media / "old.zip").unlink()
        (media / "c.txt").unlink()
        (media / "c.txt").mkdir()
        assert missing_paths(hits) == {hit.path for hit in hits}


@pytest.mark.skipif(os.geteuid() == 0, reason="root may look into every folder")
def test_a_file_in_a_closed_folder_is_not_missing(media: Path, tmp_path: Path) -> None:
    with connect(tmp_path / "store", encoder="null") as store:
        store.index(media / "inner")
        hits = store.search("note")
    (media / "inner").chmod(0)
    try:
        assert missing_paths(hits) == set()
    finally:
        (media / "inner").chmod(0o700)


def test_a_hit_is_the_same_data_whether_its_path_was_read_or_not() -> None:
    def fresh() -> Hit:
        return Hit(1, "/media/a.jpg", Modality.IMAGE, 0.5, 0.5, 3, Path("/media"))  # type: ignore[arg-type]  # as searches

    read = Hit(1, Path("/media/a.jpg"), Modality.IMAGE, 0.5, 0.5, 3, Path("/media"))
    assert fresh().path == Path("/media/a.jpg")
    assert isinstance(fresh().path, Path)
    assert fresh() == read
    assert hash(fresh()) == hash(read)
    assert repr(fresh()) == repr(read)
    assert asdict(fresh()) == asdict(read)
    assert pickle.loads(pickle.dumps(fresh())) == copy.deepcopy(fresh()) == copy.copy(fresh()) == read
    assert replace(fresh(), rank=2) == replace(read, rank=2)
    assert fields(Hit)[1].name == "path"
    with pytest.raises(FrozenInstanceError):
        fresh().path = Path("/other")  # type: ignore[misc]
