"""A catalog that is damaged, missing or outdated is rebuilt from the snapshot, and nothing is embedded again."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import duckdb
import pytest

import bindsearch as bs
from bindsearch.atomic import is_there
from bindsearch.errors import StoreError, StoreNotFoundError, VectorFileLostError
from bindsearch.operations.verify.findings import FindingKind, Repair
from bindsearch.storage import catalog as catalog_module
from bindsearch.storage import catalog_file
from bindsearch.storage.catalog import Catalog
from helpers import media_files
from helpers.stores import connect


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Return a store of three batches, and its media: texts, pictures, a sound, a sidecar, a broken file."""
    folder = tmp_path_factory.mktemp("recover")
    media = folder / "media"
    media.mkdir()
    with connect(folder / "store", encoder="null") as store:
        for n in range(4):
            media_files.write_picture(media / f"{n}.png", media_files.two_tone(8, 60 * n))
        store.index(media)
        (media / "notes.txt").write_text("a dog runs on the beach")
        (media / "0.png.json").write_text('{"caption": "black", "columns": {"rating": 4}}')
        (media / "broken.png").write_bytes(b"no picture")
        store.index(media)
        media_files.write_sound(media / "long.wav", media_files.tone(25.0, 8000), 8000)
        (media / "1.png").unlink()
        store.index(media)
    return folder / "store", media


@pytest.fixture
def store(made: tuple[Path, Path], tmp_path: Path) -> Path:
    shutil.copytree(made[0], tmp_path / "store")
    return tmp_path / "store"


def content(store: Path) -> list[tuple[object, ...]]:
    with connect(store, encoder="null") as opened:
        hits = opened.search("a dog", k=100) + opened.search("a dog", k=100, filter="rating = 4")
        return [(hit.path, hit.start_s, hit.end_s, hit.text, hit.cosine, hit.item_id) for hit in hits]


def damage_catalog(store: Path, damage: str) -> None:
    path = store / "catalog.duckdb"
    if damage == "missing":
        path.unlink()
    elif damage == "a folder":
        path.unlink()
        path.mkdir()
    elif damage == "a link to nothing":
        path.unlink()
        path.symlink_to(store.parent / "away")
    elif damage == "empty":
        path.write_bytes(b"")
    elif damage == "garbage":
        path.write_bytes(b"no database" * 1000)
    elif damage == "torn":
        whole = bytearray(path.read_bytes())
        whole[12_288 : 12_288 + 4096] = bytes(4096)
        path.write_bytes(whole)


@pytest.mark.parametrize("damage", ["missing", "a folder", "a link to nothing", "empty", "garbage", "torn"])
def test_a_damaged_catalog_is_rebuilt(damage: str, store: Path, made: tuple[Path, Path]) -> None:
    before = content(store)
    damage_catalog(store, damage)
    assert content(store) == before  # searches need no catalog
    with connect(store, encoder="null") as opened:
        with pytest.raises(StoreError, match="bindsearch recover"):
            opened.index(made[1])
        found = next(one for one in opened.verify().findings if one.kind is FindingKind.CATALOG)
        assert found.repair is Repair.RECOVER
        done = opened.recover()
        assert (done.source, done.losses) == ("snapshot", ())
        assert (done.items, done.segments) == (5, 8)
        assert content(store) == before
        assert opened.verify().findings == ()
        files = sorted((store / "vectors").rglob("*"))
        report = opened.index(made[1])
        assert (report.added, report.removed, report.failed) == (0, 0, 1)
        assert report.changed <= 1  # the file with a sidecar is looked at again
        assert sorted((store / "vectors").rglob("*")) == files  # but nothing is embedded
        (made[1] / "new.txt").write_text("something new")
        assert opened.index(made[1]).added == 1
        (made[1] / "new.txt").unlink()
        assert opened.verify().findings == ()
        assert opened.recover().reason == ""
    kept = store / "lost" / "catalog.duckdb"
    assert is_there(kept) == (damage != "missing")


def outdate_catalog(store: Path, media: Path, aside: Path) -> tuple[object, list[Path]]:
    """Index one more file, and put the catalog back as it was; return the store's content and vector files before."""
    names = ("catalog.duckdb", "catalog.duckdb.wal")
    for name in names:
        shutil.copy(store / name, aside / name)
    (media / "newer.txt").write_text("a newer text")
    with connect(store, encoder="null") as opened:
        opened.index(media)
    before, files = content(store), sorted((store / "vectors").rglob("*"))
    for name in names:
        shutil.copy(aside / name, store / name)
    return before, files


def test_an_outdated_catalog_is_rebuilt_and_no_newer_vector_is_deleted(
    store: Path, made: tuple[Path, Path], tmp_path: Path
) -> None:
    before, files = outdate_catalog(store, made[1], tmp_path)
    with connect(store, encoder="null") as opened:
        for write in (lambda: opened.index(made[1]), opened.compact, opened.optimize):
            with pytest.raises(StoreError, match="bindsearch recover"):
                write()
        assert sorted((store / "vectors").rglob("*")) == files
        done = opened.recover()
        assert "is at generation" in done.reason
        assert content(store) == before
        assert opened.verify().findings == ()
    (made[1] / "newer.txt").unlink()


def test_without_current_an_outdated_catalog_is_not_taken_for_the_newest(
    store: Path, made: tuple[Path, Path], tmp_path: Path
) -> None:
    before, files = outdate_catalog(store, made[1], tmp_path)
    (store / "CURRENT").write_bytes(b"no manifest")
    with connect(store, encoder="null") as opened:
        for use in (lambda: opened.search("a newer text"), lambda: opened.index(made[1]), opened.compact):
            with pytest.raises(
                StoreError, match=r"CURRENT (is unreadable|cannot be read), (and )?the catalog (is )?at"
            ):
                use()
        assert sorted((store / "vectors").rglob("*")) == files
        assert FindingKind.CATALOG in {one.kind for one in opened.verify().findings}
        done = opened.recover()
        assert (done.source, "is at generation" in done.reason) == ("catalog", True)
        assert (store / "lost" / "snapshots").is_dir()
        assert opened.index(made[1]).added == 1
        assert content(store) == before
        assert opened.verify().findings == ()
    (made[1] / "newer.txt").unlink()


def test_without_snapshot_an_outdated_catalog_is_used_and_newer_vectors_are_kept_aside(
    store: Path, made: tuple[Path, Path], tmp_path: Path
) -> None:
    shutil.copytree(store, tmp_path / "old")
    (made[1] / "newer.txt").write_text("a newer text")
    with connect(store, encoder="null") as opened:
        opened.index(made[1])
    (newer,) = {path.name for path in (store / "vectors" / "text").iterdir()} - {
        path.name for path in (tmp_path / "old" / "vectors" / "text").iterdir()
    }
    for name in ("catalog.duckdb", "catalog.duckdb.wal"):
        shutil.copy(tmp_path / "old" / name, store / name)
    shutil.rmtree(store / "snapshots")
    with connect(store, encoder="null") as opened:
        done = opened.recover()
        assert done.source == "catalog"
        (loss,) = done.losses
        assert newer in loss
        assert (store / "lost" / "unknown" / "vectors" / "text" / newer).is_file()
        assert opened.verify().findings == ()
        assert opened.index(made[1]).added == 1
    (made[1] / "newer.txt").unlink()


def test_a_catalog_in_use_is_not_replaced(store: Path) -> None:
    code = "import duckdb, sys; held = duckdb.connect(sys.argv[1]); print(flush=True); sys.stdin.read()"
    words = [sys.executable, "-c", code, str(store / "catalog.duckdb")]
    with (
        subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other,
        connect(store, encoder="null") as opened,
    ):
        assert other.stdout is not None
        other.stdout.readline()
        with pytest.raises(StoreError, match="wait for the other process"):
            opened.recover()
        (found,) = opened.verify().findings
        assert (found.kind, found.repair) == (FindingKind.FILE_UNREADABLE, Repair.BY_HAND)
        other.communicate()
    assert not (store / "lost").exists()


@pytest.mark.parametrize("error", ["Permission denied", "Input/output error", "Too many open files", "memory"])
def test_a_catalog_that_cannot_be_read_now_is_not_replaced(
    error: str, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind = duckdb.OutOfMemoryException if error == "memory" else duckdb.IOException

    def fail(_path: Path, **_: bool) -> None:
        raise kind(f'IO Error: Could not read from file "{store}/catalog.duckdb.wal": {error}')

    with connect(store, encoder="null") as opened:
        with monkeypatch.context() as patch:
            patch.setattr(catalog_file, "connect", fail)
            patch.setattr(catalog_module, "connect", fail)
            with pytest.raises(StoreError, match="try again when it can"):
                opened.recover()
            (found,) = opened.verify().findings
            assert (found.kind, found.repair) == (FindingKind.FILE_UNREADABLE, Repair.BY_HAND)
        assert opened.recover().reason == ""
    assert not (store / "lost").exists()


def test_a_catalog_of_a_newer_version_is_not_replaced(store: Path) -> None:
    with duckdb.connect(str(store / "catalog.duckdb")) as catalog:
        catalog.execute("INSERT INTO schema_version VALUES (1000)")
    with connect(store, encoder="null") as opened:
        with pytest.raises(StoreError, match="install a newer one"):
            opened.recover()
        (found,) = opened.verify().findings
        assert (found.kind, found.repair) == (FindingKind.CATALOG, Repair.BY_HAND)
        assert found.message.endswith("install a newer one")
    assert not (store / "lost").exists()


@pytest.mark.parametrize(
    "part",
    ["vectors/text/*.arrow", "snapshots/*/items.arrow", "snapshots/*/digests.json", "CURRENT", "catalog.duckdb*"],
)
def test_a_pipe_in_the_place_of_a_file_holds_no_process(part: str, store: Path, made: tuple[Path, Path]) -> None:
    for path in store.glob(part):
        path.unlink()
        os.mkfifo(path)
    with connect(store, encoder="null") as opened:
        assert opened.verify().findings != ()
        if part.startswith("vectors"):
            with pytest.raises(VectorFileLostError, match="is not a regular file"):
                opened.search("a dog", to="text")
        else:
            assert len(opened.search("a dog")) > 0
        opened.recover()
        report = opened.index(made[1])
        assert (report.losses > 0) == part.startswith("vectors")
        assert opened.verify().findings == ()


def test_a_loss_is_told_though_the_run_that_found_it_is_interrupted(
    store: Path, made: tuple[Path, Path], caplog: pytest.LogCaptureFixture
) -> None:
    damaged = next((store / "vectors" / "audio").iterdir())
    damaged.write_bytes(b"damaged")

    def interrupt(_progress: object) -> None:
        raise KeyboardInterrupt

    with connect(store, encoder="null") as opened:
        with pytest.raises(KeyboardInterrupt):
            opened.index(made[1], on_progress=interrupt)
        assert f"vector file {damaged} is damaged" in caplog.text
        assert opened.index(made[1]).losses == 0


def test_the_torn_end_of_a_log_is_told_by_reindex(
    store: Path, made: tuple[Path, Path], caplog: pytest.LogCaptureFixture
) -> None:
    log = store / "catalog.duckdb.wal"
    entry = (64).to_bytes(8, "little") + bytes(8) + b"x" * 64  # size, a checksum that does not match, content
    log.write_bytes(log.read_bytes() + entry)
    with connect(store, encoder="null") as opened:
        opened.reindex("null", prune=True)
    assert "ended within a write" in caplog.text


def test_neither_catalog_nor_snapshot_is_told(store: Path) -> None:
    (store / "catalog.duckdb").write_bytes(b"x" * 5000)
    (store / "CURRENT").write_text("{")
    with pytest.raises(StoreError, match=r"cannot be opened.*CURRENT is damaged.*restore catalog\.duckdb from a copy"):
        bs.connect(store).recover()


def test_a_folder_without_a_store_is_told(tmp_path: Path) -> None:
    with pytest.raises(StoreNotFoundError):
        bs.connect(tmp_path).recover()


def test_readers_change_nothing_even_if_all_is_damaged(store: Path) -> None:
    (store / "CURRENT").write_text("{")
    next((store / "snapshots").glob("*/items.arrow")).write_bytes(b"")

    def files() -> dict[str, bytes]:
        names = ("writer.lock", "writer.json")
        return {str(path): path.read_bytes() for path in store.rglob("*") if path.is_file() and path.name not in names}

    before, held = files(), content(store)
    assert files() == before
    with connect(store, encoder="null") as opened:
        answer = opened.answer(bs.make_query("a dog"))
        assert "CURRENT is damaged" in answer.notices[0]
        assert "read from the catalog instead" in answer.notices[0]
        assert opened.compact().remaining == ()
        assert opened.answer(bs.make_query("a dog")).notices == ()
    assert content(store) == held


def test_ids_are_not_used_again_after_a_recovery(store: Path, made: tuple[Path, Path]) -> None:
    with Catalog(store / "catalog.duckdb") as catalog:
        used = {name: catalog.take_ids(name, 0) for name in ("item_id", "segment_id", "vector_id", "collection_id")}
    (store / "catalog.duckdb").unlink()
    bs.connect(store).recover()
    with Catalog(store / "catalog.duckdb") as catalog:
        assert {name: catalog.take_ids(name, 0) for name in used} == used


def test_the_command(store: Path, bindsearch_command: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    sound = bindsearch_command(["recover", "--store", store])
    assert (sound.returncode, sound.stdout) == (0, "the catalog is sound: 5 items, 8 segments\n")
    (store / "catalog.duckdb").unlink()
    next((store / "vectors" / "audio").iterdir()).write_bytes(b"damaged")
    done = bindsearch_command(["recover", "--store", store])
    assert done.returncode == 3
    assert done.stdout.startswith("recovered from the snapshot: 5 items, ")
    assert "lost: vector file" in done.stdout
