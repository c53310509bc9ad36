"""Normalising, composing and calibrating, against their formulas."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bindsearch.errors import UsageError, VectorError
from bindsearch.space import (
    calibrate,
    compose,
    l2_normalize,
    partition_statistics,
    scale_features,
    softmax_scores,
)

seeds = st.integers(0, 2**32 - 1)


def unit_rows(seed: int, n: int, d: int = 32) -> np.ndarray:
    return l2_normalize(np.random.default_rng(seed).standard_normal((n, d)))


@given(seeds, st.lists(st.floats(0.1, 100), min_size=2, max_size=4))
def test_composition_does_not_depend_on_the_temperatures(seed: int, temperatures: list[float]) -> None:
    terms = unit_rows(seed, len(temperatures))
    weights = [1 / len(temperatures)] * len(temperatures)
    scaled = np.stack([scale_features(term, t) for term, t in zip(terms, temperatures, strict=True)])
    np.testing.assert_allclose(compose(scaled, weights), compose(terms, weights), atol=1e-5)


def test_a_sum_of_unnormalised_scaled_features_would_depend_on_them() -> None:
    terms = unit_rows(1, 2)
    wrong = l2_normalize(0.5 * scale_features(terms[0], 20.0) + 0.5 * scale_features(terms[1], 1.0))
    assert float(wrong @ compose(terms, [0.5, 0.5])) < 0.95


def test_composition_is_the_papers_formula() -> None:
    a, b = unit_rows(2, 2)
    expected = 0.5 * a + 0.5 * b
    np.testing.assert_allclose(compose(np.stack([a, b]), [0.5, 0.5]), expected / np.linalg.norm(expected), atol=1e-6)


def test_terms_that_cancel_are_an_error() -> None:
    a = unit_rows(3, 1)[0]
    with pytest.raises(UsageError, match="cancel"):
        compose(np.stack([a, a]), [1.0, -1.0])


@pytest.mark.parametrize("bad", [np.zeros(4), np.array([1.0, np.nan]), np.array([np.inf, 1.0])])
def test_a_vector_without_direction_is_an_error(bad: np.ndarray) -> None:
    with pytest.raises(VectorError, match="no direction"):
        l2_normalize(bad)


def test_softmax_scores_are_probabilities_that_sharpen_with_temperature() -> None:
    queries, targets = unit_rows(4, 3), unit_rows(5, 6)
    cool, hot = softmax_scores(queries, targets, 1.0), softmax_scores(queries, targets, 100.0)
    np.testing.assert_allclose(hot.sum(axis=1), 1.0, atol=1e-5)
    assert (hot.max(axis=1) > cool.max(axis=1)).all()
    assert (hot.argmax(axis=1) == (queries @ targets.T).argmax(axis=1)).all()


@given(seeds)
def test_statistics_give_the_moments_of_the_cosines(seed: int) -> None:
    rows = l2_normalize(np.random.default_rng(seed).standard_normal((300, 32)) + 0.5)
    query = unit_rows(seed + 1, 1)[0]
    mean, variance = partition_statistics(rows).moments(query)
    cosines = rows @ query
    assert mean == pytest.approx(float(cosines.mean()), abs=1e-4)
    assert variance == pytest.approx(float(cosines.var()), rel=1e-2, abs=1e-5)


@pytest.mark.parametrize("n", [1, 5, 31, 32, 33, 500])
def test_statistics_are_exact_for_few_and_many_vectors(n: int) -> None:
    rows, query = unit_rows(n, n), unit_rows(6, 1)[0]
    statistics = partition_statistics(rows)
    mean, variance = statistics.moments(query)
    assert statistics.factor.shape[0] <= 32
    assert mean == pytest.approx(float((rows @ query).mean()), abs=1e-5)
    assert variance == pytest.approx(float((rows @ query).var()), abs=1e-5)


def test_scores_of_a_tiny_store_stay_in_proportion() -> None:
    rows, query = unit_rows(12, 3), unit_rows(13, 1)[0]
    scores = calibrate(
        [rows[:2] @ query, rows[2:] @ query], query, [partition_statistics(part) for part in (rows[:2], rows[2:])]
    )
    assert max(float(np.abs(score).max()) for score in scores) < 12


def test_calibrated_scores_make_partitions_comparable() -> None:
    """Two modalities hold the same number of relevant items; raw cosine shows one of them only."""
    rng = np.random.default_rng(7)
    query = unit_rows(8, 1, 64)[0]

    def partition(offset: float) -> np.ndarray:
        noise = l2_normalize(rng.standard_normal((500, 64)))
        return l2_normalize(noise + (offset + 0.8 * (np.arange(500) < 15))[:, None] * query)

    near, far = partition(0.8), partition(0.0)
    cosines = [near @ query, far @ query]
    scores = calibrate(cosines, query, [partition_statistics(near), partition_statistics(far)])
    top = np.argsort(-np.concatenate(scores))[:30]
    assert abs(int((top < 500).sum()) - 15) <= 3
    assert int((np.argsort(-np.concatenate(cosines))[:30] < 500).sum()) == 30


def test_calibration_keeps_the_order_within_a_partition_and_survives_a_single_vector() -> None:
    rows, query = unit_rows(9, 40), unit_rows(10, 1)[0]
    single = unit_rows(11, 1)
    scores = calibrate(
        [rows @ query, single @ query], query, [partition_statistics(rows), partition_statistics(single)]
    )
    assert (np.argsort(-scores[0]) == np.argsort(-(rows @ query))).all()
    assert np.isfinite(scores[1]).all()
