"""Binding on real pairs: thermal and depth towers bound to the pictures of an encoder, on data that is held out.

    python benchmarks/binding.py --data DIR [--hub mini] [--work DIR] [--set NAME=VALUE ...]

DIR holds `thermal_roadscene`, `depth_rgbd_metric` and `depth_street_stereo`. Blocks of consecutive frames of RoadScene
are divided among five folds; a tower is trained on the pairs of four and measured on the fifth, beside the hub's own
rendering of thermal pictures as grey pictures on the same pairs. A depth tower is trained without each scene in turn.
The table is saved in benchmarks/results/. The towers are measured only: licences of the pairs do not let them ship.
"""

from __future__ import annotations

import argparse
import csv
import os
import re
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from results import save_table

from bindsearch.binding.bind import BindOptions, bind
from bindsearch.binding.data.pair_media import read_pair_media
from bindsearch.encoders.base import Encoder, encode_media
from bindsearch.encoders.registry import load_encoder
from bindsearch.encoders.zero_shot import ClassNames, class_scores, class_vectors, read_templates
from bindsearch.evaluation.retrieval import retrieval_figures
from bindsearch.types import Modality

FOLDS = 5
GAP_FRAMES = 100
"""Frames that are further apart than this, about 3 s, begin a new block."""

RESAMPLES = 2000

THERMAL_SETTINGS = (
    "network=hub",
    "tuning=head",
    "batch=256",
    "part=256",
    "crops=24",
    "epochs=300",
    "replication=1",
    "warmup_epochs=20",
    "learning_rate=1e-3",
    "weight_decay=0.2",
    "drop_path=0.3",
    "scale=30",
    "erase=0",
)
"""A head on the features of the hub's own tower of pictures: the pairs are few."""

PERSON = ClassNames(
    ("person", "no_person"), (("person", "pedestrian", "people walking"), ("empty street", "road without people"))
)
TIME = ClassNames(("day", "night"), (("street by day", "daytime"), ("street at night", "night")))

Vectors = NDArray[np.float32]


@dataclass(frozen=True)
class Row:
    """A figure of the baseline and of the bound tower, each item's share of it, float64 (n,)."""

    name: str
    baseline: NDArray[np.float64]
    bound: NDArray[np.float64]
    groups: NDArray[np.int64]
    note: str = ""


def main(arguments: Sequence[str] | None = None) -> int:
    """Train and measure all towers; print and save the table."""
    parser = argparse.ArgumentParser(description="Bind towers of thermal pictures and depth to an encoder.")
    parser.add_argument("--data", type=Path, required=True, help="folder of the data sets")
    parser.add_argument("--hub", default="mini", help="name of the encoder (default: mini)")
    parser.add_argument("--work", type=Path, help="keep decoded files and vectors here for the next run")
    parser.add_argument(
        "--set", action="append", default=[], help="change a setting of the towers", metavar="NAME=VALUE"
    )
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        os.environ["BINDSEARCH_MODELS"] = str(Path(folder) / "models")
        work = (options.work or Path(folder)).absolute()
        work.mkdir(parents=True, exist_ok=True)
        hub = load_encoder(options.hub)
        settings = [*THERMAL_SETTINGS, *options.set]
        rows = [*thermal_rows(options.data, hub, work, settings), *depth_rows(options.data, hub, work, settings)]
    table = as_markdown(rows)
    print(table)
    note = f"\nSettings: `{' '.join(settings)}`. Errors: standard errors by a bootstrap over blocks or scenes.\n"
    save_table("binding", f"Binding to {hub.name} (digest {hub.digest})", table + note)
    return 0


def thermal_rows(data: Path, hub: Encoder, work: Path, settings: Sequence[str]) -> list[Row]:
    """Return the rows of RoadScene."""
    folder = data / "thermal_roadscene"
    table = _table(folder / "labels.csv")
    thermal, image = [row["path"] for row in table], [row["visible_path"] for row in table]
    pictures = embedded(hub, folder, image, Modality.IMAGE)
    grey = embedded(hub, folder, thermal, Modality.THERMAL)
    blocks = blocks_of(thermal)
    fold_of = folds_of(blocks)
    bound = np.empty_like(grey)
    for fold in range(FOLDS):
        held_out = fold_of == fold
        pairs = [(folder / a, folder / b) for a, b, out in zip(thermal, image, held_out, strict=True) if not out]
        encoder = trained(work, f"thermal-{fold}", Modality.THERMAL, hub, pairs, settings)
        bound[held_out] = embedded(encoder, folder, np.array(thermal)[held_out].tolist(), Modality.THERMAL)
    print(f"{len(thermal)} pairs in {len(set(blocks))} blocks, folds of {np.bincount(fold_of).tolist()}")
    rows = []
    for name, k in (("R@1", 1), ("R@10", 10)):
        titles = [f"{way} of the held-out fold, {name}" for way in ("thermal -> RGB", "RGB -> thermal")]
        titles.append(f"thermal -> RGB of all, {name}")
        of_each = [_hits_of_each(vectors, pictures, fold_of, k) for vectors in (grey, bound)]
        rows += [Row(title, of, by, np.array(blocks)) for title, of, by in zip(titles, *of_each, strict=True)]
    for title, classes, column in (("person / no person", PERSON, "label"), ("day / night", TIME, "time")):
        labels = [row[column] for row in table]
        known = np.array([label in classes.labels for label in labels])
        for name, measure in (("class", right_class), ("pairs of pictures in order (AUC)", in_order)):
            of = [measure(hub, classes, vectors[known], np.array(labels)[known]) for vectors in (grey, bound, pictures)]
            note = f"the hub's own pictures: {of[2].mean():.3f}"
            rows.append(Row(f"text -> thermal, {title}, {name}", of[0], of[1], np.array(blocks)[known], note))
    return rows


def depth_rows(data: Path, hub: Encoder, work: Path, settings: Sequence[str]) -> list[Row]:
    """Return the rows of metric depth: each scene is left out in turn, and street scenes are trained on as well."""
    folder, street = data / "depth_rgbd_metric", data / "depth_street_stereo"
    table = _table(folder / "labels.csv")
    depth, image = [row["path"] for row in table], [row["rgb_path"] for row in table]
    scenes = np.array([row["label"] for row in table])
    pictures, grey = embedded(hub, folder, image, Modality.IMAGE), embedded(hub, folder, depth, Modality.DEPTH)
    more = [(street / row["path"], street / row["rgb_path"]) for row in _table(street / "labels.csv")]
    bound = np.empty_like(grey)
    own = [setting for setting in settings if not setting.startswith("contrast")]
    for number, scene in enumerate(sorted(set(scenes))):
        held_out = scenes == scene
        pairs = [(folder / a, folder / b) for a, b, out in zip(depth, image, held_out, strict=True) if not out]
        encoder = trained(work, f"depth-{number}", Modality.DEPTH, hub, [*pairs, *more], own)
        bound[held_out] = embedded(encoder, folder, np.array(depth)[held_out].tolist(), Modality.DEPTH)
    names = sorted(set(scenes))
    classes = ClassNames(tuple(names), tuple((name.replace("_", " "),) for name in names))
    groups = np.unique(scenes, return_inverse=True)[1]

    def same_scene(vectors: Vectors) -> NDArray[np.float64]:
        return retrieval_figures(vectors, pictures, scenes[:, None] == scenes[None]).hits[1]

    return [
        Row("depth -> RGB of the same scene, R@1", same_scene(grey), same_scene(bound), groups, "scene left out"),
        Row(
            f"text -> depth, {len(names)} scenes, class",
            right_class(hub, classes, grey, scenes),
            right_class(hub, classes, bound, scenes),
            groups,
            f"scene left out; the hub's own pictures: {right_class(hub, classes, pictures, scenes).mean():.3f}",
        ),
    ]


def trained(
    work: Path, name: str, modality: Modality, hub: Encoder, pairs: Sequence[tuple[Path, Path]], settings: Sequence[str]
) -> Encoder:
    """Bind a tower to the hub, and return both as an encoder."""
    file = work / f"{name}.csv"
    with file.open("w", newline="", encoding="utf-8") as lines:
        rows = csv.writer(lines)
        rows.writerow([modality, "image"])
        rows.writerows((path.absolute(), picture.absolute()) for path, picture in pairs)
    options = BindOptions(work=work / "run", restart=True, replace=True)
    bind(file, modality, hub, name, settings=[*settings, "validation=0"], options=options)
    print(f"{name}: {len(pairs)} pairs", file=sys.stderr)
    return load_encoder(f"bound:{name}")


def embedded(encoder: Encoder, folder: Path, paths: Sequence[str], modality: Modality) -> Vectors:
    """Embed files: float32 (n, d)."""
    return encode_media(encoder, [read_pair_media(folder / path, modality, None, encoder.wants) for path in paths])


def blocks_of(paths: Sequence[str]) -> list[int]:
    """Return the block of each frame, of paths that end with the frame's number, in order."""
    places = [(re.sub(r"\d+\.jpg$", "", path), int(re.findall(r"(\d+)\.jpg$", path)[0])) for path in paths]
    blocks = [0]
    for (source, frame), (next_source, next_frame) in pairwise(places):
        blocks.append(blocks[-1] + (source != next_source or next_frame - frame > GAP_FRAMES))
    return blocks


def folds_of(blocks: Sequence[int]) -> NDArray[np.int64]:
    """Divide blocks among folds of about the same number of frames, the largest blocks first: int64 (n,)."""
    counts = Counter(blocks)
    sizes, fold_of = [0] * FOLDS, {}
    for block in sorted(counts, key=lambda block: (-counts[block], block)):
        fold_of[block] = min(range(FOLDS), key=lambda fold: (sizes[fold], fold))
        sizes[fold_of[block]] += counts[block]
    return np.array([fold_of[block] for block in blocks], np.int64)


def within_folds(queries: Vectors, candidates: Vectors, fold_of: NDArray[np.int64], k: int) -> NDArray[np.float64]:
    """Return the hits among the first k of the candidates of the same fold: float64 (n,)."""
    found = np.empty(len(queries))
    for fold in range(FOLDS):
        rows = np.flatnonzero(fold_of == fold)
        found[rows] = hits(queries[rows], candidates[rows], k)
    return found


def _hits_of_each(thermal: Vectors, pictures: Vectors, fold_of: NDArray[np.int64], k: int) -> list[NDArray[np.float64]]:
    """Return the hits of both directions within folds, and of thermal pictures among all: float64 (n,) each."""
    both = within_folds(thermal, pictures, fold_of, k), within_folds(pictures, thermal, fold_of, k)
    return [*both, hits(thermal, pictures, k)]


def hits(queries: Vectors, candidates: Vectors, k: int) -> NDArray[np.float64]:
    """Return whether the own candidate of each query is among the first k: float64 (n,)."""
    return retrieval_figures(queries, candidates, np.eye(len(queries), dtype=np.bool_), [k]).hits[k]


def right_class(hub: Encoder, classes: ClassNames, vectors: Vectors, labels: NDArray[np.str_]) -> NDArray[np.float64]:
    """Return whether each item has the class of its label, weighted so that the mean is that over the classes."""
    scores = class_scores(class_vectors(hub, classes, read_templates()), vectors)
    right = np.array([classes.labels[best] for best in scores.argmax(axis=1)]) == labels
    counts = Counter(labels.tolist())
    weights = np.array([len(labels) / len(counts) / counts[label] for label in labels.tolist()], np.float64)
    return np.asarray(weights * right, np.float64)


def in_order(hub: Encoder, classes: ClassNames, vectors: Vectors, labels: NDArray[np.str_]) -> NDArray[np.float64]:
    """Return for each item the share of items of the other class that two class names order rightly after it."""
    scores = class_scores(class_vectors(hub, classes, read_templates()), vectors)
    margin, first = scores[:, 0] - scores[:, 1], labels == classes.labels[0]
    wins = (margin[:, None] > margin[None]) + 0.5 * (margin[:, None] == margin[None])
    share = np.where(first, wins[:, ~first].mean(axis=1), 1 - wins[:, first].mean(axis=1))
    weights = np.where(first, 0.5 / first.mean(), 0.5 / (~first).mean())
    return np.asarray(weights * share, np.float64)


def as_markdown(rows: Sequence[Row]) -> str:
    """Return the table as Markdown."""
    lines = ["| figure | grey pictures | bound | difference | n | |", "| --- | --- | --- | --- | --- | --- |"]
    for row in rows:
        means = [figure_with_error(values, row.groups) for values in (row.baseline, row.bound)]
        difference = figure_with_error(row.bound - row.baseline, row.groups, sign=True)
        note = row.note
        if "R@10" in row.name:
            share = (1 - row.bound.mean()) / max(1 - row.baseline.mean(), 1e-9)
            note = f"misses times {share:.2f}"
        lines.append(f"| {row.name} | {means[0]} | {means[1]} | {difference} | {len(row.bound)} | {note} |")
    return "\n".join(lines) + "\n"


def figure_with_error(values: NDArray[np.float64], groups: NDArray[np.int64], *, sign: bool = False) -> str:
    """Return a mean with its standard error by a bootstrap over groups."""
    rng = np.random.default_rng(0)
    numbers = np.unique(groups, return_inverse=True)[1]
    sums, counts = np.bincount(numbers, values), np.bincount(numbers)
    drawn = rng.integers(len(sums), size=(RESAMPLES, len(sums)))
    error = (sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1)).std()
    return f"{values.mean():{'+' if sign else ''}.3f} ± {error:.3f}"


def _table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as lines:
        return list(csv.DictReader(lines))


if __name__ == "__main__":
    sys.exit(main())
