"""The catalog's file: checkpoints by replacement, torn logs, creation under another name, and nobody else's SQL."""

from __future__ import annotations

import errno
import hashlib
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import duckdb
import pytest

from bindsearch.atomic import sync_folder
from bindsearch.errors import StoreError
from bindsearch.storage import catalog as catalog_module
from bindsearch.storage import catalog_file
from bindsearch.storage.catalog import Catalog
from bindsearch.storage.catalog_file import checkpoint, log_bytes, log_path, next_path
from bindsearch.storage.migrations import NEWEST_SCHEMA, migrate, table_definitions


def roots(path: Path) -> list[str]:
    with Catalog(path) as catalog:
        return [str(root) for root in catalog.collections().values()]


def write(path: Path, *names: str) -> None:
    with Catalog(path) as catalog:
        for name in names:
            catalog.add_collection(Path("/") / name)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return a catalog with two collections in its file, and one in its log."""
    path = tmp_path / "catalog.duckdb"
    write(path, "a", "b")
    checkpoint(path)
    write(path, "c")
    assert log_bytes(path) > 0
    return path


def test_closing_leaves_a_short_log_and_merges_a_long_one(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = path.read_bytes()
    assert roots(path) == ["/a", "/b", "/c"]
    assert path.read_bytes() == before
    monkeypatch.setattr(catalog_module, "CLOSE_LOG_BYTES", 0)
    write(path, "d")
    assert log_bytes(path) == 0
    assert sorted(other.name for other in path.parent.iterdir()) == [path.name]
    assert roots(path) == ["/a", "/b", "/c", "/d"]


def test_a_long_log_is_merged_between_two_transactions(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalog_module, "OPEN_LOG_BYTES", 0)
    with Catalog(path) as catalog:
        catalog.add_collection(Path("/d"))
        first = log_bytes(path)
        catalog.add_collection(Path("/e"))
        assert log_bytes(path) <= first
    assert roots(path) == ["/a", "/b", "/c", "/d", "/e"]


@pytest.mark.parametrize("step", ["copy", "ready", "log removed", "done"])
def test_a_checkpoint_that_is_interrupted_anywhere_loses_nothing(
    path: Path, step: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = 0
    syncs = {"copy": 0, "ready": 1, "log removed": 2, "done": 3}[step]

    def stop(folder: Path) -> None:
        nonlocal calls
        calls += 1
        if calls > syncs:
            raise KeyboardInterrupt

    monkeypatch.setattr(catalog_file, "sync_folder", stop)
    if step == "done":
        checkpoint(path)
    else:
        with pytest.raises(KeyboardInterrupt):
            checkpoint(path)
    monkeypatch.undo()
    shutil.copytree(tmp_path, tmp_path.parent / "read only")
    other = tmp_path.parent / "read only" / path.name
    with Catalog(other, read_only=True) as reader:
        assert len(reader.collections()) == 3
    assert roots(path) == ["/a", "/b", "/c"]
    assert not next_path(path).exists()
    shutil.rmtree(tmp_path.parent / "read only")


@pytest.mark.parametrize("step", [1, 2, 3])
def test_what_follows_a_checkpoint_that_failed_halfway_loses_nothing(
    path: Path, step: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = 0

    def fail_once(folder: Path) -> None:
        nonlocal calls
        calls += 1
        if calls == step:
            raise OSError(5, "Input/output error", str(folder))
        sync_folder(folder)

    with monkeypatch.context() as patch:
        patch.setattr(catalog_file, "sync_folder", fail_once)
        with pytest.raises(OSError, match="Input/output error"):
            checkpoint(path)
        checkpoint(path)
    assert roots(path) == ["/a", "/b", "/c"]
    monkeypatch.setattr(catalog_module, "OPEN_LOG_BYTES", 0)
    with Catalog(path) as catalog:
        catalog.add_collection(Path("/d"))
        calls = 0
        with monkeypatch.context() as patch:
            patch.setattr(catalog_file, "sync_folder", fail_once)
            with pytest.raises(StoreError, match="Input/output error"):
                catalog.add_collection(Path("/not committed"))
        catalog.add_collection(Path("/e"))
    assert roots(path) == ["/a", "/b", "/c", "/d", "/e"]


def test_a_checkpoint_without_room_changes_nothing(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    held = {file.name: file.read_bytes() for file in path.parent.iterdir()}

    def fail(_path: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(catalog_file, "sync_file", fail)
    with pytest.raises(OSError, match="No space left"):
        checkpoint(path)
    assert {file.name: file.read_bytes() for file in path.parent.iterdir()} == held


TEARS: dict[str, Callable[[bytes, int], bytes]] = {
    "cut": lambda log, place: log[:place],
    "zeros to the end": lambda log, place: log[:place] + bytes(len(log) - place),
    "zeros beyond": lambda log, place: log + bytes(place % 4096 + 1),
    "a block of zeros": lambda log, place: log[:place] + bytes(len(log[place : place + 512])) + log[place + 512 :],
    "a flipped bit": lambda log, place: log[:place] + bytes([log[place] ^ 16]) + log[place + 1 :],
}


@pytest.mark.parametrize("tear", TEARS)
def test_the_torn_end_of_a_log_is_cut_and_what_was_committed_before_stays(tear: str, tmp_path: Path) -> None:
    path = tmp_path / "catalog.duckdb"
    write(path, "a", "b")
    whole = log_bytes(path)
    write(path, *(f"{n:03}" + "x" * 200 for n in range(20)))
    log = log_path(path).read_bytes()
    file = path.read_bytes()
    chance = random.Random(0)
    for _ in range(4):
        shutil.rmtree(tmp_path / "lost", ignore_errors=True)
        path.write_bytes(file)
        torn = TEARS[tear](log, chance.randrange(whole, len(log)))
        log_path(path).write_bytes(torn)
        with Catalog(path) as catalog:
            held = [str(root) for root in catalog.collections().values()]
            assert held[:2] == ["/a", "/b"]
            assert held[2:] == ["/" + f"{n:03}" + "x" * 200 for n in range(len(held) - 2)]
            if catalog.cut_bytes:
                assert (tmp_path / "lost" / log_path(path).name).read_bytes() == torn
            catalog.add_collection(Path("/later"))
        assert "/later" in roots(path)


def test_a_log_that_cannot_be_replayed_for_lack_of_memory_is_not_cut(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = catalog_file.connect
    calls = 0

    def fails_with_a_log(file: Path, **options: bool) -> duckdb.DuckDBPyConnection:
        nonlocal calls
        calls += 1
        if log_bytes(file):
            kind = duckdb.OutOfMemoryException if calls > 1 else duckdb.IOException
            raise kind(f"Failure while replaying WAL file {log_path(file)}")
        return real(file, **options)

    before = log_path(path).read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(catalog_file, "connect", fails_with_a_log)
        with pytest.raises(StoreError, match="try again when it can"):
            Catalog(path)
    assert calls > 1
    assert log_path(path).read_bytes() == before
    assert sorted(file.name for file in path.parent.iterdir()) == [path.name, log_path(path).name]
    assert roots(path) == ["/a", "/b", "/c"]


def test_a_log_with_no_whole_commit_is_merged(path: Path) -> None:
    log = log_path(path).read_bytes()
    file = path.read_bytes()
    for size in (*range(1, 9), len(log) // 2, len(log) - 2):
        path.write_bytes(file)
        log_path(path).write_bytes(log[:size])
        checkpoint(path)
        assert log_bytes(path) == 0
        assert roots(path) == ["/a", "/b"]
        write(path, "d")
        assert roots(path) == ["/a", "/b", "/d"]


def test_a_new_catalog_appears_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "catalog.duckdb"

    def fail(_connection: duckdb.DuckDBPyConnection) -> None:
        assert not path.exists()
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(catalog_module, "migrate", fail)
    with pytest.raises(StoreError, match="No space left on device"):
        Catalog(path)
    assert list(tmp_path.iterdir()) == []
    monkeypatch.undo()
    assert roots(path) == []


OTHER_SQL = {
    "a view": ("DROP TABLE failures", "CREATE VIEW failures AS SELECT 1 AS collection_id, 'x' AS rel_path"),
    "a macro": ("CREATE MACRO lower(x) AS 'y'",),
    "a generated column": (
        "DROP TABLE collections",
        "CREATE TABLE collections (collection_id BIGINT, root VARCHAR AS ('x'))",
    ),
    "another column": ("ALTER TABLE items ADD COLUMN more VARCHAR",),
    "a column of another type": ("ALTER TABLE items ALTER size_bytes TYPE VARCHAR",),
    "another table": ("CREATE TABLE more (x BIGINT)",),
    "a table of another schema": ("CREATE SCHEMA s", "CREATE TABLE s.more (x BIGINT)"),
    "no table": ("DROP TABLE containers",),
    "an index": ("CREATE INDEX i ON items (item_id)",),
    "a sequence": ("CREATE SEQUENCE s",),
    "a type": ("CREATE TYPE mood AS ENUM ('a', 'b')",),
    "a check": ("DROP TABLE containers", "CREATE TABLE containers (x BIGINT CHECK (x > 3))"),
}


@pytest.mark.parametrize("kind", OTHER_SQL)
@pytest.mark.parametrize("read_only", [True, False])
def test_a_catalog_with_anything_but_its_tables_is_refused(kind: str, read_only: bool, path: Path) -> None:
    checkpoint(path)
    with duckdb.connect(str(path)) as connection:
        for statement in OTHER_SQL[kind]:
            connection.execute(statement)
    if kind == "a macro" and not read_only:  # it is harmless, and looking for it takes as long as opening the file
        assert roots(path) == ["/a", "/b", "/c"]
        return
    with pytest.raises(StoreError, match=r"the catalog (holds a|does not have the tables)"):
        Catalog(path, read_only=read_only)


def test_the_digest_of_the_newest_schema_is_the_one_of_its_migrations(path: Path) -> None:
    with duckdb.connect() as connection:
        migrate(connection)
        assert hashlib.sha256(table_definitions(connection).encode()).hexdigest() == NEWEST_SCHEMA
    checkpoint(path)
    with duckdb.connect(str(path)) as connection:
        assert hashlib.sha256(table_definitions(connection).encode()).hexdigest() == NEWEST_SCHEMA


def test_a_catalog_that_cannot_be_created_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_connection: duckdb.DuckDBPyConnection) -> None:
        raise duckdb.IOException("IO Error: Could not write: No space left on device")

    monkeypatch.setattr(catalog_module, "migrate", fail)
    with pytest.raises(StoreError, match=r"cannot be created \(.*No space left on device\)"):
        Catalog(tmp_path / "catalog.duckdb")


def test_the_connection_reads_no_other_file_and_loads_no_extension(path: Path, tmp_path: Path) -> None:
    (tmp_path / "secret.txt").write_text("secret")
    connection = catalog_file.connect(path)
    for statement in (
        f"SELECT * FROM read_text('{tmp_path / 'secret.txt'}')",
        f"ATTACH '{tmp_path / 'other.duckdb'}'",
        f"COPY (SELECT 1) TO '{tmp_path / 'out.csv'}'",
        "INSTALL httpfs",
        "LOAD httpfs",
        "SET enable_external_access = true",
    ):
        with pytest.raises(duckdb.Error):
            connection.execute(statement)
    connection.close()


def test_a_database_of_another_program_is_refused_and_unchanged(tmp_path: Path) -> None:
    path = tmp_path / "catalog.duckdb"
    with duckdb.connect(str(path)) as connection:
        connection.execute("CREATE TABLE mine (x INTEGER)")
    content = path.read_bytes()
    with pytest.raises(StoreError, match=r"does not have the tables of schema version 0 \(.*'mine'"):
        Catalog(path)
    assert path.read_bytes() == content


def test_the_settings_of_a_connection_cannot_be_changed(path: Path) -> None:
    connection = catalog_file.connect(path)
    with pytest.raises(duckdb.Error, match="locked"):
        connection.execute("SET threads = 1")
    connection.close()


@pytest.mark.parametrize("read_only", [False, True])
@pytest.mark.parametrize("is_log", [False, True])
def test_a_pipe_in_the_place_of_a_catalog_or_its_log_is_not_opened(read_only: bool, is_log: bool, path: Path) -> None:
    pipe = log_path(path) if is_log else path
    pipe.unlink()
    os.mkfifo(pipe)
    with pytest.raises(OSError, match="not a regular file"):
        catalog_file.connect(path, read_only=read_only)


def test_without_a_log_nothing_is_cut(tmp_path: Path) -> None:
    path = tmp_path / "catalog.duckdb"
    path.write_bytes(b"no database")
    assert catalog_file.cut_torn_log(path) == 0
    log_path(path).write_bytes(b"no log")  # the file is damaged itself
    assert catalog_file.cut_torn_log(path) == 0
    assert sorted(other.name for other in tmp_path.iterdir()) == [path.name, log_path(path).name]
    assert log_bytes(path) == 6
    assert log_bytes(tmp_path / "other") == 0


@pytest.mark.parametrize("has_links", [False, True])
def test_the_bytes_that_are_cut_are_counted(has_links: bool, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_path: Path, _target: Path) -> None:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    if not has_links:
        monkeypatch.setattr(Path, "hardlink_to", refuse)
    whole = log_path(path).read_bytes()
    write(path, "d")
    log = log_path(path).read_bytes()
    torn = log[: len(whole) + 40] + bytes(len(log) - len(whole) - 40)
    log_path(path).write_bytes(torn)
    with Catalog(path) as catalog:
        assert catalog.cut_bytes == len(torn) - log_bytes(path) > 0
        assert [*catalog.collections().values()] == [Path("/a"), Path("/b"), Path("/c")]
    assert (path.parent / "lost" / log_path(path).name).read_bytes() == torn


@pytest.mark.parametrize("is_folder", [False, True])
@pytest.mark.parametrize("is_elsewhere", [False, True])
def test_what_is_kept_aside_has_a_name_of_its_own_and_is_durable(
    is_folder: bool, is_elsewhere: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: set[int] = set()
    synced_before: set[int] = set()  # that is, before the original is removed
    path = tmp_path / "folder" / "file"
    real_sync, real_rename = os.fsync, Path.rename

    def sync(descriptor: int) -> None:
        for inodes in (synced, synced_before) if path.exists() else (synced,):
            inodes.add(os.fstat(descriptor).st_ino)
        real_sync(descriptor)

    def rename(path: Path, target: Path) -> Path:
        if is_elsewhere and path.parent == tmp_path / "folder":
            raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))
        return real_rename(path, target)

    monkeypatch.setattr(os, "fsync", sync)
    monkeypatch.setattr(Path, "rename", rename)
    (tmp_path / "folder").mkdir()
    for number, name in enumerate(("file", "file.1", "file.2")):
        if is_folder:
            path.mkdir()
        (path / "inside" if is_folder else path).write_text(f"content {number}")
        synced.clear()
        synced_before.clear()
        kept = catalog_file.keep_aside(tmp_path, path)
        assert kept == tmp_path / "lost" / "folder" / name
        assert not path.exists()
        content = kept / "inside" if is_folder else kept
        assert content.read_text() == f"content {number}"
        assert {kept.parent.stat().st_ino, path.parent.stat().st_ino} <= synced
        new = {content.stat().st_ino, kept.parent.stat().st_ino}  # a copy on the other disk
        assert not is_elsewhere or new <= synced_before
    path.write_text("copied")
    copy = catalog_file.copy_aside(tmp_path, path)
    assert (copy.name, copy.read_text(), path.read_text()) == ("file.3", "copied", "copied")
    assert {copy.stat().st_ino, copy.parent.stat().st_ino} <= synced


def test_a_rename_that_fails_otherwise_moves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file, real = tmp_path / "file", Path.rename

    def rename(path: Path, target: Path) -> Path:
        if path == file:
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))
        return real(path, target)

    file.touch()
    monkeypatch.setattr(Path, "rename", rename)
    with pytest.raises(OSError, match=os.strerror(errno.EROFS)):
        catalog_file.keep_aside(tmp_path, file)
    assert file.exists()


def test_a_checkpoint_that_is_not_wanted_leaves_no_copy(path: Path) -> None:
    before, log = path.read_bytes(), log_path(path).read_bytes()

    def rewrite(source: Path, copy: Path) -> bool:
        shutil.copyfile(source, copy)
        return False

    checkpoint(path, rewrite)
    assert (path.read_bytes(), log_path(path).read_bytes()) == (before, log)
    assert len([*path.parent.iterdir()]) == 2


@pytest.mark.parametrize(
    ("error", "is_passing"),
    [
        (duckdb.IOException("Could not set lock on file x"), True),
        (duckdb.OutOfMemoryException("x"), True),
        (duckdb.IOException(f"Cannot open file x: {os.strerror(errno.EIO)}"), True),
        (duckdb.IOException("The file is not a valid DuckDB database file"), False),
    ],
)
def test_errors_that_say_nothing_about_the_file_are_told_from_damage(error: Exception, is_passing: bool) -> None:
    assert catalog_file.is_unreadable_now(error) is is_passing
    assert catalog_file.is_locked(error) == ("lock" in str(error))


def test_processes_read_a_catalog_at_once(path: Path) -> None:
    Catalog(path).close()
    code = """
import pathlib, sys
from bindsearch.storage.catalog import Catalog
Catalog(pathlib.Path(sys.argv[1]), read_only=True).close()
"""
    with Catalog(path, read_only=True):
        subprocess.run([sys.executable, "-c", code, str(path)], check=True)


@pytest.mark.parametrize("spare", [0, -1])
def test_a_log_is_merged_above_its_limit_and_never_by_a_reader(
    spare: int, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = log_bytes(path)
    monkeypatch.setattr(catalog_module, "CLOSE_LOG_BYTES", log + spare)
    Catalog(path, read_only=True).close()
    assert log_bytes(path) == log
    Catalog(path).close()
    assert log_bytes(path) == (0 if spare else log)
    monkeypatch.setattr(catalog_module, "CLOSE_LOG_BYTES", 1 << 30)
    write(path, "d")
    log = log_bytes(path)
    monkeypatch.setattr(catalog_module, "OPEN_LOG_BYTES", log + spare)
    write(path, "e")
    assert (log_bytes(path) < log + 100) == (spare < 0)
    assert roots(path) == ["/a", "/b", "/c", "/d", "/e"]
