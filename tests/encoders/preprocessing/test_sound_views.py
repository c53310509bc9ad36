"""Log-mel views of a sound, which networks that distinguish labels of sound take."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from numpy.typing import NDArray

from bindsearch.encoders.preprocessing.sound_views import MEL_BINS, VIEW_FRAMES, VIEW_SAMPLES, prepare_sound
from bindsearch.errors import MediaError

Sound = NDArray[np.float32]


def noise(seconds: float, *, rate_hz: int = 16_000, seed: int = 0) -> Sound:
    return (np.random.default_rng(seed).normal(size=round(seconds * rate_hz)) * 0.1).astype(np.float32)


def tone(seconds: float, *, rate_hz: int, frequency_hz: float = 440.0) -> Sound:
    return np.sin(2 * np.pi * frequency_hz * np.arange(round(seconds * rate_hz)) / rate_hz).astype(np.float32)


@pytest.mark.parametrize(("seconds", "views"), [(0.01, 1), (2.5, 1), (2.6, 2), (3.75, 2), (5.0, 3), (10.0, 7)])
def test_views_cover_the_sound_with_half_overlap(seconds: float, views: int) -> None:
    prepared = prepare_sound(noise(seconds), 16_000)
    assert prepared.shape == (views, MEL_BINS, VIEW_FRAMES)
    assert prepared.dtype == np.float32


def test_the_first_view_is_the_start_and_the_last_the_end() -> None:
    sound = noise(6.1)
    prepared = prepare_sound(sound, 16_000)
    np.testing.assert_array_equal(prepared[0], prepare_sound(sound[:VIEW_SAMPLES], 16_000)[0])
    np.testing.assert_array_equal(prepared[-1], prepare_sound(sound[-VIEW_SAMPLES:], 16_000)[0])


def test_a_short_sound_is_repeated_to_length() -> None:
    short = noise(0.7)
    repeated = np.tile(short, 4)[:VIEW_SAMPLES]
    np.testing.assert_array_equal(prepare_sound(short, 16_000), prepare_sound(repeated, 16_000))


def test_views_that_are_silent_beside_the_rest_are_left_out() -> None:
    silence = np.zeros(5 * 16_000, np.float32)
    assert len(prepare_sound(np.concatenate([noise(2.5), silence]), 16_000)) < 5
    assert np.abs(prepare_sound(np.concatenate([noise(2.5), silence]), 16_000) + 2.5).max(axis=(1, 2)).min() > 1


def test_loudness_does_not_matter() -> None:
    sound = noise(3)
    np.testing.assert_allclose(prepare_sound(sound * 0.25, 16_000), prepare_sound(sound, 16_000), atol=1e-3)
    np.testing.assert_allclose(prepare_sound(sound * 1e30, 16_000), prepare_sound(sound, 16_000), atol=0.2)


@pytest.mark.parametrize("rate_hz", [8_000, 11_025, 22_050, 44_100, 44_101, 48_000, 96_000, 192_000])
def test_the_rate_does_not_matter(rate_hz: int) -> None:
    at_model_rate = prepare_sound(tone(2.5, rate_hz=16_000), 16_000)[0]
    prepared = prepare_sound(tone(2.5, rate_hz=rate_hz), rate_hz)
    assert prepared[0].mean(axis=1).argmax() == at_model_rate.mean(axis=1).argmax()
    assert prepared.shape[1:] == (MEL_BINS, VIEW_FRAMES)


def test_what_lies_above_the_model_rate_does_not_fold_back() -> None:
    """A tone of 15 kHz at 48 kHz would be heard at 1 kHz without the anti-aliasing filter."""
    both = 0.1 * tone(2.5, rate_hz=48_000, frequency_hz=3_000.0) + 0.9 * tone(
        2.5, rate_hz=48_000, frequency_hz=15_000.0
    )
    levels = prepare_sound(both.astype(np.float32), 48_000)[0].mean(axis=1)
    around_1_khz, around_3_khz = levels[18:26], levels[38:46]
    assert around_3_khz.max() == levels.max()
    assert around_1_khz.max() < levels.max() - 2.5  # 50 dB


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_nan_is_refused(bad: float) -> None:
    sound = noise(1)
    sound[100] = bad
    with pytest.raises(MediaError, match="NaN or infinite"):
        prepare_sound(sound, 16_000)


def test_an_empty_sound_is_refused() -> None:
    with pytest.raises(MediaError, match="has no samples"):
        prepare_sound(np.zeros(0, np.float32), 16_000)


@pytest.mark.parametrize("rate_hz", [0, -1, 999, 10**9])
def test_a_rate_out_of_range_is_refused(rate_hz: int) -> None:
    with pytest.raises(MediaError, match=re.escape(f"{rate_hz} Hz is out of range")):
        prepare_sound(noise(1), rate_hz)


def test_preparing_in_threads_gives_the_same() -> None:
    jobs = [(noise(1 + 0.3 * seed, seed=seed), rate) for seed in range(8) for rate in (16_000, 44_100)]
    with ThreadPoolExecutor(4) as threads:
        together = list(threads.map(lambda job: prepare_sound(*job), jobs))
    for prepared, job in zip(together, jobs, strict=True):
        np.testing.assert_array_equal(prepared, prepare_sound(*job))


def test_the_given_samples_are_left_as_they_are() -> None:
    sound = noise(1) * 30
    before = sound.copy()
    prepare_sound(sound, 16_000)
    np.testing.assert_array_equal(sound, before)
