"""Quality of `mini` where it is special: classes left out of its bank, wide pictures, turned phones, folds left out.

    python benchmarks/quality_mini.py --data DIR [--crossval]

Everything else is `bindsearch eval benchmarks/quality.toml --data DIR`. Exits with 1 if a figure is below its minimum.
The table is saved in benchmarks/results/.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from mini_motion import train_tower
from mini_sound import Clip, read_clips, train_map
from numpy.typing import NDArray
from results import save_table

from bindsearch.binding.augmentations.motion import right_angles
from bindsearch.encoders.mini import MiniEncoder
from bindsearch.encoders.mini.audio import AudioTower
from bindsearch.encoders.mini.class_prototypes import read_classes
from bindsearch.encoders.mini.imu import ImuTower
from bindsearch.encoders.preprocessing.crops import square_crops
from bindsearch.evaluation.datasets.dataset import DataSet, EvalItem
from bindsearch.evaluation.datasets.registry import read_dataset
from bindsearch.evaluation.embedding import embed_items, embed_texts
from bindsearch.evaluation.figures import Error, Figure, mean_error, share_error
from bindsearch.evaluation.report.data import figure_row, table
from bindsearch.evaluation.results import Kind
from bindsearch.evaluation.retrieval import retrieval_figures
from bindsearch.evaluation.tasks.measure import Work, measure
from bindsearch.ingest.media.options import DecodeOptions
from bindsearch.ingest.media.pictures.image import read_image
from bindsearch.media import DecodeHints, Motion, Picture
from bindsearch.types import Modality

EVERY = 5  # every fifth class, by WordNet id, is excluded from the bank in the left-out run
ASPECTS = (2, 3, 5)
PANORAMA_PX = 320
FOLDS = ("1", "2", "3", "4")
SUBJECTS = ("2", "4", "9", "12", "13", "18")
LEFT_OUT_SUBJECT = "18"  # of the shipped weights


def main(arguments: Sequence[str] | None = None) -> int:
    """Run all parts, print and save the table; return 1 if a figure is below its minimum."""
    options = _parser().parse_args(arguments)
    figures = [*_pictures(options.data), *_turns(options.data)]
    if options.crossval:
        figures += _crossval(options.data)
    names = ("figure", "value", "error", "n", "chance", "published", "wanted", "")
    rows = [names, *map(figure_row, figures)]
    print("\n".join(table(rows)))
    digest = MiniEncoder().digest
    lines = [f"| {' | '.join(row)} |" for row in (names, ("---",) * len(names), *rows[1:])]
    save_table("quality-mini", f"Quality of mini (digest {digest})", "\n".join(lines) + "\n")
    return int(any(figure.is_reached is False for figure in figures))


def _pictures(data: Path) -> Iterator[Figure]:
    """Yield the figures of left-out classes, and of wide pictures made of several side by side."""
    photos = read_dataset("imagenet", data / "images_imagenet1000")
    assert photos.classes is not None
    text_of = {label: texts[0] for label, texts in zip(photos.classes.labels, photos.classes.texts, strict=True)}
    names, _ = embed_texts(MiniEncoder(), [text_of[item.labels[0]] for item in photos.items])
    left_out = {row.wnid: index for index, row in enumerate(read_classes()) if index % EVERY == 0}
    blind = MiniEncoder(exclude_classes=frozenset(left_out.values()))
    queries = [row for row, item in enumerate(photos.items) if item.path.name.split("_")[0] in left_out]
    found = embed_items(blind, photos.items).vectors
    name = "ImageNet left-out class name -> picture, R@10"
    yield _recall(name, names[queries], found, queries, 0.45)
    squares = [_square(item.path) for item in photos.items]
    for aspect in ASPECTS:
        count = len(squares) // aspect
        groups = np.random.default_rng(0).permutation(len(squares))[: count * aspect].reshape(count, aspect)
        wide = [Picture(np.concatenate([squares[row] for row in group], axis=1)) for group in groups]
        items = [EvalItem(data / "made", Modality.IMAGE, media=picture) for picture in wide]
        vectors = embed_items(MiniEncoder(), items).vectors
        owners = np.repeat(np.arange(count), aspect).tolist()
        name = f"ImageNet class name -> panorama {aspect}:1 of {aspect} pictures, R@10"
        yield _recall(name, names[groups.ravel()], vectors, owners)


def _square(path: Path) -> NDArray[np.uint8]:
    """Return the middle square of a picture, uint8 (side, side, 3)."""
    rgb = read_image(path, DecodeHints(PANORAMA_PX, 1.0), DecodeOptions()).rgb
    square: NDArray[np.uint8] = square_crops(rgb, PANORAMA_PX)[0]
    return square


def _recall(
    name: str,
    queries: NDArray[np.float32],
    candidates: NDArray[np.float32],
    owners: Sequence[int],
    least: float | None = None,
) -> Figure:
    """Return recall at 10 of queries that one candidate each is right for."""
    found = retrieval_figures(queries, candidates, [[row] for row in owners], (10,))
    error, error_by = share_error(found.hits[10], [None] * len(queries))
    return Figure(name, found.recall_at(10), len(queries), error, error_by, 10 / len(candidates), least)


def _turns(data: Path) -> list[Figure]:
    """Return how motion of the left-out subject is named upright, and with the worst turn of the phone."""
    motions = _of_groups(read_dataset("uci-har-5s", data / "imu_uci_har"), (LEFT_OUT_SUBJECT,))
    values = turned_accuracies(motions, MiniEncoder())
    n, name = len(motions.items), f"UCI HAR 5.12 s nearest of 6 names, subject {LEFT_OUT_SUBJECT}"
    return [Figure(name, values[0], n), Figure(f"{name}, worst of 24 turns of the phone", min(values), n)]


def turned_accuracies(motions: DataSet, encoder: MiniEncoder) -> list[float]:
    """Return the share named rightly for each of 24 turns of the phone by right angles, the first one upright."""
    return [_top1(replace(motions, items=tuple(_turned(motions.items, turn))), encoder) for turn in right_angles()]


def _turned(items: Sequence[EvalItem], turn: NDArray[np.float64]) -> Iterator[EvalItem]:
    """Yield motion of a phone that lies turned by a rotation (3, 3)."""
    for item in items:
        motion = item.media
        assert isinstance(motion, Motion)
        samples = np.concatenate([motion.samples[:, :3] @ turn.T, motion.samples[:, 3:] @ turn.T], axis=1)
        yield replace(item, media=replace(motion, samples=samples.astype(np.float32)))


def _top1(data: DataSet, encoder: MiniEncoder) -> float:
    """Return the share of items whose class name is the nearest."""
    result = measure(data, Work(encoder, templates="none", kinds=frozenset({Kind.ZERO_SHOT})))
    return result.measurements[0].figures[0].value


def _of_groups(data: DataSet, groups: Sequence[str]) -> DataSet:
    """Return the items of groups."""
    return replace(data, items=tuple(item for item in data.items if item.group in groups), folds=())


def _crossval(data: Path) -> Iterator[Figure]:
    """Yield the figures of towers that are trained again without each fold and each subject (about ten minutes)."""
    sounds, clips = read_dataset("esc10", data / "audio_esc10"), read_clips(data)
    accuracies = []
    for fold in FOLDS:
        encoder = sound_encoder([clip for clip in clips if clip.fold != int(fold)])
        accuracies.append(_top1(_of_groups(sounds, (fold,)), encoder))
    yield from _means("ESC-10 nearest of 10 names", "fold", FOLDS, accuracies, len(sounds.items), 0.88)
    motions = read_dataset("uci-har-5s", data / "imu_uci_har")
    turned = np.array(
        [turned_accuracies(_of_groups(motions, (subject,)), motion_encoder(data, subject)) for subject in SUBJECTS]
    )
    name, worst = "UCI HAR 5.12 s nearest of 6 names", int(turned.mean(axis=0).argmin())
    yield from _means(name, "subject", SUBJECTS, turned[:, 0].tolist(), len(motions.items), 0.90)
    name = f"{name}, worst of 24 turns of the phone"
    yield from _means(name, "subject", SUBJECTS, turned[:, worst].tolist(), len(motions.items), 0.85)


def sound_encoder(clips: Sequence[Clip]) -> MiniEncoder:
    """Return `mini` with a tower of sound whose map is trained again on clips."""
    with tempfile.TemporaryDirectory() as folder:
        weights = Path(folder) / "audio.safetensors"
        train_map(clips, weights)
        tower = AudioTower(feature_map=weights)
    encoder = MiniEncoder()
    encoder.__dict__["_audio"] = tower  # in the place of the shipped one
    return encoder


def motion_encoder(data: Path, leave_out: str) -> MiniEncoder:
    """Return `mini` with a tower of motion that is trained again without a subject."""
    with tempfile.TemporaryDirectory() as folder:
        weights = Path(folder) / "imu.safetensors"
        train_tower(data, weights, leave_out=int(leave_out))
        tower = ImuTower(weights)
    encoder = MiniEncoder()
    encoder.__dict__["_imu"] = tower  # in the place of the shipped one
    return encoder


def _means(
    name: str, unit: str, groups: Sequence[str], values: Sequence[float], n: int, least: float | None
) -> Iterator[Figure]:
    """Yield the mean over the runs that each left one group out, and each of them."""
    mean = float(np.mean(values))
    yield Figure(f"{name}, leave-one-{unit}-out mean", mean, n, mean_error(values), Error.FOLDS, None, least)
    for group, value in zip(groups, values, strict=True):
        yield Figure(f"{name}, {unit} {group} left out", value, n // len(groups))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Measure the quality of mini where it is special.")
    parser.add_argument("--data", type=Path, required=True, help="folder of the evaluation data sets")
    parser.add_argument("--crossval", action="store_true", help="train the sound and motion towers again, fold by fold")
    return parser


if __name__ == "__main__":
    sys.exit(main())
