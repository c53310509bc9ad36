"""Figures of classification: accuracy, mean class accuracy, mean average precision, confusion matrix.

Equal scores never favour an encoder. Accuracies and the confusion matrix are expected values, with equal scores in
random order: an encoder that gives all classes the same score has the accuracy of chance, 1 / c. Average precision is
the area under the precision-recall curve, on which equal scores share one threshold: that encoder has the share of
positives.

Letters: n examples, c classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from bindsearch.arguments import to_integer
from bindsearch.errors import UsageError
from bindsearch.evaluation.arrays import to_scores, to_targets

if TYPE_CHECKING:
    from numpy.typing import NDArray

Targets = Sequence[int]
"""Number of the right class of each example; an integer array (n,) says the same."""


def hits(scores: NDArray[np.floating], targets: Targets | NDArray[np.integer], k: int = 1) -> NDArray[np.float64]:
    """Return the probability that the right class of each example is among the k best: float64 (n,).

    It is 0 or 1 but for equal scores: if t classes have the score of the right one, itself included, and a classes a
    higher one, it is (k - a) / t, at least 0 and at most 1.

    Args:
        scores: Score of each class, the higher the better: (n, c).
        targets: Number of the right class of each example: integers (n,).
        k: Number of classes that are taken, at least 1.

    Raises:
        UsageError: the arrays do not fit, or k is not a positive integer.
    """
    matrix = to_scores(scores)
    right = to_targets(targets, *matrix.shape)
    depth = to_integer(k, "k", "give the number of classes that are taken, at least 1", 1)
    own = matrix[np.arange(len(matrix)), right][:, None]
    above, tied = (matrix > own).sum(axis=1), (matrix == own).sum(axis=1)
    return np.asarray(np.clip((depth - above) / tied, 0.0, 1.0), np.float64)


def accuracy(scores: NDArray[np.floating], targets: Targets | NDArray[np.integer], k: int = 1) -> float:
    """Return the share of examples whose right class is among the k best: top-k accuracy; see `hits`."""
    return float(hits(scores, targets, k).mean())


def mean_class_accuracy(scores: NDArray[np.floating], targets: Targets | NDArray[np.integer]) -> float:
    """Return the mean over classes of the accuracy (top 1) of their examples; classes without examples are left out."""
    matrix = to_scores(scores)
    right = to_targets(targets, *matrix.shape)
    counts = np.bincount(right, minlength=matrix.shape[1])
    sums = np.bincount(right, hits(matrix, right), minlength=matrix.shape[1])
    return float((sums[counts > 0] / counts[counts > 0]).mean())


def confusion_matrix(scores: NDArray[np.floating], targets: Targets | NDArray[np.integer]) -> NDArray[np.float64]:
    """Return how many examples of each class (row) are assigned to each class (column): float64 (c, c).

    An example with several best classes counts for each of them by an equal share, so that the trace divided by n is
    the accuracy.
    """
    matrix = to_scores(scores)
    right = to_targets(targets, *matrix.shape)
    best = matrix == matrix.max(axis=1, keepdims=True)
    counts = np.zeros((matrix.shape[1], matrix.shape[1]))
    np.add.at(counts, right, best / best.sum(axis=1, keepdims=True))
    return counts


def average_precisions(scores: NDArray[np.floating], targets: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return the average precision of each class over the examples: float64 (c,), NaN for a class without positives.

    AP = sum over thresholds of (recall - recall of the threshold before) * precision, as scikit-learn's
    `average_precision_score`: no interpolation, equal scores have one threshold.

    Args:
        scores: Score of each class: (n, c). The examples are ranked by it, so scores of one class must be comparable.
        targets: Whether the example has the class: bool (n, c); any number of classes an example.

    Raises:
        UsageError: the arrays do not fit.
    """
    matrix = to_scores(scores)
    positives = np.asarray(targets)
    if positives.dtype != np.bool_ or positives.shape != matrix.shape:
        raise UsageError(
            f"targets have the shape {positives.shape} and type {positives.dtype}: give bool {matrix.shape}"
        )
    columns = zip(matrix.T, positives.T, strict=True)
    return np.array([_average_precision(column, positive) for column, positive in columns])


def mean_average_precision(scores: NDArray[np.floating], targets: NDArray[np.bool_]) -> float:
    """Return the mean of `average_precisions` over the classes that have positives: mAP.

    Raises:
        UsageError: the arrays do not fit, or no class has a positive.
    """
    values = average_precisions(scores, targets)
    if np.isnan(values).all():
        raise UsageError("no example has a class: mean average precision needs at least one")
    return float(np.nanmean(values))


def _average_precision(scores: NDArray[np.floating], positive: NDArray[np.bool_]) -> float:
    """Return the average precision of one ranking: scores (n,), bool (n,)."""
    n_positive = int(positive.sum())
    if not n_positive:
        return float("nan")
    order = np.argsort(-scores, kind="stable")
    ends = np.append(np.flatnonzero(np.diff(scores[order])), len(order) - 1)  # the last example of each threshold
    found = np.cumsum(positive[order])[ends]
    return float(np.diff(found, prepend=0) @ (found / (ends + 1))) / n_positive
