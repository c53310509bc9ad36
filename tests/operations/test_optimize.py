"""Keeping indexes good: what is refused, remembered, taken over and removed; awkward data."""

import json
import logging
from pathlib import Path

import numpy as np
import pytest

import bindsearch as bs
from bindsearch.errors import UsageError
from bindsearch.indexes.types import IndexForm, IndexSettings
from bindsearch.operations import index_policy
from bindsearch.operations.index_policy import IndexActionKind
from bindsearch.results import PartitionStatus
from bindsearch.types import Modality
from helpers import vector_store
from helpers.stores import connect

CODES = IndexSettings(IndexForm.IVF_PQ, overrides={"lists": 8})


def fill(path: Path, counts: dict[str, int], seed: int = 3, first: int = 0) -> bs.Store:
    vectors = vector_store.gap_vectors(np.random.default_rng(seed), counts)
    vector_store.write_items(path, vectors, first=first)
    return connect(path, encoder="null")


def image_of(store: bs.Store) -> PartitionStatus:
    return next(part for part in store.status().partitions if part.modality is Modality.IMAGE)


def test_repeated_vectors_leave_lists_empty_and_are_indexed_all_the_same(tmp_path: Path) -> None:
    rows = vector_store.unit(np.random.default_rng(1).standard_normal((40, 64)))
    vector_store.write_items(tmp_path / "s", {"image": np.repeat(rows, 20, axis=0)})
    with connect(tmp_path / "s") as store:
        store.optimize(index_settings=IndexSettings(IndexForm.IVF_PQ, overrides={"lists": 64}))
        assert image_of(store).form is IndexForm.IVF_PQ
        hits = store.search(rows[3], to="image", k=20, copies=True)
    assert sorted(int(hit.path.name) for hit in hits) == list(range(60, 80))


def test_a_modality_of_equal_vectors_harms_no_search(tmp_path: Path) -> None:
    store = fill(tmp_path / "s", {"image": 100})
    row = vector_store.unit(np.random.default_rng(2).standard_normal((1, 64)))
    vector_store.write_items(store.path, {"audio": np.repeat(row, 300, axis=0)})
    assert len(store.search(row[0], k=30)) == 30
    store.optimize(index_settings=CODES)
    assert store.search(row[0], to="audio", k=1)[0].cosine == pytest.approx(1.0, abs=1e-3)


def test_ties_go_by_item_whatever_k_is(tmp_path: Path) -> None:
    row = vector_store.unit(np.random.default_rng(4).standard_normal((1, 64)))
    vector_store.write_items(tmp_path / "s", {"image": np.repeat(row, 100, axis=0)})
    store = connect(tmp_path / "s")
    many = [hit.item_id for hit in store.search(row[0], k=100)]
    assert many == sorted(many)
    assert [hit.item_id for hit in store.search(row[0], k=5)] == many[:5]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (IndexSettings(IndexForm.IVF_PQ, overrides={"bogus": 3}), "'bogus' is not an index parameter"),
        (IndexSettings(IndexForm.IVF_PQ, recall=1.5), "recall=1.5 is out of range"),
        (IndexSettings(IndexForm.IVF_PQ, memory_bytes=10), "10 bytes of memory are too few"),
    ],
)
def test_settings_that_cannot_be_are_refused_and_not_remembered(
    tmp_path: Path, settings: IndexSettings, message: str
) -> None:
    store = fill(tmp_path / "s", {"image": 200})
    with pytest.raises(UsageError, match=message):
        store.optimize(index_settings=settings)
    assert store.index_settings == IndexSettings()
    assert store.optimize() == []


def test_memory_that_is_outgrown_leaves_the_index_as_it_is_and_says_so(tmp_path: Path) -> None:
    store = fill(tmp_path / "s", {"image": 1000})
    store.optimize(index_settings=IndexSettings(IndexForm.IVF_PQ, memory_bytes=14_000))
    fill(store.path, {"image": 3000}, seed=5, first=1000)
    (done,) = store.optimize()
    assert (done.need.work, "too few" in done.need.reason) == (IndexActionKind.REFUSED, True)
    (tmp_path / "media").mkdir()
    (tmp_path / "media" / "note.txt").write_text("a dog")
    report = store.index(tmp_path / "media")
    assert report.added == 1
    assert any("14000 bytes of memory are too few" in notice for notice in report.notices)
    assert image_of(store).indexed_rows == 1000
    assert len(store.search("a dog", to="image", k=50)) == 50


def test_few_texts_are_not_what_text_queries_are_measured_with(tmp_path: Path) -> None:
    store = fill(tmp_path / "s", {"image": 500, "text": 3})
    store.optimize(index_settings=CODES)
    points = [point for point in image_of(store).points if point.k == 10 and point.selectivity == 1.0]
    by_source = {point.source: point for point in points}
    assert by_source["text"].fallback_source is None  # the generic captions
    assert by_source["audio"].fallback_source == "text"
    assert by_source["image"].fallback_source is None


def test_new_rows_that_crowd_into_one_list_count_as_drift(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index_policy, "TAIL_ELEMENTS", 100 * 64)
    monkeypatch.setattr(index_policy, "MAX_CODE_ERROR_GROWTH", 100.0)
    store = fill(tmp_path / "s", {"image": 1500})
    store.optimize(index_settings=IndexSettings(IndexForm.IVF_PQ, overrides={"lists": 16}))
    row = vector_store.gap_vectors(np.random.default_rng(3), {"image": 1})["image"]
    near = vector_store.unit(row + 0.02 * np.random.default_rng(6).standard_normal((1400, 64)))
    vector_store.write_items(store.path, {"image": near}, first=1500)
    (done,) = store.optimize()
    assert done.need.work is IndexActionKind.BUILD
    assert "as uneven as at training" in done.need.reason


def test_an_index_is_opened_once_for_many_generations(tmp_path: Path) -> None:
    store = fill(tmp_path / "s", {"image": 500})
    store.optimize(index_settings=CODES)
    opened = store._reader.current().partitions[Modality.IMAGE].index
    fill(store.path, {"image": 1}, seed=9, first=500)
    newer = store._reader.current().partitions[Modality.IMAGE]
    assert newer.n == 501
    assert newer.index is opened


def test_a_damaged_index_is_logged_once_for_those_who_only_see_hits(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = fill(tmp_path / "s", {"image": 300})
    store.optimize(index_settings=CODES)
    (path,) = (store.path / "indexes" / "image").glob("*/index.faiss")
    path.write_bytes(path.read_bytes()[:-3])
    with caplog.at_level(logging.WARNING, "bindsearch"), connect(store.path) as again:
        for _ in range(3):
            assert again.search(np.ones(64, np.float32), to="image")
    assert len(caplog.records) == 1
    assert "index.faiss" in caplog.text


def test_the_index_of_a_modality_that_has_gone_goes_too(tmp_path: Path) -> None:
    store = fill(tmp_path / "s", {"image": 100, "audio": 100})
    store.optimize(index_settings=CODES)
    snapshot = store._reader.current().snapshot
    paths = [vector_store.ROOT / "audio" / str(n) for n in range(100)]
    items = [snapshot.item_at_path(path) for path in paths]
    ids = [item.item_id for item in items if item is not None]
    assert len(ids) == 100
    vector_store.write_items(store.path, {}, remove=ids)
    store.optimize()
    store.optimize()
    current = json.loads((store.path / "CURRENT").read_text())
    assert set(current["indexes"]) == {"image"}


@pytest.mark.parametrize("source", ["image,audio", "", "nonsense"])
def test_a_wrong_source_is_one_line(tmp_path: Path, source: str) -> None:
    store = fill(tmp_path / "s", {"image": 10})
    for query in (np.ones(64), "a dog"):
        with pytest.raises(UsageError, match="unknown modality"):
            store.search(query, source=source)
    with pytest.raises(UsageError, match="is one query"):
        store.search_many("a dog")


def test_explain_and_search_plan_alike_when_the_querys_own_item_is_left_out(tmp_path: Path) -> None:
    store = fill(tmp_path / "s", {"image": 100})
    query = bs.make_query(bs.like(1), to="image", k=3)
    assert store.explain(query).partitions == store.answer(query).plan.partitions


def test_a_ready_vector_tells_its_own_modality(tmp_path: Path) -> None:
    vectors = vector_store.gap_vectors(np.random.default_rng(3), {"image": 800, "text": 400, "audio": 400})
    vector_store.write_items(tmp_path / "s", vectors)
    store = connect(tmp_path / "s")
    store.optimize(index_settings=CODES)
    partition = store._reader.current().partitions[Modality.IMAGE]
    for modality, rows in vectors.items():
        told = [partition.resemblance(row)[1] for row in rows[:100]]
        assert set(told) <= {Modality(modality), None}
        assert told.count(Modality(modality)) >= 90
    assert partition.resemblance(-vectors["text"][0])[1] is None
