"""Merge takes an index over only where its rows are the same; what was measured with other rows is measured again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import bindsearch as bs
from bindsearch.indexes import parameters
from bindsearch.indexes.tuning import measure_points
from bindsearch.indexes.types import IndexSettings, OperatingPoint
from bindsearch.operations.index_policy import IndexActionKind
from bindsearch.operations.optimize import OptimizeResult
from bindsearch.results import PartitionStatus
from bindsearch.types import Modality
from helpers import vector_store
from helpers.command import Run
from helpers.stores import connect

ROWS = 1500


@pytest.fixture(autouse=True)
def small_indexes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let partitions of more than a thousand rows have an index."""
    monkeypatch.setattr(parameters, "EXACT_ELEMENTS", 1000 * vector_store.DIM)


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the modality of each partition whose operating points are measured."""
    found: list[str] = []

    def counted(*arguments: Any, **options: Any) -> tuple[OperatingPoint, ...]:
        found.append(options["modality"])
        return measure_points(*arguments, **options)

    monkeypatch.setattr("bindsearch.operations.optimize.measure_points", counted)
    return found


def write(path: Path, counts: dict[str, int], *, first: int = 0, seed: int = 3) -> Path:
    vectors = vector_store.gap_vectors(np.random.default_rng(seed), counts)
    vector_store.write_items(path, vectors, first=first)
    with connect(path, encoder="null") as store:
        store.optimize()
    return path


def image_of(path: Path) -> PartitionStatus:
    with connect(path) as store:
        return next(part for part in store.status().partitions if part.modality is Modality.IMAGE)


def actions(results: list[OptimizeResult]) -> list[tuple[str, str]]:
    return [(result.modality.value, result.need.work.value) for result in results]


def hits(path: Path) -> list[list[tuple[str, float]]]:
    queries = vector_store.gap_vectors(np.random.default_rng(9), {"image": 20})["image"]
    with connect(path) as store:
        return [[(str(hit.path), hit.cosine) for hit in store.search(row, to="image", k=10)] for row in queries]


def test_an_empty_store_takes_over_index_and_points(tmp_path: Path, measured: list[str]) -> None:
    source = write(tmp_path / "source", {"image": ROWS, "text": 100})
    assert measured == ["image"]
    with connect(tmp_path / "target") as target:
        report = target.merge(source)
        assert measured == ["image"]
        assert actions([*report.optimized]) == []
        points = len(image_of(source).points)
        assert report.notices == [f"the image index of {source} is taken over, with {points} operating points"]
        assert image_of(tmp_path / "target").points == image_of(source).points
        assert hits(tmp_path / "target") == hits(source)
        assert target.verify().is_clean
        assert target.optimize() == []


def test_rows_of_a_second_store_are_a_tail(tmp_path: Path, measured: list[str]) -> None:
    first = write(tmp_path / "first", {"image": ROWS, "text": 100})
    second = write(tmp_path / "second", {"image": 200}, first=ROWS, seed=4)
    report = bs.merge_stores(tmp_path / "target", first, second)
    part = image_of(tmp_path / "target")
    assert (measured, part.indexed_rows, actions([*report.optimized])) == (["image"], ROWS, [])
    report = bs.merge_stores(tmp_path / "other", second, first)
    assert actions([*report.optimized]) == [("image", IndexActionKind.BUILD.value)]
    assert measured == ["image"] * 2
    assert sorted(sorted(each) for each in hits(tmp_path / "target"))[0]


def test_queries_of_a_new_modality_are_measured(tmp_path: Path, measured: list[str]) -> None:
    first = write(tmp_path / "first", {"image": ROWS, "text": 100})
    second = write(tmp_path / "second", {"audio": 300})
    report = bs.merge_stores(tmp_path / "target", first, second)
    assert actions([*report.optimized]) == [("image", IndexActionKind.TUNE.value)]
    assert measured == ["image"] * 2


@pytest.mark.parametrize("change", ["rows", "order", "deleted", "settings"])
def test_points_of_other_rows_or_settings_are_not_taken_over(tmp_path: Path, change: str, measured: list[str]) -> None:
    source = write(tmp_path / "source", {"image": ROWS})
    target = tmp_path / "target"
    if change == "rows":
        write(target, {"image": 5}, first=ROWS, seed=5)
    if change == "order":
        rows = vector_store.gap_vectors(np.random.default_rng(3), {"image": ROWS})["image"]
        vector_store.write_items(target, {"image": rows[:2][::-1]})
    if change == "deleted":
        vector_store.write_items(source, {}, remove=[3])
    if change == "settings":
        vector_store.write_items(target, {"text": vector_store.unit(np.eye(2, vector_store.DIM))})
        with connect(target) as store:
            store.optimize(index_settings=IndexSettings(recall=0.9))
    report = bs.merge_stores(target, source)
    assert not any("taken over" in notice for notice in report.notices)
    assert actions([*report.optimized]) == [("image", IndexActionKind.BUILD.value)]
    assert measured == ["image"] * 2


def test_a_damaged_index_is_not_taken_over(tmp_path: Path) -> None:
    source = write(tmp_path / "source", {"image": ROWS})
    codes = next((source / "indexes/image").glob("*/index.faiss"))
    codes.write_bytes(codes.read_bytes()[:-10])
    report = bs.merge_stores(tmp_path / "target", source)
    assert actions([*report.optimized]) == [("image", IndexActionKind.BUILD.value)]


def test_without_optimize_rows_stay_in_the_tail(tmp_path: Path, measured: list[str]) -> None:
    source = write(tmp_path / "source", {"image": ROWS})
    bs.export_vectors(source, tmp_path / "out")
    for target in (tmp_path / "merged", tmp_path / "imported"):
        with connect(target, encoder="null") as store:
            if target.name == "merged":
                report = store.merge(source, optimize=False)
            else:
                report = store.import_vectors(tmp_path / "out", optimize=False)
            assert report.notices == [
                f"the indexes are unchanged: {ROWS} new vectors are scanned exactly until "
                f"`bindsearch optimize --store {target}`"
            ]
            assert image_of(target).indexed_rows == 0
            assert len(hits(target)[0]) == 10
            assert actions(store.optimize()) == [("image", IndexActionKind.BUILD.value)]
    assert measured == ["image"] * 3


def test_the_option_of_the_commands_leaves_the_indexes_alone(tmp_path: Path, bindsearch_command: Run) -> None:
    source = write(tmp_path / "source", {"image": ROWS})
    bs.export_vectors(source, tmp_path / "out")
    for command, given in (("merge", source), ("import", tmp_path / "out")):
        done = bindsearch_command([command, given, "--store", tmp_path / command, "--no-optimize"])
        assert done.returncode == 0, done.stderr
        assert f"note: the indexes are unchanged: {ROWS} new vectors are scanned exactly until" in done.stderr
        assert image_of(tmp_path / command).indexed_rows == 0
