"""Recall of a store's indexes against the exact search, counted plainly."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from bindsearch.evaluation.engine import EngineFigure, engine_queries, measure_engine
from bindsearch.indexes.types import IndexForm, IndexSettings
from bindsearch.search.generation import Generation
from bindsearch.types import Modality
from helpers.stores import connect


@pytest.fixture(scope="module")
def generation(tmp_path_factory: pytest.TempPathFactory) -> Generation:
    """Return a store of 300 texts in an index of several lists, and of one picture without one."""
    from PIL import Image

    folder = tmp_path_factory.mktemp("engine")
    (folder / "media").mkdir()
    for number in range(300):
        (folder / "media" / f"{number}.txt").write_text(f"text number {number}")
    Image.effect_noise((64, 64), 80).save(folder / "media" / "noise.png")
    with connect(folder / "store", encoder="null") as store:
        store.index(folder / "media", index_settings=IndexSettings(IndexForm.IVF_PQ, overrides={"lists": 4}))
        return store.generation()


@pytest.fixture(scope="module")
def figures(generation: Generation) -> tuple[EngineFigure, ...]:
    return measure_engine(generation)


def test_every_point_is_measured(generation: Generation, figures: tuple[EngineFigure, ...]) -> None:
    opened = generation.partitions[Modality.TEXT].index
    assert opened is not None
    points = {(p.source, p.k, p.selectivity) for p in opened.manifest.points}
    found = {(one.source, one.k, one.share) for one in figures if one.target is Modality.TEXT}
    assert found
    assert found <= points
    assert {point for point in points if point[0] == "text"} <= found
    for one in figures:
        assert 0 <= one.recall <= 1
        assert min(one.latency_ms, one.scan_ms) > 0


def test_the_recall_is_that_of_a_plain_count(generation: Generation, figures: tuple[EngineFigure, ...]) -> None:
    partition = generation.partitions[Modality.TEXT]
    queries, own = engine_queries(generation, None)["text"]
    assert own is not None
    vectors = partition.rows.embeddings(np.arange(partition.n))
    scores = queries @ vectors.T
    scores[np.arange(len(own)), own] = -np.inf
    one = next(f for f in figures if (f.source, f.target, f.k, f.share) == ("text", Modality.TEXT, 10, 1.0))
    shares = []
    for number, query in enumerate(queries):
        candidates = partition.candidates(query[None], one.rerank, one.probes, None)[0]
        kept = [row for row in candidates if row >= 0 and row != own[number]]
        best = sorted(kept, key=lambda row: -float(vectors[row] @ query))[:10]
        exact = np.argsort(-scores[number])[:10]
        shares.append(len({*best} & {*exact.tolist()}) / 10)
    assert one.recall == pytest.approx(np.mean(shares), abs=1e-9)
    assert one.error == pytest.approx(np.std(shares, ddof=1) / np.sqrt(len(shares)), abs=1e-9)


def test_a_worse_point_has_a_lower_recall(generation: Generation, monkeypatch: pytest.MonkeyPatch) -> None:
    partition = generation.partitions[Modality.TEXT]
    opened = partition.index
    assert opened is not None
    bad = tuple(replace(point, probes=1, rerank=10) for point in opened.manifest.points)
    worse = replace(opened, manifest=replace(opened.manifest, points=bad))
    before = {key(one): one.recall for one in measure_engine(generation)}
    monkeypatch.setitem(partition.__dict__, "_opened", (worse, None))
    after = {key(one): one.recall for one in measure_engine(generation)}
    assert after["text", Modality.TEXT, 10, 1.0] < before["text", Modality.TEXT, 10, 1.0]


def key(one: EngineFigure) -> tuple[str, Modality, int, float]:
    return one.source, one.target, one.k, one.share
