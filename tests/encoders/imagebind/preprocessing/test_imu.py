"""Motion and video as ImageBind's towers see them."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from bindsearch.encoders.imagebind.preprocessing import Preprocessing
from bindsearch.encoders.imagebind.preprocessing.image import SIDE_PX, prepare_frames, to_frames
from bindsearch.encoders.imagebind.preprocessing.imu import prepare_motion
from bindsearch.encoders.preprocessing.crops import square_crops
from bindsearch.errors import MediaError

PUBLISHED = Preprocessing()


def motion(seconds: float, rate_hz: float, frequency_hz: float = 2.0) -> NDArray[np.float32]:
    """Six sines, each of its own phase, float32 (n, 6)."""
    times_s = np.arange(round(seconds * rate_hz)) / rate_hz
    return np.sin(2 * np.pi * frequency_hz * times_s[:, None] + np.arange(6)).astype(np.float32)


@pytest.mark.parametrize(
    ("seconds", "views"), [(0.02, 1), (4.0, 1), (5.0, 1), (5.02, 2), (10.0, 2), (12.0, 3), (60.0, 12)]
)
def test_views_of_5_s_cover_the_recording(seconds: float, views: int) -> None:
    prepared = prepare_motion(motion(seconds, 50.0), 50.0, PUBLISHED)
    assert (prepared.shape, prepared.dtype) == ((views, 6, 2_000), np.float32)


def test_at_the_models_rate_the_values_are_untouched() -> None:
    samples = motion(12.0, 400.0)
    prepared = prepare_motion(samples, 400.0, PUBLISHED)
    for view, start in zip(prepared, (0, 1_400, 2_800), strict=True):
        np.testing.assert_array_equal(view.T, samples[start : start + 2_000])


def test_a_short_recording_is_padded_with_its_last_sample() -> None:
    samples = motion(1.0, 400.0)
    (view,) = prepare_motion(samples, 400.0, PUBLISHED)
    np.testing.assert_array_equal(view[:, :400].T, samples)
    np.testing.assert_array_equal(view[:, 400:], np.repeat(samples[-1][:, None], 1_600, axis=1))


@pytest.mark.parametrize("rate_hz", [200.0, 416.0, 1_000.0])
def test_a_sine_of_50_hz_survives_resampling(rate_hz: float) -> None:
    (view,) = prepare_motion(motion(5.0, rate_hz, 50.0), rate_hz, PUBLISHED)
    expected = motion(5.0, 400.0, 50.0).T
    np.testing.assert_allclose(view[:, 100:-100], expected[:, 100:-100], atol=0.02)


def test_another_rate_gives_views_of_another_length() -> None:
    assert len(prepare_motion(motion(20.0, 100.0), 100.0, Preprocessing(imu_rate_hz=200.0))) == 2
    assert len(prepare_motion(motion(20.0, 100.0), 100.0, Preprocessing(imu_rate_hz=100.0))) == 1


def test_motion_in_threads_is_the_same() -> None:
    jobs = [(motion(3 + i, rate), rate) for i in range(4) for rate in (50.0, 99.7, 400.0)]
    with ThreadPoolExecutor(2) as threads:
        together = list(threads.map(lambda job: prepare_motion(job[0], job[1], PUBLISHED), jobs))
    for prepared, job in zip(together, jobs, strict=True):
        np.testing.assert_array_equal(prepared, prepare_motion(job[0], job[1], PUBLISHED))


def test_what_is_no_motion_is_refused() -> None:
    with pytest.raises(MediaError, match=r"motion of shape \(0, 6\) cannot be embedded"):
        prepare_motion(np.zeros((0, 6), np.float32), 50.0, PUBLISHED)
    with pytest.raises(MediaError, match="motion holds NaN"):
        prepare_motion(np.full((9, 6), np.nan, np.float32), 50.0, PUBLISHED)
    with pytest.raises(MediaError, match="motion at 0 Hz is out of range"):
        prepare_motion(np.zeros((9, 6), np.float32), 0, PUBLISHED)
    with pytest.raises(MediaError, match=r"a recording of 1e[+]06 s is too long: split it into parts of 20000 s"):
        prepare_motion(np.zeros((5_000_000, 6), np.float32), 5.0, PUBLISHED)


# --- video ---


def frames(times_s: list[float], size: tuple[int, int] = (30, 40)) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    """Grey frames, the i-th of brightness i."""
    rgb = np.broadcast_to(np.arange(len(times_s), dtype=np.uint8)[:, None, None, None], (len(times_s), *size, 3))
    return rgb, np.array(times_s)


def pairs_of(prepared: NDArray[np.uint8]) -> list[tuple[int, int]]:
    """Which frames each view shows."""
    return [(int(view[0, 0, 0, 0]), int(view[1, 0, 0, 0])) for view in prepared]


def seconds(n: int) -> list[float]:
    return [i + 0.5 for i in range(n)]


@pytest.mark.parametrize(
    ("times_s", "pairs"),
    [
        (seconds(1), [(0, 0)]),
        (seconds(2), [(0, 1)]),
        (seconds(4), [(0, 1), (2, 3)]),
        (seconds(10), [(0, 1), (2, 3), (4, 5), (6, 7), (8, 9)]),
        ([100.5, 101.5, 102.5], [(0, 1), (1, 2)]),
        ([0.0], [(0, 0)]),
        ([0.5, 8.5], [(0, 0), (0, 0), (0, 1), (1, 1), (1, 1)]),
    ],
)
def test_views_take_the_frames_nearest_to_their_quarters(times_s: list[float], pairs: list[tuple[int, int]]) -> None:
    prepared = prepare_frames(*frames(times_s), PUBLISHED)
    assert (prepared.shape, prepared.dtype) == ((len(pairs), 2, 224, 224, 3), np.uint8)
    assert pairs_of(prepared) == pairs


def test_nearest_frames_are_those_of_brute_force() -> None:
    rng = np.random.default_rng(10)
    times_s = np.sort(rng.uniform(0, 21, 60))
    options = Preprocessing(frames_per_s=4.0)
    pairs = pairs_of(prepare_frames(*frames(times_s.tolist()), options))
    begin, length = times_s[0] - 0.125, times_s[-1] - times_s[0] + 0.25
    starts = begin + np.linspace(0, length - 2, int(np.ceil(length / 2)))
    expected = [tuple(int(np.abs(times_s - start - at).argmin()) for at in (0.5, 1.5)) for start in starts]
    assert pairs == expected


def test_frames_are_prepared_as_pictures_and_crops_stay_together() -> None:
    rgb = np.random.default_rng(11).integers(0, 256, (4, 50, 80, 3), dtype=np.uint8)
    options = Preprocessing(spatial_crops=3)
    prepared = prepare_frames(rgb, np.array(seconds(4)), options)
    assert prepared.shape == (6, 2, 224, 224, 3)
    for view in range(2):
        for crop in range(3):
            for place in range(2):
                np.testing.assert_array_equal(
                    prepared[3 * view + crop, place],
                    square_crops(rgb[2 * view + place], SIDE_PX, crops=options.spatial_crops)[crop],
                )


def test_the_tower_takes_frames_as_time_in_the_third_place() -> None:
    rgb = np.random.default_rng(12).integers(0, 256, (2, 50, 80, 3), dtype=np.uint8)
    prepared = prepare_frames(rgb, np.array(seconds(2)), PUBLISHED)
    inputs = to_frames(torch.from_numpy(prepared))
    assert inputs.shape == (1, 3, 2, 224, 224)
    assert inputs.dtype == torch.float32
    red = (prepared[0, 1, 7, 9, 0] / 255 - 0.48145466) / 0.26862954
    assert inputs[0, 0, 1, 7, 9].item() == pytest.approx(red, abs=1e-5)


def test_frames_without_times_or_of_a_broken_clock_are_refused() -> None:
    with pytest.raises(MediaError, match=r"video of shape \(0, 5, 5, 3\) with times of shape \(0,\): give frames"):
        prepare_frames(np.zeros((0, 5, 5, 3), np.uint8), np.zeros(0), PUBLISHED)
    rgb, _ = frames([0.0, 1.0])
    with pytest.raises(MediaError, match=r"times of shape \(3,\)"):
        prepare_frames(rgb, np.arange(3.0), PUBLISHED)
    for times_s in ([1.0, 0.0], [0.0, np.nan]):
        with pytest.raises(MediaError, match="are not ascending numbers"):
            prepare_frames(rgb, np.array(times_s), PUBLISHED)
    with pytest.raises(MediaError, match="is too long: split it into parts"):
        prepare_frames(rgb, np.array([0.0, 1e9]), PUBLISHED)
    with pytest.raises(MediaError, match="no pixels"):
        prepare_frames(np.zeros((1, 0, 5, 3), np.uint8), np.zeros(1), PUBLISHED)


def test_video_in_threads_is_the_same() -> None:
    clips = [frames(seconds(n), size=(33, 44 + n)) for n in range(1, 9)]
    with ThreadPoolExecutor(2) as threads:
        together = list(threads.map(lambda clip: prepare_frames(clip[0], clip[1], PUBLISHED), clips))
    for prepared, clip in zip(together, clips, strict=True):
        np.testing.assert_array_equal(prepared, prepare_frames(clip[0], clip[1], PUBLISHED))
