"""Hostile files beside good ones: the run ends, every file is accounted for, and the good ones are as ever."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import bindsearch as bs
from bindsearch.search.generation import Generation
from bindsearch.storage.snapshot import open_snapshot, read_manifest
from bindsearch.types import Modality
from helpers import hostile_files, media_files
from helpers.children import hostile

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc, and names may be any bytes")

SECONDS = 120.0
MEGABYTES = 1_500


@dataclass(frozen=True)
class Indexed:
    """A root of good and hostile files, its store, the good files, and what the two runs reported."""

    root: Path
    store: Path
    good: list[Path]
    runs: list[dict[str, Any]]
    peak_mb: float
    stderr: str


def index(store: Path, folder: Path) -> tuple[dict[str, Any], str]:
    """Return the output of a process with two runs, and its stderr."""
    command = [sys.executable, str(hostile.__file__), str(store), str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=SECONDS)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout), done.stderr


@pytest.fixture(scope="module")
def indexed(tmp_path_factory: pytest.TempPathFactory) -> Indexed:
    folder = tmp_path_factory.mktemp("hostile")
    good = [path for paths in media_files.write_every_modality(folder / "root" / "good", 2).values() for path in paths]
    assert len(hostile_files.make_hostile(folder / "root" / "hostile")) > 250
    told, stderr = index(folder / "store", folder / "root")
    return Indexed(folder / "root", folder / "store", good, told["runs"], told["peak_mb"], stderr)


def vectors(store: Path) -> dict[str, list[NDArray[np.float32]]]:
    """Return the vectors of each item, by its relative path."""
    manifest = read_manifest(store)
    assert manifest is not None
    with bs.connect(store, encoder="null") as opened:
        generation = Generation(store, open_snapshot(store, manifest), opened.config.dim)
    items, segments = generation.snapshot.live_tables()
    paths = dict(zip(items["item_id"].to_pylist(), items["rel_path"].to_pylist(), strict=True))
    found: dict[str, list[NDArray[np.float32]]] = {path: [] for path in paths.values()}
    for row in segments.to_pylist():
        partition = generation.partitions[Modality(row["modality"])]
        place = partition.rows_of_vectors(np.array([row["vector_id"]]))
        found[paths[row["item_id"]]].append(partition.rows.embeddings(place)[0])
    return found


def regular_files(root: Path) -> set[str]:
    """All that is a file or a link to one, hidden ones left out, by relative path."""
    found = set()
    for folder, folders, names in os.walk(root):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in names:
            path = Path(folder, name)
            if not name.startswith(".") and os.path.exists(path) and stat.S_ISREG(path.stat().st_mode):  # noqa: PTH110
                found.add(path.relative_to(root).as_posix())
    return found


def failures(run: dict[str, Any], root: Path) -> dict[str, str]:
    """Reasons by relative path."""
    paths = [os.fsdecode(bytes.fromhex(path)) for path, _ in run["failures"]]
    reasons = [reason for _, reason in run["failures"]]
    return {Path(path).relative_to(root).as_posix(): reason for path, reason in zip(paths, reasons, strict=True)}


def test_every_file_is_an_item_a_failure_or_no_media(indexed: Indexed) -> None:
    items, failed = vectors(indexed.store), failures(indexed.runs[0], indexed.root)
    with bs.connect(indexed.store, encoder="null") as store:
        planned = store.plan_index(indexed.root)
    left_out = {file.path.relative_to(indexed.root).as_posix() for file in planned if file.modality is None}
    sidecars = {path for path in regular_files(indexed.root) if path.endswith(".json")}
    lost = set()
    for path in regular_files(indexed.root) - set(items) - set(failed) - left_out - sidecars:
        shown = os.fsencode(path).decode(errors="backslashreplace")
        if shown not in failed and not any(item.startswith(f"{path}/") for item in items):
            lost.add(path)
    assert lost == set()
    assert len(items) > 150


def test_every_vector_is_one(indexed: Indexed) -> None:
    for path, rows in vectors(indexed.store).items():
        assert rows, path
        for row in rows:
            assert np.isfinite(row).all()
            assert np.linalg.norm(row) == pytest.approx(1, abs=2e-3)


def test_every_failure_has_a_reason_of_one_printable_line(indexed: Indexed) -> None:
    for reason in failures(indexed.runs[0], indexed.root).values():
        assert reason
        assert reason.isprintable()
        assert len(reason) <= 500


def test_good_files_are_found_and_have_the_vectors_they_have_alone(indexed: Indexed, tmp_path: Path) -> None:
    index(tmp_path / "store", indexed.root / "good")
    alone, beside = vectors(tmp_path / "store"), vectors(indexed.store)
    assert len(alone) == len(indexed.good)
    for name, rows in alone.items():
        np.testing.assert_array_equal(np.array(rows), np.array(beside[f"good/{name}"]))
    with bs.connect(indexed.store, encoder="null") as store:
        for path in indexed.good:
            modality = path.name.split("-")[0]
            query = path.read_text() if modality == "text" else getattr(bs, modality)(path)
            assert path in [hit.path for hit in store.search(query, to=modality, k=3, include_query=True)]


def test_files_with_odd_names_are_indexed(indexed: Indexed) -> None:
    items = vectors(indexed.store)
    for name in (
        "new\nline.jpg",
        "a" * 251 + ".jpg",
        "ü" * 125 + "a.jpg",
        "💥🦆\u202egpj.jpg",
        "-rf.jpg",
        "back\\slash.jpg",
    ):
        assert f"hostile/names/{name}" in items


def test_nothing_outside_an_archive_and_no_device_is_reached(indexed: Indexed) -> None:
    assert not list(indexed.root.parent.rglob("outside.jpg"))
    assert not any(path.startswith("hostile/specials/zero") for path in vectors(indexed.store))
    assert not [path for path in vectors(indexed.store) if ".." in path.split("/")]


def test_the_run_is_silent_and_within_bounds(indexed: Indexed) -> None:
    assert indexed.stderr == ""
    assert indexed.peak_mb < MEGABYTES
    assert indexed.runs[0]["took_s"] < SECONDS / 2


def test_a_second_run_changes_nothing(indexed: Indexed) -> None:
    first, second = indexed.runs
    assert (second["added"], second["changed"], second["removed"]) == (0, 0, 0)
    assert failures(second, indexed.root).keys() == failures(first, indexed.root).keys() - set(vectors(indexed.store))
