"""The image part of the quality benchmark: texts find images, thermal and depth find the image of their scene."""

from __future__ import annotations

import csv
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from quality_rows import Row

from bindsearch.encoders.base import Encoder, encode_media
from bindsearch.encoders.mini import MiniEncoder
from bindsearch.encoders.mini.class_prototypes import read_classes
from bindsearch.encoders.preprocessing.crops import square_crops
from bindsearch.ingest.media.options import DecodeOptions
from bindsearch.ingest.media.pictures.depth import read_depth
from bindsearch.ingest.media.pictures.image import read_image
from bindsearch.ingest.media.pictures.thermal import read_thermal
from bindsearch.ingest.media.sidecar import Sidecar
from bindsearch.media import DecodeHints, Passage, Picture
from bindsearch.types import Modality

Vectors = NDArray[np.float32]
EVERY = 5  # every fifth class, by WordNet id, is excluded from the bank in the held-out run
BATCH = 64
ASPECTS = (2, 3, 5)
PANORAMA_PX = 320


def run(data: Path, encoder: Encoder, *, crossval: bool) -> list[Row]:
    """Return all rows of this part; there is nothing to train, so `crossval` has no effect."""
    del crossval
    return [
        *_imagenet_rows(data / "images_imagenet1000", encoder),
        *_panorama_rows(data / "images_imagenet1000", encoder),
        *_flickr_rows(data / "images_flickr8k", encoder),
        *_thermal_rows(data / "thermal_roadscene", encoder),
        *_depth_rows(data / "depth_rgbd_metric", encoder),
    ]


def ranks(queries: Vectors, candidates: Vectors, relevant: Sequence[int]) -> NDArray[np.int64]:
    """Return how many candidates (n, d) are closer to each query (nq, d) than its relevant one: int64 (nq,)."""
    scores = queries @ candidates.T
    own = scores[np.arange(len(scores)), np.asarray(relevant)]
    return np.asarray((scores > own[:, None]).sum(axis=1), dtype=np.int64)


def recall(ranked: NDArray[np.int64], k: int) -> float:
    """Return the share of queries whose relevant candidate is among the first k."""
    return float((ranked < k).mean())


def _imagenet_rows(folder: Path, encoder: Encoder) -> list[Row]:
    table = _table(folder / "labels.csv")
    names = encode_media(encoder, [Passage(row["label"]) for row in table])
    paths = [folder / row["path"] for row in table]
    ranked = ranks(names, embed(paths, encoder, Modality.IMAGE), range(len(table)))
    rows = [
        Row("ImageNet class name -> picture, R@1", recall(ranked, 1), 0.88, len(table)),
        Row("ImageNet class name -> picture, R@10", recall(ranked, 10), None, len(table)),
    ]
    if encoder.name != "mini":
        return rows
    left_out = {row.wnid: index for index, row in enumerate(read_classes()) if index % EVERY == 0}
    blind = MiniEncoder(exclude_classes=frozenset(left_out.values()))
    queries = [index for index, row in enumerate(table) if row["wnid"] in left_out]
    ranked = ranks(names[queries], embed(paths, blind, Modality.IMAGE), queries)
    note = "every fifth class left out of the bank; among all pictures"
    return [
        *rows,
        Row("ImageNet left-out class name -> picture, R@10", recall(ranked, 10), 0.45, len(queries), note),
    ]


def _panorama_rows(folder: Path, encoder: Encoder) -> list[Row]:
    """Return the rows of panoramas made of several pictures side by side, each found by its class's name."""
    table = _table(folder / "labels.csv")
    names = encode_media(encoder, [Passage(row["label"]) for row in table])
    squares = [_square(folder / row["path"]) for row in table]
    rows = []
    for aspect in ASPECTS:
        count = len(table) // aspect
        groups = np.random.default_rng(0).permutation(len(table))[: count * aspect].reshape(count, aspect)
        panoramas = [Picture(np.concatenate([squares[index] for index in group], axis=1)) for group in groups]
        ranked = ranks(
            names[groups.ravel()], encode_media(encoder, panoramas), np.repeat(np.arange(count), aspect).tolist()
        )
        name = f"ImageNet class name -> panorama {aspect}:1 of {aspect} pictures, R@10"
        rows.append(Row(name, recall(ranked, 10), None, groups.size))
    return rows


def _square(path: Path) -> NDArray[np.uint8]:
    """Return the middle square of a picture, uint8 (side, side, 3)."""
    rgb = read_image(path, DecodeHints(PANORAMA_PX, 1.0), DecodeOptions()).rgb
    square: NDArray[np.uint8] = square_crops(rgb, PANORAMA_PX)[0]
    return square


def _flickr_rows(folder: Path, encoder: Encoder) -> list[Row]:
    table = _table(folder / "captions.csv")
    pictures = list(dict.fromkeys(row["path"] for row in table))
    position_of = {path: index for index, path in enumerate(pictures)}
    captions = encode_media(encoder, [Passage(row["caption"]) for row in table])
    vectors = embed([folder / path for path in pictures], encoder, Modality.IMAGE)
    ranked = ranks(captions, vectors, [position_of[row["path"]] for row in table])
    return [
        Row("Flickr8k caption -> picture, R@10", recall(ranked, 10), 0.27, len(table), "0.30 was aimed at"),
        Row("Flickr8k caption -> picture, R@1", recall(ranked, 1), None, len(table)),
    ]


def _thermal_rows(folder: Path, encoder: Encoder) -> list[Row]:
    table = _table(folder / "labels.csv")
    queries = embed([folder / row["path"] for row in table], encoder, Modality.THERMAL)
    candidates = embed([folder / row["visible_path"] for row in table], encoder, Modality.IMAGE)
    ranked = ranks(queries, candidates, range(len(table)))
    return [
        Row("RoadScene thermal -> RGB, R@10", recall(ranked, 10), 0.45, len(table)),
        Row("RoadScene thermal -> RGB, R@1", recall(ranked, 1), None, len(table)),
    ]


def _depth_rows(folder: Path, encoder: Encoder) -> list[Row]:
    """Return the rows of depth; frames of one scene are similar, so an image of the same scene counts."""
    table = _table(folder / "labels.csv")
    queries = embed([folder / row["path"] for row in table], encoder, Modality.DEPTH)
    candidates = embed([folder / row["rgb_path"] for row in table], encoder, Modality.IMAGE)
    labels = np.array([row["label"] for row in table])
    nearest = labels[(queries @ candidates.T).argmax(axis=1)]
    chance = float(np.mean([(labels == label).mean() for label in labels]))
    return [
        Row(
            "depth -> RGB of the same scene, R@1",
            float((nearest == labels).mean()),
            None,
            len(table),
            f"by chance {chance:.2f}",
        )
    ]


def embed(paths: Sequence[Path], encoder: Encoder, modality: Modality) -> Vectors:
    """Embed files under neutral names, so that names have no influence: float32 (n, d)."""
    vectors = []
    with tempfile.TemporaryDirectory() as folder:
        for start in range(0, len(paths), BATCH):
            prepared = []
            for index, path in enumerate(paths[start : start + BATCH], start):
                neutral = Path(folder) / f"{index:06d}{path.suffix}"
                shutil.copyfile(path, neutral)
                prepared.append(_prepared(neutral, encoder, modality))
            vectors.append(encoder.encode(modality, prepared))
    return np.concatenate(vectors)


def _prepared(path: Path, encoder: Encoder, modality: Modality) -> NDArray[np.uint8]:
    options = DecodeOptions()
    if modality is Modality.THERMAL:
        return encoder.prepare(read_thermal(path, Sidecar(), options)[0])
    if modality is Modality.DEPTH:
        return encoder.prepare(read_depth(path, Sidecar(), options)[0])
    return encoder.prepare(read_image(path, encoder.wants, options))


def _table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as lines:
        return list(csv.DictReader(lines))
