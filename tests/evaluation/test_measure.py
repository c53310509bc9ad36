"""Measurements of a data set against an encoder with known answers, and against one that knows nothing."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bindsearch.encoders.null import NullEncoder
from bindsearch.encoders.zero_shot import class_names
from bindsearch.errors import UsageError
from bindsearch.evaluation.datasets.dataset import DataSet, EvalItem, Metric
from bindsearch.evaluation.results import Kind, Measurement, SetResult
from bindsearch.evaluation.tasks.measure import Work, measure, sampled
from bindsearch.media import Passage
from bindsearch.types import Modality

NAMES = ("cat", "dog", "horse", "owl")
PLACES = {name: place for place, name in enumerate(NAMES)}


class WordEncoder(NullEncoder):
    """Texts are the sum of the axes of the animals in them; another word turns them a little, each its own way."""

    dim = 32
    digest = "words-1"

    def prepare(self, media):  # type: ignore[no-untyped-def]
        assert isinstance(media, Passage)
        vector = np.zeros((1, self.dim), np.float32)
        for word in media.text.lower().replace(".", "").split():
            number = PLACES.get(word)
            if number is None:
                vector[0, 8 + sum(map(ord, word)) % 24] += 0.2
            else:
                vector[0, number] += 1
        return vector

    def encode(self, modality, prepared):  # type: ignore[no-untyped-def]
        rows = np.concatenate(prepared)
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)


class ConstantEncoder(WordEncoder):
    """Everything is alike."""

    def prepare(self, media):  # type: ignore[no-untyped-def]
        return np.eye(1, self.dim, dtype=np.float32)


def animals(folder: Path, texts: list[tuple[str, str]], **changes: object) -> DataSet:
    """Return a data set of texts with their classes."""
    items = []
    for number, (text, label) in enumerate(texts):
        path = folder / f"{number}.txt"
        path.write_text(text)
        items.append(EvalItem(path, Modality.TEXT, labels=(label,), group=f"fold {number % 2}"))
    data = DataSet("animals", Modality.TEXT, tuple(items), class_names(NAMES), Metric.TOP1, "none", "all")
    return replace(data, **changes)  # type: ignore[arg-type]


def figure(result: SetResult, kind: Kind, name: str, title: str = "") -> float:
    """Return the value of a figure."""
    return next(
        one.value
        for part in result.measurements
        if part.kind is kind and title in part.title
        for one in part.figures
        if one.name == name
    )


def part_of(result: SetResult, kind: Kind) -> Measurement:
    return next(part for part in result.measurements if part.kind is kind)


def test_classes_are_named_as_constructed(tmp_path: Path) -> None:
    texts = [(f"a {label} {n}", label) for n in range(5) for label in NAMES]
    texts[3] = ("a dog 0", "owl")  # wrong: one of 20
    data = animals(tmp_path, texts, folds=("fold 0", "fold 1"))
    result = measure(data, Work(WordEncoder()))
    assert figure(result, Kind.ZERO_SHOT, "top-1") == pytest.approx(19 / 20)
    assert figure(result, Kind.ZERO_SHOT, "top-1, mean of 2 folds") == pytest.approx(19 / 20)
    one = part_of(result, Kind.ZERO_SHOT)
    assert one.figures[0].chance == pytest.approx(0.25)
    assert one.confusion is not None
    assert one.confusion.counts[3].tolist() == [0, 1, 0, 4]
    worst = [example for example in one.examples if not example.is_best]
    assert [(example.found, example.wanted) for example in worst] == [("dog", "owl")]
    assert {example.wanted for example in one.examples if example.is_best} == set(NAMES)


def test_mean_class_accuracy_weighs_classes_alike(tmp_path: Path) -> None:
    texts = [("a cat", "cat")] * 9 + [("a cat", "dog")]
    result = measure(animals(tmp_path, texts, metric=Metric.MEAN_CLASS), Work(WordEncoder()))
    assert figure(result, Kind.ZERO_SHOT, "mean class accuracy") == pytest.approx(0.5)
    assert figure(result, Kind.ZERO_SHOT, "top-1") == pytest.approx(0.9)


def test_several_labels_are_measured_by_average_precision(tmp_path: Path) -> None:
    data = animals(tmp_path, [("cat dog", "cat"), ("owl", "owl"), ("cat", "cat")], metric=Metric.MAP)
    items = (replace(data.items[0], labels=("cat", "dog")), *data.items[1:])
    result = measure(replace(data, items=items), Work(WordEncoder()))
    (one,) = part_of(result, Kind.ZERO_SHOT).figures
    assert one.value == pytest.approx(1.0)
    assert one.note == "1 classes without items are left out"


def test_captions_find_items_both_ways(tmp_path: Path) -> None:
    data = animals(tmp_path, [(f"a {label}", label) for label in NAMES], classes=None)
    items = tuple(
        replace(item, labels=(), group=None, captions=(f"{name} one", f"{name} two"))
        for item, name in zip(data.items, ("cat", "dog", "horse", "horse"), strict=True)
    )
    result = measure(replace(data, items=items, metric=Metric.RECALL), Work(WordEncoder()))
    assert figure(result, Kind.RETRIEVAL, "R@1", "text -> text") == pytest.approx(6 / 8)  # those of owl find the horse
    assert part_of(result, Kind.RETRIEVAL).figures[0].n == 8
    assert part_of(result, Kind.RETRIEVAL).figures[0].chance == pytest.approx(1 / 4)


def test_an_encoder_that_knows_nothing_is_at_chance(tmp_path: Path) -> None:
    data = animals(tmp_path, [(f"a {label}", label) for label in NAMES for _ in range(3)])
    items = tuple(replace(item, captions=(item.labels[0],)) for item in data.items)
    result = measure(replace(data, items=items), Work(ConstantEncoder()))
    for part in result.measurements:
        if part.kind in (Kind.ZERO_SHOT, Kind.RETRIEVAL):
            for one in part.figures:
                if one.chance is not None:
                    assert one.value == pytest.approx(one.chance, abs=1e-9), (part.title, one.name)


def test_the_weight_of_a_combination_is_swept(tmp_path: Path) -> None:
    data = animals(tmp_path, [(f"a {label}", label) for label in ("cat", "cat", "horse", "owl")])
    right = ("cat", "dog", "horse", "owl")  # the other half of each pair is what the class is
    items = []
    for item, name in zip(data.items, right, strict=True):
        other = tmp_path / f"{name}.other.txt"
        other.write_text(name)
        items.append(replace(item, labels=(name,), others={Modality.TEXT: other}))
    result = measure(replace(data, items=tuple(items)), Work(WordEncoder()))
    part = part_of(result, Kind.COMBINATION)
    (sweep,) = part.sweeps
    by_weight = dict(zip(sweep.weights, sweep.values, strict=True))
    assert by_weight[0.0] == 1.0
    assert by_weight[1.0] == pytest.approx(3 / 4)
    assert by_weight[0.95] == pytest.approx(3 / 4)
    assert {one.name for one in part.figures} == {
        "top-1, text alone",
        "top-1, 0.95 text + 0.05 text",
    }


def test_few_shot_probes_train_on_the_other_folds(tmp_path: Path) -> None:
    texts = [(f"a {label} {n}", label) for n in range(8) for label in NAMES]
    data = animals(tmp_path, texts)
    items = tuple(replace(item, group=f"{number // 16}") for number, item in enumerate(data.items))
    result = measure(replace(data, items=items, folds=("0", "1")), Work(WordEncoder(), shots=(1, 2)))
    part = part_of(result, Kind.FEW_SHOT)
    assert [one.name for one in part.figures] == ["top-1, 1 a class", "top-1, 2 a class"]
    assert part.figures[1].value > 0.9
    assert part.settings["folds"] == 2
    with pytest.raises(UsageError, match="animals has neither a training part nor folds"):
        measure(data, Work(WordEncoder(), shots=(1,)))


def test_candidates_of_the_same_label_are_right(tmp_path: Path) -> None:
    data = animals(tmp_path, [("cat", "cat"), ("dog", "dog"), ("owl", "owl"), ("horse", "owl")], classes=None)
    candidates = tuple(replace(item) for item in data.items[:3]) + tuple(
        EvalItem(item.path, Modality.TEXT) for item in data.items[3:]
    )
    result = measure(replace(data, candidates=candidates), Work(WordEncoder()))
    assert figure(result, Kind.RETRIEVAL, "R@1") == pytest.approx(3 / 4)
    labels = figure(result, Kind.RETRIEVAL, "R@10, mean over labels")
    assert labels == pytest.approx(1.0)


def test_items_without_a_class_are_counted_and_not_classified(tmp_path: Path) -> None:
    data = animals(tmp_path, [("cat", "cat"), ("dog", "dog"), ("owl", "owl")])
    items = (*data.items[:2], replace(data.items[2], labels=()))
    result = measure(replace(data, items=items), Work(WordEncoder()))
    assert figure(result, Kind.ZERO_SHOT, "top-1") == 1.0
    assert part_of(result, Kind.ZERO_SHOT).figures[0].n == 2
    assert "1 of 3 items have no class: not classified" in result.notes


def test_nothing_to_measure_is_one_line(tmp_path: Path) -> None:
    data = animals(tmp_path, [("cat", "cat")], classes=None)
    with pytest.raises(UsageError, match="animals cannot be measured: it has neither classes nor captions nor pairs"):
        measure(data, Work(WordEncoder()))
    gone = replace(data, items=(EvalItem(tmp_path / "none.txt", Modality.TEXT),))
    with pytest.raises(UsageError, match="animals cannot be measured: no item can be embedded"):
        measure(gone, Work(WordEncoder()))


def test_a_sample_is_noted(tmp_path: Path) -> None:
    data = sampled(animals(tmp_path, [("cat", "cat")] * 10), 4)
    assert len(data.items) == 4
    assert data.listed == 10
    assert data.notes == ("a sample of 4 of 10 items: figures differ from published ones",)
