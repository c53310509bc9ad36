"""The map of a collection: neighbours stay near, clusters apart, small modalities are kept, and it is cached."""

from __future__ import annotations

import json
import time
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from bindsearch.errors import StoreNotFoundError, UsageError
from bindsearch.types import Modality
from bindsearch.views.collection_map import collection_map, modality_gaps, sampled
from bindsearch.views.projection import nearest, neighbour_graph, project
from helpers.media_files import write_every_modality
from helpers.stores import connect


def clusters(n: int, count: int, dim: int = 64) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return unit vectors (n, dim) around some centres, each with three directions of its own, and its number."""
    rng = np.random.default_rng(5)
    labels = np.arange(n) % count
    inside = np.einsum("nk,nkd->nd", rng.standard_normal((n, 3)), rng.standard_normal((count, 3, dim))[labels])
    vectors = rng.standard_normal((count, dim))[labels] + 0.3 * inside + 0.1 * rng.standard_normal((n, dim))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32), labels


def neighbours(points: NDArray[np.float32], k: int = 10) -> NDArray[np.int64]:
    distances = ((points[:, None] - points[None]) ** 2).sum(axis=-1)
    np.fill_diagonal(distances, np.inf)
    return np.argsort(distances, axis=1)[:, :k]


def preserved(vectors: NDArray[np.float32], points: NDArray[np.float32], k: int = 10) -> float:
    pairs = zip(nearest(vectors, k)[0], neighbours(points, k), strict=True)
    return sum(len({*a.tolist()} & {*b.tolist()}) for a, b in pairs) / (k * len(vectors))


def test_clusters_stay_apart_and_neighbours_together() -> None:
    vectors, labels = clusters(900, 12)
    by_components, by_neighbours = project(vectors, epochs=0), project(vectors)
    assert (labels[neighbours(by_neighbours)] == labels[:, None]).mean() > 0.99
    assert (labels[neighbours(by_components)] == labels[:, None]).mean() < 0.95
    assert preserved(vectors, by_neighbours) > 1.5 * preserved(vectors, by_components)
    assert np.abs(by_neighbours).max() == pytest.approx(1)
    assert np.isfinite(by_neighbours).all()


def test_the_layout_depends_on_the_vectors_and_the_seed_alone() -> None:
    vectors, _ = clusters(200, 4)
    assert np.array_equal(project(vectors), project(vectors))
    assert not np.array_equal(project(vectors), project(vectors, seed=1))


@pytest.mark.parametrize("n", [0, 1, 2, 3, 4, 17])
def test_few_and_equal_points(n: int) -> None:
    vectors, _ = clusters(max(n, 1), 1)
    for rows in (vectors[:n], np.repeat(vectors[:1], n, axis=0)):
        points = project(rows)
        assert points.shape == (n, 2)
        assert np.isfinite(points).all()


def test_weights_of_a_point_sum_to_the_logarithm_of_its_neighbours() -> None:
    vectors, _ = clusters(300, 3)
    indices, distances = nearest(vectors, 8)
    assert (np.diff(distances, axis=1) >= 0).all()
    assert not (indices == np.arange(300)[:, None]).any()
    graph = neighbour_graph(indices, distances)
    assert (graph.heads < graph.tails).all()
    sums = np.bincount(graph.heads, graph.weights, 300) + np.bincount(graph.tails, graph.weights, 300)
    assert (sums > np.log2(8) - 1e-3).all()  # the union is not less than either direction
    assert 0 < graph.weights.min() <= graph.weights.max() <= 1 + 1e-6


def test_small_modalities_are_kept_in_a_sample() -> None:
    counts = {Modality.TEXT: 1_000_000, Modality.IMAGE: 3000, Modality.DEPTH: 7}
    chosen = sampled(counts, 1000)
    sizes = {modality: len(places) for modality, places in chosen.items()}
    assert sizes[Modality.DEPTH] == 7
    assert 160 <= sizes[Modality.IMAGE] < sizes[Modality.TEXT]
    assert 990 <= sum(sizes.values()) <= 1000
    for modality, places in chosen.items():
        assert len({*places.tolist()}) == len(places)
        assert 0 <= places.min() <= places.max() < counts[modality]
    assert [len(places) for places in sampled(counts, 2_000_000).values()] == [*counts.values()]


def test_gaps_are_distances_of_means() -> None:
    rows = {Modality.TEXT: np.eye(3, dtype=np.float32)[[0, 0]], Modality.AUDIO: np.eye(3, dtype=np.float32)[[1, 1]]}
    assert modality_gaps(rows) == [{"a": "text", "b": "audio", "distance": 1.4142}]


def test_the_map_of_a_store_is_kept_until_it_changes(tmp_path: Path) -> None:
    files = write_every_modality(tmp_path / "media")
    with connect(tmp_path / "store", encoder="null") as store:
        store.index(tmp_path / "media")
        first = collection_map(store)
        status = store.status()
        assert first["segments"] == sum(status.segments.values()) == len(first["x"])
        assert {name: first["modality"].count(name) for name in Modality} == dict(status.segments)
        assert {*first["path"]} == {str(path) for paths in files.values() for path in paths}
        assert all(len(first[name]) == len(first["x"]) for name in ("y", "item_id", "start_s", "end_s"))
        assert len(first["gaps"]) == 21
        (kept,) = [path for path in (tmp_path / "store" / "cache").rglob("*") if path.is_file()]
        before = kept.stat().st_mtime_ns
        assert collection_map(tmp_path / "store") == first
        assert kept.stat().st_mtime_ns == before
        kept.write_bytes(kept.read_bytes()[:-20])
        assert collection_map(store) == first
        files["text"][0].unlink()
        store.index(tmp_path / "media")
        second = collection_map(store)
        assert second["generation"] > first["generation"]
        assert second["segments"] == first["segments"] - 1
        assert json.dumps(second)
        assert store.verify().findings == ()


def test_wrong_use(tmp_path: Path) -> None:
    with pytest.raises(StoreNotFoundError):
        collection_map(tmp_path / "none")
    with pytest.raises(UsageError, match=r"^max_points is 1000000: give 10 to 20000 points$"):
        collection_map(tmp_path / "none", 1_000_000)


def test_it_takes_seconds_for_thousands_of_points() -> None:
    vectors, _ = clusters(3000, 10, dim=384)
    started = time.process_time()
    project(vectors)
    assert time.process_time() - started < 10
