"""Audio tower: log-mel spectrogram of a sound, a network trained on sound effects, and a map of its features to texts.

The network is aiSFX (Ma & Lerch, "Representation Learning for the Automatic Indexing of Sound Effects Libraries", ISMIR
2022, arXiv 2208.09096; weights CC BY 4.0, see NOTICE); the spectrogram is that which it was trained with, written anew
from its published parameters. TRAINING.md describes what was trained by this project.
"""

from __future__ import annotations

import math
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bindsearch.encoders.mini.weights import reading_weights
from bindsearch.encoders.preprocessing.resampling import check_sound, even_parts, resample_sound

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray

NETWORK_WEIGHTS = Path(__file__).with_name("sound_effects.safetensors")
MAP_WEIGHTS = Path(__file__).with_name("audio.safetensors")
DIM = 384
SAMPLE_RATE_HZ = 44_100
MEL_BINS = 96
WINDOW, HOP = 2_048, 1_024  # 46 ms, 23 ms
POWER_SCALE = 1e4
LOUDEST = 9.457798957824707  # by which the published spectrograms are divided: a sine of full scale gives 0.98
MIN_PEAK, MAX_PEAK = 10 ** (-30 / 20), 1.0
"""Sounds are scaled to a peak in this range, -30 to 0 dB. Within it, the level tells near from far sounds."""

MIN_FRAMES = 100  # 2.3 s, the length that the network was trained with
PIECE_FRAMES = 1_024  # 23.8 s; longer sounds are embedded in pieces, which bounds memory
FULL_BAND_RATE_HZ = 44_000
CARRIED_ABOVE = 0.1
"""Level that a mel bin must reach in 5% of the frames, or else the sound is taken not to carry its frequencies."""

CONTINUED_FROM = 6
"""Mel bins below the band limit whose mean the continued spectrum starts from."""

CONTINUED_SLOPE = 0.004
"""Fall of the continued spectrum a mel bin (0.4 dB), chosen on the open part of the evaluation data."""

CONTINUED_DEVIATION = 0.02
"""Standard deviation of the noise on it (2 dB), likewise: spectrograms of sounds are never smooth."""

LEAST_BINS, LEAST_GAP = 12, 4
"""A band limit below so many bins is that of a low sound; if fewer bins than the gap are missing, none is continued."""


def prepare_sound(samples: NDArray[np.float32], sample_rate_hz: int) -> NDArray[np.float32]:
    """Compute the log-mel spectrogram of a sound; thread-safe, loads no tower.

    Args:
        samples: Mono sound, float32 (n,), nominally in -1..1.
        sample_rate_hz: Sampling rate of the sound.

    Returns:
        Levels, float32 (pieces, frames, 96), 0 for silence, about 1 at full scale: one piece, of a sound of more than
        23.8 s pieces of that length, evenly placed, the first at the start and the last at the end. Sounds shorter than
        2.3 s are repeated. The spectrum is continued above the frequencies that the sound can carry or does carry: the
        network was trained on studio recordings, and takes a recording at 16 kHz for something else.

    Raises:
        MediaError: the sound is empty, holds NaN or infinity, or its rate is out of range.
    """
    import torch

    with torch.inference_mode():
        samples = check_sound(samples, sample_rate_hz, SAMPLE_RATE_HZ)
        peak = float(np.abs(samples).max())
        gain = min(max(peak, MIN_PEAK), MAX_PEAK) / peak if peak > 0 else 1.0
        sound = resample_sound(torch.from_numpy(samples * np.float32(gain)), sample_rate_hz, SAMPLE_RATE_HZ)
        levels = torch.stack([_log_mel(piece) for piece in _pieces(sound)]).numpy()
    return continue_spectrum(levels, sample_rate_hz)


def _pieces(sound: torch.Tensor) -> list[torch.Tensor]:
    """Return evenly placed pieces of a sound (n,), all of the same length."""
    length = (PIECE_FRAMES - 1) * HOP
    if len(sound) <= length:
        shortest = (MIN_FRAMES - 1) * HOP
        return [sound.repeat(math.ceil(shortest / len(sound)))[:shortest] if len(sound) < shortest else sound]
    return even_parts(sound, length, math.ceil((len(sound) - length) / length) + 1)


def _log_mel(sound: torch.Tensor) -> torch.Tensor:
    """Return levels, float32 (frames, mel), of a sound (n,); frame i is centred on i * HOP."""
    import torch

    filters, window = _mel_filters()
    spectrum = torch.stft(sound, WINDOW, HOP, WINDOW, window, center=True, pad_mode="constant", return_complex=True)
    power = spectrum.abs().square()
    return (filters @ power).mul_(POWER_SCALE).add_(1.0).log10_().div_(LOUDEST).T


@lru_cache(maxsize=1)
def _mel_filters() -> tuple[torch.Tensor, torch.Tensor]:
    """Return triangles over the HTK mel scale, each of sum 1, float32 (mel, bins), and the Hann window (WINDOW,)."""
    import torch

    edges = _mel_edges()
    bins = _mel(np.arange(WINDOW // 2 + 1) * SAMPLE_RATE_HZ / WINDOW)
    rising = (bins - edges[:-2, None]) / np.diff(edges)[:-1, None]
    falling = (edges[2:, None] - bins) / np.diff(edges)[1:, None]
    triangles = np.clip(np.minimum(rising, falling), 0.0, None)
    filters = (triangles / triangles.sum(axis=1, keepdims=True)).astype(np.float32)
    return torch.from_numpy(filters), torch.hann_window(WINDOW, periodic=False)


def _mel_edges() -> NDArray[np.float64]:
    """Return the edges of the filters in mel, (MEL_BINS + 2,); filter i spans edges i to i + 2."""
    return np.linspace(0.0, float(_mel(SAMPLE_RATE_HZ / 2)), MEL_BINS + 2)


def _mel(hz: float | NDArray[np.float64]) -> NDArray[np.float64]:
    """Return frequencies in mel, by the formula of HTK (Young et al., The HTK Book, 5.4)."""
    return np.asarray(1127.01048 * np.log1p(np.asarray(hz) / 700.0))


def continue_spectrum(levels: NDArray[np.float32], sample_rate_hz: int) -> NDArray[np.float32]:
    """Continue levels, float32 (..., frames, mel), above the band limit of a sound that had this rate before.

    Each frame continues from the mean of the six bins below the limit, falling by 0.4 dB a bin, with noise.
    """
    limit = band_limit(levels, sample_rate_hz)
    if limit < LEAST_BINS or limit >= MEL_BINS - LEAST_GAP:
        return levels
    base = levels[..., limit - CONTINUED_FROM : limit].mean(axis=-1, keepdims=True)
    fall = np.arange(1, MEL_BINS - limit + 1) * CONTINUED_SLOPE
    continued = base - fall + _noise(levels.shape[-2])[:, limit:]
    return np.concatenate([levels[..., :limit], np.maximum(continued, 0.0).astype(np.float32)], axis=-1)


@lru_cache(maxsize=4)
def _noise(frames: int) -> NDArray[np.float64]:
    """Return the same noise each time, (frames, mel); the stream of RandomState is frozen for all versions of NumPy."""
    return np.random.RandomState(0).normal(0.0, CONTINUED_DEVIATION, (frames, MEL_BINS))


def band_limit(levels: NDArray[np.float32], sample_rate_hz: int) -> int:
    """Return how many of the lowest mel bins a sound can carry at its rate, and does carry; MEL_BINS of silence."""
    possible = MEL_BINS
    if sample_rate_hz < FULL_BAND_RATE_HZ:
        highest_mel = float(_mel(0.99 * sample_rate_hz / 2))
        possible = int((_mel_edges()[2:] <= highest_mel).sum())
    carried = np.quantile(levels.reshape(-1, MEL_BINS), 0.95, axis=0) > CARRIED_ABOVE
    return min(possible, int(np.flatnonzero(carried)[-1]) + 1 if carried.any() else MEL_BINS)


class AudioTower:
    """Tower that embeds prepared sounds."""

    def __init__(self, network: Path = NETWORK_WEIGHTS, feature_map: Path = MAP_WEIGHTS) -> None:
        """Read the files of the network and the classifiers of aiSFX, and of the map of its features.

        Raises:
            EncoderError: a file is missing, or does not fit the network.
        """
        from bindsearch.encoders.mini.audio_network import map_from_state, network_from_state

        state, own_state = read_packed(network), read_packed(feature_map)
        with reading_weights(network):
            self._network = network_from_state(state)
        with reading_weights(feature_map):
            self._map = map_from_state({**state, **own_state})

    def features(self, levels: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return features of the windows of a piece, float32 (windows, 512), of its levels, float32 (frames, 96)."""
        import torch

        with torch.inference_mode():
            features: NDArray[np.float32] = self._network(torch.from_numpy(np.ascontiguousarray(levels))).numpy()
        return features

    def encode(self, levels: NDArray[np.float32]) -> NDArray[np.float32]:
        """Embed a piece of a sound: levels, float32 (frames, 96), to a unit vector, float32 (384,)."""
        import torch

        from bindsearch.encoders.mini.audio_network import map_windows

        with torch.inference_mode():
            vector: NDArray[np.float32] = map_windows(torch.from_numpy(self.features(levels)), self._map).numpy()
        return vector


def read_packed(weights: Path) -> dict[str, torch.Tensor]:
    """Read the tensors of a weights file, unpacked to float32.

    Raises:
        EncoderError: the file is missing or damaged.
    """
    from safetensors.torch import load_file

    from bindsearch.encoders.mini.audio_network import unpack_int8

    with reading_weights(weights):
        return unpack_int8(load_file(weights))
