"""Moving a store to another encoder: all is embedded anew, searches go on meanwhile, an interrupted run goes on."""

from __future__ import annotations

import errno
import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import bindsearch as bs
from bindsearch.encoders.null import NullEncoder
from bindsearch.errors import StoreError
from bindsearch.indexes.types import IndexSettings
from bindsearch.media import Media
from bindsearch.operations import reindex as reindexing
from bindsearch.operations.verify.check import verify
from bindsearch.reports import Progress
from bindsearch.search.scoring.calibration_file import CALIBRATION_FILE, read_calibration, write_calibration
from bindsearch.search.scoring.probability import DEFAULT_MODEL
from bindsearch.types import Modality
from helpers.media_files import tone, write_sound
from helpers.stores import connect


class Other(NullEncoder):
    """Another space."""

    name = "other"
    dim = 96
    digest = "other-1"

    def prepare(self, media: Media) -> np.ndarray:
        return super().prepare(media) + np.uint64(1)


def stop_in_the_middle(progress: Progress) -> None:
    """Raise KeyboardInterrupt, like a user's Ctrl-C."""
    if progress.done >= 5:
        raise KeyboardInterrupt


@pytest.fixture
def folders(tmp_path: Path) -> list[Path]:
    roots = [tmp_path / "one", tmp_path / "two"]
    for root in roots:
        root.mkdir()
        for n in range(6):
            (root / f"{n}.txt").write_text(f"text {n} of {root.name}")
    return roots


@pytest.fixture
def path(tmp_path: Path, folders: list[Path]) -> Path:
    with connect(tmp_path / "store", encoder="null", segment_s={"audio": 3.0}) as store:
        store.index(*folders, index_settings=IndexSettings(recall=0.97))
    return tmp_path / "store"


def test_a_store_is_moved_to_another_encoder(path: Path, folders: list[Path]) -> None:
    with connect(path) as reader, connect(path) as store:
        assert reader.search("text 3 of two", k=1)[0].path == folders[1] / "3.txt"
        report = store.reindex(Other())
        assert (report.added, report.failed) == (12, 0)
        assert store.search("text 3 of two", k=1)[0].path == folders[1] / "3.txt"
        assert store.config.encoder == "other"
        assert store.config.audio_segment_s == 3.0
        assert store.index_settings.recall == 0.97
        assert store.status().dim == 96
    with connect(path, encoder="null") as old, pytest.raises(bs.StoreError, match="vectors of encoder other"):
        old.search("text")
    with connect(path, encoder=Other()) as store:
        assert store.index(*folders).unchanged == 12
    assert [entry.name for entry in path.parent.iterdir() if entry.name.startswith(".")] == []


def test_items_whose_files_are_gone_are_not_lost_in_silence(path: Path, folders: list[Path]) -> None:
    (folders[0] / "3.txt").unlink()
    shutil.move(folders[1], folders[1].with_name("away"))
    with connect(path) as store:
        with pytest.raises(bs.UsageError, match=r"7 of the store's items have no file any more .*one/3\.txt.*--prune"):
            store.reindex(Other())
        assert store.config.encoder == "null"
        assert len(store.search("text", k=20)) == 12
        shutil.move(folders[1].with_name("away"), folders[1])
        assert store.reindex(Other(), prune=True).added == 11
        assert store.status().items == {Modality.TEXT: 11}


def test_an_interrupted_move_goes_on_where_it_was(path: Path) -> None:
    with connect(path) as store:
        with pytest.raises(KeyboardInterrupt):
            store.reindex(Other(), on_progress=stop_in_the_middle)
        assert len(store.search("text", k=20)) == 12
        report = store.reindex(Other())
        assert report.added + report.unchanged == 12
        assert report.unchanged > 0
        assert store.status().items == {Modality.TEXT: 12}


def test_a_move_that_was_interrupted_before_it_wrote_anything_starts_again(path: Path) -> None:
    path.with_name(f".{path.name}.reindex").mkdir()
    with connect(path) as store:
        assert store.reindex(Other()).added == 12


def test_what_is_left_of_a_store_being_removed_is_not_taken_for_the_new_one(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    remove = shutil.rmtree

    def stop(folder: Path, ignore_errors: bool = False) -> None:
        if folder.name.endswith(".reindex"):
            raise KeyboardInterrupt
        remove(folder, ignore_errors)

    with connect(path) as store:
        monkeypatch.setattr(shutil, "rmtree", stop)
        with pytest.raises(KeyboardInterrupt):
            store.reindex("null")
        monkeypatch.undo()
        for left in sorted(path.with_name(f".{path.name}.reindex").rglob("*.arrow"))[::2]:
            left.unlink()  # as a crash in the middle of it leaves it
    with connect(path) as store:
        report = store.reindex("null")
        assert (report.added, report.unchanged) == (12, 0)
        assert verify(path).is_clean
        assert len(store.search("text", k=20)) == 12


def test_an_unfinished_store_that_cannot_be_read_now_is_kept(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with connect(path) as store:
        with pytest.raises(KeyboardInterrupt):
            store.reindex(Other(), on_progress=stop_in_the_middle)
        real = os.open

        def fail(name: str | Path, flags: int, *arguments: int, **options: int) -> int:
            if str(name).endswith(".reindex/store.json"):
                raise OSError(errno.EIO, os.strerror(errno.EIO), str(name))
            return real(name, flags, *arguments, **options)

        with monkeypatch.context() as patch:
            patch.setattr(os, "open", fail)
            with pytest.raises(StoreError, match="Input/output error"):
                store.reindex(Other())
        assert store.reindex(Other()).unchanged > 0


def test_a_new_store_that_cannot_be_moved_leaves_the_old_in_its_place(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    new = path.with_name(f".{path.name}.reindex")
    real = Path.rename

    def rename(source: Path, target: Path) -> Path:
        if source == new:
            raise OSError(errno.EBUSY, os.strerror(errno.EBUSY), str(source))
        return real(source, target)

    with connect(path) as store:
        with monkeypatch.context() as patch:
            patch.setattr(reindexing, "_exchange", lambda *_: False)
            patch.setattr(Path, "rename", rename)
            with pytest.raises(StoreError, match="cannot be moved"):
                store.reindex(Other())
        assert len(store.search("text", k=20)) == 12
        assert store.reindex(Other()).unchanged == 12
        assert store.config.encoder == "other"
    assert sorted(entry.name for entry in path.parent.iterdir()) == ["one", "store", "two"]


def test_the_same_encoder_embeds_anew_too_and_what_was_given_up_stays(path: Path) -> None:
    given_up = path / "lost" / "unknown" / "vectors" / "text" / "1-1.arrow"
    given_up.parent.mkdir(parents=True)
    given_up.write_bytes(b"somebody's vectors")
    with connect(path) as store:
        assert store.reindex("null").added == 12
        assert given_up.read_bytes() == b"somebody's vectors"
        assert store.verify().findings == ()


def test_failed_files_are_tried_again_alone(path: Path, folders: list[Path]) -> None:
    (folders[0] / "bad.png").write_bytes(b"\x89PNG\r\n\x1a\n nothing")
    (folders[0] / "motion.csv").write_text(
        "acc_x,acc_y,acc_z,gyro_x,gyro_y,gyro_z\n" + "".join(f"{n % 5 / 10},0,9.8,0,0,0\n" for n in range(300))
    )
    (folders[0] / "5.txt").write_text("changed since")
    with connect(path) as store:
        assert store.index(folders[0]).failed == 2
        (folders[0] / "4.txt").write_text("changed again")
        report = store.retry()
        assert (report.failed, report.added, report.changed, report.removed) == (2, 0, 0, 0)
        report = store.retry(imu_rate_hz=50)
        assert (report.failed, report.added, report.changed) == (1, 1, 0)
        (folders[0] / "bad.png").unlink()
        report = store.retry()
        assert (report.failed, report.added) == (0, 0)
        assert store.status().failures == ()


def test_a_store_is_not_replaced_by_one_that_has_less(path: Path, folders: list[Path]) -> None:
    class Flaky(Other):
        def prepare(self, media: Media) -> np.ndarray:
            raise OSError(5, "Input/output error")

    class Deaf(Other):
        modalities = frozenset({Modality.IMAGE})

    with connect(path) as store:
        with pytest.raises(bs.UsageError, match=r"12 of the store's items cannot be embedded now .*Input/output error"):
            store.reindex(Flaky())
        with pytest.raises(bs.UsageError, match=r"12 of the store's items have modalities"):
            store.reindex(Deaf())
        assert len(store.search("text", k=20)) == 12


@pytest.mark.parametrize("catalog", ["missing", "older"])
def test_a_store_is_not_replaced_by_what_an_older_catalog_knows(
    catalog: str, path: Path, folders: list[Path], tmp_path: Path
) -> None:
    names = ("catalog.duckdb", "catalog.duckdb.wal")
    for name in names:
        shutil.copy(path / name, tmp_path / name)
    (tmp_path / "three").mkdir()
    (tmp_path / "three" / "later.txt").write_text("a later text")
    with connect(path) as store:
        store.index(tmp_path / "three")
    for name in names:
        (path / name).unlink()
        if catalog == "older":
            shutil.copy(tmp_path / name, path / name)
    with connect(path) as store:
        with pytest.raises(StoreError, match="bindsearch recover"):
            store.reindex(Other(), prune=True)
        assert (path / "catalog.duckdb").exists() == (catalog == "older")
        store.recover()
        assert store.reindex(Other()).added == 13


def test_files_without_content_are_not_lost_items(tmp_path: Path) -> None:
    media = tmp_path / "media"
    media.mkdir()
    (media / "a.txt").write_text("a dog")
    write_sound(media / "tone.wav", tone(1.0))
    with connect(tmp_path / "store", encoder="null") as store:
        store.index(media)
        write_sound(media / "tone.wav", np.zeros(16_000, np.float32))  # as an older version had indexed it
        report = store.reindex("null")
        assert [file.path.name for file in report.without_content] == ["tone.wav"]
        assert store.status().items == {Modality.TEXT: 1}


def test_a_calibration_stays_with_the_same_encoder_only(path: Path) -> None:
    with connect(path) as store:
        config = store.config
        write_calibration(path / CALIBRATION_FILE, DEFAULT_MODEL, config, {})
        store.reindex("null")
        assert read_calibration(path / CALIBRATION_FILE, store.config) == DEFAULT_MODEL
        write_calibration(path / CALIBRATION_FILE, DEFAULT_MODEL, replace(config, weights_digest="other"), {})
        store.reindex("null")
        assert not (path / CALIBRATION_FILE).exists()
