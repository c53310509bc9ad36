"""The IMU tower of `mini`: preparing motion and embedding it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from bindsearch.encoders.mini.imu import DIM, VIEW_SAMPLES, ImuTower, prepare_motion
from bindsearch.encoders.mini.text import TextTower
from bindsearch.errors import EncoderError, MediaError

Motion = NDArray[np.float32]
GRAVITY = 9.80665


@pytest.fixture(scope="module")
def tower() -> ImuTower:
    return ImuTower()


def at_rest(seconds: float, up: tuple[float, float, float], *, rate_hz: float = 50.0) -> Motion:
    samples = np.random.default_rng(0).normal(0, 0.01, (round(seconds * rate_hz), 6))
    samples[:, :3] += GRAVITY * np.array(up)
    return samples.astype(np.float32)


def swinging(seconds: float, *, rate_hz: float, frequency_hz: float = 2.0) -> Motion:
    times = np.arange(round(seconds * rate_hz)) / rate_hz
    swing = np.sin(2 * np.pi * frequency_hz * times)
    still = np.zeros_like(times)
    return np.stack([GRAVITY + 3 * swing, swing, still, 0.5 * swing, still, still], axis=1).astype(np.float32)


@pytest.mark.parametrize(("samples", "views"), [(1, 1), (128, 1), (129, 2), (192, 2), (256, 3), (500, 7)])
def test_views_cover_the_recording_with_half_overlap(samples: int, views: int) -> None:
    prepared = prepare_motion(at_rest(samples / 50, (1, 0, 0)), 50.0)
    assert prepared.shape == (views, 6, VIEW_SAMPLES)
    assert prepared.dtype == np.float32


def test_at_the_model_rate_the_values_are_untouched() -> None:
    motion = swinging(5.12, rate_hz=50)
    prepared = prepare_motion(motion, 50.0)
    np.testing.assert_array_equal(prepared[0].T, motion[:VIEW_SAMPLES])
    np.testing.assert_array_equal(prepared[-1].T, motion[-VIEW_SAMPLES:])


def test_a_short_recording_goes_forth_and_back() -> None:
    motion = swinging(1.0, rate_hz=50)
    view = prepare_motion(motion, 50.0)[0].T
    np.testing.assert_array_equal(view[:50], motion)
    np.testing.assert_array_equal(view[50:100], motion[::-1])


@pytest.mark.parametrize("rate_hz", [20.0, 31.25, 99.7, 100.0, 200.0, 416.0, 1_000.0, 6_664.0])
def test_another_rate_gives_the_same_signal(rate_hz: float) -> None:
    expected = prepare_motion(swinging(5.12, rate_hz=50), 50.0)[0]
    prepared = prepare_motion(swinging(5.12, rate_hz=rate_hz), rate_hz)
    np.testing.assert_allclose(prepared[0], expected, atol=0.35)  # of a swing of 3 m/s^2


def test_gravity_is_kept_at_the_ends_when_resampling() -> None:
    prepared = prepare_motion(at_rest(5, (1, 0, 0), rate_hz=200.0), 200.0)
    np.testing.assert_allclose(prepared[:, 0], GRAVITY, atol=0.05)


def test_vibration_above_the_model_rate_does_not_fold_back() -> None:
    """A vibration of 90 Hz at 200 Hz would appear at 10 Hz without the anti-aliasing filter."""
    motion = swinging(5.12, rate_hz=200, frequency_hz=90.0)
    assert np.abs(prepare_motion(motion, 200.0)[0, 0, 10:-10] - GRAVITY).max() < 0.1


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_nan_is_refused(bad: float) -> None:
    motion = at_rest(3, (1, 0, 0))
    motion[7, 2] = bad
    with pytest.raises(MediaError, match="NaN or infinite"):
        prepare_motion(motion, 50.0)


@pytest.mark.parametrize("shape", [(0, 6), (100, 3), (600,)])
def test_a_wrong_shape_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(MediaError, match="shape"):
        prepare_motion(np.zeros(shape, np.float32), 50.0)


@pytest.mark.parametrize("rate_hz", [0.0, -50.0, 1e9, float("nan")])
def test_a_rate_out_of_range_is_refused(rate_hz: float) -> None:
    with pytest.raises(MediaError, match="out of range"):
        prepare_motion(at_rest(3, (1, 0, 0)), rate_hz)


def test_vectors_have_unit_length_and_do_not_depend_on_the_batch(tower: ImuTower) -> None:
    views = prepare_motion(swinging(20, rate_hz=50), 50.0)
    vectors = tower.encode(views)
    assert vectors.shape == (len(views), DIM)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1.0, atol=1e-5)
    np.testing.assert_allclose(tower.encode(views[3:4])[0], vectors[3], atol=1e-4)


def test_a_phone_at_rest_on_its_back_is_a_person_lying(tower: ImuTower) -> None:
    """In UCI HAR the phone is worn upright at the waist: lying down turns gravity from x to y and z."""
    texts = ["a person lying down", "a person walking", "a person walking upstairs"]
    vector = tower.encode(prepare_motion(at_rest(5.12, (0.1, 0.75, 0.65)), 50.0)).mean(axis=0)
    assert texts[int((TextTower().encode_texts(texts) @ vector).argmax())] == "a person lying down"


def test_missing_weights_are_named(tmp_path: Path) -> None:
    with pytest.raises(EncoderError, match=r"gone\.safetensors"):
        ImuTower(tmp_path / "gone.safetensors")
