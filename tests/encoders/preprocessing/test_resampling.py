"""Sound and motion brought to a model's rate."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torchaudio
from numpy.typing import NDArray

from bindsearch.encoders.preprocessing import resampling
from bindsearch.encoders.preprocessing.resampling import check_motion, check_sound, resample_motion, resample_sound
from bindsearch.errors import MediaError


def sine(frequency_hz: float, rate_hz: float, seconds: float) -> NDArray[np.float32]:
    return np.sin(2 * np.pi * frequency_hz * np.arange(round(seconds * rate_hz)) / rate_hz).astype(np.float32)


@pytest.mark.parametrize(("from_hz", "to_hz"), [(44_100, 16_000), (48_000, 16_000), (8_000, 16_000), (22_050, 32_000)])
def test_sound_is_resampled_as_torchaudio_does(from_hz: int, to_hz: int) -> None:
    sound = torch.from_numpy(np.random.default_rng(0).normal(size=from_hz).astype(np.float32))
    expected = torchaudio.functional.resample(sound, from_hz, to_hz)
    torch.testing.assert_close(resample_sound(sound, from_hz, to_hz, float32_filter=True), expected, rtol=0, atol=0)
    torch.testing.assert_close(resample_sound(sound, from_hz, to_hz), expected, rtol=0, atol=1e-4)


def test_sound_at_the_models_rate_is_left_alone() -> None:
    sound = torch.ones(100)
    assert resample_sound(sound, 16_000, 16_000) is sound


def test_a_single_sample_stays_one() -> None:
    assert resample_sound(torch.ones(1), 999_983, 16_000).shape == (1,)


@pytest.mark.parametrize(("from_hz", "to_hz"), [(44_100, 16_000), (44_101, 16_000), (8_000, 16_000), (192_000, 16_000)])
@pytest.mark.parametrize("block", [50, 1_000, 7_777])
def test_blocks_give_what_one_piece_gives(
    monkeypatch: pytest.MonkeyPatch, from_hz: int, to_hz: int, block: int
) -> None:
    sound = torch.from_numpy(np.random.default_rng(1).normal(size=20_011).astype(np.float32))
    whole = resample_sound(sound, from_hz, to_hz)
    monkeypatch.setattr(resampling, "BLOCK_SAMPLES", block)
    torch.testing.assert_close(resample_sound(sound, from_hz, to_hz), whole, rtol=0, atol=2e-6)


@pytest.mark.parametrize("from_hz", [20.0, 50.0, 99.7, 100.0, 200.0, 416.0, 1_000.0, 6_664.0])
def test_a_slow_motion_is_the_same_at_another_rate(from_hz: float) -> None:
    motion = np.tile(5 * sine(2.0, from_hz, 5.0) + 9.8, (6, 1)).astype(np.float32)
    resampled = resample_motion(motion, from_hz, 400.0)
    assert abs(resampled.shape[1] - 2_000) <= 10
    expected = 5 * np.sin(2 * np.pi * 2.0 * np.arange(resampled.shape[1]) / 400) + 9.8
    inner = slice(100, -100)  # at its ends the signal is reflected, which a sine is not
    np.testing.assert_allclose(resampled[0, inner], expected[inner], atol=0.15)


@pytest.mark.parametrize("from_hz", [5.0, 10.0, 50.0, 100.0, 1_000.0])
def test_gravity_stays_to_the_very_ends(from_hz: float) -> None:
    """Without reflection as far as the filter reaches, it would fall to half at the ends."""
    still = np.full((6, round(10 * from_hz)), 9.81, np.float32)
    resampled = resample_motion(still, from_hz, 400.0)
    np.testing.assert_allclose(resampled, 9.81, rtol=5e-3)


@pytest.mark.parametrize("margin_samples", [1_000, 4_000])
def test_a_wider_margin_changes_nothing(margin_samples: int) -> None:
    motion = np.random.default_rng(2).normal(size=(6, 77)).astype(np.float32)
    for from_hz in (10.0, 99.7, 1_000.0):
        np.testing.assert_allclose(
            resample_motion(motion, from_hz, 400.0),
            resample_motion(motion, from_hz, 400.0, margin_samples=margin_samples),
            atol=1e-5,
        )


def test_vibration_above_the_models_rate_does_not_fold_back() -> None:
    fast = np.tile(sine(300.0, 1_000.0, 5.0), (6, 1))  # would be 100 Hz at 400 Hz
    assert np.abs(resample_motion(fast, 1_000.0, 400.0)[:, 20:-20]).max() < 0.02


@pytest.mark.parametrize("rate_hz", [5.01, 44.44, 99_999.9])
def test_odd_rates_need_no_huge_filter(rate_hz: float) -> None:
    assert resample_motion(np.ones((6, 50), np.float32), rate_hz, 400.0).shape[1] == pytest.approx(
        max(1, 50 * 400 / rate_hz), abs=3
    )


def test_what_is_no_sound_or_motion_is_refused() -> None:
    with pytest.raises(MediaError, match=r"sound of shape \(0,\) has no samples"):
        check_sound(np.zeros(0, np.float32), 16_000, 16_000)
    with pytest.raises(MediaError, match="sound at 999 Hz is out of range; convert it to 32000 Hz"):
        check_sound(np.zeros(5, np.float32), 999, 32_000)
    with pytest.raises(MediaError, match="sound holds NaN"):
        check_sound(np.array([0, np.nan], np.float32), 16_000, 16_000)
    with pytest.raises(MediaError, match=r"motion of shape \(5, 3\) cannot be embedded"):
        check_motion(np.zeros((5, 3), np.float32), 50.0)
    with pytest.raises(MediaError, match=r"motion at nan Hz is out of range; expected 5 to 100000 Hz"):
        check_motion(np.zeros((5, 6), np.float32), float("nan"))
    with pytest.raises(MediaError, match="motion holds NaN"):
        check_motion(np.full((5, 6), np.inf, np.float32), 50.0)
