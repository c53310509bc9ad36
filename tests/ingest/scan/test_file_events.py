"""What happens to real files is handed over once, when it has settled, and nothing that was missed stays missed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from queue import Empty, Queue
from typing import Any

import pytest

from bindsearch.errors import UsageError
from bindsearch.ingest.scan.file_events import OVERFLOW_THRESHOLD, SETTLE_S, ChangeSet, watch_changes
from bindsearch.ingest.scan.ignore import IGNORE_FILE
from helpers.other_user import open_to_all


class Watched:
    """A folder under watch by a thread of its own, and what the watch handed over."""

    def __init__(self, *folders: Path, settle_s: float = 0.15, **options: object) -> None:
        self.stop = threading.Event()
        self._sets: Queue[ChangeSet] = Queue()
        self._thread = threading.Thread(target=self._run, args=(folders, {"settle_s": settle_s, **options}))
        self._thread.start()
        assert self.next() == ChangeSet(rescan=True)

    def _run(self, folders: tuple[Path, ...], options: dict[str, object]) -> None:
        for changes in watch_changes(folders, stop=self.stop, **options):  # type: ignore[arg-type]
            self._sets.put(changes)

    def next(self, within_s: float = 3.0) -> ChangeSet:
        """Return the next set of changes."""
        return self._sets.get(timeout=within_s)

    def quiet(self, seconds: float = 0.6) -> None:
        """Nothing is handed over for a while."""
        with pytest.raises(Empty):
            self._sets.get(timeout=seconds)

    def close(self) -> None:
        self.stop.set()
        self._thread.join(2)
        assert not self._thread.is_alive()


@pytest.fixture
def watching(tmp_path: Path) -> Iterator[Callable[..., Watched]]:
    """Watch folders until the test ends."""
    started: list[Watched] = []

    def start(*folders: Path, **options: Any) -> Watched:
        started.append(Watched(*folders, **options))
        return started[-1]

    yield start
    for watched in started:
        watched.close()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "root" / "sub").mkdir(parents=True)
    return tmp_path / "root"


def test_a_new_file_is_handed_over_within_a_second(root: Path, watching: Callable[..., Watched]) -> None:
    watched = watching(root, settle_s=SETTLE_S)
    start = time.monotonic()
    (root / "sub" / "a.jpg").write_bytes(b"x")
    assert watched.next() == ChangeSet((root / "sub" / "a.jpg",))
    assert 0.3 < time.monotonic() - start < 1.0
    watched.quiet()


def test_files_that_are_renamed_appended_to_and_removed_are_handed_over(
    root: Path, watching: Callable[..., Watched]
) -> None:
    for name in ("renamed", "appended", "removed", "left"):
        (root / name).write_bytes(b"x")
    watched = watching(root)
    (root / "renamed").rename(root / "sub" / "new")
    (root / "removed").unlink()
    with (root / "appended").open("ab") as file:
        file.write(b"y")
    (root / "left").read_bytes()
    names = ("appended", "removed", "renamed", "sub/new")
    assert watched.next() == ChangeSet(tuple(root / name for name in names))
    watched.quiet()


def test_a_file_that_is_still_being_written_waits_and_is_handed_over_once(
    root: Path, watching: Callable[..., Watched]
) -> None:
    watched = watching(root, settle_s=SETTLE_S)
    with (root / "slow.wav").open("wb") as file:
        for _ in range(6):
            file.write(b"x")
            file.flush()
            time.sleep(0.15)
    start = time.monotonic()
    assert watched.next() == ChangeSet((root / "slow.wav",))
    assert time.monotonic() - start < 1.0
    watched.quiet()


def test_a_file_that_changes_without_end_is_handed_over_anyway(root: Path, watching: Callable[..., Watched]) -> None:
    watched = watching(root, max_wait_s=0.5)
    enough = time.monotonic() + 1.2
    with (root / "log.txt").open("wb") as file:
        while time.monotonic() < enough:
            file.write(b"x")
            file.flush()
            time.sleep(0.05)
    assert watched.next(0.01) == ChangeSet((root / "log.txt",))


def test_a_new_folder_stands_for_all_in_it(root: Path, tmp_path: Path, watching: Callable[..., Watched]) -> None:
    (tmp_path / "outside" / "deep").mkdir(parents=True)
    (tmp_path / "outside" / "deep" / "a.jpg").write_bytes(b"x")
    watched = watching(root)
    (root / "made" / "deep").mkdir(parents=True)
    (root / "made" / "deep" / "a.jpg").write_bytes(b"x")
    (tmp_path / "outside").rename(root / "moved")
    assert watched.next() == ChangeSet((root / "made", root / "moved"))
    (root / "made" / "deep" / "b.jpg").write_bytes(b"x")
    assert watched.next() == ChangeSet((root / "made" / "deep" / "b.jpg",))


def test_a_folder_that_moves_or_goes_is_handed_over_without_what_was_in_it(
    root: Path, tmp_path: Path, watching: Callable[..., Watched]
) -> None:
    for name in ("moved", "gone", "out"):
        (root / name / "deep").mkdir(parents=True)
        (root / name / "deep" / "a.jpg").write_bytes(b"x")
    watched = watching(root)
    (root / "moved").rename(root / "there")
    (root / "out").rename(tmp_path / "out")
    shutil.rmtree(root / "gone")
    assert watched.next() == ChangeSet(tuple(root / name for name in ("gone", "moved", "out", "there")))
    (root / "there" / "b.jpg").write_bytes(b"x")
    (tmp_path / "out" / "b.jpg").write_bytes(b"x")
    assert watched.next() == ChangeSet((root / "there" / "b.jpg",))


def test_hidden_files_the_store_and_rights_of_folders_are_not_handed_over(
    root: Path, watching: Callable[..., Watched]
) -> None:
    (root / ".git").mkdir()
    (root / "store" / "vectors").mkdir(parents=True)
    watched = watching(root, skipped_folders=frozenset({root / "store"}))
    (root / ".git" / "a").write_bytes(b"x")
    (root / "sub" / ".hidden.jpg").write_bytes(b"x")
    (root / "store" / "vectors" / "a.arrow").write_bytes(b"x")
    (root / "sub").chmod(0o700)
    os.mkfifo(root / "pipe")
    watched.quiet()


def test_a_sidecar_is_handed_over_as_its_file_and_rules_as_their_folder(
    root: Path, watching: Callable[..., Watched]
) -> None:
    (root / "a.jpg").write_bytes(b"x")
    (root / "sub" / IGNORE_FILE).write_text("*.tmp")
    watched = watching(root)
    (root / "a.jpg.json").write_text("{}")
    (root / "lonely.json").write_text("{}")
    (root / "sub" / IGNORE_FILE).write_text("*.png")
    assert watched.next() == ChangeSet((root / "a.jpg", root / "lonely.json", root / "sub"))


def test_a_rescan_comes_at_the_start_and_again_and_again(root: Path, watching: Callable[..., Watched]) -> None:
    watched = watching(root, rescan_s=0.5)
    start = time.monotonic()
    assert [watched.next(), watched.next()] == [ChangeSet(rescan=True)] * 2
    assert 0.8 < time.monotonic() - start < 2.0


def test_a_burst_of_changes_of_which_some_may_be_lost_becomes_one_rescan(root: Path) -> None:
    stop = threading.Event()
    with closing(watch_changes([root], stop=stop)) as watched:
        assert next(watched) == ChangeSet(rescan=True)
        for n in range(OVERFLOW_THRESHOLD + 100):  # while the watch is at work on the first
            (root / f"{n}.txt").touch()
        assert next(watched) == ChangeSet(rescan=True)
        (root / "after.txt").touch()
        assert next(watched) == ChangeSet((root / "after.txt",))


@pytest.mark.parametrize("polling", [False, True])
def test_a_folder_that_vanishes_is_waited_for(root: Path, watching: Callable[..., Watched], polling: bool) -> None:
    (root / "a.jpg").write_bytes(b"x")
    watched = watching(root, polling=polling)
    root.rename(root.with_name("elsewhere"))
    assert watched.next() == ChangeSet(rescan=True)
    watched.quiet(0.2)
    root.with_name("elsewhere").rename(root)
    assert watched.next() == ChangeSet(rescan=True)
    (root / "b.jpg").write_bytes(b"x")
    assert watched.next() == ChangeSet((root / "b.jpg",))


def test_one_folder_of_two_that_is_removed_and_made_anew_is_watched_again(
    root: Path, tmp_path: Path, watching: Callable[..., Watched]
) -> None:
    (tmp_path / "other").mkdir()
    watched = watching(root, tmp_path / "other")
    shutil.rmtree(root)
    root.mkdir()
    assert watched.next() == ChangeSet(rescan=True)
    time.sleep(0.6)  # whether the new folder was seen by that look or needs another one
    (root / "a.jpg").write_bytes(b"x")
    (tmp_path / "other" / "b.jpg").write_bytes(b"x")
    seen: set[Path] = set()
    while len(seen) < 2:
        seen.update(watched.next().paths)
    assert seen == {root / "a.jpg", tmp_path / "other" / "b.jpg"}


def test_a_name_that_is_no_utf8_costs_a_rescan_and_not_the_watch(root: Path, watching: Callable[..., Watched]) -> None:
    watched = watching(root)
    Path(os.fsdecode(os.fsencode(root) + b"/caf\xe9.jpg")).write_bytes(b"x")
    assert watched.next() == ChangeSet(rescan=True)
    (root / "a.jpg").write_bytes(b"x")
    assert watched.next() == ChangeSet((root / "a.jpg",))


@pytest.mark.skipif(os.geteuid() != 0, reason="needs the right to become another user")
def test_a_folder_that_may_not_be_read_does_not_blind_the_watch(root: Path) -> None:
    for name in ("a", "locked", "z"):
        (root / name).mkdir()
    (root / "locked").chmod(0)
    child = textwrap.dedent(
        f"""
        import os, threading, watchfiles
        from pathlib import Path
        from bindsearch.ingest.scan.file_events import watch_changes
        os.setresuid(65534, 65534, 65534)
        stop = threading.Event()
        for changes in watch_changes([Path({str(root)!r})], stop=stop):
            print(changes.rescan, *changes.paths, flush=True)
        """
    )
    open_to_all(root)
    (root / "a").chmod(0o777)
    with subprocess.Popen([sys.executable, "-c", child], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            assert process.stdout.readline() == "True\n"
            (root / "z" / "x.jpg").write_bytes(b"x")
            assert process.stdout.readline() == f"False {root}/z/x.jpg\n"
            (root / "a" / "new").mkdir()
            assert process.stdout.readline() == f"False {root}/a/new\n"
            assert process.stdout.readline() == "True\n"
            (root / "a" / "new" / "y.jpg").write_bytes(b"x")
            assert process.stdout.readline() == f"False {root}/a/new/y.jpg\n"
        finally:
            process.kill()


def test_a_file_is_no_folder_to_watch(root: Path) -> None:
    (root / "a.jpg").write_bytes(b"x")
    with pytest.raises(UsageError, match=r"a\.jpg is not a folder: watch its parent folder"):
        next(watch_changes([root / "a.jpg"], stop=threading.Event()))
