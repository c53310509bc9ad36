"""The writer: batches become durable at a rate that does not fall as the store grows, and nothing else changes."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pytest

from bindsearch.errors import StoreError, VectorError
from bindsearch.media import SegmentOf
from bindsearch.storage import writer as writing
from bindsearch.storage.batch import StagedBatch, StagedItem, check_storable
from bindsearch.storage.catalog import Catalog, Failure
from bindsearch.storage.class_columns import ClassColumn, ClassValues
from bindsearch.storage.file_state import FileState
from bindsearch.storage.migrations import MIGRATIONS, m001_create_tables, migrate
from bindsearch.storage.snapshot import Snapshot, open_snapshot, read_manifest
from bindsearch.storage.snapshot_format import write_manifest
from bindsearch.storage.vector_files import VECTORS, generation_of, open_vectors
from bindsearch.storage.writer import Writer
from bindsearch.types import Metadata, Modality
from bindsearch.vectors import l2_normalize

DIM = 8


@pytest.fixture
def catalog(tmp_path: Path) -> Iterator[Catalog]:
    with Catalog(tmp_path / "catalog.duckdb") as opened:
        opened.add_collection(Path("/media"))
        yield opened


def staged(
    name: str, item_id: int | None = None, modality: Modality = Modality.IMAGE, columns: str | None = None
) -> StagedItem:
    rng = np.random.default_rng(len(name))
    segment = SegmentOf(modality, l2_normalize(rng.standard_normal(DIM, np.float32)), None, None, None)
    return StagedItem(item_id, 1, name, modality, FileState(1, 2, 3), "hash", "print", (segment,), columns)


def batch(start: int, n: int) -> StagedBatch:
    return StagedBatch(items=[staged(f"{i}.png") for i in range(start, start + n)])


def newest(store: Path) -> Snapshot:
    manifest = read_manifest(store)
    assert manifest is not None
    return open_snapshot(store, manifest)


def row_counts(store: Path) -> list[int]:
    return [file.rows for file in newest(store).manifest.vectors.get(Modality.IMAGE, ())]


def test_small_vector_files_are_merged_into_ones_of_a_bounded_size(
    tmp_path: Path, catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"MAX_SMALL_FILES": 3, "SMALL_FILE_VECTORS": 15, "MERGED_FILE_VECTORS": 20}.items():
        monkeypatch.setattr(writing, name, value)
    writer = Writer(tmp_path, catalog, DIM)
    for start in range(0, 120, 6):
        writer.commit(batch(start, 6))
        assert sum(n < 15 for n in row_counts(tmp_path)) <= 3
    assert max(row_counts(tmp_path)) <= 20
    names = [file.name for file in newest(tmp_path).manifest.vectors[Modality.IMAGE]]
    assert sorted(path.name for path in (tmp_path / VECTORS / "image").iterdir()) == sorted(names)
    ids = np.concatenate([open_vectors(tmp_path / VECTORS / "image" / name, DIM).vector_ids for name in names])
    assert ids.tolist() == newest(tmp_path).partition_segments(Modality.IMAGE).vector_ids.tolist()
    assert len(ids) == 120


def test_the_base_is_written_again_only_once_the_newer_parts_are_of_its_size(
    tmp_path: Path, catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writing, "MAX_PARTS", 4)
    writer = Writer(tmp_path, catalog, DIM)
    writer.commit(batch(0, 200))
    writer.compact()
    base = newest(tmp_path).manifest.parts
    assert len(base) == 1
    for start in range(200, 212):
        writer.commit(batch(start, 1))
        parts = newest(tmp_path).manifest.parts
        assert parts[0] == base[0]
        assert len(parts) <= 4
    writer.commit(batch(212, 150))
    for start in range(362, 366):
        writer.commit(batch(start, 1))
    assert newest(tmp_path).manifest.parts[0] != base[0]
    assert newest(tmp_path).counts("items") == {Modality.IMAGE: 366}


def test_removing_nearly_everything_leaves_the_rest_and_compaction_drops_the_rows(
    tmp_path: Path, catalog: Catalog
) -> None:
    writer = Writer(tmp_path, catalog, DIM)
    for start in (0, 50):
        writer.commit(batch(start, 50))
    writer.commit(StagedBatch(removed=list(range(1, 91))))
    kept = [f"{i}.png" for i in range(90, 100)]
    assert newest(tmp_path).live_tables()[0].column("rel_path").to_pylist() == kept
    assert row_counts(tmp_path) == [50, 50]
    writer.compact()
    assert newest(tmp_path).items.column("rel_path").to_pylist() == kept
    assert row_counts(tmp_path) == [10]
    writer.commit(batch(100, 1))
    writer.compact()
    assert row_counts(tmp_path) == [11]
    writer.commit(StagedBatch(removed=list(range(91, 102))))
    writer.compact()
    assert newest(tmp_path).counts("items") == {}
    assert newest(tmp_path).manifest.vectors == {}
    assert list((tmp_path / VECTORS / "image").iterdir()) == []
    writer.commit(batch(0, 3))
    assert newest(tmp_path).counts("segments") == {Modality.IMAGE: 3}


def test_a_vector_that_must_not_be_stored_spoils_its_batch_alone(tmp_path: Path, catalog: Catalog) -> None:
    writer = Writer(tmp_path, catalog, DIM)
    good = batch(0, 3)
    segments = good.items[0].segments
    assert segments is not None
    bad = replace(segments[0], payload=np.full(DIM, np.nan, np.float32))
    with pytest.raises(VectorError, match="NaN"):
        writer.commit(StagedBatch(items=[replace(good.items[0], segments=(bad,))]))
    assert newest(tmp_path).counts("items") == {}
    writer.commit(good)
    assert newest(tmp_path).counts("items") == {Modality.IMAGE: 3}


def test_published_indexes_stay_until_they_are_replaced(
    tmp_path: Path, catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writing, "MAX_PARTS", 2)
    writer = Writer(tmp_path, catalog, DIM)
    assert newest(tmp_path).manifest.indexes == {}
    before = newest(tmp_path).manifest
    writer.set_indexes({Modality.IMAGE: ("7", "digest"), Modality.TEXT: ("8", "other")})
    published = {Modality.IMAGE: ("7", "digest"), Modality.TEXT: ("8", "other")}
    assert newest(tmp_path).manifest.indexes == published
    assert newest(tmp_path).manifest != before
    assert newest(tmp_path).manifest.generation == before.generation
    for start in range(5):
        writer.commit(batch(start, 1))
    assert newest(tmp_path).manifest.indexes == published
    write_manifest(tmp_path, replace(newest(tmp_path).manifest, generation=1))  # as a kill before CURRENT leaves it
    writer = Writer(tmp_path, catalog, DIM)
    assert newest(tmp_path).manifest.generation == catalog.generation
    assert newest(tmp_path).manifest.indexes == published
    writer.set_indexes({Modality.IMAGE: None})
    assert newest(tmp_path).manifest.indexes == {Modality.TEXT: ("8", "other")}


def test_a_touched_file_has_its_new_time_in_the_snapshot_at_once(tmp_path: Path, catalog: Catalog) -> None:
    writer = Writer(tmp_path, catalog, DIM)
    writer.commit(batch(0, 3))
    ids = newest(tmp_path).partition_segments(Modality.IMAGE).vector_ids
    writer.commit(StagedBatch(touched={2: FileState(1, 99, 3)}))
    item = newest(tmp_path).item(2)
    assert item is not None
    assert item.mtime_ns == 99
    assert newest(tmp_path).partition_segments(Modality.IMAGE).vector_ids.tolist() == ids.tolist()
    assert len(newest(tmp_path).segments_of(2)) == 1


def test_user_columns_reach_the_snapshot_and_survive_its_loss(tmp_path: Path, catalog: Catalog) -> None:
    writer = Writer(tmp_path, catalog, DIM)
    writer.commit(StagedBatch(items=[staged("a.png", columns='{"rating": 4}'), staged("b.png")]))
    assert newest(tmp_path).items.column("columns").to_pylist() == ['{"rating": 4}', None]
    (tmp_path / "CURRENT").unlink()
    Writer(tmp_path, catalog, DIM)
    assert newest(tmp_path).items.column("columns").to_pylist() == ['{"rating": 4}', None]


def test_a_catalog_of_the_first_version_gains_user_columns_and_keeps_its_rows(tmp_path: Path) -> None:
    path = tmp_path / "catalog.duckdb"
    with duckdb.connect(str(path)) as connection:
        connection.execute("CREATE TABLE schema_version (version BIGINT NOT NULL)")
        m001_create_tables(connection)
        connection.execute("INSERT INTO schema_version VALUES (1)")
        connection.execute("INSERT INTO collections VALUES (1, '/media')")
        connection.execute(
            "INSERT INTO items VALUES (1, 1, 'old.png', 'image', 1, 2, 3, 'hash', 'print', current_timestamp)"
        )
        connection.execute("INSERT INTO segments VALUES (1, 1, 'image', 1, NULL, NULL, NULL)")
        connection.execute("UPDATE counters SET value = 2 WHERE name != 'generation'")
    with Catalog(path) as catalog:
        writer = Writer(tmp_path, catalog, DIM)
        assert newest(tmp_path).items.column("columns").to_pylist() == [None]
        writer.commit(StagedBatch(items=[staged("new.png", columns="{}"), staged("old.png", item_id=1)]))
        items = newest(tmp_path).live_tables()[0]
        assert items.column("rel_path").to_pylist() == ["old.png", "new.png"]
        assert items.column("columns").to_pylist() == [None, "{}"]
    with duckdb.connect(str(path)) as connection:
        migrate(connection)
        assert connection.execute("SELECT version FROM schema_version ORDER BY 1").fetchall() == [
            (1,),
            (2,),
            (3,),
            (4,),
            (5,),
            (6,),
            (7,),
        ]
        connection.execute("INSERT INTO schema_version VALUES (?)", [len(MIGRATIONS) + 1])
    with pytest.raises(StoreError, match="install a newer one"):
        Catalog(path)


def test_an_item_shares_the_vectors_of_another_with_the_same_fingerprint(tmp_path: Path, catalog: Catalog) -> None:
    writer = Writer(tmp_path, catalog, DIM)
    first, second = staged("a"), replace(staged("b"), fingerprint="other")
    writer.commit(StagedBatch(items=[first, second]))
    copy = replace(first, rel_path="copy", segments=None)
    both = replace(second, rel_path="new", fingerprint="new"), replace(first, rel_path="n", segments=None)
    in_one_batch = replace(second, rel_path="same batch", fingerprint="new", segments=None)
    writer.commit(StagedBatch(items=[copy, *both, in_one_batch]))
    paths = {row["item_id"]: row["rel_path"] for row in catalog.items_table().to_pylist()}
    vectors = {paths[row["item_id"]]: row["vector_id"] for row in catalog.segments_table().to_pylist()}
    assert vectors["copy"] == vectors["n"] == vectors["a"]
    assert vectors["same batch"] == vectors["new"]
    assert len(set(vectors.values())) == 3
    assert sum(file.rows for file in catalog.vector_files()[Modality.IMAGE]) == 3


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_what_is_given_up_may_be_on_another_disk(
    kind: str, tmp_path: Path, catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    Writer(tmp_path, catalog, DIM).commit(batch(0, 2))
    (damaged,) = (tmp_path / VECTORS / Modality.IMAGE).iterdir()
    content = damaged.read_bytes()[:-9]
    damaged.unlink()
    if kind == "folder":
        damaged.mkdir()
    (damaged / "inside" if kind == "folder" else damaged).write_bytes(content)
    unknown = damaged.with_name("000000000077-00000077.arrow")
    unknown.write_bytes(b"somebody's vectors")
    real = Path.rename

    def rename(path: Path, target: Path) -> Path:
        if path.is_relative_to(tmp_path / VECTORS) and not target.is_relative_to(tmp_path / VECTORS):
            raise OSError(errno.EXDEV, os.strerror(errno.EXDEV), str(path))
        return real(path, target)

    monkeypatch.setattr(Path, "rename", rename)
    losses: list[str] = []
    Writer(tmp_path, catalog, DIM, losses.append).commit(batch(2, 2))
    assert len(losses) == 2
    kept = tmp_path / "lost" / VECTORS / Modality.IMAGE / damaged.name
    assert (kept / "inside" if kind == "folder" else kept).read_bytes() == content
    assert (tmp_path / "lost" / "unknown" / VECTORS / Modality.IMAGE / unknown.name).is_file()
    assert not damaged.exists()
    assert not unknown.exists()
    assert not [*tmp_path.rglob(".*")]


@pytest.mark.parametrize("is_left", [False, True])
def test_files_that_are_all_missing_are_not_given_up(is_left: bool, tmp_path: Path, catalog: Catalog) -> None:
    writer = Writer(tmp_path, catalog, DIM)
    for start in range(2):
        writer.commit(batch(start, 1))
    folder, away = tmp_path / VECTORS / Modality.IMAGE, tmp_path / "away"
    folder.rename(away)
    if is_left:
        folder.mkdir()
    state = "contains none of its" if is_left else "is missing with"
    with pytest.raises(StoreError, match=f"image {state} 2 vector files: mount or restore it"):
        Writer(tmp_path, catalog, DIM)
    if is_left:
        folder.rmdir()
    away.rename(folder)
    Writer(tmp_path, catalog, DIM)
    assert row_counts(tmp_path) == [1, 1]


def test_a_catalog_that_names_a_file_outside_of_the_store_is_refused(tmp_path: Path) -> None:
    store, victim = tmp_path / "store", tmp_path / "victim.txt"
    store.mkdir()
    victim.write_text("somebody's file")
    with Catalog(store / "catalog.duckdb") as catalog:
        catalog.add_collection(Path("/media"))
        Writer(store, catalog, DIM).commit(batch(0, 1))
    (store / VECTORS / Modality.IMAGE / "9-").mkdir()
    with duckdb.connect(str(store / "catalog.duckdb")) as connection:
        connection.execute("INSERT INTO vector_files VALUES ('image', '9-/../../../../victim.txt', 1, '')")
    with Catalog(store / "catalog.duckdb") as catalog, pytest.raises(StoreError, match="do not use this store"):
        Writer(store, catalog, DIM)
    assert victim.read_text() == "somebody's file"


def test_temporary_files_behind_links_stay(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, catalog: Catalog
) -> None:
    Writer(tmp_path, catalog, DIM).commit(batch(0, 1))
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (tmp_path / "indexes").mkdir()
    (tmp_path / "left_out").mkdir()
    for link in ("snapshots/link", "indexes/link"):
        (tmp_path / link).symlink_to(elsewhere)
    for path in (elsewhere, tmp_path / "indexes", tmp_path / "left_out", tmp_path):
        (path / (".mine.tmp" if path == elsewhere else ".left.tmp")).touch()
    Writer(tmp_path, catalog, DIM)
    assert [path.name for folder in (tmp_path, elsewhere) for path in folder.rglob(".*.tmp")] == [".mine.tmp"]


def test_what_an_interrupted_writer_left_is_removed_and_what_is_unknown_is_kept(
    tmp_path: Path, catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = Writer(tmp_path, catalog, DIM)
    for start in (0, 6):
        writer.commit(batch(start, 6))
    folder = tmp_path / VECTORS / "image"
    replaced = {path.name for path in folder.iterdir()}

    def refuse(path: Path, missing_ok: bool = False) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO), str(path))

    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", refuse)
        with pytest.raises(OSError, match="Input/output"):
            writer.compact()
    (merged,) = {path.name for path in folder.iterdir()} - replaced
    content = (folder / merged).read_bytes()
    uncommitted, unfinished, unknown = (
        f"{99:012d}-{catalog.generation + 1:08d}.arrow",
        f".{merged}.1.2.tmp",
        f"{98:012d}-{1:08d}.arrow",
    )
    for name in (uncommitted, unfinished, unknown):
        (folder / name).write_bytes(content)
    lines: list[str] = []
    Writer(tmp_path, catalog, DIM, lines.append)
    assert [path.name for path in folder.iterdir()] == [merged]
    assert [path.name for path in (tmp_path / "lost").rglob("*") if path.is_file()] == [unknown]
    assert len(lines) == 1
    assert f"{unknown} is not in the catalog" in lines[0]
    assert catalog.replaced_files() == set()
    assert row_counts(tmp_path) == [12]


def test_parts_that_no_reader_can_need_are_removed_at_each_commit(
    tmp_path: Path, catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writing, "MAX_PARTS", 4)
    writer = Writer(tmp_path, catalog, DIM)
    for start in range(20):
        writer.commit(batch(start, 1))
        manifest = newest(tmp_path).manifest
        young = range(manifest.generation - writing.KEPT_GENERATIONS, manifest.generation + 1)
        assert {int(path.name) for path in (tmp_path / "snapshots").iterdir()} <= {*manifest.folders, *young}


@pytest.mark.parametrize(
    ("rows", "groups"),
    [
        ([], []),
        ([4], [["0"]]),
        ([10, 10], [["0"], ["1"]]),
        ([4, 6, 1], [["0", "1"], ["2"]]),
        ([4, 7, 3], [["0"], ["1", "2"]]),
        ([11, 1, 1], [["0"], ["1", "2"]]),
        ([0, 10, 0], [["0", "1", "2"]]),
    ],
)
def test_neighbouring_files_are_grouped_up_to_the_largest_size(
    rows: list[int], groups: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writing, "MERGED_FILE_VECTORS", 10)
    assert writing._group_neighbours([(str(number), n) for number, n in enumerate(rows)]) == groups


@pytest.mark.parametrize(("removed", "is_rewritten"), [(0, False), (2, False), (3, True), (10, True)])
def test_a_file_is_rewritten_above_the_share_of_dead_rows(
    removed: int, is_rewritten: bool, tmp_path: Path, catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writing, "MERGED_FILE_VECTORS", 10)  # each file is a group of its own
    writer = Writer(tmp_path, catalog, DIM)
    for start in (0, 10):
        writer.commit(batch(start, 10))
    before = {path.name for path in (tmp_path / VECTORS / "image").iterdir()}
    if removed:
        writer.commit(StagedBatch(removed=list(range(1, removed + 1))))
    writer.compact(0.2)
    after = {path.name for path in (tmp_path / VECTORS / "image").iterdir()}
    assert (before == after) == (not is_rewritten)
    assert row_counts(tmp_path) == [n for n in (10 - removed if is_rewritten else 10, 10) if n]
    assert catalog.replaced_files() == set()
    generation = catalog.generation
    writer.compact(0.2)
    assert catalog.generation == generation


def test_the_parts_and_small_files_may_be_as_many_as_the_limits(
    tmp_path: Path, catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"MAX_PARTS": 4, "MAX_SMALL_FILES": 4, "SMALL_FILE_VECTORS": 2}.items():
        monkeypatch.setattr(writing, name, value)
    writer = Writer(tmp_path, catalog, DIM)
    parts, files = [], []
    for start in range(6):
        writer.commit(batch(start, 1))
        parts.append(len(newest(tmp_path).manifest.parts))
        files.append(len(row_counts(tmp_path)))
    assert parts[:3] == [2, 3, 4]
    assert parts[3] < 4
    assert files == [1, 2, 3, 4, 1, 2]
    column = ClassColumn("kind", None, ("x",), (("x",),), (), None, (), "null", "", "")
    for _ in range(6):
        writer.set_class_columns([(column, ClassValues(np.array([1]), np.array([0]), np.ones(1)))])
        assert len(newest(tmp_path).manifest.parts) <= 4
    writer.commit(batch(6, 2))  # a file of that size is not small
    writer.commit(batch(8, 1))
    assert row_counts(tmp_path) == [5, 1, 2, 1]


@pytest.mark.parametrize("lost", [0, 1, 2])
def test_only_the_items_of_a_lost_file_lose_their_vectors(lost: int, tmp_path: Path, catalog: Catalog) -> None:
    writer = Writer(tmp_path, catalog, DIM)
    for start in (0, 2, 4):
        writer.commit(batch(start, 2))
    names = [file.name for file in newest(tmp_path).manifest.vectors[Modality.IMAGE]]
    (tmp_path / VECTORS / "image" / names[lost]).unlink()
    lines: list[str] = []
    writer = Writer(tmp_path, catalog, DIM, lines.append)
    assert len(lines) == 1
    assert f"{names[lost]} is missing: its 2 vectors are given up; run `bindsearch index`" in lines[0]
    assert newest(tmp_path).segments.column("item_id").to_pylist() == [n for n in range(1, 7) if (n - 1) // 2 != lost]
    assert catalog.waiting_items() == 2
    writer.discard_lost_files()
    (tmp_path / "lost" / VECTORS).mkdir(parents=True)
    writer.discard_lost_files()
    assert (tmp_path / "lost" / VECTORS).is_dir()
    writer.commit(StagedBatch(removed=[2 * lost + 1, 2 * lost + 2]))
    writer.discard_lost_files()
    assert not (tmp_path / "lost" / VECTORS).exists()


def test_a_sound_store_opens_without_a_change_or_a_word(tmp_path: Path, catalog: Catalog) -> None:
    Writer(tmp_path, catalog, DIM).commit(batch(0, 2))
    files = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    losses: list[str] = []
    Writer(tmp_path, catalog, DIM, losses.append)
    assert losses == []
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == files


@pytest.mark.parametrize("ahead", [1, 5])
def test_a_catalog_that_is_older_than_the_snapshot_is_not_used(ahead: int, tmp_path: Path, catalog: Catalog) -> None:
    Writer(tmp_path, catalog, DIM).commit(batch(0, 2))
    manifest = newest(tmp_path).manifest
    write_manifest(tmp_path, replace(manifest, generation=manifest.generation + ahead))
    with pytest.raises(StoreError, match=rf"older than the snapshot, which is at {manifest.generation + ahead}: run"):
        Writer(tmp_path, catalog, DIM)
    (tmp_path / "CURRENT").unlink()
    Writer(tmp_path, catalog, DIM)
    (tmp_path / "CURRENT").unlink()
    (tmp_path / "snapshots" / str(catalog.generation + ahead)).mkdir()
    with pytest.raises(StoreError, match=r"CURRENT cannot be read, and the catalog is at generation .*, older than"):
        Writer(tmp_path, catalog, DIM)


def test_a_folder_in_the_place_of_current_is_kept_aside(tmp_path: Path, catalog: Catalog) -> None:
    Writer(tmp_path, catalog, DIM).commit(batch(0, 2))
    (tmp_path / "CURRENT").unlink()
    (tmp_path / "CURRENT" / "inside").mkdir(parents=True)
    Writer(tmp_path, catalog, DIM)
    assert newest(tmp_path).counts("items") == {Modality.IMAGE: 2}
    assert (tmp_path / "lost" / "CURRENT" / "inside").is_dir()


def test_failures_and_columns_reach_the_snapshot_and_survive_its_loss(tmp_path: Path, catalog: Catalog) -> None:
    writer = Writer(tmp_path, catalog, DIM)
    writer.commit(batch(0, 2))
    assert (newest(tmp_path).failures, newest(tmp_path).class_columns) == (None, None)
    writer.commit(StagedBatch(failures=[Failure(1, "broken.png", FileState(1, 2, 3), "reason")]))
    column = ClassColumn("kind", None, ("x",), (("x",),), (), None, (), "null", "", "")
    writer.set_class_columns([(column, ClassValues(np.array([1, 99]), np.array([0, 0]), np.ones(2)))])
    writer.commit(batch(2, 1))
    for step in range(3):
        snapshot = newest(tmp_path)
        assert snapshot.failures is not None
        assert snapshot.failures.column("reason").to_pylist() == ["reason"]
        assert snapshot.class_columns is not None
        assert [*snapshot.class_columns.columns.values()] == [column]
        found = [1] if step == 2 else [1, 99]
        assert snapshot.class_columns.values_of(1).vector_ids.tolist() == found
        if step == 0:
            (tmp_path / "CURRENT").unlink()
            writer = Writer(tmp_path, catalog, DIM)
        writer.compact() if step == 1 else None
    writer.commit(StagedBatch(forgotten_failures=[(1, "broken.png")]))
    writer.set_class_columns([], ["kind"])
    failures = newest(tmp_path).failures
    assert failures is None or not failures.num_rows
    assert newest(tmp_path).class_columns is None
    (tmp_path / "CURRENT").unlink()
    Writer(tmp_path, catalog, DIM)
    assert (newest(tmp_path).failures, newest(tmp_path).class_columns) == (None, None)


def test_losses_are_logged_if_no_report_will_hold_them(caplog: pytest.LogCaptureFixture) -> None:
    with writing.collected_losses() as losses:
        losses.append("reported")
    with pytest.raises(KeyboardInterrupt), writing.collected_losses() as losses:  # noqa: PT012
        losses.append("logged")
        raise KeyboardInterrupt
    assert caplog.messages == ["logged"]


def test_measured_values_and_modality_of_a_copy_are_those_of_the_file_it_shares(
    tmp_path: Path, catalog: Catalog
) -> None:
    writer = Writer(tmp_path, catalog, DIM)
    sound = replace(staged("clip.mp4", modality=Modality.AUDIO), metadata=Metadata(rate_hz=7.5, title="own"))
    copy = replace(sound, segments=None, modality=Modality.VIDEO, metadata=Metadata(title="copy"))
    other = replace(staged("other.png"), fingerprint="other")
    first = StagedBatch(items=[sound, replace(copy, rel_path="same batch"), other])
    writer.commit(first)
    writer.commit(StagedBatch(items=[replace(copy, rel_path="later"), replace(other, rel_path="last.png")]))
    rows = newest(tmp_path).live_tables()[0].select(["rel_path", "modality", "rate_hz", "title"]).to_pylist()
    assert [tuple(row.values()) for row in rows] == [
        ("clip.mp4", "audio", 7.5, "own"),
        ("same batch", "audio", 7.5, "copy"),
        ("other.png", "image", None, None),
        ("later", "audio", 7.5, "copy"),
        ("last.png", "image", None, None),
    ]
    with pytest.raises(StoreError, match="no item with fingerprint unknown, whose vectors should be shared"):
        writer.commit(StagedBatch(items=[replace(copy, fingerprint="unknown")]))
    assert newest(tmp_path).counts("items") == {Modality.AUDIO: 3, Modality.IMAGE: 2}


def test_an_empty_batch_is_told_from_one_with_a_change() -> None:
    assert StagedBatch().is_empty
    assert not StagedBatch(removed=[1]).is_empty
    assert not batch(0, 1).is_empty


@pytest.mark.parametrize("is_too_large", [False, True])
@pytest.mark.parametrize(("name", "number"), [("width_px", 2**63 - 1), ("mtime_ns", -(2**63))])
def test_numbers_of_64_bits_and_texts_of_unicode_are_stored(
    name: str, number: int, is_too_large: bool, tmp_path: Path, catalog: Catalog
) -> None:
    number += (1 if number > 0 else -1) * is_too_large
    item = replace(staged("é.png"), metadata=Metadata(title="ä"))
    if name == "mtime_ns":
        item = replace(item, state=replace(item.state, mtime_ns=number))
    else:
        item = replace(item, metadata=replace(item.metadata, width_px=number))
    if is_too_large:
        with pytest.raises(ValueError, match=f"its {name} is {number}: expected a number of 64 bits"):
            check_storable(item)
    else:
        check_storable(item)
        Writer(tmp_path, catalog, DIM).commit(StagedBatch(items=[item]))
        assert newest(tmp_path).items.column(name).to_pylist() == [number]


@pytest.mark.parametrize("name", ["title", "path", "columns", "text"])
def test_a_text_that_is_not_unicode_is_named(name: str) -> None:
    item = staged("a.png")
    assert item.segments is not None
    bad = "a\ud800"
    changes: dict[str, dict[str, Any]] = {
        "title": {"metadata": Metadata(title=bad)},
        "path": {"rel_path": bad},
        "columns": {"columns": bad},
        "text": {"segments": (replace(item.segments[0], text=bad),)},
    }
    check_storable(item)
    with pytest.raises(ValueError, match=f"its {name} is not Unicode text"):
        check_storable(replace(item, **changes[name]))


def test_what_was_cut_from_a_torn_log_is_told(tmp_path: Path, catalog: Catalog) -> None:
    catalog.cut_bytes = 7
    lines: list[str] = []
    Writer(tmp_path, catalog, DIM, lines.append)
    assert len(lines) == 1
    assert "as after a power cut: its last 7 bytes were not committed and are in" in lines[0]


@pytest.mark.parametrize(("n", "removed", "parts"), [(4, 0, 1), (5, 0, 2), (5, 3, 1), (6, 3, 2)])
def test_a_part_is_merged_with_newer_ones_if_it_is_at_most_twice_as_large(
    n: int, removed: int, parts: int, tmp_path: Path, catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writing, "MAX_PARTS", 2)
    writer = Writer(tmp_path, catalog, DIM)
    writer.commit(batch(0, n))
    writer.compact()  # a part of n items and n segments
    writer.commit(StagedBatch(removed=list(range(1, removed + 1))) if removed else batch(n, 1))
    assert len(newest(tmp_path).manifest.parts) == 2
    writer.commit(batch(n + 1, 1))
    assert len(newest(tmp_path).manifest.parts) == parts


def test_folders_that_readers_may_be_about_to_open_stay(
    tmp_path: Path, catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writing, "MAX_PARTS", 1)
    writer = Writer(tmp_path, catalog, DIM)
    for start in range(6):
        before = {int(path.name) for path in (tmp_path / "snapshots").iterdir()}
        if start == 4:
            (tmp_path / "CURRENT").unlink()
            writer = Writer(tmp_path, catalog, DIM)
        else:
            writer.commit(batch(start, 1))
        after = {int(path.name) for path in (tmp_path / "snapshots").iterdir()}
        least = catalog.generation - writing.KEPT_GENERATIONS
        assert {number for number in before if number >= least} <= after
        assert min(after) >= least - 1


def test_the_name_of_a_vector_file_has_its_first_id_and_its_generation(tmp_path: Path, catalog: Catalog) -> None:
    writer = Writer(tmp_path, catalog, DIM)
    writer.commit(batch(0, 2))
    first = catalog.generation
    writer.commit(batch(2, 2))
    files = newest(tmp_path).manifest.vectors[Modality.IMAGE]
    assert [(file.first_id, generation_of(file.name)) for file in files] == [(1, first), (3, catalog.generation)]
    before = catalog.generation
    writer.compact()
    (file,) = newest(tmp_path).manifest.vectors[Modality.IMAGE]
    assert (file.first_id, file.rows, generation_of(file.name)) == (1, 4, before + 1)


def test_the_only_vector_file_is_given_up_if_its_folder_is_there(tmp_path: Path, catalog: Catalog) -> None:
    Writer(tmp_path, catalog, DIM).commit(batch(0, 2))
    (file,) = (tmp_path / VECTORS / "image").iterdir()
    file.unlink()
    lines: list[str] = []
    Writer(tmp_path, catalog, DIM, lines.append)
    assert len(lines) == 1
    assert "its 2 vectors are given up; run" in lines[0]
    assert newest(tmp_path).counts("segments") == {}


def test_links_in_the_place_of_what_is_deleted_keep_what_they_lead_to(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, catalog: Catalog
) -> None:
    writer = Writer(tmp_path, catalog, DIM)
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (elsewhere / VECTORS).mkdir()
    (elsewhere / VECTORS / "file").touch()
    (tmp_path / "lost").symlink_to(elsewhere)
    (tmp_path / ".link.tmp").symlink_to(elsewhere)
    (tmp_path / ".folder.tmp").mkdir()
    (tmp_path / ".folder.tmp" / "file").touch()
    writer.discard_lost_files()
    Writer(tmp_path, catalog, DIM)
    assert not [*tmp_path.glob(".*.tmp")]
    assert (elsewhere / VECTORS / "file").is_file()


def test_a_replaced_file_may_be_removed_by_others(
    tmp_path: Path, catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = Writer(tmp_path, catalog, DIM)
    for start in (0, 2):
        writer.commit(batch(start, 2))
    first = min((tmp_path / VECTORS / "image").iterdir())
    real = catalog.replace_vector_files

    def replaced(modality: Modality, names: Sequence[str], merged: Sequence[tuple[str, int, str]]) -> int:
        first.unlink()
        return real(modality, names, merged)

    monkeypatch.setattr(catalog, "replace_vector_files", replaced)
    writer.compact()
    assert row_counts(tmp_path) == [4]
    assert catalog.replaced_files() == set()
