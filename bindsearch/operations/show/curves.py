"""Values of a decoded segment as named curves with units, for text and pictures."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from bindsearch.media import DepthMap, Frames, Media, Motion, Passage, Picture, Sound, ThermalPicture

ACCELERATION_UNIT, ROTATION_UNIT = "m/s^2", "rad/s"
LEVEL_FLOOR_DB = -120.0
"""Level of digital silence in a curve."""

LEVEL_STEP_S = 0.02


@dataclass(frozen=True, slots=True)
class Curve:
    """One quantity of a segment.

    Attributes:
        name: Name of the quantity, such as "accelerometer x".
        unit: Unit of the values; empty: none.
        values: float (n,), finite, n >= 1.
        is_series: Whether the values are in order of time; else they are the pixels of a picture.
    """

    name: str
    unit: str
    values: NDArray[np.floating]
    is_series: bool = True

    def summary(self) -> tuple[float, float, float]:
        """Return the minimum, the median and the maximum."""
        return float(self.values.min()), float(np.median(self.values)), float(self.values.max())


def curves_of(media: Media) -> list[Curve]:
    """Return the curves of a medium; none for texts.

    Motion: the six axes. Sound: the level in dB of full scale every LEVEL_STEP_S seconds. Depth: metres of the pixels
    with a value. Thermal: values in 0..1. Pictures and frames: the three channels in 0..255.
    """
    match media:
        case Passage():
            return []
        case Motion(samples=samples):
            sensors = (("accelerometer", ACCELERATION_UNIT), ("gyroscope", ROTATION_UNIT))
            names = [(f"{sensor} {axis}", unit) for sensor, unit in sensors for axis in "xyz"]
            return [Curve(name, unit, samples[:, column]) for column, (name, unit) in enumerate(names)]
        case Sound():
            return [Curve("level", "dB", levels_db(media))]
        case DepthMap(depth_m=depth_m, valid=valid):
            return [Curve("depth", "m", depth_m[valid], is_series=False)]
        case ThermalPicture(values=values):
            return [Curve("heat", "", values.ravel(), is_series=False)]
        case Picture(rgb=rgb) | Frames(rgb=rgb):
            channels = zip(("red", "green", "blue"), np.moveaxis(rgb, -1, 0), strict=True)
            return [Curve(name, "", pixels.ravel().astype(np.float32), is_series=False) for name, pixels in channels]


def levels_db(sound: Sound) -> NDArray[np.float32]:
    """Return the level of a sound in dB of full scale (root mean square), float32 (n,), every LEVEL_STEP_S seconds."""
    step = max(1, round(LEVEL_STEP_S * sound.sample_rate_hz))
    starts = np.arange(0, len(sound.samples), step)
    lengths = np.diff([*starts, len(sound.samples)])
    power = np.add.reduceat(sound.samples.astype(np.float64) ** 2, starts) / lengths
    levels = 10 * np.log10(np.maximum(power, 10 ** (LEVEL_FLOOR_DB / 10)))
    return np.asarray(levels, np.float32)


def size_of(media: Media) -> str:
    """Return the size of a medium in words, such as "250 samples at 50 Hz"."""
    match media:
        case Passage(text=text):
            return f"{len(text)} characters"
        case Motion(samples=samples, sample_rate_hz=rate_hz):
            return f"{len(samples)} samples at {rate_hz:.6g} Hz"
        case Sound(samples=samples, sample_rate_hz=rate_hz):
            return f"{len(samples)} samples at {rate_hz} Hz, mono"
        case DepthMap(depth_m=depth_m, valid=valid, fx_px=fx_px, baseline_m=baseline_m):
            height, width = depth_m.shape
            camera = f"focal length {fx_px:.6g} px, baseline {baseline_m:.6g} m"
            return f"{width}x{height} pixels, {valid.mean():.1%} with a value; {camera}"
        case ThermalPicture(values=values):
            return f"{values.shape[1]}x{values.shape[0]} pixels; 0 is the coldest shown, 1 the hottest"
        case Picture(rgb=rgb):
            return f"{rgb.shape[1]}x{rgb.shape[0]} pixels"
        case Frames(rgb=rgb):
            frames = "1 frame" if len(rgb) == 1 else f"{len(rgb)} frames"
            return f"{frames} of {rgb.shape[2]}x{rgb.shape[1]} pixels"


def binned(values: NDArray[np.floating], count: int, *, is_series: bool) -> NDArray[np.float64]:
    """Return at most `count` numbers that show values (n,): means over time, or a histogram from minimum to maximum."""
    if not is_series:
        return np.histogram(values, count)[0].astype(np.float64)
    edges = np.linspace(0, len(values), min(count, len(values)) + 1).astype(np.int64)
    sums = np.add.reduceat(values.astype(np.float64), edges[:-1])
    means: NDArray[np.float64] = sums / np.diff(edges)
    return means


MEASURED_UNITS: Mapping[str, str] = {
    "rate_hz": "Hz",
    "depth_median_m": "m",
    "temperature_min_c": "°C",
    "temperature_mean_c": "°C",
    "temperature_max_c": "°C",
}
"""Units of measured values, by the name of the metadata column."""


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
