"""Workers: a file that crashes or hangs one costs that file alone, and results arrive whole through shared memory."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import bindsearch as bs
from bindsearch.encoders.null import NullEncoder
from bindsearch.ingest.inspect.inspect_file import InspectOptions, InspectResult, SourceFile
from bindsearch.ingest.workers import pool, process
from bindsearch.ingest.workers.process import ProcessWorker, pack_encoder
from bindsearch.ingest.workers.protocol import WorkerLostError
from bindsearch.media import Media, Passage, Reading
from bindsearch.reports import Progress
from bindsearch.storage.file_state import FileState
from bindsearch.types import DecodeIn, Modality
from helpers import media_files
from helpers.crashing_encoder import CrashingEncoder


def write_texts(folder: Path, *texts: str) -> Path:
    folder.mkdir()
    for n, text in enumerate(texts):
        (folder / f"{n:03d} {text[:20]}.txt").write_text(text)
    return folder


def test_a_file_that_crashes_its_worker_is_named_and_tried_once_more_and_costs_nothing_else(tmp_path: Path) -> None:
    calm = [f"calm {n}" for n in range(60)]
    folder = write_texts(tmp_path / "texts", *calm[:30], "crash", *calm[30:])
    log = tmp_path / "log"
    with bs.connect(tmp_path / "store", encoder=CrashingEncoder(log)) as store:
        report = store.index(folder)
        assert report.added == 60
        (failure,) = report.failures
        assert failure.path.name == "030 crash.txt"
        assert failure.reason == "its decoder crashed (SIGSEGV), also on a second try"
        assert store.status().segments == {Modality.TEXT: 60}
        assert report.notices == []
        again = store.index(folder)
        assert (again.unchanged, again.failed) == (60, 1)
    lines = log.read_text().splitlines()
    assert sum(line.endswith(" crash") for line in lines) == 2
    assert str(os.getpid()) not in {line.split()[0] for line in lines}


def test_a_worker_that_dies_by_accident_costs_no_file(tmp_path: Path) -> None:
    folder = write_texts(tmp_path / "texts", *[f"calm {n}" for n in range(20)], "crash once")
    with bs.connect(tmp_path / "store", encoder=CrashingEncoder(tmp_path / "log")) as store:
        report = store.index(folder)
        assert (report.added, report.failed) == (21, 0)
        assert [hit.text for hit in store.search("crash once", k=1)] == ["crash once"]


def test_a_file_that_hangs_its_worker_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "STALL_SECONDS", 1.0)
    folder = write_texts(tmp_path / "texts", "hang", *[f"calm {n}" for n in range(10)])
    with bs.connect(tmp_path / "store", encoder=CrashingEncoder(tmp_path / "log")) as store:
        report = store.index(folder)
    assert report.added == 10
    assert [failure.reason for failure in report.failures] == [
        "its decoder did not answer for 1 s, also on a second try"
    ]


def test_no_worker_outlives_a_run(tmp_path: Path) -> None:
    folder = write_texts(tmp_path / "texts", *[f"calm {n}" for n in range(20)])
    with bs.connect(tmp_path / "store", encoder=CrashingEncoder(tmp_path / "log")) as store:
        store.index(folder)
    workers = {int(line.split()[0]) for line in (tmp_path / "log").read_text().splitlines()}
    assert workers
    for worker in workers:
        with pytest.raises(ProcessLookupError):
            os.kill(worker, 0)


def test_a_script_without_a_guard_of_its_main_runs_once(tmp_path: Path) -> None:
    write_texts(tmp_path / "media", "a dog", "a cat")
    index = (
        f"import bindsearch as bs\nstore = bs.connect({str(tmp_path / 'store')!r}, encoder='null')\n"
        f"print('indexed', store.index({str(tmp_path / 'media')!r}).added)\n"
    )
    spawn = "import multiprocessing\nmultiprocessing.get_context('spawn').Process(target=print).start()\n"
    for name, text in (("index.py", index), ("spawn.py", spawn)):
        (tmp_path / name).write_text(text)
    ours, theirs = (
        subprocess.run([sys.executable, tmp_path / name], capture_output=True, text=True, timeout=120, check=False)
        for name in ("index.py", "spawn.py")
    )
    assert (ours.stdout, ours.stderr, ours.returncode) == ("indexed 2\n", "", 0)
    assert "Safe importing of main module" in theirs.stderr


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="looks at /proc")
def test_workers_end_when_the_run_is_killed(tmp_path: Path) -> None:
    folder = write_texts(tmp_path / "texts", *[f"text {n} " * 2000 for n in range(2000)])
    code = "import sys, bindsearch as bs; bs.connect(sys.argv[1], encoder='null').index(sys.argv[2])"
    run = subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "store"), str(folder)])
    deadline = time.monotonic() + 30
    while not (found := _children(run.pid)) and time.monotonic() < deadline:
        time.sleep(0.05)
    run.kill()
    run.wait()
    assert found
    while any(Path(f"/proc/{pid}").exists() for pid in found) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(Path(f"/proc/{pid}").exists() for pid in found)


def _children(pid: int) -> list[int]:
    tasks = Path(f"/proc/{pid}/task").glob("*/children")
    try:
        return [int(child) for task in tasks for child in task.read_text().split()]
    except OSError:
        return []


def test_views_of_any_size_arrive_as_they_were_made() -> None:
    """More in all than the arena holds, so that it wraps around, and one that does not fit."""
    sizes = [1, 1000, process.ARENA_BYTES // 3, 7, process.ARENA_BYTES // 3 + 5, process.ARENA_BYTES // 3, 64, 0]
    memory = _memory()
    arena, other = process._Arena(memory), process._Arena(memory)
    rng = np.random.default_rng(0)
    for _ in range(5):
        for size in sizes:
            array = rng.integers(0, 255, (1, size), dtype=np.uint8)
            placed = arena.put(array)
            assert placed is not None
            assert np.array_equal(other.take(placed), array)
    assert arena.put(np.zeros(process.ARENA_BYTES, np.uint8)) is None
    assert arena.put(np.array([None])) is None


def _memory() -> int:
    descriptor = os.memfd_create("test")
    os.ftruncate(descriptor, process.ARENA_BYTES + process._HEADER_BYTES)
    return descriptor


def answer_of(worker: ProcessWorker) -> tuple[int, Any]:
    answer = worker.receive(10.0)
    assert answer is not None
    return answer


def test_a_worker_answers_a_job_and_says_how_it_died(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("a text")
    worker = ProcessWorker(pack_encoder(NullEncoder()))
    try:
        worker.send(InspectOptions((), frozenset(Modality)))
        file = SourceFile(tmp_path / "a.txt", "a.txt", FileState(1, 2, 0))
        worker.send([(7, file, None)])
        number, look = answer_of(worker)
        assert isinstance(look, InspectResult)
        assert (number, look.verdict.modality) == (7, Modality.TEXT)
        for order in ((7, True), [(8, file, look)]):
            worker.send(order)
            number, segment = answer_of(worker)
            assert (segment.text, segment.payload.shape) == ("a text", (1, 1))
            assert answer_of(worker) == (number, Reading())
            assert number == worker.current()
        worker.send([(9, file, None)])
        assert answer_of(worker)[0] == 9
        worker.send((9, False))
        worker.send([(10, file, look)])
        assert [answer_of(worker)[0] for _ in range(2)] == [10, 10]
        worker._process.terminate()
        with pytest.raises(WorkerLostError, match="crashed \\(SIGTERM\\)"):
            worker.receive(10.0)
    finally:
        worker.close()


def test_an_encoder_that_cannot_be_sent_decodes_in_this_process_and_says_so(tmp_path: Path) -> None:
    processes = set()

    class Local(NullEncoder):
        def prepare(self, media: Media) -> Any:
            processes.add(os.getpid())
            return super().prepare(media)

    folder = write_texts(tmp_path / "texts", "one", "two")
    with bs.connect(tmp_path / "store", encoder=Local()) as store:
        report = store.index(folder)
    assert report.added == 2
    assert processes == {os.getpid()}
    (notice,) = report.notices
    assert notice.startswith("files are decoded in this process, which a damaged file might crash: the encoder null")


def test_a_run_ends_at_once_when_its_caller_gives_up(tmp_path: Path) -> None:
    """With every queue full, and with a decoder that hangs."""
    folder = write_texts(tmp_path / "texts", *[f"calm {n}" for n in range(600)], "hang")

    def give_up(progress: Progress) -> None:
        if progress.done:
            time.sleep(1.5)
            raise KeyboardInterrupt

    with bs.connect(tmp_path / "store", encoder=CrashingEncoder(tmp_path / "log")) as store:
        started = time.monotonic()
        with pytest.raises(KeyboardInterrupt):
            store.index(folder, on_progress=give_up)
        assert time.monotonic() - started < 20
        (folder / "600 hang.txt").unlink()
        for path in folder.iterdir():
            os.utime(path, (1, 1))  # answers that need no decoding come faster than they are taken
        with pytest.raises(KeyboardInterrupt):
            store.index(folder, on_progress=give_up)
        assert time.monotonic() - started < 40


@pytest.mark.parametrize("error", [ConnectionRefusedError(111, "Connection refused"), SystemExit(3), GeneratorExit()])
def test_whatever_preprocessing_raises_fails_its_file_only(tmp_path: Path, error: BaseException) -> None:
    class Raising(NullEncoder):
        def prepare(self, media: Media) -> Any:
            if isinstance(media, Passage) and media.text == "bad":
                raise error
            return super().prepare(media)

    folder = write_texts(tmp_path / "texts", "good", "bad", "fine")
    with bs.connect(tmp_path / "store", encoder=Raising()) as store:
        report = store.index(folder)
    assert (report.added, report.failed) == (2, 1)


def test_decoding_in_threads_starts_no_process_and_gives_the_same_vectors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    media_files.write_every_modality(tmp_path / "media", 2)
    found = {}
    for where in DecodeIn:
        with bs.connect(tmp_path / where, encoder="null", decode=where.value) as store:
            with monkeypatch.context() as patch:
                if where is DecodeIn.THREAD:
                    patch.setattr(subprocess, "Popen", None)
                report = store.index(tmp_path / "media")
            assert (report.added, report.notices) == (14, [])
            snapshot = store._reader.current().snapshot
            items, segments = snapshot.live_tables()
            vectors = {
                modality: np.sort(partition.sample(1000)[1], axis=0).tolist()
                for modality, partition in store._reader.current().partitions.items()
            }
            found[where] = sorted(items.column("rel_path").to_pylist()), segments.num_rows, vectors
    assert found[DecodeIn.THREAD] == found[DecodeIn.PROCESS]
    with pytest.raises(bs.UsageError, match="unknown decode mode 'fibre': choose from process, thread"):
        bs.connect(tmp_path / "store", decode="fibre")
