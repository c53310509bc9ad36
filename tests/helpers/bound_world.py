"""A constructed world of three modalities: pictures, thermal pictures and depth maps of the same few hidden numbers.

Each scene is a vector of HIDDEN numbers. The picture, the thermal picture and the depth map of a scene show them in
different patterns, so that no modality can be read as another one. The hub `WorldEncoder` recovers the numbers of a
picture exactly; towers of the other two modalities have to learn theirs.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from bindsearch.errors import MediaError
from bindsearch.media import DecodeHints, Media, Passage, Picture
from bindsearch.types import Modality
from bindsearch.vectors import l2_normalize

HIDDEN = 6
SIDE_PX = 32
DIM = 16
FLOOR_MM, RANGE_MM = 2000, 500
"""Depth of a scene: mean, and change by a pattern, in mm."""


def patterns(seed: int) -> NDArray[np.float64]:
    """Return smooth patterns (HIDDEN, side, side) of unit amplitude, other ones for each seed."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:SIDE_PX, 0:SIDE_PX] / SIDE_PX
    waves = rng.uniform(0.5, 2.5, (HIDDEN, 2)) * rng.choice([-1, 1], (HIDDEN, 2))
    phases = rng.uniform(0, 2 * np.pi, HIDDEN)
    return np.stack([np.sin(2 * np.pi * (a * x + b * y) + p) for (a, b), p in zip(waves, phases, strict=True)])


PICTURE, THERMAL, DEPTH = patterns(1), patterns(2), patterns(3)
_TO_SPACE = np.linalg.qr(np.random.default_rng(4).standard_normal((DIM, HIDDEN)))[0]
_FROM_PICTURE = np.linalg.pinv(PICTURE.reshape(HIDDEN, -1).T)


def shown(scene: NDArray[np.float64], basis: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return how a scene (HIDDEN,) looks in a modality: (side, side), within -1..1."""
    return np.tensordot(np.tanh(scene), basis, axes=1) / HIDDEN


def vector_of(scene: NDArray[np.float64]) -> NDArray[np.float32]:
    """Return the hub's vector of a scene, without the rounding of a picture."""
    return l2_normalize((_TO_SPACE @ np.tanh(scene)).astype(np.float32))


def make_scenes(count: int, seed: int) -> NDArray[np.float64]:
    """Return scenes (count, HIDDEN)."""
    return np.random.default_rng(seed).standard_normal((count, HIDDEN)) * 1.5


def write_scenes(folder: Path, scenes: NDArray[np.float64], names: Sequence[str]) -> None:
    """Write `image/NUMBER.png`, `thermal/NUMBER.png` and `depth/NUMBER.png` of scenes, of those that are named."""
    for name in names:
        (folder / name).mkdir(parents=True, exist_ok=True)
    for number, scene in enumerate(scenes):
        for name in names:
            path = folder / name / f"{number:04d}.png"
            match name:
                case "image":
                    grey = np.rint(127.5 + 127.5 * shown(scene, PICTURE)).astype(np.uint8)
                    Image.fromarray(np.repeat(grey[..., None], 3, axis=2)).save(path)
                case "thermal":
                    Image.fromarray(np.rint(127.5 + 127.5 * shown(scene, THERMAL)).astype(np.uint8)).save(path)
                case "depth":
                    depth = np.rint(FLOOR_MM + RANGE_MM * shown(scene, DEPTH) * 2)
                    Image.fromarray(depth.astype(np.uint16)).save(path)


def write_pairs(
    table: Path,
    modality: str,
    other: str,
    count: int,
    *,
    validation: int = 0,
    shuffle: int | None = None,
    labels: Sequence[str] = ("",),
) -> Path:
    """Write the pairs of two modalities of the scenes in the table's folder.

    Args:
        table: CSV file.
        modality: The new modality.
        other: Modality of the hub.
        count: Number of the pairs.
        validation: How many of them, the first ones, are for validation.
        shuffle: Seed of wrong partners; None: right ones.
        labels: Labels in turn.
    """
    partners = np.arange(count) if shuffle is None else np.random.default_rng(shuffle).permutation(count)
    with table.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow([modality, other, "split", "label"])
        for number, partner in enumerate(partners):
            split = "validation" if number < validation else "train"
            label = labels[number % len(labels)]
            rows.writerow([f"{modality}/{number:04d}.png", f"{other}/{partner:04d}.png", split, label])
    return table


class WorldEncoder:
    """Hub of the world: pictures, and texts whose vector is a hash of the text; see `Encoder`."""

    name = "world"
    dim = DIM
    digest = "world-1"
    options: Mapping[str, str | int | float | bool] = MappingProxyType({})
    modalities = frozenset({Modality.IMAGE, Modality.TEXT})
    temperatures: Mapping[Modality, float] = MappingProxyType({Modality.IMAGE: 1.0, Modality.TEXT: 100.0})
    wants = DecodeHints(picture_side_px=SIDE_PX, frames_per_s=1.0)
    max_tokens = 64

    def count_tokens(self, text: str) -> int:
        return len(text.split()) + 2

    def prepare(self, media: Media) -> NDArray[Any]:
        match media:
            case Picture(rgb=rgb):
                return np.asarray(rgb[None])
            case Passage(text=text):
                return np.frombuffer(text.encode()[:8].ljust(8), np.uint64)[None]
        raise MediaError("the world has pictures and texts")

    def features(self, modality: Modality, prepared: Sequence[NDArray[Any]]) -> NDArray[np.float32]:
        return np.asarray(self.encode(modality, prepared) * self.temperatures[modality], np.float32)

    def encode(self, modality: Modality, prepared: Sequence[NDArray[Any]]) -> NDArray[np.float32]:
        if modality is Modality.TEXT:
            rows = [np.random.default_rng(int(views[0, 0])).standard_normal(DIM) for views in prepared]
            return l2_normalize(np.stack(rows).astype(np.float32))
        grey = np.stack([views[0, ..., 0] for views in prepared]).reshape(len(prepared), -1)
        numbers = (grey / 127.5 - 1) @ _FROM_PICTURE.T
        return l2_normalize((numbers @ _TO_SPACE.T).astype(np.float32))


SMALL_SETTINGS = (
    "network=vit-nano",
    "side_px=32",
    "patch_px=8",
    "batch=64",
    "part=64",
    "epochs=60",
    "warmup_epochs=4",
    "replication=1",
    "learning_rate=3e-3",
    "weight_decay=0.05",
    "scale=20",
    "flip=0",
    "crop_scale=1",
    "crop_ratio=1",
    "erase=0",
)
"""Settings of a tower that learns a modality of the world in seconds; scenes have no parts and no mirror images."""

THERMAL_SETTINGS = (*SMALL_SETTINGS, "contrast=0", "brightness=0", "noise=0.01")
DEPTH_SETTINGS = (*SMALL_SETTINGS, "noise=0", "depth_scale=0")
