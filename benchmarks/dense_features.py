"""Time of dense features (`locate`) compared with the embedding of the same pictures, with random weights.

    python benchmarks/dense_features.py [--repeats 5] [--only mini]     # saves a table to benchmarks/results

Both run in turn in one process, preprocessing excluded: other programs slow both. imagebind-huge takes 3 GB of memory
in fp32, and some seconds a picture on two cores.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import Any

import open_clip
import torch
from main_job import paired, rate
from results import save_table
from torch import nn

from bindsearch.encoders import load_encoder
from bindsearch.encoders.base import Encoder, locating
from bindsearch.encoders.benchmark import sample_media
from bindsearch.encoders.imagebind.encoder import random_encoder
from bindsearch.encoders.model_store.installed import FORMAT, ModelManifest
from bindsearch.encoders.openclip.encoder import OpenClipEncoder
from bindsearch.encoders.openclip.networks import ImageTower
from bindsearch.encoders.torch_runtime.device import Runtime, default_dtype
from bindsearch.types import Modality

LIMIT = 2.0
"""Largest time of `locate`, relative to the embedding of the same pictures."""

OPENCLIP = "ViT-B-32"


@dataclass(frozen=True)
class Case:
    """An encoder that is measured, with the number of media of a run, and their modalities."""

    make: Callable[[], Encoder]
    media: int
    modalities: tuple[Modality, ...] = (Modality.IMAGE,)


class RandomOpenClip(OpenClipEncoder):
    """Encoder of open_clip with the random weights of a new model."""

    def _load(self, tower: str, device: torch.device) -> nn.Module:
        assert tower == "image"
        torch.manual_seed(0)
        return ImageTower(self._config).to(device).eval().requires_grad_(False)


CASES: Mapping[str, Case] = MappingProxyType(
    {
        "mini": Case(partial(load_encoder, "mini"), media=64),
        f"openclip:{OPENCLIP}": Case(lambda: random_openclip(OPENCLIP), media=16),
        "imagebind-huge": Case(
            lambda: random_encoder(default_dtype(), Runtime()),
            media=2,
            modalities=(Modality.IMAGE, Modality.DEPTH, Modality.THERMAL),
        ),
    }
)


def main() -> int:
    """Measure, print and save; return 1 if `locate` takes longer than the limit."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5, help="pairs of runs of each encoder and modality")
    parser.add_argument("--only", choices=CASES, action="append", help="encoder to measure; may be repeated")
    arguments = parser.parse_args()
    before = os.getloadavg()[0]
    lines = [
        "| encoder | modality | grid | embed | locate | locate / embed | |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    is_met = True
    for name in arguments.only or CASES:
        encoder = CASES[name].make()
        for modality in CASES[name].modalities:
            grid, embed_ms, locate_ms, factor = measure(encoder, modality, CASES[name].media, arguments.repeats)
            is_met &= factor <= LIMIT
            verdict = "met" if factor <= LIMIT else "missed"
            row = f"{grid[0]} x {grid[1]} | {embed_ms:,.1f} ms | {locate_ms:,.1f} ms | {factor:.2f} | {verdict}"
            lines.append(f"| {name} | {modality} | {row} |")
            print(lines[-1], flush=True)
    note = (
        f"Medians of {arguments.repeats} pairs, of one picture; imagebind-huge in {default_dtype()}. Limit: {LIMIT:g} "
        "times the embedding.\n"
        f"Load of the machine before and after: {before:.1f} and {os.getloadavg()[0]:.1f}."
    )
    print(save_table("dense-features", "Dense features, random weights", "\n".join(lines) + f"\n\n{note}\n"))
    return int(not is_met)


def measure(encoder: Encoder, modality: Modality, n: int, repeats: int) -> tuple[tuple[int, int], float, float, float]:
    """Return the grid, the milliseconds a medium to embed and to locate it, and the median ratio of the pairs."""
    prepared = [encoder.prepare(sample_media(modality, seed)) for seed in range(n)]
    locate = partial(locating(encoder, modality).locate, modality, prepared)
    embed = partial(encoder.encode, modality, prepared)
    embed()
    grid = locate().shape[1:3]
    embedded, located, speed = paired(lambda: rate(embed, n), lambda: rate(locate, n), repeats)
    return (grid[0], grid[1]), 1e3 / embedded, 1e3 / located, 1 / speed


def random_openclip(model: str) -> OpenClipEncoder:
    """Return a model of open_clip with random weights; only its picture tower can run."""
    config: Mapping[str, Any] = open_clip.get_model_config(model) or {}
    manifest = ModelManifest(
        format=FORMAT,
        name=f"openclip:{model}/random",
        family="openclip",
        architecture={
            "config": {**config, "quick_gelu": False},
            "preprocess": {
                "size_px": config["vision_cfg"]["image_size"],
                "mean": [0.5, 0.5, 0.5],
                "std": [0.5, 0.5, 0.5],
                "interpolation": "bicubic",
                "resize_mode": "shortest",
            },
        },
        dtype="fp32",
        source="random weights",
        source_sha256="random",
        source_bytes=0,
        license="none",
        created="",
        temperatures={"text": 1.0, "image": 1.0, "video": 1.0},
        files={},
    )
    return RandomOpenClip(manifest)


if __name__ == "__main__":
    sys.exit(main())
