"""Kill -9 at any moment of an indexing run, run it again: nothing lost, nothing twice, nothing left lying about."""

from __future__ import annotations

import random
import shutil
import signal
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Self

import numpy as np
import pytest
from PIL import Image

import bindsearch as bs
from bindsearch.indexes.types import IndexForm, IndexSettings
from bindsearch.ingest import collect
from bindsearch.operations.verify.check import verify
from bindsearch.storage import writer
from bindsearch.storage.batch import StagedBatch
from bindsearch.types import Modality
from helpers.children import indexing
from helpers.children.indexing import FAULTS, POINTS
from helpers.crash_world import (
    World,
    assert_as_undisturbed,
    assert_searchable,
    assert_tidy,
    change,
    child,
    litter,
    run,
    stored,
    write_old,
)
from helpers.forked import Forked
from helpers.waiting import wait_for

CHILD = Path(indexing.__file__)
CODES = IndexSettings(IndexForm.IVF_PQ, overrides={"lists": 4})
RUNS = 10


@pytest.fixture(scope="module", autouse=True)
def small_batches() -> Iterator[None]:
    """As in the child, for the runs that go on where it was killed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(collect, "COMMIT_SEGMENTS", indexing.COMMIT_SEGMENTS)
        patch.setattr(writer, "MAX_SMALL_FILES", indexing.MAX_SMALL_FILES)
        patch.setattr(writer, "MAX_PARTS", indexing.MAX_PARTS)
        yield


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    place = tmp_path_factory.mktemp("world")
    folders = place / "media", place / "notes"
    write_old(*folders)
    run(place / "old", *folders)
    change(*folders)
    shutil.copytree(place / "old", place / "undisturbed")
    run(place / "undisturbed", *folders)
    expected = stored(place / "undisturbed")
    assert len(expected["items"]) == 110 + 20 + 45 + 4 + 17
    assert len(expected["failures"]) == 3
    assert_tidy(place / "undisturbed")
    return World(folders, place / "old", expected)


def until_ready(process: Forked) -> None:
    wait_for(lambda: process.output.read_text().startswith("ready\n") or process.poll() is not None)
    assert process.returncode is None


class KilledRuns:
    """Runs that were killed at moments named in POINTS; the next one is under way while one is looked at."""

    def __init__(self, world: World, place: Path) -> None:
        self._world = world
        self._place = place
        self._pool = ThreadPoolExecutor(1)
        self._runs: dict[str, Future[tuple[Path, int, str]]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(cancel_futures=True)

    def take(self, moment: str) -> tuple[Path, int, str]:
        """Return the store that a run left, its return code, and its output."""
        names = list(POINTS)
        for name in names[names.index(moment) :][:2]:
            if name not in self._runs:
                self._runs[name] = self._pool.submit(self._kill, name)
        return self._runs[moment].result()

    def _kill(self, moment: str) -> tuple[Path, int, str]:
        point, store = POINTS[moment], self._place / moment
        if not point.fresh:
            shutil.copytree(self._world.old, store)
            litter(store)
        options = ("--kill", moment, *(["--codes"] if point.codes else []))
        killed = child(store, *self._world.folders, options=options)
        _, errors = killed.communicate(timeout=120)
        return store, killed.returncode, errors


@pytest.fixture(scope="module")
def killed_runs(world: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[KilledRuns]:
    with KilledRuns(world, tmp_path_factory.mktemp("killed")) as runs:
        yield runs


@pytest.mark.parametrize("moment", POINTS)
def test_killed_and_run_again(moment: str, world: World, killed_runs: KilledRuns) -> None:
    store, code, errors = killed_runs.take(moment)
    assert code == -signal.SIGKILL, f"{moment} was never reached: {errors}"
    if not POINTS[moment].fresh:
        assert_searchable(store)
    codes = POINTS[moment].codes
    report = run(store, *world.folders, settings=CODES if codes else None)
    assert report.failed == 3
    assert_as_undisturbed(store, world)
    if codes:
        with bs.connect(store) as opened:
            forms = {part.modality: (part.form, part.index_error) for part in opened.status().partitions}
        assert forms[Modality.TEXT] == (IndexForm.IVF_PQ, None)
    shutil.rmtree(store)


def test_killed_at_random_moments_over_and_over(world: World, tmp_path: Path) -> None:
    """Ten times a store; one that gets through before that starts over."""
    with ThreadPoolExecutor(2) as pool:
        for finished in [pool.submit(kill_at_random, seed, world, tmp_path / str(seed)) for seed in (3, 1, 2, 4, 5)]:
            finished.result()


def kill_at_random(seed: int, world: World, store: Path) -> None:
    """Kill runs at random; the store of seed 2 is new at first, that of seed 3 is filled by worker processes."""
    rng = random.Random(seed)
    fresh, workers = seed == 2, seed == 3
    options = ("--pause", "0.1", *(["--workers"] if workers else []))
    kills = kills_with_workers = 0
    while kills < RUNS:
        if not store.exists() and not fresh:
            shutil.copytree(world.old, store)
        process = child(store, *world.folders, options=options)
        until_ready(process)
        if workers and kills % 2:
            wait_for(lambda: children_of(process.pid) or process.poll() is not None)  # noqa: B023  (called here)
        time.sleep(rng.uniform(0.0, 0.7))
        helpers = children_of(process.pid)
        process.kill()
        process.communicate(timeout=60)
        assert_gone(helpers)
        if process.returncode == -signal.SIGKILL:
            kills += 1
            kills_with_workers += bool(helpers)
            continue
        assert process.returncode == 3  # the pictures that cannot be read
        assert_as_undisturbed(store, world)
        shutil.rmtree(store)
    assert kills_with_workers or not workers
    run(store, *world.folders)
    assert_as_undisturbed(store, world)


def children_of(pid: int) -> list[int]:
    """Return the processes that a process has started."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            if int(stat.read_text().rpartition(")")[2].split()[1]) == pid:
                found.append(int(stat.parent.name))
    return found


def assert_gone(pids: list[int]) -> None:
    """Soon none of them runs any more; one may be left as a zombie, where nobody asks what became of it."""
    deadline = time.monotonic() + 20
    left = list(pids)
    while left and time.monotonic() < deadline:
        left = [pid for pid in left if state_of(pid) not in ("", "Z")]
        time.sleep(0.01)
    assert left == []


def state_of(pid: int) -> str:
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    return ""


@pytest.mark.parametrize("fault", [fault for fault in FAULTS if "archives" not in fault])
def test_a_store_that_cannot_be_written_ends_the_run_with_one_line(fault: str, world: World, tmp_path: Path) -> None:
    code, lines = starved(world, tmp_path / "store", "--fail", fault)
    assert (code, len(lines)) == (5, 1), lines
    assert lines[0].startswith(f"bindsearch: cannot write the store {tmp_path / 'store'}: ")
    assert_goes_on(world, tmp_path / "store")


def test_a_catalog_that_cannot_grow_ends_the_run_with_one_line(world: World, tmp_path: Path) -> None:
    code, lines = starved(world, tmp_path / "store", "--largest-file", "20000")
    assert (code, len(lines)) == (5, 1), lines
    assert str(tmp_path / "store") in lines[0]
    assert not lines[0].startswith("bindsearch: unexpected")
    assert_goes_on(world, tmp_path / "store")


def test_a_catalog_that_cannot_be_tidied_up_in_the_end_keeps_what_was_committed(world: World, tmp_path: Path) -> None:
    held = (world.old / "catalog.duckdb").stat().st_size
    code, _ = starved(world, tmp_path / "store", "--largest-file", str(held + 4096))
    assert code == 3  # all was committed, and three pictures cannot be read
    assert_goes_on(world, tmp_path / "store")


def test_no_room_for_members_of_an_archive_is_told_and_tried_again(world: World, tmp_path: Path) -> None:
    code, lines = starved(world, tmp_path / "store", "--fail", "no space for members of archives")
    assert code == 3
    assert f"failed: {world.folders[0] / 'album.zip'}: No space left on device" in lines
    assert_goes_on(world, tmp_path / "store")


def starved(world: World, store: Path, *options: str) -> tuple[int, list[str]]:
    """Exit code of a run that the system refuses something, and the lines it says."""
    shutil.copytree(world.old, store)
    process = child(store, *world.folders, options=options)
    _, errors = process.communicate(timeout=120)
    return process.returncode, [line for line in errors.splitlines() if not line.startswith("note: ")]


def assert_goes_on(world: World, store: Path) -> None:
    """Check that everything committed exists, and that the next run does the rest."""
    assert_searchable(store)
    assert not (store / "spool").exists()
    run(store, *world.folders)
    assert_as_undisturbed(store, world)


def test_folders_that_vanish_and_come_back(world: World, tmp_path: Path) -> None:
    store, away = tmp_path / "store", world.folders[0].with_name("away")
    shutil.copytree(world.old, store)
    before = stored(store)["items"]
    process = child(store, *world.folders, options=("--pause", "1", "--log", str(tmp_path / "log")))
    until_ready(process)
    wait_for(lambda: (tmp_path / "log").exists() and len((tmp_path / "log").read_text().splitlines()) >= 2)
    world.folders[0].rename(away)
    try:
        _, errors = process.communicate(timeout=120)
        assert process.returncode in (0, 3), errors
        assert "unexpected" not in errors
        assert verify(store).findings == ()
        assert len(stored(store)["items"]) >= len(before) - 12  # what had gone before may be swept
    finally:
        away.rename(world.folders[0])
    run(store, *world.folders)
    assert_as_undisturbed(store, world)


def test_a_run_over_a_part_that_ends_early_leaves_a_changed_list_to_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A list speaks of files outside of that part too."""
    media = tmp_path / "media"
    (media / "sub").mkdir(parents=True)
    for n in range(4):
        (media / f"{n}.txt").write_text(f"text number {n}")
    (media / "captions.csv").write_text("path,caption\n0.txt,first\n1.txt,second\n2.txt,third\n")
    real, commits = writer.Writer.commit, 0

    def commit_once(self: writer.Writer, batch: StagedBatch) -> None:
        nonlocal commits
        commits += 1
        if commits > 1:
            raise bs.BindSearchError("the run ends here")
        real(self, batch)

    store = tmp_path / "store"
    run(store, media)
    (media / "captions.csv").write_text("path,caption\n0.txt,one\n1.txt,two\n2.txt,three\n")
    with monkeypatch.context() as patch:
        patch.setattr(collect, "COMMIT_FILES", 1)
        patch.setattr(writer.Writer, "commit", commit_once)
        with pytest.raises(bs.BindSearchError, match="the run ends here"):
            run(store, media / "sub")
    assert run(store, media / "sub").changed == 2
    with bs.connect(store) as opened:
        assert {hit.path.name for hit in opened.search("three", to="text", k=1)} == {"2.txt"}


def test_copies_of_members_that_a_killed_run_left_go_though_there_is_nothing_to_do(tmp_path: Path) -> None:
    store, media = tmp_path / "store", tmp_path / "media"
    media.mkdir()
    (media / "a.txt").write_text("a text")
    run(store, media)
    (store / "spool" / "x").mkdir(parents=True)
    (store / "spool" / "x" / "00000000.txt").write_text("a member")
    assert run(store, media).unchanged == 1
    assert_tidy(store)


@pytest.mark.slow
def test_killed_three_times_with_a_real_encoder(tmp_path: Path) -> None:
    folder = tmp_path / "media"
    folder.mkdir()
    for n in range(60):
        (folder / f"{n}.txt").write_text(f"{n} dogs on a beach at noon")
    rng = np.random.default_rng(0)
    for n in range(30):
        Image.fromarray(rng.integers(0, 256, (64, 64, 3), np.uint8)).save(folder / f"{n}.png")
    with bs.connect(tmp_path / "undisturbed", encoder="mini") as store:
        store.index(folder)
    expected = vectors_of(tmp_path / "undisturbed")
    assert len(expected) == 90
    for seconds in (1.0, 3.0, 6.0):
        process = child(tmp_path / "store", folder, options=("--encoder", "mini", "--workers", "--pause", "2"))
        until_ready(process)
        time.sleep(seconds)
        process.kill()
        process.communicate(timeout=60)
        assert process.returncode == -signal.SIGKILL
    with bs.connect(tmp_path / "store", encoder="mini") as store:
        store.index(folder)
    found = vectors_of(tmp_path / "store")
    assert found.keys() == expected.keys()
    assert min(float(found[path] @ expected[path]) for path in expected) >= 0.9999
    assert_tidy(tmp_path / "store")


def vectors_of(store: Path) -> dict[str, np.ndarray]:
    """Return the vector of each item, of unit length."""
    with bs.connect(store, encoder="mini") as opened:
        generation = opened._reader.current()
        items, segments = generation.snapshot.live_tables()
        paths = {row["item_id"]: row["rel_path"] for row in items.to_pylist()}
        found = {}
        for segment in segments.to_pylist():
            partition = generation.partitions[Modality(segment["modality"])]
            row = partition.rows_of_vectors(np.array([segment["vector_id"]]))
            vector = partition.rows.embeddings(row)[0].astype(np.float64)
            found[paths[segment["item_id"]]] = vector / np.linalg.norm(vector)
    return found
