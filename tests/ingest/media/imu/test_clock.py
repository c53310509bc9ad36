"""Time columns: the rate, and stamps that are coarse, in bursts, out of order, missing or no time at all."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray

from bindsearch.errors import MediaError
from bindsearch.ingest.media.imu.clock import ImuRun, even_runs, read_clock

RAMP = np.tile(np.arange(6000, dtype=np.float32)[:, None], 6)


def runs_of(stamps: NDArray[np.generic], step_s: float | None = None) -> tuple[list[ImuRun], float, tuple[str, ...]]:
    """Return the runs of a ramp with these stamps, whose values are row numbers; the rate; and notes."""
    clock = read_clock(stamps, "t", step_s)
    return even_runs(RAMP[: len(stamps)], clock, 100_000), clock.rate_hz, clock.notes


def rows(run: ImuRun) -> NDArray[np.float32]:
    return run.samples[:, 0]


@settings(max_examples=80, deadline=None)
@given(
    rate_hz=st.sampled_from([12.5, 25.0, 50.0, 60.0, 100.0, 200.0, 400.0]),
    coarse_s=st.sampled_from([1e-3, 1e-2, 0.1, 1.0]),
    start_s=st.floats(0, 2e9),
    unit=st.sampled_from([1, 1e3, 1e6]),
)
def test_coarse_stamps_keep_every_row_and_the_rate(
    rate_hz: float, coarse_s: float, start_s: float, unit: float
) -> None:
    times_s = np.floor((start_s + np.arange(int(12 * rate_hz)) / rate_hz) / coarse_s) * coarse_s
    (run,), found, _ = runs_of(np.round(times_s * unit, 3), 1 / unit)
    assert found == pytest.approx(rate_hz, rel=0.01)
    assert np.array_equal(rows(run), np.arange(len(times_s)))


@settings(max_examples=60, deadline=None)
@given(
    packet=st.integers(3, 40),
    inside_ms=st.sampled_from([0, 0.5, 1]),
    delay_ms=st.floats(0, 20),
    seed=st.integers(0, 99),
    cut=st.integers(0, 2),
)
def test_packets_keep_every_row_and_the_rate(
    packet: int, inside_ms: float, delay_ms: float, seed: int, cut: int
) -> None:
    """Bluetooth LE: a packet of samples is stamped as it arrives, all at once or 1 ms apart."""
    number = np.arange(cut, 40 * packet) // packet
    late_ms = np.random.default_rng(seed).uniform(0, min(delay_ms, 4 * packet), 40)
    stamps = number * 20 * packet + late_ms[number] + (np.arange(cut, 40 * packet) % packet) * inside_ms
    (run,), found, notes = runs_of(1.7e12 + stamps)
    assert found == pytest.approx(50, rel=0.02)
    assert np.array_equal(rows(run), np.arange(len(stamps)))
    assert notes == ("time column 't' is coarse or in bursts: the rows are spread evenly",)


def test_packets_more_than_a_second_apart_are_no_pauses() -> None:
    number = np.arange(2000)
    (run,), found, _ = runs_of(1_700_000_000_000 + (number // 100) * 2000 + number % 100)
    assert (found, len(run.samples)) == (pytest.approx(50, rel=0.01), 2000)


def test_a_sensor_that_rests_between_is_in_runs() -> None:
    number = np.arange(1000)
    runs, found, _ = runs_of((number // 100) * 60.0 + number % 100 / 50)
    assert (len(runs), found) == (10, pytest.approx(50))
    assert [run.start_s for run in runs] == [60 * n for n in range(10)]


@settings(max_examples=40, deadline=None)
@given(lost=st.sets(st.integers(1, 998), max_size=100), jitter=st.floats(0, 0.1), seed=st.integers(0, 9))
def test_lost_rows_are_interpolated_at_the_rate_of_the_others(lost: set[int], jitter: float, seed: int) -> None:
    kept = np.setdiff1d(np.arange(1000), list(lost))
    assume(np.diff(kept).max() <= 45)  # a second without rows is a pause
    times_s = kept / 50 + np.random.default_rng(seed).uniform(-jitter, jitter, len(kept)) / 50
    clock = read_clock(times_s, "t", 1.0)
    assert clock.rate_hz == pytest.approx(50, rel=0.012)  # few lost rows are not told from a slower clock
    (run,) = even_runs(RAMP[kept], clock, 10_000)
    expected = (run.start_s + np.arange(len(run.samples)) / clock.rate_hz) * 50
    assert np.abs(rows(run) - expected - (times_s[0] * 50 - run.start_s * 50)).max() < 1.2


def test_a_few_swapped_rows_are_sorted() -> None:
    times_s = np.arange(500) / 50
    order = np.arange(500)
    order[[40, 41, 200, 203]] = order[[41, 40, 203, 200]]
    clock = read_clock(times_s[order], "t", 1.0)
    (run,) = even_runs(RAMP[order], clock, 10_000)
    assert np.array_equal(rows(run), np.arange(500))
    assert clock.notes == ("time column 't' runs backwards in 3 rows by less than 0.5 s: sorted",)


def test_a_clock_that_starts_again_starts_a_run() -> None:
    stamps = np.concatenate([np.arange(300), np.arange(200)]) * 20
    runs, found, notes = runs_of(stamps)
    assert [len(run.samples) for run in runs] == [300, 200]
    assert [run.start_s for run in runs] == [0, pytest.approx(6)]
    assert found == pytest.approx(50)
    assert notes == ("time column 't' starts again once, first in row 301: a new run each",)


def test_missing_stamps_are_interpolated_with_a_count() -> None:
    stamps = np.arange(300) / 50
    stamps[[7, 8, 90]] = np.nan
    (run,), found, notes = runs_of(stamps)
    assert (len(run.samples), found) == (300, pytest.approx(50))
    assert notes == ("time column 't' has no number in 3 rows, first in row 8: interpolated",)


@pytest.mark.parametrize(
    ("stamps", "reason"),
    [
        (np.arange(400), "'t' counts rows .it steps by 1., which gives no rate: give sample_rate_hz in the sidecar"),
        (np.arange(400) + 17.0, "counts rows"),
        (np.r_[np.arange(200), np.arange(205, 400)], "counts rows"),
        (np.repeat([0, 1], 200), "too coarse to give the rate"),
        (np.arange(400)[::-1] / 50, "runs backwards in row 2, and in 398 others"),
        (np.repeat(np.arange(200), 2) * 5e9, "the unit of time column 't' is not clear"),
        (np.array(["a"] * 9), "has no numbers"),
        (np.full(9, np.nan), "has no numbers"),
    ],
)
def test_columns_that_give_no_rate_are_refused(stamps: NDArray[np.generic], reason: str) -> None:
    with pytest.raises(MediaError, match=reason):
        runs_of(stamps)


@pytest.mark.parametrize("start", [1_700_000_000_000, 1_700_000_000_000_000_000])
def test_steps_of_one_are_a_clock_where_they_count_from_1970(start: int) -> None:
    step = 1 if start < 10**15 else 10**6
    assert runs_of(start + np.arange(2000) * step)[1] == pytest.approx(1000)


_INTEGERS = arrays.arrays(np.int64, st.integers(2, 60), elements=st.integers(-(2**63), 2**63 - 1))
_UNSIGNED = arrays.arrays(np.uint64, st.integers(2, 60), elements=st.integers(0, 2**64 - 1))
_FLOATS = arrays.arrays(np.float64, st.integers(2, 60), elements=st.floats())
_SMALL = arrays.arrays(np.int64, st.integers(2, 200), elements=st.integers(0, 3)).map(np.cumsum)


@settings(max_examples=300, deadline=None)
@given(stamps=st.one_of(_INTEGERS, _UNSIGNED, _FLOATS, _SMALL), step_s=st.sampled_from([None, 1.0, 1e-3, 1e-9]))
def test_any_column_gives_finite_runs_or_an_error(stamps: NDArray[np.generic], step_s: float | None) -> None:
    try:
        runs, rate_hz, _ = runs_of(stamps, step_s)
    except MediaError:
        return
    assert 0.5 <= rate_hz <= 20_000
    assert all(np.isfinite(run.samples).all() and np.isfinite(run.start_s) for run in runs)
    assert sum(len(run.samples) for run in runs) >= 2
    assert all(a.start_s <= b.start_s for a, b in pairwise(runs))
