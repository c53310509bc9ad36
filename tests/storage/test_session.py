"""Opening a store for writing, and reading it without its snapshot: what is there is kept, what is missing is named."""

from __future__ import annotations

import errno
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest

from bindsearch.encoders.null import NullEncoder
from bindsearch.errors import StoreError, StoreLockedError, StoreNotFoundError, StoreUnwritableError, UsageError
from bindsearch.ingest.media.options import DecodeOptions
from bindsearch.media import SegmentOf
from bindsearch.storage import session
from bindsearch.storage.batch import StagedBatch, StagedItem
from bindsearch.storage.catalog import Failure
from bindsearch.storage.class_columns import ClassColumn, ClassValues
from bindsearch.storage.file_state import FileState
from bindsearch.storage.session import (
    NOTE_FILE,
    SAME_START_S,
    is_being_written,
    open_writer,
    snapshot_from_catalog,
    writer_lock,
)
from bindsearch.storage.writer import Writer
from bindsearch.types import Modality


def opened(store: Path, tell: Callable[[str], None] | None = None) -> tuple[ExitStack, Writer]:
    held = ExitStack()
    losses: list[str] = []
    _, catalog, writer = held.enter_context(open_writer(store, NullEncoder(), DecodeOptions(), tell or losses.append))
    if not catalog.collections():
        catalog.add_collection(Path("/media"))
    assert not losses
    return held, writer


def item(name: str) -> StagedItem:
    vector = np.zeros(NullEncoder().dim, np.float32)
    vector[len(name)] = 1.0
    segment = SegmentOf(Modality.TEXT, vector, None, None, "words")
    return StagedItem(None, 1, name, Modality.TEXT, FileState(1, 2, 3), "hash", name, (segment,))


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """Return a store of two texts."""
    held, writer = opened(tmp_path / "store")
    with held:
        writer.commit(StagedBatch(items=[item("a"), item("bb")]))
    return tmp_path / "store"


def test_a_store_is_made_in_a_new_or_empty_folder(tmp_path: Path) -> None:
    for folder in (tmp_path / "new" / "store", tmp_path):
        (folder.parent / "lost").mkdir(parents=True, exist_ok=True)
        held, _ = opened(folder)
        held.close()
        assert (folder / "store.json").is_file()
        if folder != tmp_path:
            shutil.rmtree(folder.parent)


@pytest.mark.parametrize(
    ("made", "error", "message"),
    [
        ("a file", UsageError, "is not a folder: pass a folder with --store"),
        ("catalog.duckdb", StoreError, r"store\.json of the store .* is missing: restore it, or index into another"),
        ("photo.jpg", UsageError, "is not empty and not a store: pass another folder with --store"),
    ],
)
def test_another_folder_is_not_written_into(made: str, error: type[Exception], message: str, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    if made == "a file":
        folder.touch()
    else:
        folder.mkdir()
        (folder / made).touch()
    with pytest.raises(error, match=message):
        opened(folder)
    assert [path.name for path in tmp_path.rglob("*")] == ["folder", *([] if made == "a file" else [made])]


@pytest.mark.parametrize("holds", ["nothing", "CURRENT", "a vector file"])
def test_a_damaged_catalog_is_made_again_only_if_the_store_holds_nothing(holds: str, tmp_path: Path) -> None:
    held, _ = opened(tmp_path)
    held.close()
    (tmp_path / "catalog.duckdb").write_bytes(b"half")
    (tmp_path / "catalog.duckdb.wal").unlink(missing_ok=True)
    if holds != "CURRENT":
        (tmp_path / "CURRENT").unlink()
        shutil.rmtree(tmp_path / "snapshots")
    if holds == "a vector file":
        (tmp_path / "vectors" / "text").mkdir(parents=True)
        (tmp_path / "vectors" / "text" / "1-1.arrow").touch()
    lines: list[str] = []
    if holds == "nothing":
        held, _ = opened(tmp_path, lines.append)
        held.close()
        assert len(lines) == 1
        assert "nothing is indexed yet, so it is created again, and the old file is in" in lines[0]
        assert (tmp_path / "lost" / "catalog.duckdb").read_bytes() == b"half"
    else:
        with pytest.raises(StoreError, match=r"the catalog .* cannot be opened"):
            opened(tmp_path, lines.append)
        assert (tmp_path / "catalog.duckdb").read_bytes() == b"half"
        assert not lines


def test_a_damaged_catalog_that_cannot_be_read_now_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    held, _ = opened(tmp_path)
    held.close()
    for name in ("CURRENT", "catalog.duckdb.wal"):
        (tmp_path / name).unlink(missing_ok=True)
    (tmp_path / "catalog.duckdb").write_bytes(b"half")
    real = Path.read_bytes

    def read(path: Path) -> bytes:
        if path.name == "catalog.duckdb":
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return real(path)

    monkeypatch.setattr(Path, "read_bytes", read)
    with pytest.raises(StoreError, match=r"the catalog .* cannot be opened"):
        opened(tmp_path)
    assert not (tmp_path / "lost").exists()


def test_without_its_catalog_a_store_is_neither_written_nor_read(store: Path) -> None:
    (store / "catalog.duckdb").unlink()
    before = sorted(store.rglob("*"))
    with pytest.raises(StoreError, match=r"catalog\.duckdb of the store .* is missing: restore it, or run `"):
        opened(store)
    with pytest.raises(StoreError, match=r"the catalog .* is missing: run `bindsearch recover`"):
        snapshot_from_catalog(store)
    assert {path for path in store.rglob("*") if not path.name.startswith("writer.")} == {
        path for path in before if not path.name.startswith("writer.")
    }
    shutil.rmtree(store / "vectors")
    with pytest.raises(StoreNotFoundError, match=r"nothing is indexed yet in .*: run `bindsearch index FOLDER`"):
        snapshot_from_catalog(store)
    (store / "store.json").unlink()
    with pytest.raises(StoreNotFoundError, match="no store at"):
        snapshot_from_catalog(store)


@pytest.mark.parametrize("is_full", [False, True])
def test_the_catalog_is_read_as_the_snapshot_is(is_full: bool, store: Path) -> None:
    if is_full:
        held, writer = opened(store)
        with held:
            writer.commit(StagedBatch(failures=[Failure(1, "broken", FileState(1, 2, 3), "reason")]))
            made = ClassColumn("kind", None, ("x",), (("x",),), (), None, (), "null", "", "")
            writer.set_class_columns([(made, ClassValues(np.array([1]), np.array([0]), np.array([1.0])))])
    snapshot = snapshot_from_catalog(store)
    assert snapshot.items.column("rel_path").to_pylist() == ["a", "bb"]
    assert (snapshot.failures is None) == (snapshot.class_columns is None) == (not is_full)
    assert {modality: len(files) for modality, files in snapshot.manifest.vectors.items()} == {Modality.TEXT: 1}
    with writer_lock(store), pytest.raises(StoreLockedError, match=f"is being written by process {os.getpid()}"):
        snapshot_from_catalog(store)


def test_a_store_that_cannot_be_written_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import fcntl

    def refuse(*_: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.raises(StoreUnwritableError, match="cannot be written: Input/output error"):
        writer_lock(tmp_path).__enter__()


def note_of(store: Path, pid: int, started: float, host: str | None = None) -> Path:
    note = store / NOTE_FILE
    note.write_text(json.dumps({"pid": pid, "host": host or socket.gethostname(), "started": started}))
    return note


@pytest.mark.parametrize("has_proc", [True, False])
def test_a_note_names_a_process_that_may_be_running(
    has_proc: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    assert not is_being_written(tmp_path)
    with writer_lock(tmp_path):
        assert is_being_written(tmp_path)
        started = json.loads((tmp_path / NOTE_FILE).read_text())["started"]
        assert abs(started - time.time()) < 3600 * 24
    assert not is_being_written(tmp_path)
    if not has_proc:  # as on macOS
        monkeypatch.setattr(session, "_start_time", lambda _pid: None)
        exists = Path.exists
        monkeypatch.setattr(Path, "exists", lambda path: not path.is_relative_to("/proc") and exists(path))
    for pid, since, host, expected in (
        (os.getpid(), started, None, True),
        (os.getpid(), started + SAME_START_S - 0.5, None, True),
        (os.getpid(), started - SAME_START_S - 0.5, None, not has_proc),  # another one with the same id
        (ended.pid, started, None, False),
        (ended.pid, started, "another host", True),  # nobody can know
    ):
        note_of(tmp_path, pid, since, host)
        assert is_being_written(tmp_path) is expected
    (tmp_path / NOTE_FILE).write_text("[]")
    assert not is_being_written(tmp_path)


def test_a_process_of_another_user_is_running(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_pid: int, number: int) -> None:
        assert number == 0  # asks only
        raise PermissionError

    monkeypatch.setattr(session, "_start_time", lambda _pid: None)
    monkeypatch.setattr(Path, "exists", lambda _path: False)
    monkeypatch.setattr(os, "kill", refuse)
    note_of(tmp_path, 1, 0.0)
    assert is_being_written(tmp_path)
