"""Calibration of scores: rarity against counts, probabilities against outcomes."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.calibration import calibration_curve
from sklearn.metrics import brier_score_loss
from torchmetrics.functional.classification import binary_calibration_error

from bindsearch.errors import UsageError
from bindsearch.evaluation.score_calibration import (
    ScoredPairs,
    brier_score,
    calibration_error,
    chance_levels,
    reliability,
    score_pairs,
)
from bindsearch.search.scoring.probability import DEFAULT_MODEL, Coefficients, ProbabilityModel
from bindsearch.types import Modality
from bindsearch.vectors import l2_normalize

TEXT, IMAGE = Modality.TEXT, Modality.IMAGE
EXACT = ProbabilityModel({}, Coefficients(0.0, 0.0, 0.0, 1.0), Coefficients(0.0, 0.0, 0.0, 1.0))
"""Even odds where chance finds one such item."""


def random_rows(n: int, d: int, seed: int) -> NDArray[np.float32]:
    return l2_normalize(np.random.default_rng(seed).standard_normal((n, d)))


def test_claims_by_hand() -> None:
    """Three queries with five unrelated items: E <= 1 for 2, 0 and 1 of them; a match does not count."""
    query = np.repeat(np.arange(3), 6)
    expected = np.array([0.5, 1.0, 2, 3, 4, 0.1, 2.0, 3, 4, 5, 6, 0.1, 0.9, 3, 4, 5, 6, 0.1])
    is_match = np.tile([False] * 5 + [True], 3)
    pairs = ScoredPairs(query, np.tile(np.arange(6), 3), is_match, expected, np.zeros(18))
    one, all_of_them = chance_levels(pairs, 3, levels=(1.0, 100.0))
    assert (one.claimed, one.counted) == (1.0, 1.0)
    assert one.deviation == pytest.approx(np.std([2, 0, 1], ddof=1) / np.sqrt(3))
    assert (all_of_them.counted, all_of_them.deviation) == (5.0, 0.0)


def test_chance_finds_as_many_unrelated_items_as_is_claimed() -> None:
    queries, items = random_rows(400, 128, 0), random_rows(1000, 128, 1)
    pairs = score_pairs(queries, items, [[] for _ in queries], TEXT, IMAGE, DEFAULT_MODEL)
    assert len(pairs.query) == 400_000
    for level in chance_levels(pairs, 400):
        assert level.counted == pytest.approx(level.claimed, abs=4 * level.deviation + 0.1 * level.claimed + 0.01)


def test_claims_are_too_bold_where_cosines_have_long_tails() -> None:
    """One item in fifty is near to the query but not an answer: more are as good as chance would make."""
    random = np.random.default_rng(2)
    queries = random_rows(100, 128, 3)
    items = random_rows(1000, 128, 4)
    bent = random.choice(1000, 20, replace=False)
    items[bent] = l2_normalize(items[bent] + 0.5 * queries[random.integers(0, 100, 20)])
    pairs = score_pairs(queries, items, [[] for _ in queries], TEXT, IMAGE, DEFAULT_MODEL)
    level, *_ = chance_levels(pairs, 100, levels=(0.05,))
    assert level.counted > 2 * level.claimed


def test_pairs_are_the_best_of_each_query_with_their_answers() -> None:
    queries = random_rows(5, 16, 0)
    items = np.concatenate([queries, random_rows(30, 16, 1)])
    relevant = [[row] for row in range(5)]
    pairs = score_pairs(queries, items, relevant, IMAGE, IMAGE, EXACT, depth=3)
    assert pairs.query.tolist() == np.repeat(np.arange(5), 3).tolist()
    assert pairs.item[::3].tolist() == list(range(5))
    assert pairs.is_match.tolist() == [True, False, False] * 5
    np.testing.assert_allclose(pairs.probability, 1 / (1 + pairs.expected), rtol=1e-6)
    everything = score_pairs(queries, items, relevant, IMAGE, IMAGE, EXACT)
    assert len(everything.query) == 5 * 35
    np.testing.assert_allclose(everything.expected.reshape(5, 35)[:, :3].ravel(), pairs.expected, rtol=1e-6)


def test_a_reliability_diagram_by_hand() -> None:
    claimed = np.array([0.0, 0.1, 0.45, 0.9, 1.0])
    is_match = np.array([False, True, False, True, True])
    low, middle, high = reliability(claimed, is_match, bins=4)
    assert (low.n, low.claimed, low.observed) == (2, pytest.approx(0.05), 0.5)
    assert (middle.n, middle.claimed, middle.observed) == (1, pytest.approx(0.45), 0.0)
    assert (high.n, high.claimed, high.observed) == (2, pytest.approx(0.95), 1.0)
    assert calibration_error(claimed, is_match, 4) == pytest.approx((2 * 0.45 + 0.45 + 2 * 0.05) / 5)
    assert brier_score(claimed, is_match) == pytest.approx((0 + 0.81 + 0.45**2 + 0.01 + 0) / 5)


@given(st.integers(2, 60), st.integers(0, 9999))
def test_figures_are_those_of_scikit_learn_and_torchmetrics(n: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    claimed, is_match = random.random(n), random.random(n) < 0.5
    is_match[:2] = [True, False]
    found = reliability(claimed, is_match)
    observed, mean_claimed = calibration_curve(is_match, claimed, n_bins=10)
    np.testing.assert_allclose([one.observed for one in found], observed)
    np.testing.assert_allclose([one.claimed for one in found], mean_claimed)
    assert brier_score(claimed, is_match) == pytest.approx(brier_score_loss(is_match, claimed))
    theirs = binary_calibration_error(torch.tensor(claimed), torch.tensor(is_match).long(), n_bins=10, norm="l1")
    assert calibration_error(claimed, is_match) == pytest.approx(float(theirs), abs=1e-6)


def test_probabilities_that_are_drawn_as_claimed_have_little_error() -> None:
    random = np.random.default_rng(0)
    claimed = random.random(20_000)
    is_match = random.random(20_000) < claimed
    assert calibration_error(claimed, is_match) < 0.02
    assert calibration_error(claimed, ~is_match) > 0.3


def test_wrong_arguments_give_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match=r"a probability is not 0 to 1"):
        reliability(np.array([1.5]), np.array([True]))
    with pytest.raises(
        UsageError, match=r"shape \(0,\), matches \(0,\) .*: give a probability and a bool for each pair"
    ):
        brier_score(np.zeros(0), np.zeros(0, np.bool_))
    with pytest.raises(UsageError, match="bins is 0"):
        reliability(np.array([0.5]), np.array([True]), 0)
    rows = random_rows(3, 4, 0)
    monkeypatch.setattr("bindsearch.evaluation.score_calibration.MAX_PAIRS", 8)
    with pytest.raises(UsageError, match="3 queries with 3 items each: give a sample with at most 8 pairs"):
        score_pairs(rows, rows, [[], [], []], TEXT, IMAGE, DEFAULT_MODEL)
