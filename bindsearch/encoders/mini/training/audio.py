"""Training data of the audio tower: ESC-10 (Piczak 2015), with its augmentation."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from bindsearch.encoders.mini.audio import MEL_BINS, VIEW_FRAMES, normalize_levels, sound_levels
from bindsearch.encoders.mini.audio_network import AudioNetwork
from bindsearch.encoders.mini.label_head import LabelMixture
from bindsearch.encoders.mini.training.objective import Batches, Schedule, label_bank, phrase_vectors, train_member

PHRASES: dict[str, tuple[str, str, str]] = {
    "dog": ("dog", "a dog barking", "the sound of a dog"),
    "rain": ("rain", "rain falling", "the sound of rain"),
    "sea_waves": ("sea waves", "waves crashing on the shore", "the sound of sea waves"),
    "crying_baby": ("crying baby", "a baby crying", "the sound of a crying baby"),
    "clock_tick": ("clock tick", "a clock ticking", "the sound of a ticking clock"),
    "sneezing": ("sneezing", "a person sneezing", "the sound of sneezing"),
    "helicopter": ("helicopter", "a helicopter flying", "the sound of a helicopter"),
    "chainsaw": ("chainsaw", "a chainsaw cutting wood", "the sound of a chainsaw"),
    "rooster": ("rooster", "a rooster crowing", "the sound of a rooster"),
    "crackling_fire": ("crackling fire", "a fire crackling", "the sound of a crackling fire"),
}
"""Phrasings of each label as a name, as an event and as a sound: queries have all three forms."""

LEFT_OUT_LICENSE = "CC-Sampling+"  # more restrictive than CC BY
MEMBERS = 3
WIDTH = 16
EPOCHS = 60
BATCH = 32
LEARNING_RATE = 3e-3
NOISE_CHANCE = 0.4
LOW_PASS_CHANCE = 0.2
SHARPNESS = 2.0  # chosen on folds 1 to 3: a larger value finds more pictures and classifies fewer labels correctly
ACTIVE_DB = 50.0  # leading and trailing parts this far below the loudest point are padding
_NEPERS = float(np.log(10) / 10)  # a power in dB times this is its natural logarithm


@dataclass(frozen=True, slots=True)
class Recording:
    """Recording of a sound.

    Attributes:
        levels_db: Levels in dB, float32 (mel, frames), without leading and trailing silence.
        label: Index of the label in PHRASES.
    """

    levels_db: NDArray[np.float32]
    label: int


def load_recordings(data: Path, *, leave_out: int | None) -> list[Recording]:
    """Return the recordings of ESC-10 whose licence permits training, without fold `leave_out`."""
    import soundfile

    folder = data / "audio_esc10"
    labels = list(PHRASES)
    recordings = []
    with (folder / "labels.csv").open(newline="") as lines:
        for row in csv.DictReader(lines):
            if int(row["fold"]) == leave_out or row["clip_license"] == LEFT_OUT_LICENSE:
                continue
            samples, rate_hz = soundfile.read(folder / row["path"], dtype="float32")
            recordings.append(Recording(_active(sound_levels(samples, rate_hz)), labels.index(row["label"])))
    return recordings


def _active(levels_db: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return levels without leading and trailing silence."""
    loudest = levels_db.max(axis=0)
    frames = np.flatnonzero(loudest > loudest.max() - ACTIVE_DB)
    return levels_db[:, frames[0] : frames[-1] + 1]


def train_audio(data: Path, *, leave_out: int | None, seed: int) -> LabelMixture:
    """Train all members on ESC-10; it takes about two minutes on one core.

    Args:
        data: Folder of the training data.
        leave_out: Number of a fold that is not trained on; None: all are used.
        seed: Seed of weights and batches.
    """
    recordings = load_recordings(data, leave_out=leave_out)
    phrases = phrase_vectors(list(PHRASES.values()))
    schedule = Schedule(steps=EPOCHS * len(recordings) // BATCH, learning_rate=LEARNING_RATE, sharpness=SHARPNESS)
    members = []
    for number in range(MEMBERS):
        member_seed = MEMBERS * seed + number
        torch.manual_seed(member_seed)
        member = AudioNetwork(len(PHRASES), width=WIDTH)
        cast("Any", member).to(memory_format=torch.channels_last)  # torch 2.11 declares no such keyword
        members.append(train_member(member, sound_batches(recordings), phrases, schedule, seed=member_seed))
    return LabelMixture(members, label_bank(phrases)).eval()


def sound_batches(recordings: Sequence[Recording]) -> Batches:
    """Return batches of augmented views; every recording is drawn once before any is drawn again."""
    queue: list[int] = []

    def draw(rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        while len(queue) < BATCH:
            queue.extend(rng.permutation(len(recordings)).tolist())
        batch = [recordings[queue.pop(0)] for _ in range(BATCH)]
        levels_db = np.stack([augmented_view(recording.levels_db, rng) for recording in batch])
        targets = functional.one_hot(torch.tensor([recording.label for recording in batch]), len(PHRASES)).float()
        views = normalize_levels(levels_db)
        for view in views:
            _mask(view, rng)
        return torch.from_numpy(views), targets

    return draw


def augmented_view(levels_db: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    """Return a random view (mel, VIEW_FRAMES) of a recording, with random speed, pitch, background and band."""
    view = _stretched_crop(levels_db, rng)
    view = _shifted_pitch(view, int(rng.integers(-3, 4)))
    if rng.random() < NOISE_CHANCE:
        view = _with_noise(view, rng)
    if rng.random() < LOW_PASS_CHANCE:
        view = _with_low_pass(view, int(rng.integers(35, 60)))
    return view.astype(np.float32)


def _stretched_crop(levels_db: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    """Stretch a part of 0.8 to 1.2 views to one view; a short recording is repeated or padded with silence."""
    frames = round(VIEW_FRAMES * float(np.exp(rng.uniform(-0.2, 0.2))))
    if levels_db.shape[1] < frames:
        if rng.random() < 0.5:
            levels_db = np.tile(levels_db, (1, -(-frames // levels_db.shape[1])))
        else:
            pad_before = int(rng.integers(0, frames - levels_db.shape[1] + 1))
            pad_after = frames - levels_db.shape[1] - pad_before
            levels_db = np.pad(levels_db, ((0, 0), (pad_before, pad_after)), constant_values=-90.0)
    start = int(rng.integers(0, levels_db.shape[1] - frames + 1))
    times = np.linspace(0, frames - 1, VIEW_FRAMES)
    before_times = np.floor(times).astype(np.int64)
    after_times = np.minimum(before_times + 1, frames - 1)
    crop, fraction = levels_db[:, start : start + frames], (times - before_times).astype(np.float32)
    stretched: NDArray[np.float32] = crop[:, before_times] * (1 - fraction) + crop[:, after_times] * fraction
    return stretched


def _shifted_pitch(view: NDArray[np.float32], bins: int) -> NDArray[np.float32]:
    """Shift the spectrum up by `bins` mel bins, repeating the edge."""
    return view[np.clip(np.arange(MEL_BINS) - bins, 0, MEL_BINS - 1)]


def _with_low_pass(view: NDArray[np.float32], bins: int) -> NDArray[np.float32]:
    """Reduce the level by 6 dB per mel bin from bin `bins` on, like a recording at a low rate (35: 2.2 kHz)."""
    drop_db = np.minimum(6.0 * np.maximum(np.arange(MEL_BINS) - bins + 1, 0), 90.0)
    return view - drop_db[:, None].astype(np.float32)


def _curve(rng: np.random.Generator) -> NDArray[np.float32]:
    """Return the colour of a noise: a random smooth spectrum in dB, float32 (mel,)."""
    knots = rng.normal(0, 8.0, 4)
    return np.interp(np.arange(MEL_BINS), np.linspace(0, MEL_BINS - 1, len(knots)), knots).astype(np.float32)


def _with_noise(view: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    """Add coloured noise 40 to 75 dB below the loudest point; the power of a bin is distributed exponentially."""
    level_db = view.max() - rng.uniform(40, 75) + _curve(rng)[:, None]
    noise_db = level_db + 10 * np.log10(rng.exponential(1, view.shape) + 1e-6)
    mixed: NDArray[np.float32] = np.logaddexp(view * _NEPERS, noise_db * _NEPERS) / _NEPERS
    return mixed


def _mask(view: NDArray[np.float32], rng: np.random.Generator) -> None:
    """Replace two bands and two time spans by the mean, in place (SpecAugment, Park et al. 2019)."""
    mean = view.mean()
    for _ in range(2):
        bins, frames = int(rng.integers(0, 9)), int(rng.integers(0, 13))
        low, start = int(rng.integers(0, MEL_BINS - bins)), int(rng.integers(0, VIEW_FRAMES - frames))
        view[low : low + bins] = mean
        view[:, start : start + frames] = mean
