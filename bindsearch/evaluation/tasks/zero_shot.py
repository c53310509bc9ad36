"""Zero-shot classification of a data set's items (ImageBind paper, 4.1 and B.3): the nearest name of a class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from bindsearch.encoders.zero_shot import ClassVectors, class_scores
from bindsearch.evaluation.classification import average_precisions, confusion_matrix, hits
from bindsearch.evaluation.datasets.dataset import Metric
from bindsearch.evaluation.figures import (
    Error,
    Figure,
    chance_of_average_precision,
    class_mean_error,
    mean_error,
    share_error,
)
from bindsearch.evaluation.results import Confusion, Example, Kind, Measurement, Setting, Sweep
from bindsearch.evaluation.retrieval import PAPER_VIDEO_WEIGHT, WEIGHTS, combine

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from bindsearch.evaluation.arrays import Vectors
    from bindsearch.evaluation.datasets.dataset import DataSet, EvalItem

FIVE_OF = 20
"""Classes from which on top-5 is a figure: it is published for hundreds."""

EXAMPLES = 6
"""Best examples that are shown, and worst ones."""


def zero_shot(
    data: DataSet, items: Sequence[EvalItem], vectors: Vectors, classes: ClassVectors, settings: Mapping[str, Setting]
) -> Measurement:
    """Measure the classification of items by the names of classes.

    Args:
        data: The data set, which has the metric and the folds.
        items: Its items that have vectors.
        vectors: Their vectors: float32 (n, d).
        classes: Vectors of the names.
        settings: Settings that are reported.
    """
    scores = class_scores(classes, vectors)
    truth = positives_of(items, classes.labels)
    best = np.where(truth, scores, -np.inf).argmax(axis=1)  # of its classes the best scored
    figures = classification_figures(data, items, scores, truth)
    is_single = data.metric is not Metric.MAP
    confusion = Confusion(classes.labels, confusion_matrix(scores, best)) if is_single else None
    examples = _examples(items, scores, truth, best, classes.labels)
    title = f"{data.modality} -> name of the class"
    return Measurement(Kind.ZERO_SHOT, title, figures, confusion, examples=examples, settings=settings)


def classification_figures(
    data: DataSet, items: Sequence[EvalItem], scores: NDArray[np.floating], truth: NDArray[np.bool_]
) -> tuple[Figure, ...]:
    """Return the figures of scores (n, c) of items with classes, bool (n, c); the published one of the data set first.

    An item of several classes is right if the class that comes first is one of them.
    """
    if data.metric is Metric.MAP:
        return (_mean_average_precision(scores, truth),)
    right = np.where(truth, scores, -np.inf).argmax(axis=1)  # of its classes the best scored
    groups = [item.group for item in items]
    counts = truth.sum(axis=1)
    total = truth.shape[1]
    figures = []
    by_class = hits(scores, right)
    if data.metric is Metric.MEAN_CLASS:
        present = np.unique(right)
        mean = float(np.mean([by_class[right == one].mean() for one in present]))
        error = class_mean_error(by_class, right, groups)
        figures.append(Figure("mean class accuracy", mean, len(items), *error, chance=float(1 / total)))
    for k in (1, 5):
        if (k > 1 and total < FIVE_OF) or k >= total:
            continue
        values = by_class if k == 1 else hits(scores, right, k)
        chance = float(np.mean(np.minimum(1.0, k * counts / total)))
        figures.append(Figure(f"top-{k}", float(values.mean()), len(items), *share_error(values, groups), chance))
        if k == 1 and len(data.folds) > 1:
            figures += _by_fold(data.folds, groups, values, chance)
    return tuple(figures)


def positives_of(items: Sequence[EvalItem], labels: Sequence[str]) -> NDArray[np.bool_]:
    """Return the classes of each item: bool (n, c)."""
    column = {label: number for number, label in enumerate(labels)}
    truth = np.zeros((len(items), len(labels)), np.bool_)
    for row, item in enumerate(items):
        truth[row, [column[label] for label in item.labels if label in column]] = True
    return truth


def sweep_classes(
    data: DataSet,
    items: Sequence[EvalItem],
    pair: tuple[Vectors, Vectors],
    names: tuple[str, str],
    classes: ClassVectors,
) -> Measurement:
    """Measure the classification of items whose vectors are combined of two modalities, by the weight of the first.

    Args:
        data: The data set.
        items: Its items with both vectors.
        pair: Their vectors in the two modalities: float32 (n, d) each.
        names: The two modalities.
        classes: Vectors of the names.
    """
    truth = positives_of(items, classes.labels)
    found = {
        weight: classification_figures(data, items, class_scores(classes, combine(*pair, weight)), truth)[0]
        for weight in WEIGHTS
    }
    name, title = found[1.0].name, f"{names[0]} and {names[1]} -> name of the class"
    shown = (1.0, 0.0, PAPER_VIDEO_WEIGHT)
    figures = tuple(replace(found[weight], name=f"{name}, {weighted(names, weight)}") for weight in shown)
    sweep = Sweep(*names, name, WEIGHTS, tuple(found[weight].value for weight in WEIGHTS))
    return Measurement(Kind.COMBINATION, title, figures, sweeps=(sweep,))


def weighted(names: tuple[str, str], weight: float) -> str:
    """Return a combination in words, such as "0.95 video + 0.05 audio"."""
    if weight in (0.0, 1.0):
        return f"{names[0] if weight else names[1]} alone"
    return f"{weight:g} {names[0]} + {1 - weight:.3g} {names[1]}"


def _by_fold(
    folds: Sequence[str], groups: Sequence[str | None], values: NDArray[np.float64], chance: float
) -> list[Figure]:
    """Return the mean over folds, and the figure of each."""
    group_of = np.array([group or "" for group in groups])
    present = [fold for fold in folds if (group_of == fold).any()]
    means = [float(values[group_of == fold].mean()) for fold in present]
    if len(means) < 2:
        return []
    note = ", ".join(f"{fold}: {mean:.3f}" for fold, mean in zip(present, means, strict=True))
    name, mean = f"top-1, mean of {len(means)} folds", float(np.mean(means))
    return [Figure(name, mean, len(values), mean_error(means), Error.FOLDS, chance, note=note)]


def _mean_average_precision(scores: NDArray[np.floating], truth: NDArray[np.bool_]) -> Figure:
    """Return the mean over the classes with positives, as published for AudioSet."""
    values = average_precisions(scores, truth)
    known = values[~np.isnan(values)]
    counts = truth.sum(axis=0)
    chance = np.mean([chance_of_average_precision(len(truth), int(count)) for count in counts if count])
    left_out = len(values) - len(known)
    note = f"{left_out} classes without items are left out" if left_out else ""
    error = mean_error(known.tolist())
    return Figure("mAP", float(known.mean()), len(truth), error, Error.CLASSES, float(chance), note=note)


def _examples(
    items: Sequence[EvalItem],
    scores: NDArray[np.floating],
    truth: NDArray[np.bool_],
    best: NDArray[np.int64],
    labels: Sequence[str],
) -> tuple[Example, ...]:
    """Return the items whose class is farthest above all others, one a class, and those where it is farthest below."""
    if truth.all(axis=1).any():
        return ()
    rows = np.arange(len(items))
    others = np.where(truth, -np.inf, scores)
    margins = scores[rows, best] - others.max(axis=1)
    order = np.argsort(-margins, kind="stable")
    # the best of each class, as the best of all are often of one
    firsts = order[np.sort(np.unique(best[order], return_index=True)[1])]
    good = [row for row in firsts[:EXAMPLES] if margins[row] > 0]
    bad = [row for row in order[::-1][:EXAMPLES] if margins[row] <= 0]

    def example(row: int, *, is_best: bool) -> Example:
        found = int(best[row]) if is_best else int(others[row].argmax())
        return Example(is_best, items[row], labels[found], labels[int(best[row])], float(margins[row]))

    return tuple([example(row, is_best=True) for row in good] + [example(row, is_best=False) for row in bad])
