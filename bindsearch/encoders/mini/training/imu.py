"""Training data of the IMU tower: UCI HAR (Anguita et al. 2013), with its augmentation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations, product
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from bindsearch.encoders.mini.imu import VIEW_HOP, VIEW_SAMPLES
from bindsearch.encoders.mini.imu_network import ImuNetwork
from bindsearch.encoders.mini.label_head import LabelMixture
from bindsearch.encoders.mini.training.objective import Batches, Schedule, label_bank, phrase_vectors, train_member

PHRASES: dict[str, tuple[str, str]] = {
    "WALKING": ("walking", "a person walking"),
    "WALKING_UPSTAIRS": ("walking upstairs", "a person walking upstairs"),
    "WALKING_DOWNSTAIRS": ("walking downstairs", "a person walking downstairs"),
    "SITTING": ("sitting", "a person sitting"),
    "STANDING": ("standing", "a person standing"),
    "LAYING": ("laying", "a person lying down"),
}
"""Phrasings of each label as its name and as a caption."""

STANDARD_GRAVITY = 9.80665
MEMBERS = 3
WIDTH = 32
EPOCHS = 40
BATCH = 64
LEARNING_RATE = 2e-3
SHARPNESS = 4.0
TILT_DEG = 15.0  # standard deviation of the random rotation, for different ways to wear a phone at the waist
TURNED_SHARE = 0.8  # of the views that are turned by right angles: a phone may lie in any way


def _right_angles() -> NDArray[np.float64]:
    """Return the 24 rotations (24, 3, 3) that map axes to axes; the first one is the identity."""
    found = []
    for order in permutations(range(3)):
        for signs in product((1.0, -1.0), repeat=3):
            matrix = np.zeros((3, 3))
            matrix[range(3), order] = signs
            if np.linalg.det(matrix) > 0:
                found.append(matrix)
    return np.stack(found)


RIGHT_ANGLES = _right_angles()


@dataclass(frozen=True, slots=True)
class Run:
    """Consecutive windows of one activity as one signal.

    Attributes:
        signal: Motion, float32 (6, n) at 50 Hz, accelerometer in m/s^2 with gravity, gyroscope in rad/s.
        label: Index of the label in PHRASES.
        subject: Number of the person.
        windows: Number of windows that were joined (n = 64 * (windows + 1)).
    """

    signal: NDArray[np.float32]
    label: int
    subject: int
    windows: int


def load_runs(data: Path) -> list[Run]:
    """Return all runs of UCI HAR, in the order of the file."""
    with np.load(data / "imu_uci_har" / "windows.npz", allow_pickle=False) as archive:
        windows, run_of, label_of, subject_of = archive["x"], archive["run"], archive["y"], archive["subject"]
        names = [str(name) for name in archive["labels"]]
    six_axes = np.concatenate([windows[:, :, 3:6] * STANDARD_GRAVITY, windows[:, :, 6:9]], axis=2)
    signals = six_axes.transpose(0, 2, 1).astype(np.float32)
    labels = list(PHRASES)
    runs = []
    for number in np.unique(run_of):
        rows = np.flatnonzero(run_of == number)
        signal = np.concatenate([signals[rows[0]], *(signals[row][:, -VIEW_HOP:] for row in rows[1:])], axis=1)
        label = labels.index(names[label_of[rows[0]]])
        runs.append(Run(signal, label, int(subject_of[rows[0]]), len(rows)))
    return runs


def train_imu(data: Path, *, leave_out: int | None, seed: int) -> LabelMixture:
    """Train all members on UCI HAR; it takes three minutes on one core.

    Args:
        data: Folder of the training data.
        leave_out: Number of a subject that is not trained on; None: all are used.
        seed: Seed of weights and batches.
    """
    runs = [run for run in load_runs(data) if run.subject != leave_out]
    phrases = phrase_vectors(list(PHRASES.values()))
    steps = EPOCHS * sum(run.windows for run in runs) // BATCH
    schedule = Schedule(steps=steps, learning_rate=LEARNING_RATE, sharpness=SHARPNESS)
    members = []
    for number in range(MEMBERS):
        member_seed = MEMBERS * seed + number
        torch.manual_seed(member_seed)
        member = ImuNetwork(len(PHRASES), width=WIDTH)
        members.append(train_member(member, motion_batches(runs), phrases, schedule, seed=member_seed))
    return LabelMixture(members, label_bank(phrases)).eval()


def motion_batches(runs: Sequence[Run]) -> Batches:
    """Return batches of augmented views: labels are equally likely, the runs of a label by their length."""
    labels = np.array([run.label for run in runs])
    windows = np.array([run.windows for run in runs], dtype=np.float64)
    per_label = np.bincount(labels, weights=windows, minlength=len(PHRASES))
    chances = windows / per_label[labels]
    chances /= chances.sum()

    def draw(rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        chosen = rng.choice(len(runs), size=BATCH, p=chances)
        views = torch.from_numpy(np.stack([augmented_view(runs[index].signal, rng) for index in chosen]))
        targets = functional.one_hot(torch.from_numpy(labels[chosen]), len(PHRASES)).float()
        partners = rng.permutation(BATCH)
        share = torch.from_numpy(np.where(rng.random(BATCH) < 0.5, rng.beta(0.3, 0.3, BATCH), 1.0)).float()
        mixed = share[:, None, None] * views + (1 - share[:, None, None]) * views[partners]
        return mixed, share[:, None] * targets + (1 - share[:, None]) * targets[partners]

    return draw


def augmented_view(signal: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    """Return a random view (6, VIEW_SAMPLES) of a run, with random tempo, orientation, intensity and noise."""
    view = _random_tempo(signal, rng)
    rotation = _random_rotation(rng)
    if rng.random() < TURNED_SHARE:
        rotation = rotation @ RIGHT_ANGLES[rng.integers(len(RIGHT_ANGLES))]
    view = np.concatenate([rotation @ view[:3], rotation @ view[3:]])
    intensity = np.exp(rng.normal(0, 0.15))
    gravity = view[:3].mean(axis=1, keepdims=True)
    view = np.concatenate([gravity + (view[:3] - gravity) * intensity, view[3:] * intensity])
    noise = np.repeat([0.1, 0.02], 3)[:, None] * rng.random()
    return (view + rng.normal(0, 1, view.shape) * noise).astype(np.float32)


def _random_tempo(signal: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    """Stretch a random part of a signal to the length of a view."""
    length = min(round(VIEW_SAMPLES * float(np.exp(rng.uniform(-0.15, 0.15)))), signal.shape[1])
    start = int(rng.integers(0, signal.shape[1] - length + 1))
    times = np.linspace(start, start + length - 1, VIEW_SAMPLES)
    return np.stack([np.interp(times, np.arange(signal.shape[1]), channel) for channel in signal])


def _random_rotation(rng: np.random.Generator) -> NDArray[np.float64]:
    """Return a rotation (3, 3) about a random axis by a normally distributed angle of TILT_DEG (Rodrigues)."""
    x, y, z = (axis := rng.normal(size=3)) / np.linalg.norm(axis)
    angle = np.deg2rad(rng.normal(0, TILT_DEG))
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    rotation: NDArray[np.float64] = np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross
    return rotation
