"""One writer at a time, named to the others; and readers who see whole generations whatever a writer does meanwhile."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

import bindsearch as bs
from bindsearch.operations.compact import compact_store
from bindsearch.operations.forget import forget
from bindsearch.storage.session import NOTE_FILE, writer_lock
from helpers.children import indexing, searching
from helpers.children.searching import SearchObservation, look
from helpers.command import Run
from helpers.waiting import wait_for

CHILD, SEARCHER = Path(indexing.__file__), Path(searching.__file__)
TEXTS = 150
SLOWEST_S = 1.0


def child(script: Path, *arguments: str | Path) -> subprocess.Popen[str]:
    command = [sys.executable, str(script), *map(str, arguments)]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "media"
    root.mkdir()
    for n in range(TEXTS):
        (root / f"{n:03d}.txt").write_text(f"text number {n}")
    return root


@contextmanager
def writing(store: Path, folder: Path, log: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process in the middle of an indexing run, stopped there."""
    process = child(CHILD, store, folder, "--pause", "0.2", "--log", log)
    try:
        wait_for(lambda: log.exists() and len(log.read_text().splitlines()) >= 3)
        process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WNOWAIT)  # a signal takes effect later than it is sent
        yield process
    finally:
        process.kill()
        process.communicate()


def files_of(store: Path) -> Mapping[str, tuple[int, int]]:
    return {str(path): (path.stat().st_size, path.stat().st_mtime_ns) for path in store.rglob("*") if path.is_file()}


def test_a_second_writer_is_told_at_once_who_the_first_is_and_changes_nothing(
    folder: Path, tmp_path: Path, bindsearch_command: Run
) -> None:
    store = tmp_path / "store"
    began = time.time()
    with writing(store, folder, tmp_path / "log") as process:
        before = files_of(store)
        note = json.loads((store / NOTE_FILE).read_text())
        assert (note["pid"], note["host"]) == (process.pid, socket.gethostname())
        assert began - 1.5 < note["started"] < time.time()
        started = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(note["started"]))
        holder = f"process {process.pid} on {socket.gethostname()}, started {started}"
        with bs.connect(store) as opened:
            writers: list[Callable[[], object]] = [
                lambda: opened.index(folder),
                lambda: opened.optimize(),
                lambda: forget(store, [folder / "001.txt"]),
                lambda: compact_store(store),
            ]
            for write in writers:
                asked = time.monotonic()
                with pytest.raises(bs.StoreLockedError) as refused:
                    write()
                assert time.monotonic() - asked < 2.0
                assert str(refused.value) == f"the store {store} is being written by {holder}: wait for it to finish"
            assert opened.search("text number 1", k=1)
        for arguments in (["index", folder], ["compact"]):
            refusal = bindsearch_command([*arguments, "--store", store])
            assert (refusal.returncode, refusal.stdout) == (5, "")
            assert refusal.stderr == f"bindsearch: the store {store} is being written by {holder}: " \
                "wait for it to finish\n"  # fmt: skip
        assert files_of(store) == before


def test_the_lock_of_a_killed_writer_is_no_obstacle(folder: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"
    with writing(store, folder, tmp_path / "log") as process:
        pass
    assert json.loads((store / NOTE_FILE).read_text())["pid"] == process.pid
    with bs.connect(store) as opened:
        opened.index(folder)
        assert len(opened.search("text number 1", k=2 * TEXTS)) == TEXTS
    assert not (store / NOTE_FILE).exists()


@pytest.mark.parametrize(
    "note",
    [
        "",
        '{"pid": 1, "ho',
        '{"pid": "one"}',
        json.dumps({"pid": 2**22 + 1, "host": socket.gethostname(), "started": 1e9}),
        json.dumps({"pid": os.getpid(), "host": socket.gethostname(), "started": 1e9}),  # its number, used again
    ],
    ids=["empty", "cut off", "no number", "no such process", "number used again"],
)
def test_a_note_of_a_writer_that_is_no_more_names_nobody(note: str, tmp_path: Path) -> None:
    with writer_lock(tmp_path):
        (tmp_path / NOTE_FILE).write_text(note)
        with pytest.raises(bs.StoreLockedError, match="is being written by another process: wait"), \
            writer_lock(tmp_path):  # fmt: skip
            pass
    assert not (tmp_path / NOTE_FILE).exists()


def test_a_writer_on_another_host_is_named(tmp_path: Path) -> None:
    with writer_lock(tmp_path):
        (tmp_path / NOTE_FILE).write_text(json.dumps({"pid": 7, "host": "elsewhere", "started": 1e9}))
        with pytest.raises(bs.StoreLockedError, match="by process 7 on elsewhere, started 2001-09-0"), \
            writer_lock(tmp_path):  # fmt: skip
            pass


def test_who_has_just_got_the_lock_is_waited_for_until_its_note_is_there(tmp_path: Path) -> None:
    with writer_lock(tmp_path):
        note = (tmp_path / NOTE_FILE).read_text()
        (tmp_path / NOTE_FILE).unlink()
        late = threading.Timer(0.05, (tmp_path / NOTE_FILE).write_text, [note])
        late.start()
        with pytest.raises(bs.StoreLockedError, match=f"process {os.getpid()} on"), writer_lock(tmp_path):
            pass
        late.join()


def test_readers_see_whole_generations_whatever_is_written(folder: Path, tmp_path: Path) -> None:
    """Three threads and a process search while another process indexes, merges, forgets, optimizes and compacts."""
    store, log = tmp_path / "store", tmp_path / "log"
    writer = child(CHILD, store, folder, "--pause", "0.05", "--log", log, "--upkeep")
    wait_for((store / "CURRENT").exists)
    writer.send_signal(signal.SIGSTOP)  # not through before the searcher, which loads for long from a cold disk
    searcher = child(SEARCHER, store)
    assert searcher.stdout is not None
    assert searcher.stdout.readline() == "ready\n"
    writer.send_signal(signal.SIGCONT)
    looks: list[list[SearchObservation]] = [[], [], []]
    with bs.connect(store, encoder="null") as opened, ThreadPoolExecutor(3) as pool:
        reading = [pool.submit(read_beside, opened, writer, mine) for mine in looks]
        stops = stop_now_and_then(writer, reading, looks)
        for reader in reading:
            reader.result()
    _, errors = writer.communicate(timeout=60)
    assert writer.returncode == 0, errors
    assert stops >= 5
    output, errors = searcher.communicate("stop", timeout=60)
    assert searcher.returncode == 0, errors
    looks.append([SearchObservation(*json.loads(line)) for line in output.splitlines()])
    published: dict[int, set[int]] = {}
    for line in log.read_text().splitlines():
        generation, texts = json.loads(line)
        published.setdefault(generation, set()).add(texts)
    for seen in looks:
        assert len(seen) > 20
        assert max(one.worked_s for one in seen) < SLOWEST_S
        generations = [generation for one in seen for generation in (one.before, one.after)]
        assert generations == sorted(generations)
        for one in seen:
            held = [published[generation] for generation in published if one.before <= generation <= one.after]
            assert one.hits in set().union(*held), (one, held)
    assert len({one.before for seen in looks for one in seen}) >= 10


def read_beside(store: bs.Store, writer: subprocess.Popen[str], seen: list[SearchObservation]) -> None:
    """Search until the writer is through."""
    while writer.poll() is None:
        seen.append(look(store, len(seen)))
        time.sleep(0.005)


def stop_now_and_then(
    writer: subprocess.Popen[str], reading: Sequence[Future[None]], looks: Sequence[Sequence[SearchObservation]]
) -> int:
    """Stop the writer wherever it is: readers who waited for it would never get through.

    Returns:
        How often it was stopped. A writer that ends just before the signal is no longer waited for, nor is a reader
        that has failed.
    """
    stops = 0
    while writer.poll() is None:
        writer.send_signal(signal.SIGSTOP)
        before = [len(seen) for seen in looks]

        def all_went_on(before: Sequence[int] = before) -> bool:
            return all(len(seen) > n + 1 for seen, n in zip(looks, before, strict=True))

        try:
            wait_for(lambda: all_went_on() or any(reader.done() for reader in reading))
        finally:
            writer.send_signal(signal.SIGCONT)
        stops += all_went_on()
        time.sleep(0.2)
    return stops
