"""Normalising, composing and calibrating, against their formulas."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bindsearch.encoders.zero_shot import class_probabilities
from bindsearch.errors import StoreError, UsageError, VectorError
from bindsearch.search.scoring.calibration import partition_statistics
from bindsearch.search.scoring.scores import FACTOR_RANK, MIN_DEVIATION, PartitionStatistics
from bindsearch.vectors import compose, l2_normalize, scale_features
from helpers.scores import calibrate

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


def test_class_probabilities_sharpen_with_temperature() -> None:
    queries, targets = unit_rows(4, 3), unit_rows(5, 6)
    cosines = queries @ targets.T
    cool, hot = class_probabilities(cosines, 1.0), class_probabilities(cosines, 100.0)
    np.testing.assert_allclose(hot.sum(axis=1), 1.0, atol=1e-5)
    assert (hot.max(axis=1) > cool.max(axis=1)).all()
    assert (hot.argmax(axis=1) == cosines.argmax(axis=1)).all()


@settings(deadline=None, max_examples=50)
@given(seeds)
def test_statistics_give_the_moments_of_the_cosines(seed: int) -> None:
    rows = l2_normalize(np.random.default_rng(seed).standard_normal((300, 32)) + 0.5)
    query = unit_rows(seed + 1, 1)[0]
    mean, variance = partition_statistics(rows).moments(query)[2:]
    cosines = rows @ query
    assert mean == pytest.approx(float(cosines.mean()), abs=1e-4)
    assert variance == pytest.approx(float(cosines.var()), rel=1e-2, abs=1e-5)


@pytest.mark.parametrize("n", [1, 5, 31, 32, 33, 500])
def test_statistics_are_exact_for_few_and_many_vectors(n: int) -> None:
    rows, query = unit_rows(n, n), unit_rows(6, 1)[0]
    statistics = partition_statistics(rows)
    mean, variance = statistics.moments(query)[2:]
    assert statistics.factor.shape[0] <= 32
    assert mean == pytest.approx(float((rows @ query).mean()), abs=1e-5)
    assert variance == pytest.approx(float((rows @ query).var()), abs=1e-5)


def gapped_rows(seed: int, n: int, d: int, *, modality: int = 0, gap: float = 0.4) -> np.ndarray:
    """Return unit rows of one modality: a common direction, and power-law content that modalities share."""
    rng = np.random.default_rng([seed, modality])
    mean = l2_normalize(np.random.default_rng(modality).standard_normal(d))
    content = l2_normalize(rng.standard_normal((n, d)) * np.arange(1, d + 1) ** -0.35)
    return l2_normalize(np.sqrt(gap) * mean + np.sqrt(1 - gap) * content)


@pytest.mark.parametrize("n", [129, 200, 600, 4000])
def test_a_low_rank_factor_gives_the_deviations_of_many_vectors(n: int) -> None:
    d = 384
    rows = gapped_rows(0, n, d)
    statistics = partition_statistics(rows)
    queries = np.concatenate([gapped_rows(1, 50, d), gapped_rows(2, 50, d, modality=1), unit_rows(3, 50, d), rows[:20]])
    means, variances = np.array([statistics.moments(query)[2:] for query in queries]).T
    cosines = rows @ queries.T
    errors = np.abs(np.sqrt(variances) / cosines.std(axis=0) - 1)
    assert statistics.factor.shape == (FACTOR_RANK, d)
    assert np.median(errors) < 0.02
    assert np.quantile(errors, 0.95) < 0.05
    assert errors.max() < 0.25  # a query that lies where little varies: the best factor of that rank misses by 0.14
    np.testing.assert_allclose(means, cosines.mean(axis=0), atol=1e-4)


@pytest.mark.parametrize("rank", [1, 3, 40])
def test_vectors_that_span_little_are_described_exactly(rank: int) -> None:
    rng = np.random.default_rng(rank)
    rows = l2_normalize(rng.standard_normal((500, rank)) @ rng.standard_normal((rank, 256)) + 2)
    query = unit_rows(rank, 1, 256)[0]
    mean, variance = partition_statistics(rows).moments(query)[2:]
    assert mean == pytest.approx(float((rows @ query).mean()), abs=1e-5)
    assert variance == pytest.approx(float((rows @ query).var()), rel=2e-2, abs=1e-7)


def test_equal_vectors_have_no_variance() -> None:
    rows = np.repeat(unit_rows(1, 1, 256), 300, axis=0)
    mean, variance = partition_statistics(rows).moments(rows[0])[2:]
    assert mean == pytest.approx(1.0, abs=1e-5)
    assert 0 <= variance < 1e-6


def test_statistics_survive_being_stored_and_remember_how_many_vectors_they_stand_for() -> None:
    statistics = partition_statistics(unit_rows(1, 300, 64), n=70_000)
    again = PartitionStatistics.from_arrays(statistics.to_arrays(), 64)
    assert (again.n, again.residual_variance) == (70_000, statistics.residual_variance)
    np.testing.assert_array_equal(again.factor, statistics.factor)
    np.testing.assert_array_equal(again.mu, statistics.mu)


@pytest.mark.parametrize(
    ("name", "damaged", "message"),
    [
        ("n", None, "lack 'n'"),
        ("n", np.array([0], np.int64), "damaged"),
        ("n", np.array([3.0]), "damaged"),
        ("mu", np.zeros(63, np.float32), "have the shapes"),
        ("mu", np.full(64, np.nan, np.float32), "damaged"),
        ("factor", np.zeros((5, 63), np.float32), "have the shapes"),
        ("factor", np.zeros((FACTOR_RANK + 1, 64), np.float32), "have the shapes"),
        ("factor", np.zeros(64, np.float32), "have the shapes"),
        ("factor", np.array(1.0, np.float32), "have the shapes"),
        ("factor", np.full((5, 64), np.inf, np.float32), "damaged"),
        ("factor", np.zeros((5, 64)), "damaged"),
        ("rest", np.array([-1.0]), "damaged"),
        ("rest", np.array([1.0]), "damaged"),
        ("rest", np.array([np.nan]), "damaged"),
    ],
)
def test_damaged_statistics_are_told(name: str, damaged: np.ndarray | None, message: str) -> None:
    arrays = partition_statistics(unit_rows(1, 300, 64)).to_arrays()
    del arrays[name]
    if damaged is not None:
        arrays[name] = damaged
    with pytest.raises(StoreError, match=message):
        PartitionStatistics.from_arrays(arrays, 64)


def plain_scores(cosines: np.ndarray, prior_mean: float, prior_variance: float) -> np.ndarray:
    """Return the scores of `calibrate` for a whole partition, each vector left out in turn, given its prior."""
    out = []
    for number, cosine in enumerate(cosines):
        others = np.delete(cosines, number).astype(np.float64)
        weight = prior_variance / 0.05**2
        mean = (others.sum() + weight * prior_mean) / (len(others) + weight)
        squares = len(others) * others.var() if len(others) else 0.0
        variance = (squares + 16 * prior_variance) / (len(others) + 16) * (1 + 1 / (len(others) + weight))
        out.append((cosine - mean) / max(np.sqrt(variance), MIN_DEVIATION))
    return np.array(out)


@pytest.mark.parametrize("n", [1, 2, 3, 20, 100])
def test_scores_follow_the_stated_rule(n: int) -> None:
    large, small = gapped_rows(1, 120, 64, modality=1), gapped_rows(2, n, 64)
    query = gapped_rows(3, 1, 64, modality=2)[0]
    statistics = [partition_statistics(large), partition_statistics(small)]
    scores = calibrate([large @ query, small @ query], query, statistics, own=(0.0, 0.0))[1]
    assumed, trust = 1 / 17, 120 / 136
    prior_mean = (trust * float((large @ query).mean()) + assumed * 0.1) / (trust + assumed)
    squares = 119 * float((large @ query).var()) + (n - 1) * float((small @ query).var())
    np.testing.assert_allclose(
        scores, plain_scores(small @ query, prior_mean, (squares + 0.16) / (119 + n - 1 + 16)), rtol=1e-3, atol=1e-3
    )


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("own_modality", [True, False])
@pytest.mark.parametrize("n", [1, 2, 3])
def test_a_vector_nearly_alone_is_judged_fairly(n: int, own_modality: bool, known: bool) -> None:
    """An exact match stands out, an irrelevant vector does not, even if its modality alone brings it near.

    A relevant vector has about the score that it has in a large partition.
    """
    d = 512
    others = [gapped_rows(4, 300, d, modality=modality) for modality in (1, 2)]
    many = gapped_rows(5, 3000, d)
    query = gapped_rows(6, 1, d, modality=0 if own_modality else 3)[0]
    own = [float(own_modality), 0.0, 0.0] if known else None

    def score(first: np.ndarray, among: np.ndarray) -> float:
        partitions = [np.concatenate([first[None], among]), *others]
        return float(
            calibrate([p @ query for p in partitions], query, [*map(partition_statistics, partitions)], own)[0][0]
        )

    relevant = l2_normalize(many[0] + 0.35 * query)
    exact, good, bad = (score(first, many[1:n]) for first in (query, relevant, many[0]))
    assert exact > 3.5
    assert bad < 2
    assert exact > good > bad + 0.5
    if known or n > 1:
        assert 0.3 < good / score(relevant, many[1:]) < 1.3
        assert good > 2


def test_a_store_of_one_vector_scores_it_by_what_is_assumed_of_any() -> None:
    row = unit_rows(1, 1)
    statistics = [partition_statistics(row)]
    assert float(calibrate([row @ row[0]], row[0], statistics)[0][0]) > 3
    assert float(calibrate([row @ row[0]], row[0], statistics, own=[1.0])[0][0]) > 3
    other = l2_normalize(unit_rows(2, 1)[0] + 0.1 * row[0])
    assert float(calibrate([row @ other], other, statistics)[0][0]) < 1.5


@settings(deadline=None, max_examples=50)
@given(seeds, st.lists(st.sampled_from([1, 2, 3, 10, 130, 300]), min_size=1, max_size=5), st.floats(0, 0.95))
def test_calibration_keeps_the_order_within_every_partition(seed: int, sizes: list[int], gap: float) -> None:
    partitions = [gapped_rows(seed, n, 64, modality=number, gap=gap) for number, n in enumerate(sizes)]
    statistics = [partition_statistics(rows) for rows in partitions]
    for query in (partitions[0][0], unit_rows(seed, 1, 64)[0]):
        cosines = [rows @ query for rows in partitions]
        for cosine, scores in zip(cosines, calibrate(cosines, query, statistics), strict=True):
            assert len(scores) == len(cosine)
            assert np.diff(scores[np.argsort(cosine)]).min(initial=0) > -1e-4


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
