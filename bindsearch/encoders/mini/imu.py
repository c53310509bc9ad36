"""IMU tower: accelerometer and gyroscope in views of 2.56 s, and a small network trained towards the text space.

The embedding is the convex combination of the label texts, like in the audio tower. Gravity is not removed from the
signal: its direction distinguishes lying from standing. TRAINING.md describes the training.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bindsearch.encoders.mini.weights import reading_weights
from bindsearch.encoders.preprocessing.resampling import check_motion, even_parts, resample_motion

WEIGHTS = Path(__file__).with_name("imu.safetensors")
DIM = 384
SAMPLE_RATE_HZ = 50.0  # of UCI HAR
VIEW_SAMPLES = 128  # 2.56 s, a window of UCI HAR
VIEW_HOP = 64
MARGIN_SAMPLES = 16
"""Length of the reflection at each end for resampling: the reach of the filter at 22 Hz and more."""


def prepare_motion(samples: NDArray[np.float32], sample_rate_hz: float) -> NDArray[np.float32]:
    """Resample a recording to 50 Hz, and split it into views; thread-safe, loads no tower.

    Args:
        samples: Motion, float32 (n, 6): accelerometer x, y, z in m/s^2 with gravity, then gyroscope x, y, z in rad/s.
        sample_rate_hz: Sampling rate of the recording.

    Returns:
        Views, float32 (views, 6, 128), of 2.56 s with an overlap of at least half, the first at the start and the last
        at the end. A shorter recording is extended by reflection to the length of one view.

    Raises:
        MediaError: the recording is empty, of the wrong shape, holds NaN or infinity, or its rate is out of range.
    """
    samples = check_motion(samples, sample_rate_hz)
    signal = resample_motion(samples.T, sample_rate_hz, SAMPLE_RATE_HZ, margin_samples=MARGIN_SAMPLES)
    if signal.shape[1] < VIEW_SAMPLES:
        signal = np.pad(signal, ((0, 0), (0, VIEW_SAMPLES - signal.shape[1])), mode="symmetric")
    return np.stack(even_parts(signal, VIEW_SAMPLES, math.ceil((signal.shape[1] - VIEW_SAMPLES) / VIEW_HOP) + 1))


class ImuTower:
    """Tower that embeds prepared views."""

    def __init__(self, weights: Path = WEIGHTS) -> None:
        from safetensors.torch import load_file

        from bindsearch.encoders.mini.imu_network import network_from_state

        with reading_weights(weights):
            self._network = network_from_state(load_file(weights))

    def encode(self, views: NDArray[np.float32]) -> NDArray[np.float32]:
        """Embed views, float32 (n, 6, 128): float32 (n, 384), unit L2 norm."""
        import torch

        with torch.inference_mode():
            embeddings: NDArray[np.float32] = self._network(torch.from_numpy(views)).numpy()
        return embeddings
