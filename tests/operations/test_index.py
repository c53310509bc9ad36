"""A store follows its folders: what is as it was costs nothing, what has moved or is there twice keeps its vectors."""

from __future__ import annotations

import io
import math
import os
import shutil
import tarfile
import time
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest

import bindsearch as bs
from bindsearch.encoders.null import NullEncoder
from bindsearch.ingest import collect
from bindsearch.media import Media
from bindsearch.storage.file_state import storable_ns
from bindsearch.types import Modality
from helpers import media_files
from helpers.stores import connect


class Counting(NullEncoder):
    """Counts what is decoded; local to this process, so files are decoded here."""

    def __init__(self) -> None:
        self.prepared = 0

    def __reduce__(self) -> tuple[object, ...]:
        raise TypeError("stays here")

    def prepare(self, media: Media) -> np.ndarray:
        self.prepared += 1
        return super().prepare(media)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "media"
    (root / "sub").mkdir(parents=True)
    for n in range(5):
        (root / f"{n}.txt").write_text(f"text number {n}")
        (root / "sub" / f"{n + 5}.txt").write_text(f"text number {n + 5}")
    return root


@pytest.fixture
def encoder() -> Counting:
    return Counting()


@pytest.fixture
def store(tmp_path: Path, encoder: Counting) -> Iterator[bs.Store]:
    with connect(tmp_path / "store", encoder=encoder) as opened:
        yield opened


def vector_ids(store: bs.Store) -> dict[str, list[int]]:
    """Vectors of each item by its relative path."""
    items, segments = store._reader.current().snapshot.live_tables()
    paths = {row["item_id"]: row["rel_path"] for row in items.to_pylist()}
    found: dict[str, list[int]] = {}
    for row in segments.to_pylist():
        found.setdefault(paths[row["item_id"]], []).append(row["vector_id"])
    return found


def item_ids(store: bs.Store) -> dict[str, int]:
    return {row["rel_path"]: row["item_id"] for row in store._reader.current().snapshot.live_tables()[0].to_pylist()}


def counts(report: bs.IndexReport) -> Sequence[int]:
    return report.added, report.changed, report.moved, report.removed, report.unchanged, report.failed


def test_an_unchanged_file_is_not_even_read(store: bs.Store, folder: Path, encoder: Counting) -> None:
    store.index(folder)
    (folder / "3.txt").chmod(0o000)
    assert counts(store.index(folder)) == (0, 0, 0, 0, 10, 0)
    assert encoder.prepared == 10


def test_a_file_that_was_only_touched_is_read_and_not_decoded(store: bs.Store, folder: Path, encoder: Counting) -> None:
    store.index(folder)
    os.utime(folder / "3.txt", (1, 1))
    assert counts(store.index(folder)) == (0, 0, 0, 0, 10, 0)
    (folder / "4.txt").replace(folder / "4.tmp")
    shutil.copy2(folder / "4.tmp", folder / "4.txt")  # same size and time, another inode
    (folder / "4.tmp").unlink()
    assert counts(store.index(folder)) == (0, 0, 0, 0, 10, 0)
    assert encoder.prepared == 10


def test_moved_files_and_folders_keep_item_and_vectors(store: bs.Store, folder: Path, encoder: Counting) -> None:
    store.index(folder)
    vectors, items = vector_ids(store), item_ids(store)
    (folder / "3.txt").rename(folder / "renamed.txt")
    (folder / "sub").rename(folder / "other")
    assert counts(store.index(folder)) == (0, 0, 6, 0, 4, 0)
    assert encoder.prepared == 10
    assert vector_ids(store)["renamed.txt"] == vectors["3.txt"]
    assert vector_ids(store)["other/7.txt"] == vectors["sub/7.txt"]
    assert item_ids(store)["other/7.txt"] == items["sub/7.txt"]
    assert [hit.path for hit in store.search("text number 7", k=1)] == [folder / "other" / "7.txt"]
    assert len(item_ids(store)) == 10


def test_a_copy_shares_vectors_and_is_an_item_of_its_own(store: bs.Store, folder: Path, encoder: Counting) -> None:
    store.index(folder)
    shutil.copy(folder / "3.txt", folder / "copy.txt")
    assert counts(store.index(folder)) == (1, 0, 0, 0, 10, 0)
    assert encoder.prepared == 10
    assert vector_ids(store)["copy.txt"] == vector_ids(store)["3.txt"]
    assert {hit.path.name for hit in store.search("text number 3", k=2, copies=True)} == {"3.txt", "copy.txt"}
    (folder / "3.txt").unlink()
    assert counts(store.index(folder)) == (0, 0, 0, 1, 10, 0)
    assert [hit.path.name for hit in store.search("text number 3", k=1)] == ["copy.txt"]
    store.optimize(force=True)
    assert [hit.path.name for hit in store.search("text number 3", k=1)] == ["copy.txt"]


def test_copies_that_come_together_are_embedded_once(store: bs.Store, folder: Path, encoder: Counting) -> None:
    for n in range(30):
        shutil.copy(folder / "3.txt", folder / f"copy-{n}.txt")
    assert counts(store.index(folder)) == (40, 0, 0, 0, 0, 0)
    assert encoder.prepared == 10
    assert len({tuple(ids) for path, ids in vector_ids(store).items() if "copy" in path or path == "3.txt"}) == 1


def test_copies_of_a_file_that_fails_fail_with_it(store: bs.Store, folder: Path) -> None:
    for n in range(4):
        (folder / f"bad {n}.png").write_bytes(b"\x89PNG\r\n\x1a\n no picture")
    report = store.index(folder)
    assert (report.added, report.failed) == (10, 4)
    assert len({failure.reason for failure in report.failures}) == 1


def test_two_files_that_change_places(store: bs.Store, folder: Path, encoder: Counting) -> None:
    """Each one's new content is what the other is losing."""
    store.index(folder)
    vectors = vector_ids(store)
    (folder / "1.txt").rename(folder / "x")
    (folder / "2.txt").rename(folder / "1.txt")
    (folder / "x").rename(folder / "2.txt")
    assert counts(store.index(folder)) == (0, 2, 0, 0, 8, 0)
    assert [hit.path.name for hit in store.search("text number 1", k=1)] == ["2.txt"]
    assert [hit.path.name for hit in store.search("text number 2", k=1)] == ["1.txt"]
    assert vector_ids(store)["3.txt"] == vectors["3.txt"]


def test_a_file_written_anew_whose_old_content_lives_on_elsewhere(store: bs.Store, folder: Path) -> None:
    store.index(folder)
    (folder / "1.txt").rename(folder / "was 1.txt")
    (folder / "1.txt").write_text("something new")
    report = store.index(folder)
    assert (report.added, report.changed, report.failed) == (1, 1, 0)
    assert [hit.path.name for hit in store.search("text number 1", k=1)] == ["was 1.txt"]
    assert [hit.path.name for hit in store.search("something new", k=1)] == ["1.txt"]


def test_a_changed_file_is_embedded_anew_and_its_old_vector_is_dead(store: bs.Store, folder: Path) -> None:
    store.index(folder)
    old = vector_ids(store)["3.txt"]
    (folder / "3.txt").write_text("another text")
    assert counts(store.index(folder)) == (0, 1, 0, 0, 9, 0)
    assert old[0] not in {key for ids in vector_ids(store).values() for key in ids}
    assert store.search("text number 3", k=1)[0].cosine < 0.99


def test_new_facts_about_a_file_cost_no_decoding(store: bs.Store, folder: Path, encoder: Counting) -> None:
    store.index(folder)
    (folder / "3.txt.json").write_text('{"columns": {"rating": 5}}')
    assert counts(store.index(folder)) == (0, 1, 0, 0, 9, 0)
    assert encoder.prepared == 10
    assert [hit.path.name for hit in store.search("text", filter="rating = 5")] == ["3.txt"]
    (folder / "3.txt.json").write_text('{"columns": {"rating": 4}, "caption": "a caption"}')
    assert store.index(folder).changed == 1
    assert encoder.prepared == 13  # the query, the text and its caption


def test_a_folder_that_is_suddenly_empty_is_believed_with_prune_only(store: bs.Store, folder: Path) -> None:
    store.index(folder)
    shutil.rmtree(folder)
    folder.mkdir()
    report = store.index(folder)
    assert counts(report) == (0, 0, 0, 0, 0, 0)
    assert report.notices == [
        f"{folder} is empty: its 10 indexed files stay in the store; if they are really deleted, run again with --prune"
    ]
    assert store.index(folder, prune=True).removed == 10
    assert store.status().items == {}


def test_a_folder_inside_that_is_suddenly_empty_is_believed_with_prune_only(store: bs.Store, folder: Path) -> None:
    """What a disk that is not mounted leaves behind; a folder that is no more has been removed."""
    store.index(folder)
    for path in (folder / "sub").iterdir():
        path.unlink()
    report = store.index(folder)
    assert (report.removed, report.unchanged, len(report.notices)) == (0, 5, 1)
    assert str(folder / "sub") in report.notices[0]
    assert store.index(folder, prune=True).removed == 5
    shutil.rmtree(folder / "sub")
    (folder / "1.txt").rename(folder.parent / "away.txt")
    assert store.index(folder).removed == 1


def test_a_glob_of_a_folder_means_all_in_it(store: bs.Store, folder: Path) -> None:
    assert store.index(folder, exclude=["sub/"]).added == 5
    assert store.index(folder, include=["sub"]).added == 5
    with pytest.raises(bs.UsageError, match="make it relative to the indexed folder"):
        store.index(folder, exclude=["/media/**"])


def test_a_file_that_is_named_and_left_out_is_told(store: bs.Store, folder: Path) -> None:
    (folder / "x.xyz").write_text("?")
    report = store.index(folder / "x.xyz")
    assert report.notices[0] == f"{folder / 'x.xyz'} is skipped: not media: .xyz"
    (folder / "empty").mkdir()
    assert store.index(folder / "empty").notices == ["no indexable files found"]


def test_the_folder_that_is_indexed_names_a_modality_too(store: bs.Store, tmp_path: Path) -> None:
    from PIL import Image

    (tmp_path / "thermal").mkdir()
    Image.linear_gradient("L").save(tmp_path / "thermal" / "a.png")
    store.index(tmp_path / "thermal")
    assert store.status().items == {Modality.THERMAL: 1}


def test_what_lies_outside_of_include_and_exclude_stays_as_it_is(store: bs.Store, folder: Path) -> None:
    store.index(folder)
    (folder / "1.txt").write_text("changed")
    (folder / "2.txt").unlink()
    (folder / "sub" / "new.txt").write_text("new")
    assert counts(store.index(folder, include=["sub/**"])) == (1, 0, 0, 0, 5, 0)
    assert counts(store.index(folder, exclude=["2.txt"])) == (0, 1, 0, 0, 9, 0)
    assert counts(store.index(folder)) == (0, 0, 0, 1, 10, 0)


def test_what_an_ignore_file_names_is_left_out_and_goes(store: bs.Store, folder: Path) -> None:
    store.index(folder)
    (folder / ".bindsearchignore").write_text("sub/\n1.*\n")
    assert counts(store.index(folder)) == (0, 0, 0, 6, 4, 0)
    (folder / ".bindsearchignore").write_text("sub/*\n!sub/7.txt\n")
    report = store.index(folder)
    assert (report.added, report.unchanged) == (2, 4)
    assert set(item_ids(store)) == {"0.txt", "1.txt", "2.txt", "3.txt", "4.txt", "sub/7.txt"}


def test_links_that_form_a_loop_and_special_files_are_left_out(store: bs.Store, folder: Path) -> None:
    (folder / "loop").symlink_to(folder)
    (folder / "sub" / "up").symlink_to("..")
    (folder / "self").symlink_to("self")
    os.mkfifo(folder / "pipe.txt")
    (folder / "linked.txt").symlink_to("1.txt")
    report = store.index(folder)
    assert report.added == 11  # a link to a file is a second copy of it
    assert store.status().segments == {Modality.TEXT: 11}
    assert vector_ids(store)["linked.txt"] == vector_ids(store)["1.txt"]


class Slow(Counting):
    """A tower so slow that a batch is committed after each of its."""

    def encode(self, modality: Modality, prepared: Sequence[np.ndarray]) -> np.ndarray:
        time.sleep(collect.COMMIT_SECONDS + 0.1)
        return super().encode(modality, prepared)


def test_copies_whose_first_one_is_committed_before_them(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(collect, "COMMIT_SECONDS", 0.1)
    for n in range(5):
        shutil.copy(folder / "3.txt", folder / f"copy-{n}.txt")
    with connect(tmp_path / "store", encoder=Slow()) as store:
        assert counts(store.index(folder)) == (15, 0, 0, 0, 0, 0)
        assert len(vector_ids(store)) == 15
        assert store.index(folder).unchanged == 15


def test_a_file_that_changes_while_it_is_read_is_taken_in_the_next_time(tmp_path: Path, folder: Path) -> None:
    class Editing(Counting):
        def prepare(self, media: Media) -> np.ndarray:
            if self.prepared == 0:
                (folder / "3.txt").write_text("edited meanwhile")
                (folder / "3 copy.txt").write_text("edited meanwhile")
            return super().prepare(media)

    shutil.copy(folder / "3.txt", folder / "3 copy.txt")
    with connect(tmp_path / "store", encoder=Editing()) as store:
        report = store.index(folder)
        assert {failure.reason for failure in report.failures} <= {
            "the file changed while it was read",
            "the file is empty",
        }
        report = store.index(folder)
        assert report.failed == 0
        assert {hit.path.name for hit in store.search("edited meanwhile", k=2, copies=True)} == {"3.txt", "3 copy.txt"}
        assert {hit.text for hit in store.search("edited meanwhile", k=2, copies=True)} == {"edited meanwhile"}


def test_a_copy_of_a_video_without_pictures_is_a_sound_too(store: bs.Store, folder: Path) -> None:
    media_files.write_sound(folder / "a.m4a", media_files.tone(1.0))
    (folder / "a.m4a").rename(folder / "a.mp4")
    store.index(folder, rules=["video=*.mp4"])
    shutil.copy(folder / "a.mp4", folder / "b.mp4")
    (folder / "a.mp4.json").write_text('{"columns": {"rating": 1}}')
    store.index(folder, rules=["video=*.mp4"])
    assert store.status().items == {Modality.TEXT: 10, Modality.AUDIO: 2}


YEAR_1600, YEAR_2300 = -11_676_096_000, 10_413_792_000
"""Seconds since 1970 beyond the 64 bits of nanoseconds of the catalog; ext4 has no times before 1901."""


def test_files_with_broken_clocks_do_not_stop_the_run(store: bs.Store, folder: Path, encoder: Counting) -> None:
    os.utime(folder / "1.txt", (YEAR_1600, YEAR_1600))
    os.utime(folder / "2.txt", (YEAR_2300, YEAR_2300))
    (folder / "3.txt.json").write_text('{"caption": "three"}')
    os.utime(folder / "3.txt.json", (YEAR_2300, YEAR_2300))
    assert {plan.path.name for plan in store.plan_index(folder)} >= {"1.txt", "2.txt", "3.txt"}
    assert counts(store.index(folder)) == (10, 0, 0, 0, 0, 0)
    assert counts(store.index(folder)) == (0, 0, 0, 0, 10, 0)
    assert counts(store.index(folder / "2.txt")) == (0, 0, 0, 0, 1, 0)
    found = {hit.path.name for hit in store.search("a", k=20, filter="modified > '2262-01-01'")}
    assert found == {"2.txt"}
    with bs.connect(folder.parent / "copy", encoder=encoder) as copy:
        store.export(folder.parent / "out")
        assert copy.import_vectors(folder.parent / "out").added == 10


def test_archives_with_broken_clocks_do_not_stop_the_run(store: bs.Store, folder: Path) -> None:
    for number, seconds in enumerate((-1, YEAR_1600, YEAR_2300, 2**80, 1e300, math.nan)):
        with tarfile.open(folder / f"{number}.tar", "w", format=tarfile.PAX_FORMAT) as archive:
            for name in ("a.txt", "b.txt"):
                member = tarfile.TarInfo(name)
                content = f"{name} {number}".encode()
                member.size = len(content)
                member.pax_headers = {"mtime": str(seconds)}
                archive.addfile(member, io.BytesIO(content))
        os.utime(folder / f"{number}.tar", (YEAR_2300, YEAR_2300))
    with zipfile.ZipFile(folder / "z.zip", "w") as packed:
        packed.writestr(zipfile.ZipInfo("a.txt", (2107, 12, 31, 23, 59, 59)), "zip a")
    assert counts(store.index(folder)) == (10 + 13, 0, 0, 0, 0, 0)
    assert counts(store.index(folder)) == (0, 0, 0, 0, 23, 0)


@pytest.mark.parametrize("time_ns", [0, -1, 2**63 - 1, 2**63, -(2**63), -(2**63) - 1, 10**30, -(10**30)])
def test_times_are_clamped_to_what_the_catalog_holds(time_ns: int) -> None:
    stored = storable_ns(time_ns)
    assert -(2**63) <= stored < 2**63
    assert stored == time_ns or abs(time_ns) >= 2**63
