"""Checks of sound and motion, and resampling with an anti-aliasing filter to the rate of a model."""

from __future__ import annotations

import math
from fractions import Fraction
from functools import lru_cache
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from bindsearch.encoders.torch_runtime.threads import single_threaded
from bindsearch.errors import MediaError

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray

Signal = TypeVar("Signal", "torch.Tensor", "NDArray[np.float32]")

MIN_SOUND_RATE_HZ, MAX_SOUND_RATE_HZ = 1_000, 1_000_000
MIN_MOTION_RATE_HZ, MAX_MOTION_RATE_HZ = 5.0, 100_000.0

BLOCK_SAMPLES = 4_194_304
"""Block size in samples (16 MB; 87 s at 48 kHz); longer sounds are resampled in blocks, which bounds memory."""

MAX_WINDOWS = 32
"""Most windows that cover a sound; windows of a longer one are apart."""

_FILTER_REACH = 6.0 / 0.99
"""Half width of torchaudio's filter in samples of the lower rate: the defaults of lowpass_filter_width / rolloff."""


def check_sound(samples: NDArray[np.float32], sample_rate_hz: int, model_rate_hz: int) -> NDArray[np.float32]:
    """Return a mono sound, float (n,), as contiguous float32 (n,); the rate of the model is for messages.

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
    """Resample a sound.

    Args:
        sound: Sound, float32 (n,).
        sample_rate_hz: Sampling rate of the sound.
        model_rate_hz: Sampling rate of the result.
        float32_filter: Compute the filter entirely in float32, like torchaudio.functional.resample and therefore the
            published ImageBind code; the default of torchaudio.transforms.Resample is float64. Samples differ by about
            1e-5 of the peak, which is visible in log-mels of near silence.

    Returns:
        Sound, float32 (m,), m >= 1; `sound` itself if the rates are the same.
    """
    import torch

    # The ratio is rounded to small numbers (by less than 0.1%): the kernel for 16000:44101 would take gigabytes.
    ratio = Fraction(model_rate_hz, sample_rate_hz).limit_denominator(1_000)
    if ratio == 1:
        return sound
    if len(sound) > BLOCK_SAMPLES:
        return _resample_in_blocks(sound, ratio, float32_filter)
    resampled: torch.Tensor = _resampler(ratio.denominator, ratio.numerator, float32_filter)(sound)
    return resampled if len(resampled) else torch.zeros(1)


def at_rate(
    samples: NDArray[np.float32], sample_rate_hz: int, model_rate_hz: int, *, float32_filter: bool = False
) -> NDArray[np.float32]:
    """Return a mono sound, float32 (n,), at the rate of a model: float32 (m,), m >= 1; see `resample_sound`.

    Raises:
        MediaError: the sound is empty, holds NaN or infinity, or its rate is out of range.
    """
    import torch

    checked = check_sound(samples, sample_rate_hz, model_rate_hz)
    with single_threaded(), torch.inference_mode():
        sound = torch.from_numpy(np.require(checked, requirements="W"))
        resampled = resample_sound(sound, sample_rate_hz, model_rate_hz, float32_filter=float32_filter)
    return np.asarray(resampled.numpy(), np.float32)


def windows(sound: NDArray[np.float32], length: int) -> list[NDArray[np.float32]]:
    """Return windows of `length` samples at even distances, the first at the start and the last at the end.

    As many as are needed to cover the sound (n,), at most MAX_WINDOWS; the whole sound if it is not longer than one.
    """
    if len(sound) <= length:
        return [sound]
    return even_parts(sound, length, min(math.ceil(len(sound) / length), MAX_WINDOWS))


def even_parts(signal: Signal, length: int, count: int) -> list[Signal]:
    """Return `count` parts of `length` samples of a signal (..., n) at even distances, from its start to its end."""
    starts = np.linspace(0, max(0, signal.shape[-1] - length), count).round().astype(np.int64)
    return [signal[..., start : start + length] for start in starts]


def kaldi_log_mel(sound: torch.Tensor, sample_rate_hz: int, bins: int) -> torch.Tensor:
    """Return the log-mel of a sound (n,) as of Kaldi, float32 (frames, bins): Hanning windows of 25 ms every 10 ms."""
    from torchaudio.compliance.kaldi import fbank

    mel: torch.Tensor = fbank(
        sound[None],
        htk_compat=True,
        sample_frequency=sample_rate_hz,
        use_energy=False,
        window_type="hanning",
        num_mel_bins=bins,
        dither=0.0,
        frame_length=25.0,
        frame_shift=10.0,
    )
    return mel


def _resample_in_blocks(sound: torch.Tensor, ratio: Fraction, float32_filter: bool) -> torch.Tensor:
    """Resample in blocks, with the same result as in one piece.

    Blocks are whole periods of the ratio, with a margin of the reach of the filter on both sides.
    """
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
    """Return the reach of the filter to either side, in periods of `ratio.denominator` samples, rounded up."""
    return math.ceil(_FILTER_REACH / min(ratio.numerator, ratio.denominator)) + 1


@lru_cache(maxsize=16)
def _resampler(from_rate: int, to_rate: int, float32_filter: bool) -> torch.nn.Module:
    """Return the windowed-sinc resampler for a ratio; its kernel is computed once."""
    import torch
    import torchaudio

    dtype = torch.float32 if float32_filter else None  # None: mostly float64, rounded at the end
    resampler: torch.nn.Module = torchaudio.transforms.Resample(from_rate, to_rate, dtype=dtype)
    return resampler


def check_motion(samples: NDArray[np.float32], sample_rate_hz: float) -> NDArray[np.float32]:
    """Return a recording of motion, float (n, 6), as float32 (n, 6).

    Raises:
        MediaError: the recording is empty, of the wrong shape, holds NaN or infinity, or its rate is out of range.
    """
    if samples.ndim != 2 or samples.shape[1] != 6 or len(samples) == 0:
        raise MediaError(f"motion of shape {samples.shape} cannot be embedded; give rows of 6 values, at least one")
    if not MIN_MOTION_RATE_HZ <= sample_rate_hz <= MAX_MOTION_RATE_HZ:
        expected = f"expected {MIN_MOTION_RATE_HZ:g} to {MAX_MOTION_RATE_HZ:g} Hz"
        raise MediaError(f"motion at {sample_rate_hz} Hz is out of range; {expected}")
    if not np.isfinite(samples).all():
        raise MediaError("motion holds NaN or infinite samples; remove or interpolate them")
    return samples.astype(np.float32, copy=False)


def resample_motion(
    signal: NDArray[np.float32], sample_rate_hz: float, model_rate_hz: float, *, margin_samples: int | None = None
) -> NDArray[np.float32]:
    """Resample motion.

    The signal is reflected at its ends: with zeros there, the filter would pull gravity towards zero.

    Args:
        signal: Motion, float32 (6, n).
        sample_rate_hz: Sampling rate of the motion.
        model_rate_hz: Sampling rate of the result.
        margin_samples: Minimum length of the reflection in samples of the model's rate; None: the reach of the filter.

    Returns:
        Motion, float32 (6, m), m >= 1; `signal` itself if the rates are the same.
    """
    # The ratio is rounded to small numbers (by less than 0.5%): clocks of phones are not more accurate.
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
