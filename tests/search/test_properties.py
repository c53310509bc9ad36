"""Searching against a plain numpy search, over random collections, filters, deletions, appends and retrainings."""

import json
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

import bindsearch as bs
from bindsearch.indexes.types import IndexForm, IndexSettings
from bindsearch.operations import index_policy
from bindsearch.search.plan import Strategy
from bindsearch.types import Modality
from helpers import vector_store
from helpers.stores import connect

LABELS = ("red", "green", "blue", None)


@dataclass
class Model:
    """What a store should hold: by path, the modality, vector and label of each living item."""

    store: bs.Store
    rng: np.random.Generator
    held: dict[str, tuple[str, NDArray[np.float32], str | None]] = field(default_factory=dict)
    added: int = 0

    def add(self, counts: dict[str, int], shift: float = 0.0) -> None:
        vectors = vector_store.gap_vectors(self.rng, counts)
        if shift:
            moved = {name: rows + shift * np.roll(rows, 7, axis=1) for name, rows in vectors.items()}
            vectors = {name: vector_store.unit(rows) for name, rows in moved.items()}
        most = max(counts.values())
        labels = [LABELS[i] for i in self.rng.integers(0, len(LABELS), most)]
        columns = [None if label is None else json.dumps({"label": label}) for label in labels]
        vector_store.write_items(self.store.path, vectors, columns=columns, first=self.added)
        for name, rows in vectors.items():
            for number, row in enumerate(rows):
                self.held[f"{name}/{self.added + number}"] = (name, row, labels[number])
        self.added += most

    def remove(self, share: float) -> None:
        snapshot = self.store._reader.current().snapshot
        gone = {path for path in self.held if self.rng.random() < share}
        items = [snapshot.item_at_path(vector_store.ROOT / path) for path in gone]
        ids = [item.item_id for item in items if item is not None]
        assert len(ids) == len(gone)
        vector_store.write_items(self.store.path, {}, remove=ids)
        for path in gone:
            del self.held[path]

    def nearest(self, queries: NDArray[np.float32], to: str, k: int, label: str | None = None) -> list[list[str]]:
        """Return the paths of the true nearest of each query."""
        paths = [p for p, (name, _, own) in self.held.items() if name == to and (label is None or own == label)]
        if not paths:
            return [[] for _ in queries]
        vectors = np.stack([self.held[path][1] for path in paths])
        return [[paths[i] for i in np.argsort(-(vectors @ query), kind="stable")[:k]] for query in queries]

    def queries(self, name: str, n: int) -> NDArray[np.float32]:
        rows = [vector for source, vector, _ in self.held.values() if source == name]
        chosen = np.stack([rows[i] for i in self.rng.integers(0, len(rows), n)])
        noise = 0.05 * self.rng.standard_normal(chosen.shape)
        queries = chosen + noise
        return (queries / np.linalg.norm(queries, axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture
def model(tmp_path: Path) -> Model:
    return Model(connect(tmp_path / "store"), np.random.default_rng(11))


def found(hits: list[bs.Hit]) -> list[str]:
    return [f"{hit.path.parent.name}/{hit.path.name}" for hit in hits]


def steps(store: bs.Store, to: str) -> set[Strategy]:
    plan = store.explain(bs.make_query("x", to=to))
    return {step.strategy for step in plan.partitions}


def check(model: Model, *, wanted: float) -> None:
    """Recall of every pair, unfiltered and filtered, and that nothing else than what may be found is found."""
    for source in ("text", "image"):
        queries = model.queries(source, 20)
        for to in ("image", "audio"):
            for label in (None, "red"):
                where = None if label is None else f"label = '{label}'"
                answers = model.store.search_many(list(queries), to=to, filter=where, ranking="cosine", source=source)
                shares = []
                truths = model.nearest(queries, to, 10, label)
                for query, hits, truth in zip(queries, answers, truths, strict=True):
                    assert len(hits) == len(truth)
                    for path, hit in zip(found(hits), hits, strict=True):
                        name, vector, own = model.held[path]
                        assert name == to
                        assert label is None or own == label
                        assert hit.cosine == pytest.approx(float(vector @ query), abs=1e-5)
                    shares.append(len(set(found(hits)) & set(truth)) / max(len(truth), 1))
                assert np.mean(shares) >= wanted, (source, to, label, np.mean(shares))


def test_exact_plans_equal_a_plain_search(model: Model) -> None:
    model.add({"text": 300, "image": 400, "audio": 200})
    check(model, wanted=1.0)
    model.remove(0.3)
    model.add({"text": 10, "image": 37, "audio": 1})
    check(model, wanted=1.0)
    model.store.optimize()
    check(model, wanted=1.0)
    assert steps(model.store, "image") == {Strategy.SCAN}


def test_indexed_plans_reach_the_wanted_recall_whatever_happens_to_the_rows(
    model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(index_policy, "TAIL_ELEMENTS", 200 * 64)
    settings = IndexSettings(IndexForm.IVF_PQ, overrides={"lists": 16, "train_rows": 2000})
    model.add({"text": 1500, "image": 3000, "audio": 1500})
    done = {one.modality: one.need.work for one in model.store.optimize(index_settings=settings)}
    assert done == dict.fromkeys((Modality.TEXT, Modality.IMAGE, Modality.AUDIO), index_policy.IndexActionKind.BUILD)
    check(model, wanted=0.97)
    model.add({"text": 50, "image": 100, "audio": 1})  # a tail, not yet in the index
    assert model.store.optimize() == []
    check(model, wanted=0.96)
    model.add({"image": 600})
    (done_now,) = model.store.optimize()
    assert (done_now.modality, done_now.need.work) == (Modality.IMAGE, index_policy.IndexActionKind.APPEND)
    check(model, wanted=0.96)
    model.remove(0.1)
    check(model, wanted=0.96)
    model.add({"image": 1500}, shift=2.0)
    (done_now,) = model.store.optimize()
    assert done_now.need.work is index_policy.IndexActionKind.BUILD
    check(model, wanted=0.96)
    model.remove(0.5)
    check(model, wanted=0.95)
    assert {one.need.work for one in model.store.optimize()} == {index_policy.IndexActionKind.BUILD}
    check(model, wanted=0.97)


def test_the_same_query_gives_the_same_list_and_equal_scores_go_by_item(model: Model) -> None:
    row = vector_store.unit(model.rng.standard_normal((1, 64)))
    vector_store.write_items(model.store.path, {"image": np.repeat(row, 40, axis=0)})
    model.store.optimize(index_settings=IndexSettings(IndexForm.IVF_PQ))
    lists = [found(model.store.search(row[0], to="image", k=7, copies=True)) for _ in range(3)]
    assert lists == [[f"image/{n}" for n in range(7)]] * 3


def test_searching_with_a_ready_vector_loads_no_torch(model: Model) -> None:
    model.add({"text": 20, "image": 600})
    model.store.optimize(index_settings=IndexSettings(IndexForm.IVF_PQ))
    code = """
import sys
import numpy as np
import bindsearch as bs
vector = np.ones(64, np.float32)
with bs.connect(sys.argv[1]) as store:
    assert len(store.search(vector, k=5, filter="size_bytes < 100 and name like '1%'", diversity=0.3)) == 5
    store.status()
    assert store.explain(bs.make_query("a dog")).partitions
assert "torch" not in sys.modules
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(model.store.path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_a_lone_video_does_not_outrank_the_very_picture_that_is_asked_with(model: Model) -> None:
    base = model.rng.standard_normal((1, 64))
    near = vector_store.unit(base + 0.15 * model.rng.standard_normal((4, 64)))
    vector_store.write_items(model.store.path, {"image": near[:3], "video": near[3:]})
    for item in (1, 2, 3):
        first = model.store.search(bs.like(item), include_query=True)[0]
        assert first.item_id == item


@pytest.mark.parametrize("kept", [0.9, 0.5, 0.1, 0.01])
def test_a_filter_that_excludes_what_is_near_the_query_finds_what_a_scan_finds(tmp_path: Path, kept: float) -> None:
    asked, due = vector_store.write_near_and_far(tmp_path / "store", kept)
    with connect(tmp_path / "store") as store:
        store.optimize(index_settings=IndexSettings(IndexForm.IVF_PQ, overrides={"lists": 60}))
        found = store.search_many(list(asked), to="image", filter="label = 'far'", source="text", copies=True)
        alone = [store.search(query, to="image", filter="label = 'far'", source="text", copies=True) for query in asked]
    for hits, wanted in zip([*found, *alone], [*due, *due], strict=True):
        assert len({int(hit.path.name) for hit in hits} & {*wanted.tolist()}) >= 9
