"""Sounds at the rate of a model, and windows that cover them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from bindsearch.encoders.preprocessing.resampling import check_sound, resample_sound
from bindsearch.encoders.torch_runtime.threads import single_threaded

if TYPE_CHECKING:
    from numpy.typing import NDArray

MAX_WINDOWS = 32
"""Most windows that cover a sound; windows of a longer one lie apart."""


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
        resampled: NDArray[np.float32] = resample_sound(
            sound, sample_rate_hz, model_rate_hz, float32_filter=float32_filter
        ).numpy()
    return resampled


def windows(sound: NDArray[np.float32], length: int) -> list[NDArray[np.float32]]:
    """Return windows of `length` samples at even distances, the first at the start and the last at the end.

    As many as are needed to cover the sound (n,), at most MAX_WINDOWS; the whole sound if it is not longer than one.
    """
    if len(sound) <= length:
        return [sound]
    count = min(math.ceil(len(sound) / length), MAX_WINDOWS)
    starts = np.linspace(0, len(sound) - length, count).round().astype(int)
    return [sound[start : start + length] for start in starts]
