"""The audio tower of `mini`: preparing sounds and embedding them."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file

from bindsearch.encoders.mini import MiniEncoder
from bindsearch.encoders.mini.audio import (
    DIM,
    LOUDEST,
    MAP_WEIGHTS,
    MEL_BINS,
    MIN_FRAMES,
    NETWORK_WEIGHTS,
    PIECE_FRAMES,
    AudioTower,
    band_limit,
    prepare_sound,
    read_packed,
)
from bindsearch.encoders.mini.audio_network import WINDOW_COLUMNS, map_from_state, pack_int8, similarity, unpack_int8
from bindsearch.encoders.mini.text import TextTower
from bindsearch.errors import EncoderError, MediaError
from bindsearch.media import Sound as SoundMedia
from bindsearch.types import Modality

Sound = NDArray[np.float32]
TEN = ("dog", "rain", "sea waves", "a crying baby", "a clock ticking", "sneezing", "a helicopter", "a chainsaw")


@pytest.fixture(scope="module")
def tower() -> AudioTower:
    return AudioTower()


@pytest.fixture(scope="module")
def encoder() -> MiniEncoder:
    return MiniEncoder()


def noise(seconds: float, *, rate_hz: int = 44_100, seed: int = 0) -> Sound:
    return (np.random.default_rng(seed).normal(size=round(seconds * rate_hz)) * 0.1).astype(np.float32)


def tone(seconds: float, *, rate_hz: int, frequency_hz: float = 440.0) -> Sound:
    return np.sin(2 * np.pi * frequency_hz * np.arange(round(seconds * rate_hz)) / rate_hz).astype(np.float32)


def ticking(seconds: float = 5.0, *, rate_hz: int = 44_100) -> Sound:
    """Return a clock: two clicks a second, each a damped oscillation of 2 and 3 kHz, over faint noise."""
    sound = noise(seconds, rate_hz=rate_hz) * np.float32(0.002)
    times = np.arange(round(0.03 * rate_hz)) / rate_hz
    click = np.exp(-times * 250) * (np.sin(2 * np.pi * 2_000 * times) + np.sin(2 * np.pi * 3_000 * times))
    for start in range(0, len(sound) - len(click), rate_hz // 2):
        sound[start : start + len(click)] += click.astype(np.float32) * 0.3
    return sound


def embed(encoder: MiniEncoder, sound: Sound, rate_hz: int) -> NDArray[np.float32]:
    vector: NDArray[np.float32] = encoder.encode(Modality.AUDIO, [encoder.prepare(SoundMedia(sound, rate_hz))])[0]
    return vector


@pytest.mark.parametrize(
    ("seconds", "pieces", "frames"),
    [
        *((0.0001, 1, MIN_FRAMES), (2.0, 1, MIN_FRAMES), (5.0, 1, 216), (10.0, 1, 431), (23.7, 1, 1_021)),
        *((24.0, 2, PIECE_FRAMES), (60.0, 3, PIECE_FRAMES)),
    ],
)
def test_levels_cover_the_sound(seconds: float, pieces: int, frames: int) -> None:
    prepared = prepare_sound(noise(seconds), 44_100)
    assert prepared.shape == (pieces, frames, MEL_BINS)
    assert prepared.dtype == np.float32


def test_the_last_piece_of_a_long_sound_is_its_end() -> None:
    sound = noise(50)
    prepared, end = prepare_sound(sound, 44_100), prepare_sound(sound[-23 * 44_100 :], 44_100)
    np.testing.assert_allclose(prepared[-1, -5:], end[0, -5:], atol=0.2)
    assert not np.allclose(prepared[-1, -5:], prepared[0, -5:], atol=0.05)


def test_levels_are_those_of_the_published_scale() -> None:
    """A sine of full scale is about 1, silence is 0: the spectrogram is divided by that of the loudest sound."""
    sine = prepare_sound(tone(3, rate_hz=44_100, frequency_hz=1_000.0), 44_100).max()
    assert sine == pytest.approx(0.96, abs=0.02)
    assert prepare_sound(np.zeros(100_000, np.float32), 44_100).max() == 0.0
    tenth = prepare_sound(tone(3, rate_hz=44_100, frequency_hz=1_000.0) * np.float32(0.1), 44_100).max()
    assert tenth == pytest.approx(sine - 2 / LOUDEST, abs=0.001)  # 20 dB


@pytest.mark.parametrize(("gain", "same_as"), [(1e30, 10.0), (1e-6, 0.3)])
def test_sounds_of_extreme_level_are_scaled(gain: float, same_as: float) -> None:
    """The peak of `noise` is 0.45: above 1 and below -30 dB (0.03) it is set to these."""
    sound = noise(3)
    loud = prepare_sound(sound * np.float32(gain), 44_100)
    limit = np.float32({10.0: 1.0, 0.3: 10**-1.5}[same_as] / np.abs(sound).max())
    np.testing.assert_allclose(loud, prepare_sound(sound * limit, 44_100), atol=1e-3)


def test_silence_gives_a_finite_unit_vector(encoder: MiniEncoder) -> None:
    vector = embed(encoder, np.zeros(80_000, np.float32), 16_000)
    assert np.isfinite(vector).all()
    assert np.linalg.norm(vector) == pytest.approx(1.0, abs=1e-5)


@pytest.mark.parametrize(("rate_hz", "limit"), [(8_000, 51), (16_000, 68), (22_050, 77), (44_100, 96), (48_000, 96)])
def test_the_spectrum_of_a_low_rate_is_continued(rate_hz: int, limit: int) -> None:
    """Noise at a low rate has nothing above half of it; the levels go on where they end, falling slowly."""
    levels = prepare_sound(noise(5, rate_hz=rate_hz), rate_hz)[0].mean(axis=0)
    assert abs(band_limit(prepare_sound(noise(5), 44_100), rate_hz) - limit) <= 1
    assert levels[80:].min() > 0.5 * levels[30:40].mean()
    assert levels[-1] <= levels[limit - 3] + 0.01


def test_a_low_sound_at_full_rate_is_continued_from_what_it_carries() -> None:
    """A recording of a telephone that was saved at 44.1 kHz carries as little as at 8 kHz."""
    spectrum = np.fft.rfft(noise(5))
    spectrum[(3_400 * 5) :] = 0
    levels = prepare_sound(np.fft.irfft(spectrum).astype(np.float32), 44_100)
    assert levels[0, :, 60:].mean() > 0.5 * levels[0, :, 20:30].mean()


@pytest.mark.parametrize("rate_hz", [8_000, 11_025, 22_050, 44_100, 44_101, 48_000, 96_000, 192_000])
def test_the_rate_hardly_matters(rate_hz: int) -> None:
    at_model_rate = prepare_sound(tone(3, rate_hz=44_100), 44_100)[0]
    prepared = prepare_sound(tone(3, rate_hz=rate_hz), rate_hz)[0]
    assert prepared.mean(axis=0).argmax() == at_model_rate.mean(axis=0).argmax()


@pytest.mark.parametrize("rate_hz", [8_000, 16_000, 44_100, 48_000])
def test_a_ticking_clock_is_nearest_to_its_text_at_any_rate(encoder: MiniEncoder, rate_hz: int) -> None:
    vector = embed(encoder, ticking(rate_hz=rate_hz), rate_hz)
    assert TEN[int((TextTower().encode_texts(TEN) @ vector).argmax())] == "a clock ticking"


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_nan_is_refused(bad: float) -> None:
    sound = noise(1)
    sound[100] = bad
    with pytest.raises(MediaError, match="NaN or infinite"):
        prepare_sound(sound, 16_000)


@pytest.mark.parametrize("shape", [(0,), (100, 2)])
def test_an_empty_sound_and_one_of_several_channels_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(MediaError, match="has no samples; give a mono sound"):
        prepare_sound(np.zeros(shape, np.float32), 16_000)


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


def test_vectors_are_the_same_alone_and_in_a_batch(encoder: MiniEncoder) -> None:
    sounds = [(noise(0.4), 44_100), (ticking(7.0), 44_100), (noise(30), 44_100), (tone(3, rate_hz=8_000), 8_000)]
    together = encoder.encode(Modality.AUDIO, [encoder.prepare(SoundMedia(*sound)) for sound in sounds])
    assert together.shape == (len(sounds), DIM)
    assert together.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1.0, atol=1e-5)
    for vector, sound in zip(together, sounds, strict=True):
        np.testing.assert_allclose(embed(encoder, *sound), vector, atol=1e-6)
    np.testing.assert_array_equal(embed(MiniEncoder(), *sounds[1]), embed(encoder, *sounds[1]))


def test_windows_that_are_silent_beside_the_rest_are_left_out(tower: AudioTower) -> None:
    silence = np.zeros(8 * 44_100, np.float32)
    alone = tower.features(prepare_sound(noise(2.3), 44_100)[0])
    padded = tower.features(prepare_sound(np.concatenate([noise(2.3), silence]), 44_100)[0])
    of_noise = tower.features(prepare_sound(noise(10.4), 44_100)[0])
    assert len(alone) == 1
    assert 1 <= len(padded) < len(of_noise) == 1 + -(-2 * (448 // 8 - WINDOW_COLUMNS) // WINDOW_COLUMNS)


def test_detail_leaves_the_ranking_by_texts_and_tells_sounds_apart(tower: AudioTower) -> None:
    """The directions of the detail are orthonormal, and texts hardly reach into them."""
    detail = map_from_state({**read_packed(NETWORK_WEIGHTS), **read_packed(MAP_WEIGHTS)}).detail_texts
    np.testing.assert_allclose((detail @ detail.T).numpy(), np.eye(len(detail)), atol=2e-3)
    texts = ["a dog barking", "music", "someone talks about the weather", "a red car", "sea waves at night", "siren"]
    queries = TextTower().encode_texts(texts)
    inside = (queries @ detail.numpy().T) ** 2
    assert inside.sum(axis=1).max() < 0.08  # a quarter of the dimensions
    sounds = [noise(3), noise(3, seed=1), tone(3, rate_hz=44_100), ticking(3.0)]
    vectors = np.stack([tower.encode(prepare_sound(sound, 44_100)[0]) for sound in sounds])
    meaning = vectors - vectors @ detail.numpy().T @ detail.numpy()
    whole, of_meaning = queries @ vectors.T, queries @ meaning.T
    assert np.abs(whole - of_meaning).max() < 0.15
    own = vectors @ detail.numpy().T
    assert np.linalg.norm(own, axis=1) ** 2 == pytest.approx(0.4, abs=0.01)
    assert own[0] @ own[1] > max(own[0] @ own[2], own[0] @ own[3])  # noise is like noise


def test_the_gate_opens_for_the_kinds_that_were_trained_on_and_closes_for_others(tower: AudioTower) -> None:
    """What is far from all windows of the ten kinds is described by categories of sound effects."""
    state = {**read_packed(NETWORK_WEIGHTS), **read_packed(MAP_WEIGHTS)}
    by = map_from_state(state)
    known = by.neighbours[::50] * 10
    assert float(similarity(known, by.neighbours).min()) > by.gate
    strange = torch.from_numpy(tower.features(prepare_sound(tone(3, rate_hz=44_100), 44_100)[0]))
    assert float(similarity((strange - by.mean) / by.scale, by.neighbours).max()) < by.gate
    vector = tower.encode(prepare_sound(tone(3, rate_hz=44_100), 44_100)[0])
    names = [*TEN, "a beep", "an electronic tone"]
    assert names[int((TextTower().encode_texts(names) @ vector).argmax())] in ("a beep", "an electronic tone")


def test_packing_keeps_weights_within_a_step_of_each_row() -> None:
    weights = {"layer.weight": torch.randn(5, 7, 3, 3), "layer.bias": torch.randn(5)}
    unpacked = unpack_int8(pack_int8(weights))
    steps = weights["layer.weight"].flatten(1).abs().amax(dim=1) / 127
    assert ((unpacked["layer.weight"] - weights["layer.weight"]).flatten(1).abs().amax(dim=1) <= 0.51 * steps).all()
    torch.testing.assert_close(unpacked["layer.bias"], weights["layer.bias"], atol=2e-3, rtol=1e-3)


def test_missing_weights_are_named(tmp_path: Path) -> None:
    with pytest.raises(EncoderError, match=r"gone\.safetensors"):
        AudioTower(tmp_path / "gone.safetensors")
    with pytest.raises(EncoderError, match=r"gone\.safetensors"):
        AudioTower(feature_map=tmp_path / "gone.safetensors")


def test_damaged_weights_are_named(tmp_path: Path) -> None:
    damaged = tmp_path / "damaged.safetensors"
    damaged.write_bytes(b"not safetensors")
    with pytest.raises(EncoderError, match=r"damaged\.safetensors"):
        AudioTower(damaged)
    tensors = load_file(NETWORK_WEIGHTS)
    del tensors["body.0.weight.scale"]
    save_file(tensors, damaged)
    with pytest.raises(EncoderError, match=r"damaged\.safetensors: .*body\.0\.weight\.scale.*reinstall bindsearch"):
        AudioTower(damaged)
    tensors = load_file(MAP_WEIGHTS)
    del tensors["kind_texts"]
    save_file(tensors, damaged)
    with pytest.raises(EncoderError, match=r"damaged\.safetensors: .*kind_texts.*reinstall bindsearch"):
        AudioTower(feature_map=damaged)
