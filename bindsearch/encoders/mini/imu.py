"""The IMU tower: accelerometer and gyroscope in views of 2.56 s, and a small network trained towards the text space.

As in the audio tower, the embedding is the convex combination of the label texts. Gravity stays in the signal: the
direction it lies in tells lying from standing. How it was trained: TRAINING.md.
"""

from __future__ import annotations

import math
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bindsearch.errors import MediaError

if TYPE_CHECKING:
    from numpy.typing import NDArray


WEIGHTS = Path(__file__).with_name("imu.safetensors")
DIM = 384
SAMPLE_RATE_HZ = 50.0  # of UCI HAR
VIEW_SAMPLES = 128  # 2.56 s, a window of UCI HAR
VIEW_HOP = 64
MIN_RATE_HZ, MAX_RATE_HZ = 5.0, 100_000.0


def prepare_motion(samples: NDArray[np.float32], sample_rate_hz: float) -> NDArray[np.float32]:
    """Resample a recording to 50 Hz and cut it into views; thread-safe, loads no tower.

    Args:
        samples: float32 (n, 6): accelerometer x, y, z in m/s^2 with gravity, then gyroscope x, y, z in rad/s.
        sample_rate_hz: of `samples`.

    Returns:
        float32 (views, 6, 128): views of 2.56 s that overlap by half or more, the first at the start and the last at
        the end. A shorter recording is continued forth and back (reflected) to the length of one view.

    Raises:
        MediaError: the recording is empty, of the wrong shape, holds NaN or infinity, or its rate is out of range.
    """
    if samples.ndim != 2 or samples.shape[1] != 6 or len(samples) == 0:
        raise MediaError(f"motion of shape {samples.shape} cannot be embedded; give rows of 6 values, at least one")
    if not MIN_RATE_HZ <= sample_rate_hz <= MAX_RATE_HZ:
        raise MediaError(
            f"motion at {sample_rate_hz} Hz is out of range; {MIN_RATE_HZ:g} to {MAX_RATE_HZ:g} Hz will do"
        )
    if not np.isfinite(samples).all():
        raise MediaError("motion holds NaN or infinite samples; cut them out or fill them in")
    signal = _at_model_rate(samples.astype(np.float32, copy=False).T, sample_rate_hz)
    if signal.shape[1] < VIEW_SAMPLES:
        signal = np.pad(signal, ((0, 0), (0, VIEW_SAMPLES - signal.shape[1])), mode="symmetric")
    room = signal.shape[1] - VIEW_SAMPLES
    starts = np.linspace(0, room, math.ceil(room / VIEW_HOP) + 1).round().astype(np.int64)
    return np.stack([signal[:, start : start + VIEW_SAMPLES] for start in starts])


def _at_model_rate(signal: NDArray[np.float32], sample_rate_hz: float) -> NDArray[np.float32]:
    """Resample float32 (6, n) to 50 Hz with an anti-aliasing filter: float32 (6, m), m >= 1."""
    # Rates are rounded to a ratio of small numbers (by less than 0.5%): clocks of phones are no better than that.
    ratio = Fraction(SAMPLE_RATE_HZ / sample_rate_hz).limit_denominator(2_000 if sample_rate_hz > 1_000 else 100)
    if ratio == 1:
        return signal
    import torch
    from torchaudio.functional import resample

    # The filter sees silence beyond the ends, which would bend gravity towards zero there: reflect at least 16 samples
    # of 50 Hz instead, a whole number of them.
    periods = math.ceil(16 / ratio.numerator)
    margin = periods * ratio.denominator
    padded = np.pad(signal, ((0, 0), (margin, margin)), mode="symmetric")
    with torch.inference_mode():
        resampled = resample(torch.from_numpy(padded), ratio.denominator, ratio.numerator).numpy()
    start = periods * ratio.numerator
    count = max(1, math.ceil(signal.shape[1] * float(ratio)))
    result: NDArray[np.float32] = resampled[:, start : start + count]
    return result


class ImuTower:
    """Embeds prepared views. The weights are read at construction.

    Raises:
        EncoderError: the weights are missing or do not fit the network.
    """

    def __init__(self, weights: Path = WEIGHTS) -> None:
        from bindsearch.encoders.mini.imu_network import network_from_state
        from bindsearch.encoders.mini.label_mixture import load_mixture

        self._network = load_mixture(weights, network_from_state)

    def encode(self, views: NDArray[np.float32]) -> NDArray[np.float32]:
        """Embed views float32 (n, 6, 128): float32 (n, 384), unit L2 norm."""
        from bindsearch.encoders.mini.label_mixture import embed_views

        return embed_views(self._network, views)
