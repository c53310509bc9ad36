"""Changes of sound: of samples, and of the levels of a mel spectrogram.

Speed changes pitch and duration of samples together; on levels, time is stretched and pitch is shifted apart.
"""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from bindsearch.binding.augmentations.motion import random_part
from bindsearch.errors import MediaError

if TYPE_CHECKING:
    from numpy.random import Generator
    from numpy.typing import NDArray

    from bindsearch.binding.augmentations.options import SoundOptions

    Floats = NDArray[np.float32]

LOUDEST = np.float32(1e6)
"""Amplitude (nominally 1) that samples are clipped to: louder ones would overflow in float32."""

NOISE_RANGE_DB = 35.0
"""Range of the level of noise."""

STEEPEST_NOISE = 2.0
"""Largest exponent of the spectrum of noise, 1/f^exponent: 0 is white, 1 pink, 2 brown."""

SILENT_DB = -90.0
"""Level that a short recording is padded with."""

LOW_PASS_BAND = (0.55, 0.93)
"""Lowest and highest cut-off of a low pass of levels, as a share of the mel bins: 2.2 to 6.5 kHz of 7.8 kHz."""

LOW_PASS_SLOPE_DB = 6.0
"""Slope of a low pass of levels, in dB per 64th part of the mel bins; at most 90 dB in all."""

CURVE_KNOTS, CURVE_DB = 4, 8.0
"""Knots of the spectrum of noise in levels, and their standard deviation in dB."""

_NEPERS = np.float32(math.log(10.0) / 10.0)  # a level in dB times this is the natural logarithm of its power


def augment_sound(samples: Floats, sample_rate_hz: int, rng: Generator, options: SoundOptions) -> Floats:
    """Return a sound with random speed, band, noise and level.

    Args:
        samples: Mono sound, float32 (n,), nominally in -1..1.
        sample_rate_hz: Samples per second.
        rng: Source of all randomness.
        options: Strengths and probabilities.

    Returns:
        Sound, float32 (n,); the one given is not changed.

    Raises:
        MediaError: the sound is empty.
    """
    changed = change_speed(samples, rng, options.speed)
    np.clip(changed, -LOUDEST, LOUDEST, out=changed)
    low, high = options.low_pass_hz, 0.45 * sample_rate_hz
    drawn, position = rng.random(2)  # the cut-off is even in its logarithm
    cut_off_hz = low * (high / low) ** position if drawn < options.low_pass and low < high else None
    has_noise = rng.random() < options.noise
    gain = 10.0 ** (rng.uniform(-1.0, 1.0) * options.gain_db / 20.0)
    if cut_off_hz is not None or has_noise:
        changed = _filtered(changed, sample_rate_hz, cut_off_hz, options.snr_db if has_noise else None, rng)
    changed *= np.float32(gain)
    return changed


def change_speed(samples: Floats, rng: Generator, spread: float, count: int | None = None) -> Floats:
    """Return a random part of a sound at a random speed; pitch and duration change together.

    Samples are interpolated linearly. A sound that ends before the part does is repeated.

    Args:
        samples: Mono sound, float32 (n,).
        rng: Source of all randomness.
        spread: Largest change as a natural logarithm; 0.2: speeds from 0.82 to 1.22, drawn evenly in the logarithm.
        count: Number of samples of the result; None: n.

    Returns:
        Sound, float32 (count,), a copy.

    Raises:
        MediaError: the sound is empty.
    """
    if len(samples) == 0:
        raise MediaError("the sound has no samples: record it again, or leave it out")
    return random_part(partial(np.take, samples, mode="wrap"), len(samples), rng, spread, count)


def _filtered(
    samples: Floats, sample_rate_hz: int, cut_off_hz: float | None, snr_db: float | None, rng: Generator
) -> Floats:
    """Return samples (n,) with a low pass and coloured noise (None: without), by one Fourier transform.

    The low pass has the magnitude of a Butterworth filter of order 4, and no phase. The noise is drawn as a spectrum,
    with a level relative to that of the samples, also to that of silence.
    """
    from scipy import fft

    count = len(samples)
    size = fft.next_fast_len(count + 1, real=True)
    spectrum = fft.rfft(samples, size)
    frequencies = np.arange(1, len(spectrum) + 1, dtype=np.float32)  # in steps of rate / size, one step off: no zero
    power = float(np.square(spectrum.view(np.float32)).sum(dtype=np.float64))
    if cut_off_hz is not None:
        relative = frequencies * np.float32(sample_rate_hz / size / cut_off_hz)
        np.minimum(relative, np.float32(1e4), out=relative)  # its eighth power is finite
        for _ in range(3):
            np.square(relative, out=relative)
        spectrum *= 1.0 / np.sqrt(1.0 + relative)
    if snr_db is not None:
        decibels, exponent = snr_db + NOISE_RANGE_DB * rng.random(), STEEPEST_NOISE * rng.random()
        noise = rng.standard_normal((2, len(spectrum)), dtype=np.float32)
        noise *= frequencies ** np.float32(-exponent / 2.0)
        noise_power = float(np.square(noise).sum(dtype=np.float64))
        noise *= np.float32(math.sqrt(power / noise_power) * 10.0 ** (-decibels / 20.0))
        spectrum.real += noise[0]
        spectrum.imag += noise[1]
    filtered: Floats = fft.irfft(spectrum, size)[:count]
    return np.array(filtered, dtype=np.float32)


def augment_levels(levels_db: Floats, rng: Generator, options: SoundOptions, frames: int | None = None) -> Floats:
    """Return a random view of levels, with random speed, pitch, noise and band.

    Args:
        levels_db: Levels of a mel spectrogram in dB, float32 (mel, n).
        rng: Source of all randomness.
        options: Strengths and probabilities.
        frames: Number of frames of the view; None: n.

    Returns:
        Levels in dB, float32 (mel, frames); those given are not changed.

    Raises:
        MediaError: there are no levels.
    """
    view = stretch_levels(levels_db, rng, options.speed, frames)
    bins = len(view)
    if options.pitch_bins:
        view = shift_pitch(view, int(rng.integers(-options.pitch_bins, options.pitch_bins + 1)))
    if rng.random() < options.noise:
        view = add_noise(view, rng, options.noise_db)
    if rng.random() < options.low_pass:
        view = low_pass_levels(view, round(bins * rng.uniform(*LOW_PASS_BAND)))
    return view


def stretch_levels(levels_db: Floats, rng: Generator, spread: float, frames: int | None = None) -> Floats:
    """Return a random part of levels, stretched in time by a random factor; the pitch stays.

    Levels that end before the part does are repeated or padded with silence, one as likely as the other.

    Args:
        levels_db: Levels in dB, float32 (mel, n).
        rng: Source of all randomness.
        spread: Largest change as a natural logarithm.
        frames: Number of frames of the result; None: n.

    Returns:
        Levels in dB, float32 (mel, frames), a copy.

    Raises:
        MediaError: there are no levels.
    """
    if 0 in levels_db.shape:
        raise MediaError(f"levels of shape {levels_db.shape}: expected at least one mel bin and one frame")
    count = levels_db.shape[1]
    frames = count if frames is None else frames
    part = max(1, round(frames * math.exp(rng.uniform(-spread, spread))))
    if count < part and rng.random() < 0.5:
        levels_db = np.tile(levels_db, (1, math.ceil(part / count)))
    elif count < part:
        silent = int(rng.integers(part - count + 1))
        around = (silent, part - count - silent)
        levels_db = np.pad(levels_db, ((0, 0), around), constant_values=np.float32(SILENT_DB))
    start = int(rng.integers(levels_db.shape[1] - part + 1))
    times = np.linspace(0.0, part - 1, frames)
    before = times.astype(np.int64)
    after = np.minimum(before + 1, part - 1)
    crop, fraction = levels_db[:, start : start + part], (times - before).astype(np.float32)
    stretched: Floats = crop[:, before] * (1 - fraction) + crop[:, after] * fraction
    return stretched


def shift_pitch(levels_db: Floats, bins: int) -> Floats:
    """Return levels (mel, frames) shifted up by `bins` mel bins (down if negative), with the edge repeated."""
    return levels_db[np.clip(np.arange(len(levels_db)) - bins, 0, len(levels_db) - 1)]


def add_noise(levels_db: Floats, rng: Generator, least_db: float) -> Floats:
    """Return levels with noise of a random smooth spectrum; the power of a bin is distributed exponentially.

    Args:
        levels_db: Levels in dB, float32 (mel, frames).
        rng: Source of all randomness.
        least_db: Smallest distance of the noise below the loudest point in dB; NOISE_RANGE_DB more at most.
    """
    bins = len(levels_db)
    decibels = float(levels_db.max()) - rng.uniform(least_db, least_db + NOISE_RANGE_DB)
    knots = rng.normal(0.0, CURVE_DB, CURVE_KNOTS)
    curve = np.interp(np.arange(bins), np.linspace(0, max(bins - 1, 1), CURVE_KNOTS), knots) + decibels
    power = rng.standard_exponential(levels_db.shape, dtype=np.float32) + np.float32(1e-6)
    noise = np.log(power) + curve[:, None].astype(np.float32) * _NEPERS
    mixed: Floats = np.logaddexp(levels_db * _NEPERS, noise) / _NEPERS
    return mixed


def low_pass_levels(levels_db: Floats, bins: int) -> Floats:
    """Return levels (mel, frames) that fall from mel bin `bins` on, like those of a recording at a low rate."""
    count = len(levels_db)
    drop_db = LOW_PASS_SLOPE_DB * 64.0 / count * np.maximum(np.arange(count) - bins + 1, 0)
    return levels_db - np.minimum(drop_db, 90.0)[:, None].astype(np.float32)


def mask_levels(levels: Floats, rng: Generator, options: SoundOptions) -> Floats:
    """Return levels with random bands and spans of time replaced by their mean (SpecAugment, Park et al. 2019).

    Args:
        levels: Levels, float32 (mel, frames), in dB or normalised.
        rng: Source of all randomness.
        options: Number of bands and spans, and their largest widths; a band and a span leave at least one bin and one
            frame each.

    Returns:
        Levels, float32 (mel, frames), a copy.

    Raises:
        MediaError: there are no levels.
    """
    if 0 in levels.shape:
        raise MediaError(f"levels of shape {levels.shape}: expected at least one mel bin and one frame")
    masked, mean = levels.copy(), levels.mean(dtype=np.float64)
    for _ in range(options.mask_bands):
        masked[_random_range(len(levels), options.mask_bins, rng)] = mean
    for _ in range(options.mask_spans):
        masked[:, _random_range(levels.shape[1], options.mask_frames, rng)] = mean
    return masked


def _random_range(count: int, longest: int, rng: Generator) -> slice:
    """Return a random range of 0 to `longest` of `count` positions, fewer than all."""
    length = int(rng.integers(min(longest, count - 1) + 1))
    start = int(rng.integers(count - length + 1))
    return slice(start, start + length)
