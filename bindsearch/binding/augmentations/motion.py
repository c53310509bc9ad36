"""Changes of motion: tempo, orientation, intensity and noise."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache
from itertools import permutations, product
from typing import TYPE_CHECKING

import numpy as np

from bindsearch.errors import MediaError

if TYPE_CHECKING:
    from numpy.random import Generator
    from numpy.typing import NDArray

    from bindsearch.binding.augmentations.options import MotionOptions

    Floats = NDArray[np.float32]

LARGEST = np.float32(1e6)
"""Largest value of a signal in m/s^2 or rad/s: larger ones would overflow in float32, and no sensor measures them."""

ACCELERATION_NOISE, ROTATION_NOISE = 0.1, 0.02
"""Standard deviation of noise of 1, in m/s^2 and rad/s: several times that of a phone's sensors."""


def augment_motion(signal: Floats, rng: Generator, options: MotionOptions, count: int | None = None) -> Floats:
    """Return motion with random tempo, orientation, intensity and noise.

    Args:
        signal: Motion, float32 (6, n): accelerometer x, y, z in m/s^2 with gravity, then gyroscope x, y, z in rad/s.
        rng: Source of all randomness.
        options: Strengths and probabilities.
        count: Number of samples of the result, a random part; None: n.

    Returns:
        Motion, float32 (6, count); the one given is not changed.

    Raises:
        MediaError: the recording is empty or has another number of channels.
    """
    changed: Floats = change_tempo(signal, rng, options.tempo, count)
    np.clip(changed, -LARGEST, LARGEST, out=changed)
    rotation = random_rotation(rng, options.tilt_deg)
    if rng.random() < options.turn:
        turns = right_angles()
        rotation = rotation @ turns[rng.integers(len(turns))]
    # accelerometer and gyroscope turn together; all but gravity, the mean acceleration, gets the intensity
    changed = np.matmul(rotation.astype(np.float32), changed.reshape(2, 3, -1)).reshape(6, -1)
    gravity = changed[:3].mean(axis=1, keepdims=True, dtype=np.float64).astype(np.float32)
    factor = math.exp(rng.normal() * options.intensity)
    changed *= np.float32(factor)
    changed[:3] += gravity * np.float32(1.0 - factor)
    noise = options.noise * rng.random()
    if noise:
        deviations = noise * np.repeat([ACCELERATION_NOISE, ROTATION_NOISE], 3)
        changed += deviations[:, None].astype(np.float32) * rng.standard_normal(changed.shape, dtype=np.float32)
    return changed


def change_tempo(signal: Floats, rng: Generator, spread: float, count: int | None = None) -> Floats:
    """Return a random part of a signal at a random tempo, interpolated linearly.

    A signal that ends before the part does is reflected there. Angular velocity and acceleration are not scaled: of a
    movement, tempo and intensity are separate changes.

    Args:
        signal: Motion, float32 (6, n).
        rng: Source of all randomness.
        spread: Largest change as a natural logarithm; drawn evenly in it.
        count: Number of samples of the result; None: n.

    Returns:
        Motion, float32 (6, count), a copy.

    Raises:
        MediaError: the recording is empty or has another number of channels.
    """
    if signal.ndim != 2 or len(signal) != 6 or signal.shape[1] == 0:
        raise MediaError(f"motion of shape {signal.shape}: expected 6 channels of at least one sample")
    last = signal.shape[1] - 1

    def reflected(positions: NDArray[np.int64]) -> Floats:
        return signal[:, last - np.abs(positions % max(2 * last, 1) - last)]

    return random_part(reflected, last + 1, rng, spread, count)


def random_part(
    values_at: Callable[[NDArray[np.int64]], Floats], length: int, rng: Generator, spread: float, count: int | None
) -> Floats:
    """Return a random part of a recording at a random speed, interpolated linearly.

    Args:
        values_at: Returns new values (..., m) at positions (m,) from 0, also at those after the last one.
        length: Number n of samples of the recording.
        rng: Source of all randomness.
        spread: Largest change of the speed as a natural logarithm; drawn evenly in it.
        count: Number of samples of the part; None: n.
    """
    count = length if count is None else count
    speed = math.exp(rng.uniform(-spread, spread))
    start = int(rng.integers(max(0, length - math.ceil(count * speed)) + 1))
    times = np.arange(count) * speed
    before = times.astype(np.int64)
    first, step = values_at(before + start), values_at(before + (start + 1))
    with np.errstate(over="ignore"):  # values that are too large are clipped by the caller
        step -= first
        step *= (times - before).astype(np.float32)
        first += step
    return first


@cache
def right_angles() -> NDArray[np.float64]:
    """Return the 24 rotations (24, 3, 3) that map axes to axes; the first one is the identity."""
    found = []
    for order in permutations(range(3)):
        for signs in product((1.0, -1.0), repeat=3):
            matrix = np.zeros((3, 3))
            matrix[range(3), order] = signs
            if np.linalg.det(matrix) > 0:
                found.append(matrix)
    turns = np.stack(found)
    turns.flags.writeable = False
    return turns


def random_rotation(rng: Generator, deviation_deg: float) -> NDArray[np.float64]:
    """Return a rotation (3, 3) about a random axis by a normally distributed angle (Rodrigues' formula).

    Args:
        rng: Source of all randomness.
        deviation_deg: Standard deviation of the angle in degrees.
    """
    axis = rng.normal(size=3)
    x, y, z = axis / np.linalg.norm(axis)
    angle = math.radians(rng.normal() * deviation_deg)
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    rotation: NDArray[np.float64] = np.eye(3) + math.sin(angle) * cross + (1 - math.cos(angle)) * cross @ cross
    return rotation
