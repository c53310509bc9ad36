"""Verify finds what is planted in a real store and nothing in healthy ones; what it says mends it does."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from threading import Thread

import duckdb
import numpy as np
import pyarrow as pa
import pytest

import bindsearch as bs
from bindsearch.errors import StoreError, StoreNotFoundError
from bindsearch.hashing import hash_file
from bindsearch.indexes.types import IndexForm
from bindsearch.operations.compact import compact_store, locked_catalog, shrink_catalog
from bindsearch.operations.verify.check import verify
from bindsearch.operations.verify.findings import Finding, FindingKind, Repair, Report
from bindsearch.operations.verify.recover import recover_store
from bindsearch.operations.verify.store_files import StoredVectors, vector_file_findings
from bindsearch.storage.catalog import CatalogTransaction
from bindsearch.storage.session import writer_lock
from bindsearch.storage.vector_files import open_vectors, write_vectors
from bindsearch.types import FACT_COLUMNS, Modality
from helpers import media_files, vector_store
from helpers.other_user import open_to_all
from helpers.stores import connect


def write_media(folder: Path) -> None:
    for n in range(6):
        picture = np.random.default_rng(n).integers(0, 255, (24, 32, 3), np.uint8)
        (folder / "pictures").mkdir(parents=True, exist_ok=True)
        media_files.write_picture(folder / "pictures" / f"{n}.png", picture)
    (folder / "rest").mkdir()
    media_files.write_sound(folder / "rest" / "long.wav", media_files.tone(25.0, 8000), 8000)
    (folder / "rest" / "notes.txt").write_text("a dog runs on the beach")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Return a store of two batches, and the media it was made from."""
    folder = tmp_path_factory.mktemp("verify")
    write_media(folder / "media")
    with connect(folder / "store", encoder="null") as store:
        store.index(folder / "media" / "pictures")
        store.index(folder / "media")
    return folder / "store", folder / "media"


@pytest.fixture
def store(made: tuple[Path, Path], tmp_path: Path) -> Path:
    """Return a copy of the store to be damaged; its media are those of `made`."""
    shutil.copytree(made[0], tmp_path / "store")
    return tmp_path / "store"


@pytest.fixture
def media(made: tuple[Path, Path]) -> Path:
    return made[1]


def kinds(report: Report) -> set[FindingKind]:
    return {one.kind for one in report.findings}


def only(report: Report) -> Finding:
    (found,) = report.findings
    return found


def vector_file(store: Path, modality: str = "image") -> Path:
    return sorted((store / "vectors" / modality).glob("*.arrow"))[0]


def snapshot_file(store: Path, name: str = "segments.arrow") -> Path:
    part = json.loads((store / "CURRENT").read_text())["parts"][0]
    return store / "snapshots" / str(part) / name


def flip(path: Path, place: int | None = None) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2 if place is None else place] ^= 4
    path.write_bytes(content)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip_a_value(path: Path) -> None:
    """Flip the lowest bit of a vector's value: the file stays readable and the vector of unit length."""
    whole = path.read_bytes()
    with pa.memory_map(str(path)) as source:
        rows = pa.ipc.open_file(source).get_batch(0).column("embedding").flatten().to_numpy()
        where = whole.find(rows.tobytes())
    content = bytearray(whole)
    content[where] ^= 1
    path.write_bytes(content)


def sql(store: Path, *statements: str) -> None:
    with duckdb.connect(str(store / "catalog.duckdb")) as connection:
        for statement in statements:
            connection.execute(statement)


def index(store: Path, media: Path) -> None:
    with connect(store, encoder="null") as opened:
        opened.index(media)


def assert_right(store: Path, media: Path) -> None:
    """Verify is content, and every picture finds itself."""
    assert verify(store, hash_media=True).findings == ()
    with connect(store, encoder="null") as opened:
        for path in sorted((media / "pictures").glob("*.png")):
            (hit,) = opened.search(bs.image(path), to="image", k=1, include_query=True)
            assert (hit.path, round(hit.cosine, 2)) == (path, 1.0)
        assert len(opened.search("a dog", to="audio,text", k=10)) == 2


DAMAGES: dict[str, tuple[Callable[[Path], object], FindingKind, str]] = {
    "a vector file missing": (lambda store: vector_file(store).unlink(), FindingKind.VECTOR_FILE_MISSING, "is missing"),
    "a vector file truncated": (
        lambda store: truncate(vector_file(store)),
        FindingKind.VECTOR_FILE_DAMAGED,
        "truncated",
    ),
    "a value flipped in a vector file": (
        lambda store: flip_a_value(vector_file(store)),
        FindingKind.VECTOR_FILE_DAMAGED,
        "has changed since it was written: run `bindsearch compact`, then `bindsearch index`",
    ),
    "the first byte flipped in a vector file": (
        lambda store: flip(vector_file(store, "audio"), 0),
        FindingKind.VECTOR_FILE_DAMAGED,
        "has changed since it was written",
    ),
    "a snapshot file flipped": (
        lambda store: flip(snapshot_file(store)),
        FindingKind.SNAPSHOT,
        "run `bindsearch compact`",
    ),
    "a snapshot file truncated": (
        lambda store: truncate(snapshot_file(store)),
        FindingKind.SNAPSHOT,
        "segments.arrow is damaged",
    ),
    "a snapshot file missing": (
        lambda store: snapshot_file(store, "items.arrow").unlink(),
        FindingKind.SNAPSHOT,
        "items.arrow is missing",
    ),
    "the digests of a snapshot damaged": (
        lambda store: snapshot_file(store, "digests.json").write_text("{"),
        FindingKind.SNAPSHOT,
        "digests.json is damaged",
    ),
    "CURRENT damaged": (lambda store: truncate(store / "CURRENT"), FindingKind.CURRENT, "CURRENT is damaged"),
    "CURRENT missing": (lambda store: (store / "CURRENT").unlink(), FindingKind.CURRENT, "CURRENT is missing"),
    "CURRENT of an older generation": (
        lambda store: sql(store, "UPDATE counters SET value = value + 3 WHERE name = 'generation'"),
        FindingKind.CURRENT,
        "the catalog is at",
    ),
    "a catalog older than CURRENT": (
        lambda store: sql(store, "UPDATE counters SET value = value - 1 WHERE name = 'generation'"),
        FindingKind.CATALOG,
        "run `bindsearch recover`",
    ),
    "segments of vectors in no file": (
        lambda store: sql(store, "UPDATE segments SET vector_id = 900 WHERE modality = 'image' AND item_id < 3"),
        FindingKind.VECTORS_LOST,
        "1 image vectors that segments refer to are in no file (the first: 900)",
    ),
    "segments of a modality without files": (
        lambda store: sql(store, "UPDATE segments SET modality = 'thermal' WHERE modality = 'text'"),
        FindingKind.VECTORS_LOST,
        "1 thermal vectors",
    ),
    "items without segments": (
        lambda store: sql(store, "DELETE FROM segments WHERE item_id = 2"),
        FindingKind.ITEMS_WITHOUT_SEGMENTS,
        "1 items have no segments (the first: 2)",
    ),
    "segments without an item": (
        lambda store: sql(store, "DELETE FROM items WHERE item_id = 2"),
        FindingKind.SEGMENTS_WITHOUT_ITEM,
        "segments belong to no item",
    ),
    "items of no collection": (
        lambda store: sql(store, "UPDATE items SET collection_id = 77 WHERE item_id = 2"),
        FindingKind.ITEMS_WITHOUT_COLLECTION,
        "1 items belong to no collection",
    ),
    "an item id used twice": (
        lambda store: sql(store, "UPDATE items SET item_id = 2 WHERE item_id = 3"),
        FindingKind.ITEMS_TWICE,
        "1 item ids are used twice (the first: 2)",
    ),
    "two items at one place": (
        lambda store: sql(store, "UPDATE items SET rel_path = (SELECT rel_path FROM items WHERE item_id = 2) "
                          "WHERE item_id = 3"),
        FindingKind.ITEMS_TWICE,
        "items have the same path as a newer item",
    ),
    "counters below used ids": (
        lambda store: sql(store, "UPDATE counters SET value = 2 WHERE name IN ('item_id', 'vector_id')"),
        FindingKind.COUNTERS,
        "the next item_id would be 2, but 8 is in use",
    ),
    "orphans": (lambda store: plant_orphans(store), FindingKind.ORPHANS, "4 unreferenced files or folders"),
}  # fmt: skip


def plant_orphans(store: Path) -> None:
    (store / "vectors" / "image" / "000000000900-00000900.arrow").write_bytes(b"left")
    (store / "vectors" / "image" / ".x.arrow.12.tmp").write_bytes(b"half")
    (store / ".CURRENT.99.tmp").write_bytes(b"half")
    (store / "snapshots" / "0").mkdir()  # the next writer removes it, so it is no finding
    (store / "indexes" / "image" / ".00000001.7.tmp").mkdir(parents=True)


@pytest.mark.parametrize("damage", DAMAGES)
def test_planted_damage_is_found_and_compact_and_index_mend_it(store: Path, media: Path, damage: str) -> None:
    plant, kind, message = DAMAGES[damage]
    plant(store)
    report = verify(store)
    assert kind in kinds(report)
    assert report.unchecked == ()
    found = next(one for one in report.findings if one.kind is kind)
    assert message in found.message
    assert found.message.count("\n") == 0
    assert "to rebuild it: " not in found.message  # advice of a reader, in place of which the finding has its own
    if found.repair is Repair.COMPACT:
        done = compact_store(store)
        assert kind in {one.kind for one in done.repaired}
        assert done.after_bytes > 0
    elif found.repair is Repair.RECOVER:
        assert recover_store(store).source == "snapshot"
    index(store, media)
    assert_right(store, media)


def test_vectors_given_up_wait_for_index_and_verify_says_so(store: Path) -> None:
    flip_a_value(vector_file(store))
    compact_store(store)
    found = only(verify(store))
    assert (found.kind, found.repair, found.count) == (FindingKind.ITEMS_TO_EMBED, Repair.INDEX, 6)
    assert "6 items have lost their vectors" in found.message


def test_a_bad_vector_in_a_file_with_the_right_digest_is_found_and_mended(store: Path, media: Path) -> None:
    path = vector_file(store)
    held = open_vectors(path, 64)
    rows = np.array(held.embeddings, np.float32)
    rows[1], rows[2] = np.nan, 2 * rows[2]
    digest = write_vectors(path, np.array(held.vector_ids), rows)
    assert digest == hash_file(path)
    sql(store, f"UPDATE vector_files SET digest = '{digest}' WHERE name = '{path.name}'")
    found = only(verify(store))
    assert (found.kind, found.count, found.where) == (FindingKind.VECTORS_UNFIT, 2, (str(path),))
    compact_store(store)
    index(store, media)
    assert_right(store, media)


def test_a_store_json_of_another_space_is_found_and_nothing_is_written(store: Path) -> None:
    config = json.loads((store / "store.json").read_text())
    before = sorted(path.name for path in store.rglob("*.arrow"))
    old = {key: value for key, value in config.items() if key != "digest"}  # a digest would tell more
    (store / "store.json").write_text(json.dumps({**old, "format": 1, "dim": 8}))
    found = only(verify(store))
    assert (found.kind, found.repair) == (FindingKind.CONFIG, Repair.BY_HAND)
    assert "declares 8 dimensions, the vector files have 64: restore the original store.json" in found.message
    with pytest.raises(StoreError, match=r"restore the original store\.json"):
        compact_store(store)
    with (
        pytest.raises(StoreError, match=r"store\.json has 8 dimensions, the vector files have 64"),
        connect(store, encoder="null") as opened,
    ):
        opened.optimize()
    assert sorted(path.name for path in store.rglob("*.arrow")) == before
    (store / "store.json").write_text(json.dumps(config))
    assert verify(store).is_clean


@pytest.mark.parametrize("content", [None, "{", '{"format": 1}', '{"format": 7}'])
def test_a_damaged_or_missing_store_json_is_found(store: Path, content: str | None) -> None:
    path = store / "store.json"
    path.unlink() if content is None else path.write_text(content)
    found = only(verify(store))
    assert found.kind is FindingKind.CONFIG
    assert found.message.count("index into another store") == 1


def test_a_damaged_or_missing_catalog_is_found_and_the_rest_checked_all_the_same(store: Path) -> None:
    path = store / "catalog.duckdb"
    whole = path.read_bytes()
    vector_file(store).unlink()
    for content in (whole[: len(whole) // 3], b"no database" * 1000, b""):
        path.write_bytes(content)
        found = verify(store).findings
        assert {FindingKind.CATALOG, FindingKind.VECTOR_FILE_MISSING} <= {one.kind for one in found}
    for place in (4100, 8200, len(whole) // 2, len(whole) - 100_000):
        path.write_bytes(whole)
        flip(path, place)
        assert verify(store).findings, place
    path.unlink()
    (missing,) = (one for one in verify(store).findings if one.kind is FindingKind.CATALOG)
    assert "is missing: run `bindsearch recover` to rebuild the catalog from the snapshot" in missing.message
    assert not path.exists()
    with pytest.raises(StoreError, match="is missing"):
        compact_store(store)


def test_media_that_have_changed_or_gone_are_found_when_asked_for(tmp_path: Path) -> None:
    media = tmp_path / "media"
    write_media(media)
    store = tmp_path / "store"
    index(store, media)
    pictures = media / "pictures"
    (pictures / "0.png").unlink()
    with (pictures / "1.png").open("ab") as file:
        file.write(b"more")
    state = (pictures / "2.png").stat()
    flip(pictures / "2.png")
    os.utime(pictures / "2.png", ns=(state.st_atime_ns, state.st_mtime_ns))
    assert verify(store).is_clean
    gone, changed = verify(store, check_media=True).findings
    assert (gone.kind, gone.where) == (FindingKind.FILES_GONE, (str(pictures / "0.png"),))
    assert (changed.kind, changed.where) == (FindingKind.FILES_CHANGED, (str(pictures / "1.png"),))
    *_, silent = verify(store, hash_media=True).findings
    assert (silent.kind, silent.repair, silent.where) == (
        FindingKind.FILES_CHANGED,
        Repair.BY_HAND,
        (str(pictures / "2.png"),),
    )
    (pictures / "2.png").touch()
    index(store, media)
    assert verify(store, hash_media=True).is_clean
    shutil.move(media, tmp_path / "elsewhere")
    away = only(verify(store, check_media=True))
    assert f"the collection {media} does not exist: mount or restore it" in away.message


def test_damaged_indexes_are_found_and_optimize_mends_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bindsearch.operations.optimize.TUNE_SECONDS", 0.05)
    made = tmp_path / "made"
    vector_store.write_items(made, vector_store.gap_vectors(np.random.default_rng(3), {"image": 300}))
    connect(made).optimize(index_settings=bs.IndexSettings(IndexForm.IVF_PQ, overrides={"lists": 4}))
    shutil.copytree(made / "indexes" / "image" / "00000001", made / "indexes" / "image" / "00000000")
    assert verify(made).is_clean  # the index before the published one stays for those who read it
    published = json.loads((made / "CURRENT").read_text())["indexes"]["image"][0]
    path = made / "indexes" / "image" / published
    for name, damage in (("index.faiss", flip), ("vector_ids.npy", truncate), ("statistics.npz", Path.unlink)):
        whole = (path / name).read_bytes()
        damage(path / name)
        found = only(verify(made))
        assert (found.kind, found.repair, found.where) == (FindingKind.INDEX, Repair.OPTIMIZE, (str(path),))
        assert name in found.message
        assert found.message.count("`bindsearch optimize") == 1
        if name != "statistics.npz":
            (path / name).write_bytes(whole)
    connect(made).optimize(force=True)
    assert verify(made).is_clean


def test_healthy_stores_of_all_kinds_are_clean(store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bindsearch.storage.writer.MAX_PARTS", 4)
    monkeypatch.setattr("bindsearch.storage.writer.MAX_SMALL_FILES", 3)
    assert verify(store, hash_media=True).findings == ()
    (tmp_path / "empty").mkdir()
    index(tmp_path / "fresh", tmp_path / "empty")
    assert verify(tmp_path / "fresh", check_media=True).findings == ()
    many = tmp_path / "many"
    rng = np.random.default_rng(1)
    vectors = vector_store.gap_vectors(rng, {"image": 80, "audio": 40})
    vector_store.write_items(many, vectors, batch=10)  # parts and files are merged on the way
    assert verify(many).is_clean
    vector_store.write_items(many, {}, remove=list(range(1, 60)))
    assert verify(many).is_clean
    compact_store(many)
    assert verify(many).is_clean
    connect(many).optimize()
    assert verify(many).is_clean


def test_a_store_from_before_digests_is_clean_and_unreadable_vectors_in_it_are_still_found(store: Path) -> None:
    sql(
        store,
        "ALTER TABLE vector_files DROP COLUMN digest",
        "DROP TABLE replaced_files",
        "DROP TABLE class_columns",
        "DROP TABLE class_values",
        *(f"ALTER TABLE items DROP COLUMN {name}" for name in FACT_COLUMNS),
        "DELETE FROM schema_version WHERE version > 3",
    )
    for path in store.glob("snapshots/*/digests.json"):
        path.unlink()
    current = json.loads((store / "CURRENT").read_text())
    del current["digest"], current["part_digests"]
    (store / "CURRENT").write_text(json.dumps({**current, "format": 3}))
    assert verify(store).is_clean
    truncate(vector_file(store))
    assert only(verify(store)).kind is FindingKind.VECTOR_FILE_DAMAGED


def test_a_store_being_written_is_checked_as_far_as_can_be(store: Path) -> None:
    with writer_lock(store):
        report = verify(store)
        assert report.findings == ()
        assert "the catalog, digests of vector files and orphans were not checked" in report.unchecked[0]
        assert "is being written by process" in report.unchecked[0]
        vector_file(store).unlink()
        assert kinds(verify(store)) == {FindingKind.VECTOR_FILE_MISSING}


def test_while_batches_are_committed_and_files_merged_nothing_wrong_is_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bindsearch.storage.writer.MAX_PARTS", 4)
    monkeypatch.setattr("bindsearch.storage.writer.MAX_SMALL_FILES", 3)
    vectors = vector_store.gap_vectors(np.random.default_rng(1), {"image": 300})
    vector_store.write_items(tmp_path, {"image": vectors["image"][:2]})
    thread = Thread(target=vector_store.write_items, args=(tmp_path, vectors), kwargs={"batch": 5, "first": 2})
    thread.start()
    while not (tmp_path / "writer.json").exists():
        time.sleep(0.001)
    reports = []
    while thread.is_alive():
        reports.append(verify(tmp_path))
    thread.join()
    assert any("is being written" in what for report in reports for what in report.unchecked)
    assert [report.findings for report in reports if report.findings] == []
    assert verify(tmp_path).findings == ()


def test_other_files_behind_links_of_a_store_stay(store: Path, media: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    for name in ("notes.txt", "vectors/mine.txt", "0/photo.jpg", "photos/1.jpg"):
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        (home / name).write_bytes(b"somebody's file")
    for folder in ("vectors/imu", "snapshots", "indexes/text", "lost"):
        shutil.rmtree(store / folder, ignore_errors=True)
        (store / folder).parent.mkdir(exist_ok=True)
        (store / folder).symlink_to(home)
    flip_a_value(vector_file(store))  # one of the files is given up
    compact_store(store)
    with connect(store, encoder="null") as opened:
        opened.index(media)
        opened.index(media)
    for name in ("notes.txt", "vectors/mine.txt", "0/photo.jpg", "photos/1.jpg"):
        assert (home / name).read_bytes() == b"somebody's file"


def test_verify_changes_nothing(store: Path) -> None:
    def content() -> dict[str, tuple[int, int]]:
        files = (path for path in store.rglob("*") if path.is_file() and path.name != "writer.lock")
        return {str(path): (path.stat().st_size, path.stat().st_mtime_ns) for path in files}

    flip_a_value(vector_file(store))
    plant_orphans(store)
    before = content()
    verify(store, hash_media=True)
    assert content() == before


def test_a_folder_without_a_store_is_told_and_stays_empty(tmp_path: Path) -> None:
    with pytest.raises(StoreNotFoundError, match="no store at"):
        verify(tmp_path)
    with pytest.raises(StoreNotFoundError, match="no store at"):
        compact_store(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_compaction_drops_every_dead_row_and_shrinks_the_catalog(tmp_path: Path) -> None:
    store = tmp_path / "store"
    vectors = vector_store.gap_vectors(np.random.default_rng(1), {"image": 20_000})
    columns = ['{"note": "%s"}' % os.urandom(100).hex() for _ in range(20_000)]  # noqa: UP031
    vector_store.write_items(store, vectors, columns=columns)
    vector_store.write_items(store, {}, remove=list(range(1, 19_001)))
    before = (store / "catalog.duckdb").stat().st_size
    done = compact_store(store)
    assert done.after_bytes < 0.3 * done.before_bytes
    assert (store / "catalog.duckdb").stat().st_size < 0.5 * before
    assert verify(store).is_clean
    with connect(store) as opened:
        (partition,) = opened.status().partitions
        assert (partition.rows, partition.deleted) == (1000, 0)
        hit = opened.search(vectors["image"][19_500], to="image", k=1)[0]
        assert hit.path.name == "19500"
    vector_store.write_items(store, {"image": vectors["image"][:5]}, first=20_000)  # it can be written on
    assert verify(store).is_clean


def test_compaction_does_not_make_a_small_catalog_larger(store: Path) -> None:
    before = sum(path.stat().st_size for path in store.glob("catalog.duckdb*"))
    compact_store(store)
    assert sum(path.stat().st_size for path in store.glob("catalog.duckdb*")) <= 1.1 * before


def test_a_copy_of_the_catalog_that_fails_leaves_the_old_one(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sql(
        store,
        "CREATE TABLE filler AS SELECT range AS n, hash(range) AS h, hash(range + 7) AS g FROM range(100000)",
        "CHECKPOINT",
        "DROP TABLE filler",
    )
    path = store / "catalog.duckdb"
    whole = path.stat().st_size

    def fail(_path: Path, _target: Path) -> None:
        raise OSError("no room")

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(StoreError, match=r"could not be copied: no room"):
        shrink_catalog(path)
    monkeypatch.undo()
    assert not list(store.glob(".catalog*"))
    assert verify(store).is_clean
    shrink_catalog(path)
    assert path.stat().st_size <= 0.9 * whole
    assert verify(store).is_clean


def test_the_command_lists_findings_and_its_exit_code_tells(
    store: Path, bindsearch_command: Callable[[list[str | Path]], subprocess.CompletedProcess[str]]
) -> None:
    flip_a_value(vector_file(store))
    found = bindsearch_command(["verify", "--store", store, "--json"])
    assert found.returncode == 5
    (one,) = json.loads(found.stdout)["findings"]
    assert (one["kind"], one["mend"]) == ("vector-file-damaged", "bindsearch compact")
    done = bindsearch_command(["compact", "--store", store])
    assert done.returncode == 0
    assert "repaired: vector-file-damaged" in done.stdout
    assert "before," in done.stdout


def test_hashing_is_as_fast_as_a_disk(tmp_path: Path) -> None:
    path = tmp_path / "000000000000-00000001.arrow"
    rows = vector_store.unit(np.random.default_rng(0).standard_normal((20_000, 1024)))
    digest = write_vectors(path, np.arange(20_000), rows)
    file = StoredVectors(Modality.IMAGE, path, 20_000, 0, 20_000, digest)
    started = time.perf_counter()
    assert list(vector_file_findings(file, 1024)) == []
    assert path.stat().st_size / (time.perf_counter() - started) > 2e8  # far below what it does, for a busy machine


VERIFY_AS_READER = """
import os, sys
from pathlib import Path
from bindsearch.operations.verify.check import verify
writable, *stores = sys.argv[1:]
verify(Path(writable))  # loads all modules while this process may read them
if os.geteuid() == 0:
    os.setresuid(65534, 65534, 65534)
for store in stores:
    report = verify(Path(store))
    print(*[finding.kind.value for finding in report.findings], len(report.unchecked), report.read_bytes > 100_000)
"""


def test_a_store_that_may_only_be_read_is_checked_completely(made: tuple[Path, Path], tmp_path: Path) -> None:
    for name in ("whole", "damaged", "writable"):
        shutil.copytree(made[0], tmp_path / name)
    with locked_catalog(tmp_path / "damaged") as (_, catalog):
        catalog.commit(CatalogTransaction(removed=[1]))
    stores = [tmp_path / "whole", tmp_path / "damaged"]
    open_to_all(tmp_path)
    for path in (path for store in stores for path in (store, *store.rglob("*"))):
        path.chmod(0o555 if path.is_dir() else 0o444)
    before = {path: path.stat().st_mtime_ns for store in stores for path in (store, *store.rglob("*"))}
    command = [sys.executable, "-c", VERIFY_AS_READER, str(tmp_path / "writable"), *map(str, stores)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stdout == "0 True\ncurrent 0 True\n", done.stderr
    assert {path: path.stat().st_mtime_ns for path in before} == before
