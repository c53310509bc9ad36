"""Standard errors against simulation and closed forms, and the figures of chance against counting."""

from __future__ import annotations

from itertools import combinations, permutations

import numpy as np
import pytest

from bindsearch.evaluation.figures import (
    Error,
    chance_of_average_precision,
    chance_of_recall,
    class_mean_error,
    group_ids,
    share_error,
)


def test_the_error_of_a_share_is_binomial() -> None:
    error, error_by = share_error(np.array([1.0] * 30 + [0.0] * 70), [None] * 100)
    assert error == pytest.approx(np.sqrt(0.3 * 0.7 / 100))
    assert error_by is Error.BINOMIAL


def test_values_between_zero_and_one_have_the_deviation_over_queries() -> None:
    values = np.random.default_rng(0).random(50)
    error, error_by = share_error(values, [None] * 50)
    assert error == pytest.approx(values.std(ddof=1) / np.sqrt(50))
    assert error_by is Error.QUERIES


def test_the_error_over_groups_is_that_of_the_means_of_groups() -> None:
    rng = np.random.default_rng(0)
    means = rng.random(60)  # 60 groups of 5 items that are all right or all wrong
    hits = np.repeat((means > 0.5).astype(np.float64), 5)
    groups = [f"group {n // 5}" for n in range(300)]
    error, error_by = share_error(hits, groups)
    share = float((means > 0.5).mean())
    assert error == pytest.approx(np.sqrt(share * (1 - share) / 60), rel=0.1)
    assert error_by is Error.GROUPS
    single, by = share_error(hits, ["one"] * 300)
    assert by is Error.BINOMIAL
    assert single == pytest.approx(np.sqrt(share * (1 - share) / 300))


def test_the_error_of_a_mean_over_classes_agrees_with_the_classes_own() -> None:
    rng = np.random.default_rng(1)
    classes = np.repeat(np.arange(4), 100)
    hits = (rng.random(400) < 0.3 + 0.1 * classes).astype(np.float64)
    error, error_by = class_mean_error(hits, classes, [None] * 400)
    shares = hits.reshape(4, 100).mean(axis=1)
    assert error == pytest.approx(np.sqrt((shares * (1 - shares) / 100).sum()) / 4, rel=0.12)
    assert error_by is Error.ITEMS


def test_an_item_without_a_group_has_one_of_its_own() -> None:
    assert group_ids(["a", None, "a", None, "b"]).tolist() == [0, 1, 0, 2, 3]


def test_chance_of_recall_is_that_of_all_choices() -> None:
    for n, r, k in ((6, 2, 3), (5, 1, 2), (7, 3, 1), (4, 2, 4)):
        choices = list(combinations(range(n), k))
        counted = np.mean([any(one < r for one in choice) for choice in choices])
        assert chance_of_recall(n, np.array([r]), k) == pytest.approx(counted)
    assert chance_of_recall(100, np.array([1, 3]), 10) == pytest.approx(
        (chance_of_recall(100, np.array([1]), 10) + chance_of_recall(100, np.array([3]), 10)) / 2
    )


def test_chance_of_average_precision_is_the_mean_over_all_orders() -> None:
    for n, r in ((5, 2), (6, 1), (4, 4), (6, 3)):
        values = []
        for order in permutations(range(n)):
            places = np.sort([order.index(one) + 1 for one in range(r)])
            values.append(np.mean(np.arange(1, r + 1) / places))
        assert chance_of_average_precision(n, r) == pytest.approx(np.mean(values))
