"""Sound as ImageBind's audio tower sees it."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torchaudio.compliance.kaldi import fbank

from bindsearch.encoders.imagebind.preprocessing import Preprocessing
from bindsearch.encoders.imagebind.preprocessing.audio import prepare_sound, preprocess_audio
from bindsearch.errors import MediaError

GOLDEN = Path(__file__).parents[3] / "golden" / "imagebind" / "audio_preprocess.npz"
PUBLISHED = Preprocessing()
Samples = NDArray[np.float32]


def noise(seconds: float, *, rate_hz: int = 16_000, seed: int = 0) -> Samples:
    return (np.random.default_rng(seed).normal(size=round(seconds * rate_hz)) * 0.1).astype(np.float32)


def chirps(golden: dict[str, np.ndarray]) -> tuple[NDArray[np.int16], int]:
    """Return the two synthetic channels of the goldens' README, int16 (2, n), and their rate."""
    rate_hz = int(golden["sample_rate"])
    t = np.arange(int(rate_hz * float(golden["duration"]))) / rate_hz
    left = 0.5 * np.sin(2 * np.pi * (200 * t + 300 * t**2))
    right = 0.3 * np.sin(2 * np.pi * (3000 * t - 150 * t**2))
    return np.round(np.stack([left, right]) * 32767).astype(np.int16), rate_hz


@pytest.mark.parametrize("as_tensor", [False, True])
def test_the_log_mel_is_the_published_codes(as_tensor: bool) -> None:
    golden = dict(np.load(GOLDEN))
    pcm, rate_hz = chirps(golden)
    assert [pcm.astype(np.int64).sum(), np.abs(pcm.astype(np.int64)).sum()] == golden["pcm_crc"].tolist()
    mono = (pcm[0] / 32768).astype(np.float32)
    mel = preprocess_audio(torch.from_numpy(mono) if as_tensor else mono, rate_hz)
    assert mel.shape == (1, 3, 1, 128, 204)
    assert mel.dtype == torch.float32
    expected = golden["mel"]
    errors, most = np.abs(mel.numpy() - expected), np.abs(expected).max()
    has_energy = expected > -1.0  # elsewhere it is the logarithm of rounding errors, which differ between processors
    assert 0.2 < has_energy.mean() < 1
    assert errors[has_energy].max() <= 2e-4 * most
    assert errors.max() <= 2e-3 * most


def test_channels_are_mixed_down() -> None:
    pcm, rate_hz = chirps(dict(np.load(GOLDEN)))
    stereo = (pcm / 32768).astype(np.float32)
    torch.testing.assert_close(preprocess_audio(stereo, rate_hz), preprocess_audio(stereo.mean(axis=0), rate_hz))


def test_for_parity_a_short_sound_is_padded_with_zeros_before_normalisation() -> None:
    mel = preprocess_audio(noise(0.5), 16_000)
    frames = 1 + (8_000 - 400) // 160
    torch.testing.assert_close(mel[..., frames:], torch.full_like(mel[..., frames:], 4.268 / 9.138))
    torch.testing.assert_close(mel[0, 0], mel[0, 2])
    with pytest.raises(MediaError, match=r"sound of 0\.01 s is shorter than one window of 0\.025 s"):
        preprocess_audio(noise(0.01), 16_000)


def plain_log_mel(view: Samples) -> Samples:
    """One view by itself, float32 (128, 204)."""
    sound = torch.from_numpy(view - view.mean())[None]
    mel = fbank(
        sound, htk_compat=True, sample_frequency=16_000, use_energy=False, window_type="hanning", num_mel_bins=128
    )
    padded = torch.nn.functional.pad(mel.T, (0, 204 - len(mel)))
    return ((padded + 4.268) / 9.138).numpy()


@pytest.mark.parametrize(
    ("seconds", "starts_s"), [(2.0, [0]), (3.0, [0, 1.0]), (5.0, [0, 1.5, 3.0]), (10.0, [0, 2, 4, 6, 8])]
)
def test_views_lie_evenly_from_start_to_end(seconds: float, starts_s: list[float]) -> None:
    sound = noise(seconds)
    prepared = prepare_sound(sound, 16_000, PUBLISHED)
    assert (prepared.shape, prepared.dtype) == ((len(starts_s), 1, 128, 204), np.float32)
    for view, start_s in zip(prepared, starts_s, strict=True):
        start = round(start_s * 16_000)
        np.testing.assert_allclose(view[0], plain_log_mel(sound[start : start + 32_000]), atol=2e-4)


def test_a_short_sound_is_repeated_to_the_length_of_a_view() -> None:
    short = noise(0.7)
    repeated = np.tile(short, 3)[:32_000]
    np.testing.assert_array_equal(prepare_sound(short, 16_000, PUBLISHED), prepare_sound(repeated, 16_000, PUBLISHED))
    assert prepare_sound(np.ones(1, np.float32), 48_000, PUBLISHED).shape == (1, 1, 128, 204)


@pytest.mark.parametrize("rate_hz", [8_000, 44_100, 44_101, 48_000, 192_000])
def test_the_rate_does_not_decide_the_number_of_views(rate_hz: int) -> None:
    assert len(prepare_sound(noise(10.0, rate_hz=rate_hz), rate_hz, PUBLISHED)) == 5


def test_the_level_counts_but_an_offset_does_not() -> None:
    sound = noise(2.0)
    quiet = prepare_sound(sound * np.float32(0.1), 16_000, PUBLISHED)
    moved = prepare_sound(sound + np.float32(0.5), 16_000, PUBLISHED)
    usual = prepare_sound(sound, 16_000, PUBLISHED)
    lower = (usual - quiet)[..., 20:, :198]  # some of the lowest filters are empty
    np.testing.assert_allclose(np.median(lower), 2 * np.log(10) / 9.138, atol=1e-3)
    assert np.abs(moved - usual)[..., 20:, :].max() < 0.02


def test_what_is_no_level_of_sound_gives_finite_values() -> None:
    for sound in (np.zeros(32_000, np.float32), noise(2.0) * np.float32(1e37), noise(2.0) * np.float32(1e-40)):
        assert np.isfinite(prepare_sound(sound, 16_000, PUBLISHED)).all()


def test_options_are_heeded() -> None:
    sound = noise(2.0)
    usual = prepare_sound(sound, 16_000, PUBLISHED)
    other = prepare_sound(sound, 16_000, Preprocessing(audio_mean=-6.0, audio_std=3.0))
    np.testing.assert_allclose(other * 3.0 - 6.0, usual * 9.138 - 4.268, atol=1e-4)
    halves = prepare_sound(sound, 16_000, Preprocessing(view_s=1.0))
    np.testing.assert_allclose(halves[1, 0, :, :98], plain_log_mel(sound[16_000:])[:, :98], atol=2e-4)


def test_threads_give_the_same_and_the_samples_stay_as_they_are() -> None:
    jobs = [(noise(1 + 0.4 * seed, seed=seed), rate) for seed in range(6) for rate in (16_000, 44_100)]
    before = [samples.copy() for samples, _ in jobs]
    for samples, _ in jobs:
        samples.flags.writeable = False
    with ThreadPoolExecutor(2) as threads:
        together = list(threads.map(lambda job: prepare_sound(job[0], job[1], PUBLISHED), jobs))
    for prepared, job, samples in zip(together, jobs, before, strict=True):
        np.testing.assert_array_equal(prepared, prepare_sound(job[0], job[1], PUBLISHED))
        np.testing.assert_array_equal(job[0], samples)


def test_what_cannot_be_heard_is_refused() -> None:
    with pytest.raises(MediaError, match="has no samples"):
        prepare_sound(np.zeros(0, np.float32), 16_000, PUBLISHED)
    with pytest.raises(MediaError, match="NaN or infinite"):
        prepare_sound(np.full(9, np.nan, np.float32), 16_000, PUBLISHED)
    with pytest.raises(MediaError, match="12 Hz is out of range; convert it to 16000 Hz"):
        prepare_sound(noise(1), 12, PUBLISHED)
    with pytest.raises(MediaError, match="is too long: split it into parts of 8000 s"):
        prepare_sound(np.zeros(9_000_000, np.float32), 1_000, PUBLISHED)
