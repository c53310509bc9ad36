"""Motion: six channels, views of 5 s in 2000 samples (paper, section 3.3).

The authors published neither the units nor the order of the channels nor the method of resampling. BindSearch's choice
is: 5 s resampled to 400 Hz, first the accelerometer in m/s^2 with gravity, then the gyroscope in rad/s.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bindsearch.encoders.imagebind.preprocessing.options import Preprocessing
from bindsearch.encoders.imagebind.preprocessing.views import count_views
from bindsearch.encoders.preprocessing.resampling import check_motion, even_parts, resample_motion
from bindsearch.encoders.torch_runtime.threads import single_threaded

VIEW_SAMPLES = 2_000


def prepare_motion(samples: NDArray[np.float32], sample_rate_hz: float, options: Preprocessing) -> NDArray[np.float32]:
    """Resample a recording to imu_rate_hz, and split it into ceil(length / 5 s) evenly placed views; thread-safe.

    A recording shorter than a view is padded with its last sample.

    Args:
        samples: Motion, float32 (n, 6): accelerometer x, y, z in m/s^2 with gravity, then gyroscope x, y, z in rad/s.
        sample_rate_hz: Sampling rate of the recording.
        options: Sampling rate of the views.

    Returns:
        Views, float32 (views, 6, 2000).

    Raises:
        MediaError: the recording is empty, too long, of the wrong shape, holds NaN or infinity, or its rate is out of
            range.
    """
    samples = check_motion(samples, sample_rate_hz)
    count = count_views(len(samples) / sample_rate_hz, VIEW_SAMPLES / options.imu_rate_hz)
    with single_threaded():
        signal = resample_motion(samples.T, sample_rate_hz, options.imu_rate_hz)
    if signal.shape[1] < VIEW_SAMPLES:
        signal = np.pad(signal, ((0, 0), (0, VIEW_SAMPLES - signal.shape[1])), mode="edge")
    return np.stack(even_parts(signal, VIEW_SAMPLES, count))
