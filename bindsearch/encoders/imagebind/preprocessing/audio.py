"""Sound: 16 kHz, views of 2 s, 128 Kaldi log-mel bins by 204 frames (paper, section 3.3 and B.1; published code).

The window is Hanning as in the published code (the paper says Hamming).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from bindsearch.encoders.imagebind.preprocessing.options import Preprocessing
from bindsearch.encoders.imagebind.preprocessing.views import count_views, exact_timepoints
from bindsearch.encoders.preprocessing.resampling import check_sound, even_parts, kaldi_log_mel, resample_sound
from bindsearch.encoders.torch_runtime.threads import single_threaded
from bindsearch.errors import MediaError

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray

SAMPLE_RATE_HZ = 16_000
MEL_BINS = 128
FRAMES = 204
WINDOW_SAMPLES = 400
PUBLISHED_VIEWS = 3
LOUDEST = 1e6
"""Peak (nominally 1) above which a sound is scaled to a peak of 1, since its squares could overflow."""


def prepare_sound(samples: NDArray[np.float32], sample_rate_hz: int, options: Preprocessing) -> NDArray[np.float32]:
    """Split a sound into evenly placed views, and compute a normalised log-mel of each; thread-safe.

    A sound shorter than a view is repeated to the length of the view; the published code pads its log-mel with zeros
    instead (see `preprocess_audio`).

    Args:
        samples: Mono sound, float32 (n,), nominally in -1..1.
        sample_rate_hz: Sampling rate of the sound.
        options: Length of a view, mean and standard deviation of log-mels.

    Returns:
        Log-mels, float32 (views, 1, 128, 204).

    Raises:
        MediaError: the sound is empty, too long, holds NaN or infinity, or its rate is out of range.
    """
    import torch

    samples = check_sound(samples, sample_rate_hz, SAMPLE_RATE_HZ)
    count = count_views(len(samples) / sample_rate_hz, options.view_s)
    view_samples = round(options.view_s * SAMPLE_RATE_HZ)
    with single_threaded(), torch.inference_mode():
        sound = _at_model_rate(samples, sample_rate_hz)
        if len(sound) < view_samples:
            sound = sound.repeat(-(-view_samples // len(sound)))[:view_samples]
        mels = np.empty((count, 1, MEL_BINS, FRAMES), np.float32)
        for mel, view in zip(mels, even_parts(sound, view_samples, count), strict=True):
            mel[0] = _log_mel(view, options).numpy()
    return mels


def preprocess_audio(waveform: torch.Tensor | NDArray[np.float32], sample_rate_hz: int) -> torch.Tensor:
    """Preprocess a sound like the published code, for parity: three views of 2 s.

    Views are placed by `clip_timepoints`; if the sound ends before the end of a view, the log-mel is padded with zeros.
    Two errors of the published code are not reproduced: channels are mixed down (there, only the first is used), and
    the mean of a view is subtracted from a copy (there, it also changes overlapping views).

    Args:
        waveform: Sound, (n,) or (channels, n), nominally in -1..1.
        sample_rate_hz: Sampling rate of the sound.

    Returns:
        Log-mels, float32 (1, 3, 1, 128, 204).

    Raises:
        MediaError: the sound is empty or shorter than one window of 25 ms, or as `prepare_sound`.
    """
    import torch

    if isinstance(waveform, torch.Tensor):
        waveform = waveform.detach().cpu().numpy()
    samples = np.asarray(waveform, dtype=np.float32)
    if samples.ndim == 2 and len(samples):
        samples = samples.mean(axis=0)
    samples = check_sound(samples, sample_rate_hz, SAMPLE_RATE_HZ)
    with single_threaded(), torch.inference_mode():
        sound = _at_model_rate(samples, sample_rate_hz)
        if len(sound) < WINDOW_SAMPLES:
            raise MediaError(f"sound of {len(sound) / SAMPLE_RATE_HZ:g} s is shorter than one window of 0.025 s")
        timepoints = exact_timepoints(len(sound) / SAMPLE_RATE_HZ, PUBLISHED_VIEWS)
        views = [sound[int(start * SAMPLE_RATE_HZ) : int(end * SAMPLE_RATE_HZ)] for start, end in timepoints]
        mels = np.stack([_log_mel(view, Preprocessing()).numpy() for view in views])
    return torch.from_numpy(mels[None, :, None])


def _at_model_rate(samples: NDArray[np.float32], sample_rate_hz: int) -> torch.Tensor:
    """Resample a checked sound to 16 kHz like the published code: float32 (m,), m >= 1."""
    import torch

    peak = max(float(samples.max()), -float(samples.min()))
    # torch requires writeable memory, although nothing writes to it.
    samples = samples / np.float32(peak) if peak > LOUDEST else np.require(samples, requirements="W")
    return resample_sound(torch.from_numpy(samples), sample_rate_hz, SAMPLE_RATE_HZ, float32_filter=True)


def _log_mel(view: torch.Tensor, options: Preprocessing) -> torch.Tensor:
    """Return the normalised log-mel, float32 (128, 204), of a view (n,), n >= 400.

    Missing frames are 0 before normalisation.
    """
    import torch

    mel = kaldi_log_mel(view - view.mean(), SAMPLE_RATE_HZ, MEL_BINS)
    framed = torch.zeros(MEL_BINS, FRAMES)
    frames = min(FRAMES, len(mel))
    framed[:, :frames] = mel[:frames].T
    return framed.sub_(options.audio_mean).div_(options.audio_std)
