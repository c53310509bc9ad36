"""Kill -9 at any moment of an indexing run, run it again: nothing lost, nothing twice, the same answers."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

import bindsearch as bs
from bindsearch.catalog import Catalog
from bindsearch.items import Modality

CHILD = Path(__file__).with_name("indexing_child.py")
MOMENTS = 10


def child(store: Path, folder: Path, *options: str) -> subprocess.Popen[str]:
    command = [sys.executable, str(CHILD), str(store), str(folder), *options]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """300 texts and 40 sounds of three segments each: some 17 batches."""
    root = tmp_path_factory.mktemp("media")
    rng = np.random.default_rng(0)
    for n in range(300):
        (root / f"{n:03d}.txt").write_text(f"text number {n}")
    for n in range(40):
        soundfile.write(root / f"{n:03d}.wav", rng.uniform(-0.5, 0.5, 50_000).astype(np.float32), 2_000)
    return root


@pytest.fixture(scope="module")
def undisturbed(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[int, dict[str, Any]]:
    """Number of syncs of a whole run, and what it stored."""
    store = tmp_path_factory.mktemp("undisturbed") / "store"
    output, errors = child(store, folder).communicate(timeout=120)
    assert output, errors
    return int(output), stored(store)


def stored(store: Path) -> dict[str, Any]:
    """Everything but the ids: each segment of each item with its vector, and the answers to some queries."""
    with Catalog(store / "catalog.duckdb") as catalog:
        items = {item["item_id"]: item["rel_path"] for item in catalog.items_table().to_pylist()}
        segments = catalog.segments_table().to_pylist()
    with bs.connect(store) as opened:
        generation = opened._reader.current()
        rows = []
        for segment in segments:
            partition = generation.partitions[Modality(segment["modality"])]
            row = partition.rows_of_vectors(np.array([segment["vector_id"]]))
            assert partition.vector_ids[row[0]] == segment["vector_id"]
            vector = partition.rows.embeddings(row)[0].tobytes()
            path = items[segment["item_id"]]
            rows.append((path, segment["start_s"], segment["end_s"], segment["text"], vector))
        queries = ["text number 7", "text number 299", "nothing like it"]
        hits = [hit for query in queries for hit in opened.search(query)]
    answers = {"hits": [hit.path for hit in hits], "scores": [hit.score for hit in hits]}
    by_place = sorted(rows, key=lambda row: (row[0], row[1] or 0.0))
    return {"items": sorted(items.values()), "segments": by_place, **answers}


def assert_same(found: dict[str, Any], expected: dict[str, Any]) -> None:
    """Equal; scores only nearly, since a covariance is summed in the order of the rows, which differs between runs."""
    scores = pytest.approx(expected["scores"], abs=1e-3)
    assert found == {**expected, "scores": scores}


@pytest.mark.parametrize("moment", range(1, MOMENTS + 1))
def test_killed_at_a_sync_and_run_again(
    moment: int, folder: Path, undisturbed: tuple[int, dict[str, Any]], tmp_path: Path
) -> None:
    syncs, expected = undisturbed
    store = tmp_path / "store"
    killed = child(store, folder, "--kill-at", str(max(1, syncs * moment // (MOMENTS + 1))))
    killed.communicate(timeout=120)
    assert killed.returncode == -9
    again = child(store, folder)
    _, errors = again.communicate(timeout=120)
    assert again.returncode == 0, errors
    assert_same(stored(store), expected)


def test_killed_twice_at_random_moments_and_run_again(
    folder: Path, undisturbed: tuple[int, dict[str, Any]], tmp_path: Path
) -> None:
    store = tmp_path / "store"
    rng = random.Random(11)
    for _ in range(2):
        process = child(store, folder, "--pause", "0.02")
        deadline = time.monotonic() + 60
        while not (store / "CURRENT").exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(rng.uniform(0.0, 0.4))
        process.kill()
        process.communicate()
    again = child(store, folder)
    _, errors = again.communicate(timeout=120)
    assert again.returncode == 0, errors
    assert_same(stored(store), undisturbed[1])
    names = {path.name for path in (store / "vectors").rglob("*") if path.is_file()}
    with Catalog(store / "catalog.duckdb") as catalog:
        assert names == {name for files in catalog.vector_files().values() for name, _ in files}


def test_search_in_another_process_while_indexing_sees_whole_batches_only(folder: Path, tmp_path: Path) -> None:
    store, log = tmp_path / "store", tmp_path / "log"
    process = child(store, folder, "--pause", "0.05", "--log", str(log))
    observed: list[int] = []
    while process.poll() is None:
        if not (store / "CURRENT").exists():
            time.sleep(0.01)
            continue
        with bs.connect(store) as reader:
            snapshot = reader._reader.current().snapshot
            assert reader.status().failures == ()
            observed.append(sum(snapshot.counts("items").values()))
            sounds = snapshot.counts("items").get(Modality.AUDIO, 0)
            assert snapshot.counts("segments").get(Modality.AUDIO, 0) == 3 * sounds
            if observed[-1]:
                assert reader.search("text number 7", k=3)
    _, errors = process.communicate()
    assert process.returncode == 0, errors
    whole = {0, *(int(line) for line in log.read_text().split())}
    assert set(observed) <= whole
    assert len(set(observed)) >= 4
    assert observed == sorted(observed)
