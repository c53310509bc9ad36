"""Maintenance of sharded stores: the sums are those of one store, and what is done is done in all shards."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import pytest

import bindsearch as bs
from bindsearch.shards import maintain
from bindsearch.shards.layout import global_id, read_shard_map
from bindsearch.storage.session import writer_lock
from helpers.sharded import index, items_of, make_shards, shard_paths, union
from helpers.stores import connect
from helpers.trees import write_tree

N = 3


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with media, a sharded store and a store of them."""
    place = tmp_path_factory.mktemp("world")
    write_tree(place / "media", random.Random(2), 40)
    index(make_shards(place / "shards", N), place / "media")
    with connect(place / "store", encoder="null") as store:
        store.index(place / "media")
    return place


@pytest.fixture
def root(world: Path, tmp_path: Path) -> Path:
    """Return a copy of the sharded store, which may be changed."""
    return Path(shutil.copytree(world / "shards", tmp_path / "shards"))


def global_ids(root: Path) -> dict[str, int]:
    """Return the number over all shards of each item, by path."""
    n, found = read_shard_map(root).n, {}
    for number, shard in enumerate(read_shard_map(root).paths(root)):
        with connect(shard) as store:
            snapshot = store.generation().snapshot
            for row in snapshot.live_tables()[0].to_pylist():
                path = f"{snapshot.manifest.collections[row['collection_id']]}/{row['rel_path']}"
                found[path] = global_id(row["item_id"], number, n)
    return found


def test_the_status_is_that_of_one_store(world: Path) -> None:
    with connect(world / "shards") as sharded, connect(world / "store") as store:
        status, single = sharded.status(), store.status()
    assert {*status.shards} == {*range(N)}
    assert status.path == world / "shards"
    for name in ("encoder", "items", "segments", "collections", "left_out", "dim"):
        assert getattr(status, name) == getattr(single, name), name
    assert {*status.failures} == {*single.failures}
    rows, of_single = ({part.modality: part.rows - part.deleted for part in one.partitions} for one in (status, single))
    assert rows.keys() == of_single.keys()
    assert all(rows[modality] >= n for modality, n in of_single.items())  # copies in several shards share no vectors


def test_files_that_were_left_out_come_in_pages(world: Path) -> None:
    with connect(world / "store") as store:
        single = store.left_out()
    assert maintain.left_out_of_shards(world / "shards", 0, 1000) == single
    assert maintain.left_out_of_shards(world / "shards", 2, 3) == single[2:5]


def test_copies_are_found_over_all_shards(world: Path) -> None:
    with connect(world / "store") as store:
        single = {frozenset(item.path for item in group) for group in store.duplicates()}
    groups = maintain.duplicates_of_shards(world / "shards")
    ids = global_ids(world / "shards")
    assert single
    assert {frozenset(item.path for item in group) for group in groups} == single
    assert [len(group) for group in groups] == sorted(map(len, groups), reverse=True)
    assert all(ids[str(item.path)] == item.item_id for group in groups for item in group)


def test_verify_compact_optimize_and_recover_reach_all_shards(root: Path) -> None:
    before = union(map(items_of, shard_paths(root)))
    assert maintain.verify_shards(root, hash_media=True).findings == ()
    (shard_paths(root)[1] / "CURRENT").write_text("damaged")
    assert len(maintain.verify_shards(root).findings) >= 1
    report = maintain.compact_shards(root)
    assert report.repaired
    assert report.remaining == ()
    assert maintain.verify_shards(root).findings == ()
    shard_paths(root)[2].joinpath("catalog.duckdb").unlink()
    recovered = maintain.recover_shards(root)
    assert (recovered.reason[:8], recovered.source, recovered.losses) == ("shard 2:", "snapshot", ())
    assert {*maintain.optimize_shards(root, device="cpu")} == {0, 1, 2}
    assert union(map(items_of, shard_paths(root))) == before


def test_forget_removes_paths_and_items_of_all_shards(world: Path, root: Path) -> None:
    ids = global_ids(root)
    below = {path for path in ids if path.startswith(f"{world / 'media' / 'a'}/")}
    other = next(path for path in ids if path not in below)
    assert maintain.forget_in_shards(root, [str(world / "media" / "a")], [ids[other]]) == len(below) + 1
    assert global_ids(root).keys() == ids.keys() - below - {other}
    index(root, world / "media")
    assert global_ids(root).keys() == ids.keys()


def test_forget_changes_nothing_if_anything_is_unknown(world: Path, root: Path) -> None:
    ids = global_ids(root)
    known = str(world / "media" / "a")
    with pytest.raises(bs.UsageError, match="nothing to forget"):
        maintain.forget_in_shards(root, [])
    with pytest.raises(bs.UsageError, match="no-such is not in the store"):
        maintain.forget_in_shards(root, [known, "/no-such"])
    with pytest.raises(bs.UsageError, match="no item has the id 99999"):
        maintain.forget_in_shards(root, [known], [99999])
    assert global_ids(root) == ids


def test_a_moved_folder_is_relocated_in_all_shards(world: Path, root: Path, tmp_path: Path) -> None:
    ids = global_ids(root)
    with pytest.raises(bs.UsageError, match="does not contain the files"):
        maintain.relocate_shards(root, str(world / "media"), str(tmp_path))
    assert global_ids(root) == ids
    moved = Path(shutil.copytree(world / "media", tmp_path / "moved"))
    report = maintain.relocate_shards(root, str(world / "media"), str(moved))
    assert (report.collections, report.items) == ({world / "media": moved}, len(ids))
    assert {path.replace(str(moved), str(world / "media")) for path in global_ids(root)} == {*ids}
    again = index(root, moved)
    assert (again.segments, again.removed) == (0, 0)


def test_columns_are_written_and_removed_in_all_shards(root: Path) -> None:
    items = len(global_ids(root))
    report = maintain.classify_shards(root, ["cat", "dog"], column="animal", device="cpu")
    assert (report.items, sum(report.counts.values())) == (items, items)
    with connect(root) as store:
        status = store.status()
    assert [(column.name, column.items, column.missing) for column in status.columns] == [("animal", items, 0)]
    maintain.remove_column_of_shards(root, "Animal")
    with pytest.raises(bs.UsageError, match="no column 'animal'"):
        maintain.remove_column_of_shards(root, "animal")


def test_an_export_is_imported_into_one_store(world: Path, root: Path, tmp_path: Path) -> None:
    report = maintain.export_shards(root, tmp_path / "out")
    imported = bs.import_vectors(tmp_path / "new", *sorted((tmp_path / "out").iterdir()), device="cpu")
    assert imported.vectors == sum(report.vectors.values())
    ours, single = items_of(tmp_path / "new"), items_of(world / "store")
    assert {path: entry[1] for path, entry in ours.items()} == {path: entry[1] for path, entry in single.items()}
    with pytest.raises(bs.UsageError, match="is not an empty folder"):
        maintain.export_shards(root, tmp_path / "out")


def test_the_error_of_one_shard_names_it_and_does_not_stop_the_others(root: Path) -> None:
    with (
        writer_lock(root / "shard-0001"),
        pytest.raises(
            bs.StoreLockedError, match=r"1 of 3 shards failed \(shard-0001\), the others are done: the store"
        ),
    ):
        maintain.compact_shards(root)
    shutil.rmtree(root / "shard-0000")
    with connect(root) as store:
        assert [*store.status().missing_shards] == [0]


def test_nothing_is_indexed_yet(tmp_path: Path) -> None:
    root = make_shards(tmp_path / "shards", 2)
    with (
        connect(root) as store,
        pytest.raises(bs.StoreError, match="shard 0 and 1 more of 2 does not answer: there is no shard"),
    ):
        store.status()
    assert maintain.duplicates_of_shards(root) == []
    assert maintain.left_out_of_shards(root, 0, 10) == []


def test_an_export_leaves_out_shards_of_which_nothing_matches(root: Path, tmp_path: Path) -> None:
    path = next(iter(global_ids(root)))
    report = maintain.export_shards(root, tmp_path / "out", filter=f"path = '{path}'")
    assert len([*(tmp_path / "out").iterdir()]) == 1
    assert sum(report.vectors.values()) >= 1
    with pytest.raises(bs.UsageError, match="nothing to export"):
        maintain.export_shards(root, tmp_path / "none", filter="path = 'nowhere'")
