"""Sound and motion at the rate a model was trained with: checked, then resampled with an anti-aliasing filter."""

from __future__ import annotations

import math
from fractions import Fraction
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from bindsearch.errors import MediaError

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray

MIN_SOUND_RATE_HZ, MAX_SOUND_RATE_HZ = 1_000, 1_000_000
MIN_MOTION_RATE_HZ, MAX_MOTION_RATE_HZ = 5.0, 100_000.0

BLOCK_SAMPLES = 4_194_304
"""Longer sounds are resampled in blocks of this many samples (16 MB; 87 s at 48 kHz), which bounds memory."""

_FILTER_REACH = 6.0 / 0.99
"""Half width of torchaudio's filter in samples of the lower rate: lowpass_filter_width / rolloff, its defaults."""


def check_sound(samples: NDArray[np.float32], sample_rate_hz: int, model_rate_hz: int) -> NDArray[np.float32]:
    """Mono sound (n,) as contiguous float32.

    Raises:
        MediaError: the sound is empty, holds NaN or infinity, or its rate is out of range.
    """
    if samples.ndim != 1 or len(samples) == 0:
        raise MediaError(f"sound of shape {samples.shape} has no samples; give a mono sound of at least one sample")
    if not MIN_SOUND_RATE_HZ <= sample_rate_hz <= MAX_SOUND_RATE_HZ:
        raise MediaError(f"sound at {sample_rate_hz} Hz is out of range; convert it to {model_rate_hz} Hz")
    if not np.isfinite(samples).all():
        raise MediaError("sound holds NaN or infinite samples; export it again from its source")
    return np.ascontiguousarray(samples, dtype=np.float32)


def resample_sound(
    sound: torch.Tensor, sample_rate_hz: int, model_rate_hz: int, *, float32_filter: bool = False
) -> torch.Tensor:
    """Resample a sound float32 (n,) to `model_rate_hz`: float32 (m,), m >= 1; itself where the rates are the same.

    `float32_filter`: compute the filter in float32 throughout, as torchaudio.functional.resample does and with it the
    published ImageBind code; torchaudio.transforms.Resample by default does not. Samples differ by about 1e-5 of the
    loudest, which log-mels of near silence show.
    """
    import torch

    # Rates are rounded to a ratio of small numbers (by less than 0.1%): the kernel of 16000:44101 would take gigabytes.
    ratio = Fraction(model_rate_hz, sample_rate_hz).limit_denominator(1_000)
    if ratio == 1:
        return sound
    if len(sound) > BLOCK_SAMPLES:
        return _resample_in_blocks(sound, ratio, float32_filter)
    resampled: torch.Tensor = _resampler(ratio.denominator, ratio.numerator, float32_filter)(sound)
    return resampled if len(resampled) else torch.zeros(1)


def _resample_in_blocks(sound: torch.Tensor, ratio: Fraction, float32_filter: bool) -> torch.Tensor:
    """As in one piece: blocks are whole periods of the ratio, with as much around them as the filter reaches."""
    import torch

    resampler = _resampler(ratio.denominator, ratio.numerator, float32_filter)
    margin = _reach_periods(ratio)
    periods = max(1, BLOCK_SAMPLES // ratio.denominator)
    count = math.ceil(len(sound) * ratio)
    result = torch.empty(count, dtype=sound.dtype)
    for first in range(0, math.ceil(len(sound) / ratio.denominator), periods):
        before = min(first, margin)
        piece = sound[(first - before) * ratio.denominator : (first + periods + margin) * ratio.denominator]
        start = first * ratio.numerator
        block = result[start : start + periods * ratio.numerator]
        block.copy_(resampler(piece)[before * ratio.numerator :][: len(block)])
    return result


def _reach_periods(ratio: Fraction) -> int:
    """Return how far the filter reaches to either side, in periods of `ratio.denominator` samples, rounded up."""
    return math.ceil(_FILTER_REACH / min(ratio.numerator, ratio.denominator)) + 1


@lru_cache(maxsize=16)
def _resampler(from_rate: int, to_rate: int, float32_filter: bool) -> torch.nn.Module:
    """The windowed-sinc resampler for one ratio; its kernel is computed once."""
    import torch
    import torchaudio

    dtype = torch.float32 if float32_filter else None  # None: float64 for the most part, rounded in the end
    resampler: torch.nn.Module = torchaudio.transforms.Resample(from_rate, to_rate, dtype=dtype)
    return resampler


def check_motion(samples: NDArray[np.float32], sample_rate_hz: float) -> NDArray[np.float32]:
    """Motion (n, 6) as float32.

    Raises:
        MediaError: the recording is empty, of the wrong shape, holds NaN or infinity, or its rate is out of range.
    """
    if samples.ndim != 2 or samples.shape[1] != 6 or len(samples) == 0:
        raise MediaError(f"motion of shape {samples.shape} cannot be embedded; give rows of 6 values, at least one")
    if not MIN_MOTION_RATE_HZ <= sample_rate_hz <= MAX_MOTION_RATE_HZ:
        raise MediaError(
            f"motion at {sample_rate_hz} Hz is out of range; "
            f"{MIN_MOTION_RATE_HZ:g} to {MAX_MOTION_RATE_HZ:g} Hz will do"
        )
    if not np.isfinite(samples).all():
        raise MediaError("motion holds NaN or infinite samples; cut them out or fill them in")
    return samples.astype(np.float32, copy=False)


def resample_motion(
    signal: NDArray[np.float32], sample_rate_hz: float, model_rate_hz: float, *, margin_samples: int | None = None
) -> NDArray[np.float32]:
    """Resample motion float32 (6, n) to `model_rate_hz`: float32 (6, m), m >= 1.

    The signal is reflected at its ends by at least `margin_samples` of the model's rate, by default as far as the
    filter reaches: it would see silence there, which bends gravity towards zero.
    """
    # Rates are rounded to a ratio of small numbers (by less than 0.5%): clocks of phones are no better than that.
    finest = 2_000 if sample_rate_hz > 20 * model_rate_hz else 100
    ratio = Fraction(model_rate_hz / sample_rate_hz).limit_denominator(finest)
    if ratio == 1:
        return signal
    import torch
    from torchaudio.functional import resample

    periods = _reach_periods(ratio) if margin_samples is None else math.ceil(margin_samples / ratio.numerator)
    margin = periods * ratio.denominator
    padded = np.pad(signal, ((0, 0), (margin, margin)), mode="symmetric")
    with torch.inference_mode():
        resampled = resample(torch.from_numpy(padded), ratio.denominator, ratio.numerator).numpy()
    start = periods * ratio.numerator
    count = max(1, math.ceil(signal.shape[1] * float(ratio)))
    result: NDArray[np.float32] = resampled[:, start : start + count]
    return result
