"""Kill -9 at any moment of an indexing run, run it again: nothing lost, nothing twice, nothing left lying about."""

from __future__ import annotations

import json
import os
import random
import runpy
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import pytest
import soundfile
from PIL import Image

import bindsearch as bs
from bindsearch.catalog import Catalog
from bindsearch.encoders.null import NullEncoder
from bindsearch.indexes.base import Form, IndexWishes
from bindsearch.ingest import commit, writer
from bindsearch.items import Modality
from bindsearch.snapshot import read_manifest
from bindsearch.verify import verify

CHILD = Path(__file__).with_name("indexing_child.py")
CODES = IndexWishes(Form.IVF_PQ, overrides={"lists": 4})
child_module = runpy.run_path(str(CHILD))
POINTS, FAULTS = child_module["POINTS"], child_module["FAULTS"]
ORPHANS = ("vectors/text/000000000000-orphan.arrow", "vectors/audio/.orphan.arrow.1.tmp", "snapshots/1/.orphan.1.tmp")
ROOT_TEMPORARY = ".CURRENT.1.tmp"
RUNS = 10


class Stays(NullEncoder):
    """Cannot be sent to another process, so that files are decoded here."""

    def __reduce__(self) -> tuple[object, ...]:
        raise TypeError("stays here")


@dataclass(frozen=True)
class World:
    """Two folders as they are now, a store that was made when they were different, and what it should hold now."""

    folders: tuple[Path, Path]
    old: Path
    expected: Mapping[str, Any]


def child(store: Path, *folders: Path, options: tuple[str, ...] = ()) -> subprocess.Popen[str]:
    command = [sys.executable, str(CHILD), str(store), *map(str, folders), *options]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def until_ready(process: subprocess.Popen[str]) -> None:
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"


def write_zip(path: Path, numbers: range) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for n in numbers:
            archive.writestr(f"inner/{n}.txt", f"member number {n}")


def write_sound(path: Path, seed: int) -> None:
    """25 s: three segments."""
    samples = np.random.default_rng(seed).uniform(-0.5, 0.5, 50_000)
    soundfile.write(path, samples.astype(np.float32), 2_000, subtype="PCM_16")


def write_old(media: Path, notes: Path) -> None:
    for place in (media / "texts", media / "sounds", notes):
        place.mkdir(parents=True)
    for n in range(70):
        (media / "texts" / f"{n:03d}.txt").write_text(f"text number {n}")
    for n in range(8):
        write_sound(media / "sounds" / f"{n:02d}.wav", n)
    for n in range(4):
        Image.fromarray(np.full((8, 8, 3), 40 * n, np.uint8)).save(media / f"{n}.png")
    (media / "captions.csv").write_text("path,caption\n0.png,a caption\n1.png,one more\ntexts/065.txt,said of a text\n")
    (media / "bad.png").write_bytes(b"\x89PNG\r\n\x1a\n no picture")
    write_zip(media / "album.zip", range(25))
    for n in range(10):
        (notes / f"{n}.txt").write_text(f"note number {n}")


def change(media: Path, notes: Path) -> None:
    """Add, change, touch, move, copy, swap and delete."""
    texts, sounds = media / "texts", media / "sounds"
    for n in range(70, 120):
        (texts / f"{n:03d}.txt").write_text(f"text number {n}")
    for n in range(8, 20):
        write_sound(sounds / f"{n:02d}.wav", n)
    for n in range(10, 15):
        (texts / f"{n:03d}.txt").write_text(f"another text {n}")
    write_sound(sounds / "03.wav", 103)
    (texts / "060.txt.json").write_text(json.dumps({"columns": {"rating": 5}}))
    for n in range(40, 43):
        os.utime(texts / f"{n:03d}.txt", (n, n))
    (media / "moved").mkdir()
    for n in range(10):
        (texts / f"{n:03d}.txt").rename(media / "moved" / f"{n:03d}.txt")
    (sounds / "04.wav").rename(media / "moved" / "04.wav")
    for n in range(20, 25):
        shutil.copy(texts / f"{n:03d}.txt", notes / f"copy of {n}.txt")
    shutil.copy(sounds / "05.wav", media / "copy.wav")
    for n in range(3):  # of one that is new
        shutil.copy(sounds / "15.wav", notes / f"copy {n}.wav")
    (texts / "050.txt").rename(texts / "x")
    (texts / "051.txt").rename(texts / "050.txt")
    (texts / "x").rename(texts / "051.txt")
    for n in range(30, 40):
        (texts / f"{n:03d}.txt").unlink()
    (sounds / "07.wav").unlink()
    (notes / "3.txt").unlink()
    (media / "captions.csv").write_text("path,caption\n0.png,a caption\n1.png,other words\ntexts/066.txt,of a text\n")
    (media / "worse.png").write_bytes(b"\x89PNG\r\n\x1a\n no picture at all")
    write_zip(media / "album.zip", range(5, 50))


@pytest.fixture(scope="module", autouse=True)
def small_batches() -> Iterator[None]:
    """As in the child, for the runs that go on where it was killed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(commit, "COMMIT_SEGMENTS", child_module["COMMIT_SEGMENTS"])
        patch.setattr(writer, "MAX_SMALL_FILES", child_module["MAX_SMALL_FILES"])
        patch.setattr(writer, "MAX_PARTS", child_module["MAX_PARTS"])
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
    assert len(expected["failures"]) == 2
    assert_tidy(place / "undisturbed")
    return World(folders, place / "old", expected)


def run(store: Path, *folders: Path, wishes: IndexWishes | None = None) -> bs.IndexReport:
    with bs.connect(store, encoder=Stays()) as opened:
        return opened.index(*folders, wishes=wishes)


def stored(store: Path) -> dict[str, Any]:
    """Everything but the ids: items with all that is known of them, their segments with vectors, who shares vectors
    with whom, failures, containers, and the answers to some queries."""
    with Catalog(store / "catalog.duckdb") as catalog:
        roots = {key: root.name for key, root in catalog.collections().items()}
        items = {item["item_id"]: item for item in catalog.items_table().to_pylist()}
        segments = catalog.segments_table().to_pylist()
        failures = [(roots[row["collection_id"]], row["rel_path"]) for row in catalog.failures_table().to_pylist()]
        containers = {roots[key]: catalog.containers(key) for key in roots}
    paths = {key: f"{roots[item.pop('collection_id')]}/{item['rel_path']}" for key, item in items.items()}
    sharing: dict[int, set[str]] = {}
    rows = []
    with bs.connect(store, encoder=Stays()) as opened:
        generation = opened._reader.current()
        for segment in segments:
            partition = generation.partitions[Modality(segment["modality"])]
            row = partition.rows_of_vectors(np.array([segment["vector_id"]]))
            assert partition.vector_ids[row[0]] == segment["vector_id"]
            path, vector = paths[segment["item_id"]], partition.rows.embeddings(row)[0].tobytes()
            sharing.setdefault(segment["vector_id"], set()).add(path)
            rows.append((path, segment["start_s"] or 0.0, segment["end_s"], segment["text"] or "", vector))
        hits = [
            hit
            for query, target in (("text number 7", "text"), ("text number 23", "text"), ("other words", "audio"))
            for hit in opened.search(query, to=target, rank="cosine", k=5)
        ]
    return {
        "items": sorted(str({"path": paths[key]} | item | {"item_id": 0}) for key, item in items.items()),
        "segments": sorted(rows),
        "sharing": sorted(sorted(group) for group in sharing.values()),
        "failures": sorted(failures),
        "containers": containers,
        "answers": sorted((-round(hit.cosine, 4), str(hit.path)) for hit in hits),
    }


def assert_tidy(store: Path) -> None:
    """Nothing is damaged, and nothing lies about that nobody refers to."""
    assert verify(store).findings == ()
    left = [str(path.relative_to(store)) for path in store.rglob("*") if "orphan" in path.name or ".tmp" in path.name]
    assert left == []
    manifest = read_manifest(store)
    assert manifest is not None
    with Catalog(store / "catalog.duckdb") as catalog:
        held = {modality: {name for name, _ in files} for modality, files in catalog.vector_files().items()}
    on_disk = {Modality(path.name): {file.name for file in path.iterdir()} for path in (store / "vectors").iterdir()}
    assert {modality: names for modality, names in on_disk.items() if names} == held
    young = {str(n) for n in range(manifest.generation - writer.KEPT_GENERATIONS, manifest.generation + 1)}
    parts = {path.name for path in (store / "snapshots").iterdir()}
    assert parts - young <= {str(number) for number in (*manifest.parts, manifest.failures)}
    expected = {"store.json", "catalog.duckdb", "vectors", "snapshots", "CURRENT", "indexes", "writer.lock"}
    assert {path.name for path in store.iterdir()} <= expected


def assert_as_undisturbed(store: Path, world: World) -> None:
    assert stored(store) == world.expected
    assert_tidy(store)


def litter(store: Path) -> None:
    """What a run that was killed may have left."""
    for name in (*ORPHANS, ROOT_TEMPORARY):
        (store / name).parent.mkdir(parents=True, exist_ok=True)
        (store / name).write_bytes(b"half")


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
        """The store that a run left, its return code, and what it said."""
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
    codes = POINTS[moment].codes
    report = run(store, *world.folders, wishes=CODES if codes else None)
    assert report.failed == 2
    assert_as_undisturbed(store, world)
    if codes:
        with bs.connect(store) as opened:
            forms = {part.modality: (part.form, part.trouble) for part in opened.status().partitions}
        assert forms[Modality.TEXT] == (Form.IVF_PQ, None)
    shutil.rmtree(store)


@pytest.mark.parametrize("seeds", [(1, 2), (3, 4, 5)])
def test_killed_at_random_moments_over_and_over(seeds: tuple[int, ...], world: World, tmp_path: Path) -> None:
    """Ten times a store; one that gets through before that starts over."""
    with ThreadPoolExecutor(2) as pool:
        for finished in [pool.submit(kill_at_random, seed, world, tmp_path / str(seed)) for seed in seeds]:
            finished.result()


def kill_at_random(seed: int, world: World, store: Path) -> None:
    """The store with seed 2 is new at first, and that with seed 3 filled with the help of worker processes."""
    rng = random.Random(seed)
    fresh, workers = seed == 2, seed == 3
    options = ("--pause", "0.1", *(["--workers"] if workers else []))
    kills = outlived = 0
    while kills < RUNS:
        if not store.exists() and not fresh:
            shutil.copytree(world.old, store)
        process = child(store, *world.folders, options=options)
        until_ready(process)
        time.sleep(rng.uniform(0.0, 1.5 if workers else 0.7))
        helpers = children_of(process.pid)
        process.kill()
        process.communicate(timeout=60)
        outlived += bool(helpers)
        assert_gone(helpers)
        if process.returncode == -signal.SIGKILL:
            kills += 1
            continue
        assert process.returncode == 3  # the two pictures that cannot be read
        assert_as_undisturbed(store, world)
        shutil.rmtree(store)
    assert outlived or not workers
    run(store, *world.folders)
    assert_as_undisturbed(store, world)


def children_of(pid: int) -> list[int]:
    """Processes that a process has started."""
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


@pytest.mark.parametrize("fault", FAULTS)
def test_a_store_that_cannot_be_written_ends_the_run_with_one_line(fault: str, world: World, tmp_path: Path) -> None:
    assert_ends_and_goes_on(world, tmp_path / "store", ("--fail", fault))


@pytest.mark.parametrize("largest", [20_000, 2_400_000])
def test_a_catalog_that_cannot_grow_ends_the_run_with_one_line(largest: int, world: World, tmp_path: Path) -> None:
    assert_ends_and_goes_on(world, tmp_path / "store", ("--largest-file", str(largest)))


def assert_ends_and_goes_on(world: World, store: Path, options: tuple[str, ...]) -> None:
    shutil.copytree(world.old, store)
    process = child(store, *world.folders, options=options)
    _, errors = process.communicate(timeout=120)
    lines = [line for line in errors.splitlines() if not line.startswith("note: ")]
    assert (process.returncode, len(lines)) == (5, 1), errors
    assert str(store) in lines[0]
    assert not lines[0].startswith("bindsearch: unexpected")
    with bs.connect(store, encoder=Stays()) as opened:
        assert opened.search("text number 23", to="text", k=1)[0].path.name == "023.txt"
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


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


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
    """The vector of each item, of unit length."""
    with bs.connect(store, encoder="mini") as opened:
        generation = opened._reader.current()
        items, segments = generation.snapshot.living()
        paths = {row["item_id"]: row["rel_path"] for row in items.to_pylist()}
        found = {}
        for segment in segments.to_pylist():
            partition = generation.partitions[Modality(segment["modality"])]
            row = partition.rows_of_vectors(np.array([segment["vector_id"]]))
            vector = partition.rows.embeddings(row)[0].astype(np.float64)
            found[paths[segment["item_id"]]] = vector / np.linalg.norm(vector)
    return found
