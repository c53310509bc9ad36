"""Figures of classification: hand-worked cases, scikit-learn, torchmetrics, and equal scores."""

import warnings
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, balanced_accuracy_score, top_k_accuracy_score
from sklearn.metrics import confusion_matrix as sklearn_confusion_matrix
from torchmetrics.functional.classification import binary_average_precision, multiclass_accuracy

from bindsearch.errors import UsageError
from bindsearch.evaluation.classification import (
    accuracy,
    average_precisions,
    confusion_matrix,
    hits,
    mean_average_precision,
    mean_class_accuracy,
)

Scores = NDArray[np.float64]

BY_HAND = np.array([[0.9, 0.1, 0.0], [0.5, 0.4, 0.3], [0.2, 0.2, 0.1], [0.3, 0.3, 0.3]])
TARGETS = np.array([0, 1, 1, 2])


def distinct_scores(n: int, c: int, seed: int) -> Scores:
    """Return scores (n, c) of which no two are equal."""
    return np.random.default_rng(seed).permutation(n * c).reshape(n, c) / (n * c)


def test_hits_by_hand() -> None:
    assert hits(BY_HAND, TARGETS).tolist() == [1.0, 0.0, 0.5, pytest.approx(1 / 3)]
    assert hits(BY_HAND, TARGETS, 2).tolist() == [1.0, 1.0, 1.0, pytest.approx(2 / 3)]
    assert hits(BY_HAND, TARGETS, 9).tolist() == [1.0] * 4
    assert accuracy(BY_HAND, TARGETS) == pytest.approx((1 + 0 + 1 / 2 + 1 / 3) / 4)
    assert mean_class_accuracy(BY_HAND, TARGETS) == pytest.approx((1 + 1 / 4 + 1 / 3) / 3)


def test_a_confusion_matrix_by_hand() -> None:
    third = 1 / 3
    expected = np.array([[1, 0, 0], [1.5, 0.5, 0], [third, third, third]])
    np.testing.assert_allclose(confusion_matrix(BY_HAND, TARGETS), expected, atol=1e-12)


@given(st.integers(1, 40), st.integers(2, 8), st.integers(0, 9999))
def test_figures_are_those_of_scikit_learn_and_torchmetrics(n: int, c: int, seed: int) -> None:
    scores, targets = distinct_scores(n, c, seed), np.random.default_rng(seed).integers(0, c, n)
    predicted, labels = scores.argmax(axis=1), np.arange(c)
    for k in range(1, c + 1):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # scikit-learn warns of k = c, where the figure is 1
            expected = (
                top_k_accuracy_score(targets, scores, k=k, labels=labels)
                if c > 2
                else (predicted == targets).mean()
                if k == 1
                else 1.0
            )
        assert accuracy(scores, targets, k) == pytest.approx(expected)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # classes that are predicted and have no example
        assert mean_class_accuracy(scores, targets) == pytest.approx(balanced_accuracy_score(targets, predicted))
    np.testing.assert_array_equal(
        confusion_matrix(scores, targets), sklearn_confusion_matrix(targets, predicted, labels=labels)
    )
    theirs = multiclass_accuracy(torch.tensor(scores), torch.tensor(targets), num_classes=c, average="micro")
    assert accuracy(scores, targets) == pytest.approx(float(theirs))


@given(
    st.integers(1, 30).flatmap(
        lambda n: st.tuples(
            arrays(np.float64, (n, 3), elements=st.sampled_from([0.0, 0.25, 0.5, 1.0])), arrays(np.bool_, (n, 3))
        )
    )
)
def test_average_precision_is_that_of_scikit_learn_and_torchmetrics_with_equal_scores(
    case: tuple[Scores, NDArray[np.bool_]],
) -> None:
    scores, targets = case
    found = average_precisions(scores, targets)
    for column in range(3):
        if targets[:, column].any():
            expected = average_precision_score(targets[:, column], scores[:, column])
            assert found[column] == pytest.approx(expected)
            theirs = binary_average_precision(torch.tensor(scores[:, column]), torch.tensor(targets[:, column]).long())
            assert found[column] == pytest.approx(float(theirs), abs=1e-6)
        else:
            assert np.isnan(found[column])


def test_mean_average_precision_by_hand() -> None:
    """Class 0: positives at ranks 1 and 3, (1 + 2/3) / 2. Class 1: one of two equal, first in the list, 1/2."""
    scores = np.array([[0.9, 0.5], [0.8, 0.5], [0.7, 0.1]])
    targets = np.array([[True, True], [False, False], [True, False]])
    assert mean_average_precision(scores, targets) == pytest.approx((5 / 6 + 1 / 2) / 2)


def test_classes_without_examples_are_left_out_of_means() -> None:
    scores = np.array([[0.9, 0.5, 0.1], [0.1, 0.5, 0.2]])
    assert mean_class_accuracy(scores, [0, 0]) == 0.5
    assert mean_average_precision(scores, np.array([[True, False, False], [False, False, False]])) == 1.0
    with pytest.raises(UsageError, match="no example has a class"):
        mean_average_precision(scores, np.zeros((2, 3), np.bool_))


@given(st.integers(2, 9), st.integers(1, 30), st.floats(-3, 3))
def test_equal_scores_have_the_figures_of_chance(c: int, n: int, value: float) -> None:
    scores, targets = np.full((n, c), value), np.random.default_rng(n).integers(0, c, n)
    for k in range(1, c + 1):
        assert accuracy(scores, targets, k) == pytest.approx(k / c)
    assert mean_class_accuracy(scores, targets) == pytest.approx(1 / c)
    one_hot = np.eye(c, dtype=np.bool_)[targets]
    with_positives = one_hot.mean(axis=0)[one_hot.any(axis=0)]
    assert mean_average_precision(scores, one_hot) == pytest.approx(with_positives.mean())


@given(st.integers(1, 6), st.integers(2, 5), st.integers(1, 5), st.integers(0, 9999))
def test_hits_are_means_over_random_orders_of_equal_scores(n: int, c: int, k: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    scores, targets = random.integers(0, 3, (n, c)).astype(np.float64), random.integers(0, c, n)
    broken = scores[None] + random.random((4000, n, c)) / 2
    own = np.take_along_axis(broken, targets[None, :, None], axis=2)
    simulated = ((broken > own).sum(axis=2) < k).mean(axis=0)
    np.testing.assert_allclose(hits(scores, targets, k), simulated, atol=0.05)


def test_integer_scores_are_ranked_as_numbers() -> None:
    votes: NDArray[Any] = np.array([[3, 1], [0, 2]], np.uint8)
    assert accuracy(votes, [0, 1]) == 1.0
    assert mean_average_precision(votes, np.eye(2, dtype=np.bool_)) == 1.0


@pytest.mark.parametrize(
    ("scores", "targets", "message"),
    [
        (np.zeros((2, 3)), [0], r"targets have the shape \(1,\) and type int64: give 2 integers"),
        (np.zeros((2, 3)), [0, 3], "targets contain 3: give the number of a class, 0 to 2"),
        (np.zeros((2, 3)), [0, -1], "targets contain -1"),
        (np.zeros((2, 3)), [0.0, 1.0], "type float64: give 2 integers"),
        (np.zeros((0, 3)), [], r"scores have the shape \(0, 3\)"),
        (np.array([[0.0, 1.0], [np.nan, 0.0]]), [0, 1], "row 1 of scores has a value that is not finite"),
    ],
)
def test_wrong_arrays_give_one_line(scores: Scores, targets: list[int], message: str) -> None:
    for figure in (accuracy, mean_class_accuracy, confusion_matrix):
        with pytest.raises(UsageError, match=message):
            figure(scores, targets)


def test_wrong_arguments_give_one_line() -> None:
    with pytest.raises(UsageError, match="k is 0: give the number of classes"):
        accuracy(BY_HAND, TARGETS, 0)
    with pytest.raises(UsageError, match=r"targets have the shape \(4,\) and type int64: give bool \(4, 3\)"):
        average_precisions(BY_HAND, TARGETS)
