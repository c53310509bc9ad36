"""Waveforms and log-mel spectrograms of sounds as pictures, with numpy alone."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from bindsearch.media import Sound

BANDS = 64
LOW_HZ, HIGH_HZ = 40.0, 16_000.0
DYNAMIC_RANGE_DB = 80.0
WINDOW_S = 0.04
_WINDOWS_A_BLOCK = 512


def spectrogram_db(sound: Sound, columns: int) -> NDArray[np.float32]:
    """Return the log-mel spectrogram of a sound, in dB below its loudest point.

    Args:
        sound: The sound.
        columns: Number of columns; each has the greatest power of each frequency in its windows: clicks stay visible.

    Returns:
        float32 (BANDS, columns) in -DYNAMIC_RANGE_DB..0, low frequencies first.
    """
    window = 1 << max(6, round(WINDOW_S * sound.sample_rate_hz).bit_length() - 1)
    samples = np.pad(sound.samples, (0, max(0, window - len(sound.samples))))
    a_column = max(1, -(-(len(samples) - window) // (columns * window // 2)))  # windows overlap by half at least
    starts = np.linspace(0, len(samples) - window, columns * a_column).astype(np.int64)
    filters = _mel_filters(window, sound.sample_rate_hz)
    windows = np.lib.stride_tricks.sliding_window_view(samples, window)
    hann = np.hanning(window).astype(np.float32)
    greatest = np.empty((columns, window // 2 + 1), np.float32)
    for column in range(0, columns, step := max(1, _WINDOWS_A_BLOCK // a_column)):
        block = windows[starts[column * a_column : (column + step) * a_column]] * hann
        power = np.abs(np.fft.rfft(block)) ** 2
        greatest[column : column + step] = power.reshape(-1, a_column, power.shape[1]).max(axis=1)
    greatest = greatest @ filters
    loudest = max(float(greatest.max()), 1e-12)
    levels: NDArray[np.float32] = 10 * np.log10(np.maximum(greatest / loudest, 10 ** (-DYNAMIC_RANGE_DB / 10)))
    return levels.T.astype(np.float32)


def band_hz(sample_rate_hz: int) -> NDArray[np.float64]:
    """Return the centre of each band in Hz, evenly spaced in mel from LOW_HZ to HIGH_HZ or the Nyquist frequency.

    mel = 2595 log10(1 + f / 700) (O'Shaughnessy 1987, Speech Communication).
    """
    high_hz = min(HIGH_HZ, sample_rate_hz / 2)
    low_mel, high_mel = (2595 * math.log10(1 + hz / 700) for hz in (min(LOW_HZ, high_hz / 2), high_hz))
    mel = np.linspace(low_mel, high_mel, BANDS)
    centres: NDArray[np.float64] = 700 * (10 ** (mel / 2595) - 1)
    return centres


@lru_cache(maxsize=8)
def _mel_filters(window: int, sample_rate_hz: int) -> NDArray[np.float32]:
    """Return triangular filters, float32 (window / 2 + 1, BANDS), each at least as wide as a bin."""
    centres = band_hz(sample_rate_hz)
    bin_hz = sample_rate_hz / window
    half_hz = np.maximum(np.gradient(centres), bin_hz)
    bins = np.arange(window // 2 + 1)[:, None] * bin_hz
    return np.maximum(0, 1 - np.abs(bins - centres) / half_hz).astype(np.float32)


def envelope(sound: Sound, columns: int) -> NDArray[np.float32]:
    """Return the least and the greatest sample of each of some columns: float32 (2, columns)."""
    samples = sound.samples
    edges = np.linspace(0, len(samples), columns + 1).astype(np.int64)[:-1]
    return np.stack([np.minimum.reduceat(samples, edges), np.maximum.reduceat(samples, edges)])
