"""The sound and motion part of the quality benchmark: nearest class name, and images found by sounds."""

from __future__ import annotations

import csv
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import comb
from pathlib import Path
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray
from quality_rows import Row

from bindsearch.encoders.base import Encoder, encode_media
from bindsearch.encoders.mini.audio import AudioTower, prepare_sound
from bindsearch.encoders.mini.imu import VIEW_HOP, VIEW_SAMPLES, ImuTower, prepare_motion
from bindsearch.encoders.mini.training.imu import RIGHT_ANGLES
from bindsearch.ingest.media.options import DecodeOptions
from bindsearch.ingest.media.pictures.image import read_image
from bindsearch.media import Motion, Passage, Sound
from bindsearch.types import Modality
from bindsearch.vectors import l2_normalize

MediaT = TypeVar("MediaT", Sound, Motion)
Vectors = NDArray[np.float32]
Embed = Callable[[Sequence[NDArray[np.float32]]], Vectors]

FOLDS = (1, 2, 3, 4)
LEFT_OUT_FOLD = 4  # of the shipped weights
SUBJECTS = (2, 4, 9, 12, 13, 18)
LEFT_OUT_SUBJECT = 18  # of the shipped weights
WINDOWS = 3  # consecutive windows of a run: 5.12 s
STANDARD_GRAVITY = 9.80665
TOP = 10
SEED = 0


@dataclass(frozen=True, slots=True)
class Labelled(Generic[MediaT]):
    """One recording, its label in words, and the group (fold or subject; 0: none) that is left out with it."""

    media: MediaT
    label: str
    group: int


def run(data: Path, encoder: Encoder, *, crossval: bool) -> list[Row]:
    """Return all rows of this part; `crossval` trains the towers for each fold and subject (about ten minutes)."""
    sounds = load_sounds(data / "audio_esc10")
    motions = load_motions(data / "imu_uci_har")
    rows = [
        *_esc10_rows(data, encoder, sounds, crossval=crossval),
        *_har_rows(data, encoder, motions, crossval=crossval),
    ]
    pictures = load_pictures(data, encoder)
    fold = [sound for sound in sounds if sound.group == LEFT_OUT_FOLD]
    rows += _picture_rows(data, encoder, pictures, fold, name="ESC-10 fold 4", wanted=5.0)
    for folder, name in (("audio_urbansound8k", "UrbanSound8K"), ("audio_animals", "animals")):
        rows += _picture_rows(data, encoder, pictures, load_sounds(data / folder), name=name, wanted=None)
    return rows


def load_sounds(folder: Path) -> list[Labelled[Sound]]:
    """Read the sounds of a data set with a `labels.csv` of path, label and optionally fold."""
    import soundfile

    sounds = []
    with (folder / "labels.csv").open(newline="") as lines:
        for row in csv.DictReader(lines):
            samples, rate_hz = soundfile.read(folder / row["path"], dtype="float32")
            group = int(row.get("fold", "0").removeprefix("fold"))
            sounds.append(Labelled(Sound(samples, rate_hz), _in_words(row["label"]), group))
    return sounds


def load_motions(folder: Path) -> list[Labelled[Motion]]:
    """Read UCI HAR: windows 0-2, 3-5, ... of every run, joined to 5.12 s; remaining windows are dropped."""
    with np.load(folder / "windows.npz", allow_pickle=False) as archive:
        windows, runs, labels, subjects = archive["x"], archive["run"], archive["y"], archive["subject"]
        names = [_in_words(str(name)) for name in archive["labels"]]
        rate_hz = float(archive["rate_hz"])
    motions = []
    for number in np.unique(runs):
        rows = np.flatnonzero(runs == number)
        for start in range(0, len(rows) - WINDOWS + 1, WINDOWS):
            first, *others = windows[rows[start : start + WINDOWS]]
            joined = np.concatenate([first, *(window[VIEW_SAMPLES - VIEW_HOP :] for window in others)])
            six = np.concatenate([joined[:, 3:6] * STANDARD_GRAVITY, joined[:, 6:9]], axis=1).astype(np.float32)
            row = rows[start]
            motions.append(Labelled(Motion(six, rate_hz), names[labels[row]], int(subjects[row])))
    return motions


def _in_words(label: str) -> str:
    return label.lower().replace("_", " ")


def nearest_name_accuracy(vectors: Vectors, labels: Sequence[str], encoder: Encoder) -> float:
    """Return the share of `vectors` (n, d) with their label as nearest class name, by cosine of the text embeddings."""
    names = sorted(set(labels))
    texts = encode_media(encoder, [Passage(name) for name in names])
    nearest = (vectors @ texts.T).argmax(axis=1)
    return float(np.mean([names[index] == label for index, label in zip(nearest, labels, strict=True)]))


def _esc10_rows(data: Path, encoder: Encoder, sounds: list[Labelled[Sound]], *, crossval: bool) -> list[Row]:
    prepared = [prepare_sound(sound.media.samples, sound.media.sample_rate_hz) for sound in sounds]
    labels = [sound.label for sound in sounds]
    groups = np.array([sound.group for sound in sounds])

    def accuracy(embed: Embed, fold: int) -> float:
        rows = np.flatnonzero(groups == fold)
        return nearest_name_accuracy(embed([prepared[row] for row in rows]), [labels[row] for row in rows], encoder)

    def shipped(views: Sequence[NDArray[np.float32]]) -> Vectors:
        return encoder.encode(Modality.AUDIO, views)

    n = int((groups == LEFT_OUT_FOLD).sum())
    rows = [Row("ESC-10 nearest of 10 names, shipped weights, fold 4", accuracy(shipped, LEFT_OUT_FOLD), None, n)]
    if crossval:
        figures = [accuracy(_trained_audio(data, fold), fold) for fold in FOLDS]
        rows += _crossval_rows("ESC-10 nearest of 10 names", "fold", FOLDS, figures, groups, wanted=0.80)
    return rows


def _har_rows(data: Path, encoder: Encoder, motions: list[Labelled[Motion]], *, crossval: bool) -> list[Row]:
    prepared = [prepare_motion(motion.media.samples, motion.media.sample_rate_hz) for motion in motions]
    labels = [motion.label for motion in motions]
    groups = np.array([motion.group for motion in motions])

    def accuracies(embed: Embed, subject: int) -> NDArray[np.float64]:
        """Return the share named rightly for each turn of the phone by right angles (24,), the first one upright."""
        rows = np.flatnonzero(groups == subject)
        names = [labels[row] for row in rows]
        turned = [[turned_views(prepared[row], turn) for row in rows] for turn in RIGHT_ANGLES]
        return np.array([nearest_name_accuracy(embed(views), names, encoder) for views in turned])

    def shipped(views: Sequence[NDArray[np.float32]]) -> Vectors:
        return encoder.encode(Modality.IMU, views)

    n = int((groups == LEFT_OUT_SUBJECT).sum())
    name = "UCI HAR 5.12 s nearest of 6 names"
    figures = accuracies(shipped, LEFT_OUT_SUBJECT)
    rows = [
        Row(f"{name}, shipped weights, subject 18", float(figures[0]), None, n),
        Row(f"{name}, shipped weights, subject 18, worst of 24 turns of the phone", float(figures.min()), None, n),
    ]
    if crossval:
        by_subject = np.stack([accuracies(_trained_imu(data, subject), subject) for subject in SUBJECTS])
        rows += _crossval_rows(name, "subject", SUBJECTS, by_subject[:, 0].tolist(), groups, wanted=0.90)
        worst = float(by_subject.mean(axis=0).min())
        rows.append(Row(f"{name}, worst of 24 turns, leave-one-subject-out mean", worst, 0.85, len(groups)))
    return rows


def turned_views(views: NDArray[np.float32], turn: NDArray[np.float64]) -> NDArray[np.float32]:
    """Return views (n, 6, 128) of a phone that lies turned by a rotation (3, 3)."""
    return np.concatenate([turn @ views[:, :3], turn @ views[:, 3:]], axis=1).astype(np.float32)


def _crossval_rows(
    name: str,
    unit: str,
    groups: Sequence[int],
    figures: Sequence[float],
    group_of: NDArray[np.int64],
    *,
    wanted: float,
) -> list[Row]:
    """Return the mean over the runs that each left one group out, and each of them."""
    mean = Row(f"{name}, leave-one-{unit}-out mean", float(np.mean(figures)), wanted, len(group_of), "trained again")
    return [mean] + [
        Row(f"{name}, {unit} {group} left out", figure, None, int((group_of == group).sum()))
        for group, figure in zip(groups, figures, strict=True)
    ]


def _trained_audio(data: Path, fold: int) -> Embed:
    from bindsearch.encoders.mini.training.audio import train_audio
    from bindsearch.encoders.mini.training.objective import save_network

    with tempfile.TemporaryDirectory() as folder, _one_thread():
        weights = Path(folder) / "audio.safetensors"
        save_network(train_audio(data, leave_out=fold, seed=SEED), weights)
        return _mean_of_views(AudioTower(weights).encode)


def _trained_imu(data: Path, subject: int) -> Embed:
    from bindsearch.encoders.mini.training.imu import train_imu
    from bindsearch.encoders.mini.training.objective import save_network

    with tempfile.TemporaryDirectory() as folder, _one_thread():
        weights = Path(folder) / "imu.safetensors"
        save_network(train_imu(data, leave_out=subject, seed=SEED), weights)
        return _mean_of_views(ImuTower(weights).encode)


@contextmanager
def _one_thread() -> Iterator[None]:
    """Train on one thread, as the shipped weights were: another order of summation gives other weights."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _mean_of_views(tower: Callable[[NDArray[np.float32]], Vectors]) -> Embed:
    """Embed each recording by the mean of its views, as the encoder does."""

    def embed(prepared: Sequence[NDArray[np.float32]]) -> Vectors:
        return l2_normalize(np.stack([tower(views).mean(axis=0) for views in prepared]))

    return embed


@dataclass(frozen=True, slots=True)
class Pictures:
    """Images: `names`, paths as in the crosswalk; `vectors` (n, d)."""

    names: list[str]
    vectors: Vectors


def load_pictures(data: Path, encoder: Encoder) -> Pictures:
    """Embed all images of images_imagenet1000."""
    paths = sorted((data / "images_imagenet1000" / "images").iterdir())
    options = DecodeOptions()
    prepared = [encoder.prepare(read_image(path, encoder.wants, options)) for path in paths]
    names = [path.relative_to(data).as_posix() for path in paths]
    return Pictures(names, encoder.encode(Modality.IMAGE, prepared))


def load_crosswalk(data: Path, *, strong_only: bool) -> dict[str, frozenset[str]]:
    """Read the images that show the subject of each sound label."""
    listed: dict[str, set[str]] = defaultdict(set)
    with (data / "audio_image_crosswalk.csv").open(newline="") as lines:
        for row in csv.DictReader(lines):
            if row["strength"] == "strong" or not strong_only:
                listed[_in_words(row["audio_label"])].add(row["image_path"])
    return {label: frozenset(paths) for label, paths in listed.items()}


def _picture_rows(
    data: Path,
    encoder: Encoder,
    pictures: Pictures,
    sounds: Sequence[Labelled[Sound]],
    *,
    name: str,
    wanted: float | None,
) -> list[Row]:
    """Measure sound to image against chance, by all listed images and, if they differ, by the strong ones alone."""
    heard = [sound for sound in sounds if sound.label in load_crosswalk(data, strong_only=False)]
    vectors = encode_media(encoder, [sound.media for sound in heard])
    labels = [sound.label for sound in heard]
    rows, shares = [], []
    for kind, strong_only in (("all", False), ("strong only", True)):
        crosswalk = load_crosswalk(data, strong_only=strong_only)
        by_label = picture_shares(vectors, labels, pictures, crosswalk)
        if by_label in shares:
            continue
        shares.append(by_label)
        chance = float(np.mean([chance_share(len(pictures.names), len(crosswalk[label])) for label in by_label]))
        share = float(np.mean(list(by_label.values())))
        detail = ", ".join(f"{label} {figure:.2f}" for label, figure in sorted(by_label.items()))
        note = f"share {share:.3f}, chance {chance:.3f}; {detail}"
        n = sum(label in by_label for label in labels)
        title = f"sound -> picture in the top {TOP}, times chance, {name}, {kind}"
        rows.append(Row(title, share / chance, wanted if not strong_only else None, n, note))
    return rows


def picture_shares(
    vectors: Vectors, labels: Sequence[str], pictures: Pictures, crosswalk: dict[str, frozenset[str]]
) -> dict[str, float]:
    """Return for each label with listed images the share of its sounds with one of them among the nearest TOP."""
    hits_of: dict[str, list[bool]] = defaultdict(list)
    for vector, label in zip(vectors, labels, strict=True):
        if label in crosswalk:
            nearest = np.argsort(-(pictures.vectors @ vector), kind="stable")[:TOP]
            hits_of[label].append(any(pictures.names[index] in crosswalk[label] for index in nearest))
    return {label: float(np.mean(hits)) for label, hits in hits_of.items()}


def chance_share(pictures: int, listed: int) -> float:
    """Return how often a random ranking has one of `listed` images among its first TOP (hypergeometric)."""
    return 1.0 - comb(pictures - listed, TOP) / comb(pictures, TOP)
