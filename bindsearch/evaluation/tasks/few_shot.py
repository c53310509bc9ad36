"""Few-shot probes on a data set: trained on k items a class of its training part, or of its other folds (figure 3)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

import numpy as np

from bindsearch.errors import UsageError
from bindsearch.evaluation.classification import accuracy, mean_class_accuracy
from bindsearch.evaluation.datasets.dataset import Metric
from bindsearch.evaluation.figures import Error, Figure
from bindsearch.evaluation.linear_probe import AUDIO_RECIPE, DEPTH_RECIPE, SEEDS, few_shot_figures
from bindsearch.evaluation.results import Kind, Measurement
from bindsearch.types import Modality

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from bindsearch.evaluation.arrays import Vectors
    from bindsearch.evaluation.datasets.dataset import DataSet, EvalItem

Labelled = tuple[Sequence["EvalItem"], "Vectors"]


def few_shot(
    data: DataSet, items: Sequence[EvalItem], vectors: Vectors, train: Labelled | None, shots: Sequence[int]
) -> list[Measurement]:
    """Return the figures of linear probes; with folds the mean over the folds, each tested once.

    Args:
        data: The data set.
        items: Its items that have vectors; those of several classes are left out.
        vectors: Their vectors: float32 (n, d).
        train: Items of the training part with their vectors; None: those of the other folds.
        shots: Numbers of samples a class.

    Raises:
        UsageError: there is neither a training part nor folds, or a class has too few items.
    """
    tests = _single(items)
    recipe = DEPTH_RECIPE if data.modality is Modality.DEPTH else AUDIO_RECIPE
    figure = mean_class_accuracy if data.metric is Metric.MEAN_CLASS else accuracy
    name = "mean class accuracy" if data.metric is Metric.MEAN_CLASS else "top-1"
    values: dict[int, list[NDArray[np.float64]]] = {k: [] for k in shots}
    classes = 0
    for (train_items, train_vectors), test_rows in _parts(data, (items, vectors), tests, train):
        rows = _single(train_items)
        labels = sorted({train_items[row].labels[0] for row in rows})
        number = {label: place for place, label in enumerate(labels)}
        known = [row for row in test_rows if items[row].labels[0] in number]
        if not known:
            raise UsageError(f"{data.name}: no item of the test part has a class of the training part")
        classes = len(labels)
        right = [number[train_items[row].labels[0]] for row in rows]
        wanted = [number[items[row].labels[0]] for row in known]
        probes = train_vectors[rows], right, vectors[known], wanted
        found = few_shot_figures(*probes, recipe, shots, figure=figure)
        for k, figures in found.items():
            values[k].append(figures.values)
    rows_of_table = []
    for k, parts in values.items():
        means = np.mean(parts, axis=0)  # over folds, for each seed
        mean, deviation = float(means.mean()), float(means.std(ddof=1))
        rows_of_table.append(Figure(f"{name}, {k} a class", mean, len(tests), deviation, Error.SEEDS, 1 / classes))
    folds = len(next(iter(values.values()))) if train is None else 1
    settings = {"seeds": len(SEEDS), "folds": folds, **asdict(recipe)}
    return [Measurement(Kind.FEW_SHOT, f"linear probe of {data.modality}", tuple(rows_of_table), settings=settings)]


def _single(items: Sequence[EvalItem]) -> list[int]:
    """Return the rows of the items that have one class."""
    return [row for row, item in enumerate(items) if len(item.labels) == 1]


def _parts(
    data: DataSet, own: Labelled, tests: Sequence[int], train: Labelled | None
) -> list[tuple[Labelled, list[int]]]:
    """Return pairs of items to train with and rows to test; raise UsageError without a training part and folds."""
    if train is not None:
        return [(train, list(tests))]
    if len(data.folds) < 2:
        raise UsageError(
            f"{data.name} has neither a training part nor folds: leave --shots out, or give the list a column fold"
        )
    items, vectors = own
    parts: list[tuple[Labelled, list[int]]] = []
    for fold in data.folds:
        held = [row for row in tests if items[row].group == fold]
        others = [row for row in tests if items[row].group != fold]
        if held and others:
            parts.append((([items[row] for row in others], vectors[others]), held))
    return parts
