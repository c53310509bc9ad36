"""Log-mel views of a sound, for networks that distinguish labels of sound, and the spectrogram that is shown."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from bindsearch.encoders.preprocessing.resampling import check_sound, even_parts, resample_sound

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray


SAMPLE_RATE_HZ = 16_000
MEL_BINS = 64
HOP = 320  # 20 ms: modulations up to 25 Hz are preserved, such as those of a helicopter's blades
WINDOW = 512  # 32 ms
FFT = 1024  # twice the window, so that none of the low mel filters is empty
MEL_LOW_HZ, MEL_HIGH_HZ = 40.0, 7_800.0
VIEW_FRAMES = 125  # 2.5 s
VIEW_SAMPLES = VIEW_FRAMES * HOP
POWER_FLOOR = 1e-9
DYNAMIC_RANGE_DB = 80.0  # levels further below the loudest point of a view are clipped
SILENT_BELOW_DB = 40.0  # views whose loudest point is this far below that of the sound are dropped
VIEWS_PER_TRANSFORM = 64  # bounds the memory of the Fourier transforms to about 35 MB


def prepare_sound(samples: NDArray[np.float32], sample_rate_hz: int) -> NDArray[np.float32]:
    """Split a sound into views, and compute a normalised log-mel of each; thread-safe, loads no tower.

    Args:
        samples: Mono sound, float32 (n,), nominally in -1..1.
        sample_rate_hz: Sampling rate of the sound.

    Returns:
        Log-mels, float32 (views, 64, 125): views of 2.5 s, evenly placed with an overlap of at least half, the first at
        the start and the last at the end. Views that are silent compared to the others are left out; at least one
        remains.

    Raises:
        MediaError: the sound is empty, holds NaN or infinity, or its rate is out of range.
    """
    import torch

    with torch.inference_mode():
        views = _views(_at_model_rate(samples, sample_rate_hz))
        levels_db = torch.cat(
            [_log_mel(views[i : i + VIEWS_PER_TRANSFORM]) for i in range(0, len(views), VIEWS_PER_TRANSFORM)]
        ).numpy()
    loudest_db = levels_db.max(axis=(1, 2))
    return normalize_levels(levels_db[loudest_db >= loudest_db.max() - SILENT_BELOW_DB])


def normalize_levels(levels_db: NDArray[np.float32]) -> NDArray[np.float32]:
    """Normalise levels in dB, float32 (views, mel, frames): 1.5 at the loudest point of a view, -2.5 at the floor."""
    below_db = levels_db - levels_db.max(axis=(1, 2), keepdims=True)
    normalized: NDArray[np.float32] = np.maximum(below_db, np.float32(-DYNAMIC_RANGE_DB)) / np.float32(20.0)
    normalized += np.float32(1.5)
    return normalized


def sound_levels(samples: NDArray[np.float32], sample_rate_hz: int) -> NDArray[np.float32]:
    """Return the log-mel spectrogram of a mono sound in dB, float32 (mel, frames), 50 frames per second.

    Raises:
        MediaError: as `prepare_sound`.
    """
    import torch

    with torch.inference_mode():
        levels: NDArray[np.float32] = _log_mel(_at_model_rate(samples, sample_rate_hz)).numpy()
    return levels


def _at_model_rate(samples: NDArray[np.float32], sample_rate_hz: int) -> torch.Tensor:
    """Check a sound and resample it to 16 kHz: float32 (m,), m >= 1."""
    import torch

    samples = check_sound(samples, sample_rate_hz, SAMPLE_RATE_HZ)
    # Louder sounds are scaled to a peak of 1, so that squares cannot overflow; the level has no effect later.
    peak = float(np.abs(samples).max())
    sound = torch.from_numpy(samples / np.float32(peak) if peak > 1.0 else samples.copy())
    return resample_sound(sound, sample_rate_hz, SAMPLE_RATE_HZ)


@lru_cache(maxsize=1)
def _mel_filters() -> tuple[torch.Tensor, torch.Tensor]:
    """Return triangular mel filters (mel, bins) and the Hann window (WINDOW,)."""
    import torch
    import torchaudio

    filters = torchaudio.functional.melscale_fbanks(
        FFT // 2 + 1, MEL_LOW_HZ, MEL_HIGH_HZ, MEL_BINS, SAMPLE_RATE_HZ, norm=None, mel_scale="htk"
    )
    return filters.T.contiguous(), torch.hann_window(WINDOW)


def _views(sound: torch.Tensor) -> torch.Tensor:
    """Return overlapping views, float32 (views, VIEW_SAMPLES), of a sound (n,); a shorter sound is repeated."""
    import torch

    if len(sound) < VIEW_SAMPLES:
        sound = sound.repeat(math.ceil(VIEW_SAMPLES / len(sound)))[:VIEW_SAMPLES]
    count = math.ceil(2 * (len(sound) - VIEW_SAMPLES) / VIEW_SAMPLES) + 1
    return torch.stack(even_parts(sound, VIEW_SAMPLES, count))


def _log_mel(sound: torch.Tensor) -> torch.Tensor:
    """Return the log power in dB, float32 (..., mel, frames), of sound (..., n); frame i is centred on i * HOP."""
    import torch

    filters, window = _mel_filters()
    spectrum = torch.stft(sound, FFT, HOP, WINDOW, window, center=True, pad_mode="constant", return_complex=True)
    power = spectrum[..., : max(1, sound.shape[-1] // HOP)].abs().square()
    return (filters @ power).add_(POWER_FLOOR).log10_().mul_(10.0)
