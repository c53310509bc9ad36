"""A sharded store holds what a store holds: after additions, changes, deletions and renames, of all kinds of files."""

from __future__ import annotations

import random
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

import bindsearch as bs
from bindsearch.operations.index import IndexRequest
from bindsearch.shards.index import ShardJob, index_shard, open_tools, retry_shards
from bindsearch.shards.layout import shard_of
from helpers.media_files import tone, two_tone, write_picture, write_sound
from helpers.sharded import OPTIONS, assert_equal, counts, in_other_shard, index, items_of, make_shards
from helpers.stores import connect
from helpers.trees import change, write_tree


@pytest.mark.parametrize("seed", [3, *(pytest.param(seed, marks=pytest.mark.slow) for seed in (0, 1, 2, 4, 5, 6))])
def test_the_shards_together_hold_what_one_store_holds(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    media = tmp_path / "media"
    write_tree(media, rng)
    n = rng.choice([1, 2, 3, 7])
    root = make_shards(tmp_path / "shards", n)
    with connect(tmp_path / "store", encoder="null") as store:
        for step in range(3):
            if step:
                change(media, rng)
            ours, single = index(root, media), store.index(media)
            assert_equal(root, store.path)
            same = counts(ours), counts(single)
            if step == 0:
                assert same[0] == same[1]
            else:  # a copy that moves is a new file, or a moved one, by chance
                assert {**same[0], "items": 0, "added": 0, "moved": 0, "removed": 0} == {
                    **same[1],
                    "items": 0,
                    "added": 0,
                    "moved": 0,
                    "removed": 0,
                }
            again = index(root, media)
            assert not again.items
            assert again.unchanged == sum(store.status().items.values())


@pytest.fixture
def words(tmp_path: Path) -> Path:
    folder = tmp_path / "words"
    folder.mkdir()
    for number in range(12):
        (folder / f"{number}.txt").write_text(f"a text with the number {number}")
    write_sound(folder / "tone.wav", tone(12.0))
    return folder


def test_a_file_that_is_renamed_into_another_shard_keeps_its_vectors(tmp_path: Path, words: Path) -> None:
    root = make_shards(tmp_path / "shards", 3)
    index(root, words)
    for path in sorted(words.iterdir())[::2]:
        path.rename(in_other_shard(words, path, 3))
    report = index(root, words)
    assert (report.segments, report.moved, report.moved_between, report.removed, report.added) == (0, 7, 7, 0, 0)
    with connect(tmp_path / "store", encoder="null") as store:
        store.index(words)
        assert_equal(root, store.path)


def test_a_copy_in_another_shard_is_not_embedded_again(tmp_path: Path, words: Path) -> None:
    root = make_shards(tmp_path / "shards", 3)
    index(root, words)
    shutil.copy(words / "tone.wav", in_other_shard(words, words / "tone.wav", 3))
    report = index(root, words)
    assert (report.segments, report.added, report.from_shards, report.moved, report.removed) == (0, 1, 1, 0, 0)


def test_a_shard_that_is_away_is_not_created_again_and_the_others_are_indexed(tmp_path: Path, words: Path) -> None:
    root = make_shards(tmp_path / "shards", 2)
    index(root, words)
    here = [path for path in sorted(words.iterdir()) if shard_of(path.name, 2) == 0]
    moved = here[0].rename(in_other_shard(words, here[0], 2))
    shutil.move(root / "shard-0000", tmp_path / "away")
    with pytest.raises(bs.StoreError, match=r"1 of 2 shards failed \(shard-0000\), .* is missing: mount"):
        index(root, words)
    assert str(moved) in items_of(root / "shard-0001")
    shutil.move(tmp_path / "away", root / "shard-0000")
    assert index(root, words).removed == 1


def test_files_from_a_shard_that_cannot_be_asked_are_embedded_again_with_a_notice(tmp_path: Path, words: Path) -> None:
    root = make_shards(tmp_path / "shards", 2)
    index(root, words)
    here = [path for path in sorted(words.iterdir()) if shard_of(path.name, 2) == 0]
    here[0].rename(in_other_shard(words, here[0], 2))
    shutil.move(root / "shard-0000", tmp_path / "away")
    job = ShardJob(root, 1, 2, (words,), IndexRequest(), OPTIONS)
    with open_tools(job) as tools:
        report = index_shard(job, tools)
    assert (report.added, report.from_shards) == (1, 0)
    assert len(report.notices) == 1
    assert "shard-0000 cannot be asked for vectors" in report.notices[0]


def test_one_path_that_was_deleted_is_removed_from_its_shard(tmp_path: Path, words: Path) -> None:
    root = make_shards(tmp_path / "shards", 3)
    index(root, words)
    (words / "3.txt").unlink()
    report = index(root, words / "3.txt")
    assert (report.removed, report.added, report.unchanged) == (1, 0, 0)
    with pytest.raises(bs.UsageError, match="does not exist, and nothing of it is indexed"):
        index(root, words / "33.txt")


def test_files_of_a_folder_that_is_not_mounted_stay(tmp_path: Path, words: Path) -> None:
    root = make_shards(tmp_path / "shards", 2)
    before = index(root, words)
    for path in words.iterdir():
        path.unlink()
    report = index(root, words)
    assert report.removed == 0
    assert any("is empty" in notice for notice in report.notices), report.notices
    assert index(root, words, prune=True).removed == before.added


def test_excluded_files_stay_in_their_shards(tmp_path: Path, words: Path) -> None:
    root = make_shards(tmp_path / "shards", 3)
    index(root, words)
    for path in words.glob("*.txt"):
        path.unlink()
    assert index(root, words, include=["*.wav"]).removed == 0
    assert index(root, words, include=["1*.txt"], prune=True).removed == 3


def test_a_manifest_from_elsewhere_indexes_the_files_that_it_lists(tmp_path: Path, words: Path) -> None:
    table = tmp_path / "list.csv"
    table.write_text("path,caption\n" + "".join(f"words/{n}.txt,number {n}\n" for n in (1, 2, 5, 77)))
    root = make_shards(tmp_path / "shards", 3)
    report = index(root, table)
    with connect(tmp_path / "store", encoder="null") as store:
        single = store.index(table)
        assert_equal(root, store.path)
    assert counts(report) == counts(single)
    assert sorted(report.notices) == sorted(single.notices)


def test_a_changed_manifest_changes_the_files_of_all_shards(tmp_path: Path, words: Path) -> None:
    (words / "list.csv").write_text("path,caption,album\n" + "".join(f"{n}.txt,number {n},a\n" for n in range(12)))
    root = make_shards(tmp_path / "shards", 3)
    with connect(tmp_path / "store", encoder="null") as store:
        index(root, words)
        store.index(words)
        (words / "list.csv").write_text("path,caption,album\n" + "".join(f"{n}.txt,number {n},b\n" for n in range(12)))
        ours, single = index(root, words), store.index(words)
        assert counts(ours) == counts(single)
        assert ours.changed == 12
        assert_equal(root, store.path)


def test_a_glob_of_facts_that_no_shard_uses_is_told_once(tmp_path: Path, words: Path) -> None:
    (words / ".bindsearch.toml").write_text(
        '[facts."*.txt"]\nencoding = "utf-8"\n[facts."none/*.csv"]\nencoding = "utf-8"\n'
    )
    root = make_shards(tmp_path / "shards", 3)
    with connect(tmp_path / "store", encoder="null") as store:
        assert index(root, words).notices == store.index(words).notices


def test_an_empty_folder_has_no_files(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    root = make_shards(tmp_path / "shards", 2)
    assert index(root, tmp_path / "empty").notices == ["no indexable files found"]


def test_a_collection_whose_folder_was_renamed_moves_in_all_shards(tmp_path: Path, words: Path) -> None:
    root = make_shards(tmp_path / "shards", 3)
    index(root, words)
    moved = words.rename(tmp_path / "other-name")
    report = index(root, moved)
    assert (report.segments, report.unchanged, report.removed) == (0, 13, 0)
    assert len(report.notices) == 1
    assert "moved with their vectors" in report.notices[0]


def test_only_failed_files_are_tried_again(tmp_path: Path, words: Path) -> None:
    for number in range(6):
        (words / f"damaged{number}.png").write_bytes(b"\x89PNG\r\n\x1a\n damaged")
    root = make_shards(tmp_path / "shards", 3)
    assert index(root, words).failed == 6
    for number in range(4):
        write_picture(words / f"damaged{number}.png", two_tone(32, 40 + number))
    (words / "new.txt").write_text("a new text")
    report = retry_shards(root, IndexRequest(), OPTIONS)
    assert (report.added, report.failed, report.unchanged) == (4, 2, 0)
    assert index(root, words).added == 1


def test_an_option_that_is_invalid_creates_nothing(tmp_path: Path, words: Path) -> None:
    root = make_shards(tmp_path / "shards", 3)
    with pytest.raises(bs.UsageError, match="unknown limit"):
        index(root, words, limits={"pixel": 5})
    with pytest.raises(bs.StoreNotFoundError, match="no sharded store"):
        index(tmp_path / "none", words)
    assert [path.name for path in root.iterdir()] == ["shards.json"]


def test_another_encoder_is_refused_by_all_shards(tmp_path: Path, words: Path) -> None:
    root = make_shards(tmp_path / "shards", 2)
    index(root, words)
    with pytest.raises(bs.StoreError, match="holds vectors of encoder null, not of mini"):
        index(root, words, options=replace(OPTIONS, encoder="mini"))
