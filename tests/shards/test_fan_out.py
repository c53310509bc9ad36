"""Latency of the slowest of several shards, from a sample: properties, the closed form of an exponential, and draws."""

from __future__ import annotations

import math

import numpy as np
import pytest
from fan_out import (
    asked_twice,
    hedged,
    of_quantiles,
    of_sample,
    resolved,
    slowest,
    slowest_of,
    survivals,
    with_timeout,
)
from hypothesis import given
from hypothesis import strategies as st

SAMPLES = st.lists(st.floats(0.01, 1000), min_size=1, max_size=60).map(np.array)
SHARES = st.floats(0.01, 0.99)
DRAWS = 200_000


@given(SAMPLES)
def test_one_shard_has_the_distribution_of_the_sample(sample: np.ndarray) -> None:
    one = slowest(of_sample(sample), 1)
    ordered = np.sort(sample)
    for p in (0.01, 0.5, 0.9, 0.99):
        assert one.quantile(p) == ordered[max(0, math.ceil(p * len(sample) - 1e-9) - 1)]
    assert one.mean() == pytest.approx(sample.mean())


@given(SAMPLES, SHARES, st.integers(1, 500), st.integers(1, 500))
def test_quantiles_do_not_fall_with_more_shards(sample: np.ndarray, p: float, shards: int, more: int) -> None:
    one = of_sample(sample)
    assert slowest(one, shards).quantile(p) <= slowest(one, shards + more).quantile(p)
    assert slowest(one, shards).quantile(p) <= sample.max()


@given(SAMPLES, st.integers(1, 20), SHARES)
def test_equal_parts_are_as_one_distribution(sample: np.ndarray, shards: int, p: float) -> None:
    one = of_sample(sample)
    both = slowest_of([one] * shards), slowest(one, shards)
    assert both[0].above(one.values_ms) == pytest.approx(both[1].above(one.values_ms), abs=1e-9)


@pytest.mark.parametrize("shards", [1, 3, 64, 256])
@pytest.mark.parametrize("p", [0.5, 0.9, 0.99])
def test_an_exponential_has_its_closed_form(shards: int, p: float) -> None:
    sample = -np.log(np.arange(0.5, DRAWS) / DRAWS)  # quantiles of the exponential of mean 1
    assert slowest(of_sample(sample), shards).quantile(p) == pytest.approx(-math.log(1 - p ** (1 / shards)), rel=0.02)


def test_the_mean_of_the_slowest_exponential_is_a_harmonic_number() -> None:
    sample = -np.log(np.arange(0.5, DRAWS) / DRAWS)
    assert slowest(of_sample(sample), 16).mean() == pytest.approx(sum(1 / n for n in range(1, 17)), rel=0.01)


def test_draws_give_the_same_quantiles() -> None:
    rng = np.random.default_rng(0)
    sample = rng.gamma(3.0, 1.0, 2000)
    draws = rng.choice(sample, (20_000, 8)).max(axis=1)
    found = slowest(of_sample(sample), 8)
    for p in (0.5, 0.9, 0.99):
        assert found.quantile(p) == pytest.approx(np.quantile(draws, p), rel=0.04)


def test_a_hedge_is_as_drawn() -> None:
    rng = np.random.default_rng(1)
    sample = np.where(rng.random(3000) < 0.05, 30.0, 1.0) * rng.uniform(0.8, 1.2, 3000)
    one, after = of_sample(sample), 1.3
    first, second = rng.choice(sample, (2, 200_000))
    found = hedged(one, after)
    for p in (0.5, 0.9, 0.99, 0.999):
        assert found.quantile(p) == pytest.approx(np.quantile(np.minimum(first, after + second), p), rel=0.05)
    assert asked_twice(one, after) == pytest.approx((sample > after).mean())


@given(SAMPLES, st.floats(0, 1000), st.floats(0, 1000), SHARES)
def test_a_hedge_never_delays_and_an_earlier_one_helps_no_less(
    sample: np.ndarray, after: float, later: float, p: float
) -> None:
    one = of_sample(sample)
    early, late = (hedged(one, time) for time in (after, after + later))
    assert early.quantile(p) <= late.quantile(p) + 1e-9
    assert late.quantile(p) <= one.quantile(p)


@given(SAMPLES, st.integers(1, 64), st.floats(0.01, 1000), SHARES)
def test_no_answer_is_later_than_the_timeout(sample: np.ndarray, shards: int, timeout: float, p: float) -> None:
    answered = with_timeout(of_sample(sample), shards, timeout)
    assert answered.latency.quantile(p) == pytest.approx(min(slowest(of_sample(sample), shards).quantile(p), timeout))
    in_time = (sample <= timeout).mean()
    assert answered.complete == pytest.approx(in_time**shards)
    assert answered.missing == pytest.approx(shards * (1 - in_time))


def test_the_tail_must_be_in_the_sample() -> None:
    assert resolved(1000, 1, 0.99)
    assert not resolved(1000, 64, 0.99)
    assert resolved(6400, 64, 0.99)


def test_quantiles_stand_for_a_sample() -> None:
    sample = np.random.default_rng(2).lognormal(0, 0.5, 5000)
    kept = of_quantiles(np.quantile(sample, 1 - survivals(5000, 400)).tolist(), 5000)
    for shards in (1, 16, 64):
        for p in (p for p in (0.5, 0.99) if resolved(5000, shards, p)):
            expected = slowest(of_sample(sample), shards).quantile(p)
            assert slowest(kept, shards).quantile(p) == pytest.approx(expected, rel=0.04)
