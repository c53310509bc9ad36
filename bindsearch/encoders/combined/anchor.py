"""Anchors: modalities that two encoders embed with the same tower, so that they have one space."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from bindsearch.atomic import atomic_write
from bindsearch.encoders.base import Encoder, encode_media
from bindsearch.encoders.model_store.installed import models_folder
from bindsearch.errors import EncoderError
from bindsearch.hashing import fingerprint_of
from bindsearch.media import Media, Passage, Picture
from bindsearch.types import Modality

LEAST_COSINE = 0.99
"""Least cosine of the vectors of one medium by two encoders that share a tower; number formats differ by less."""

TEXTS = ("a dog barks in the rain", "a red car", "three people play music on a stage", "an empty beach at night")

_FOLDER = ".anchors"
"""Folder of the anchors that were found, in the folder of the models: towers are loaded for it only once."""


def find_anchor(first: Encoder, second: Encoder) -> Modality:
    """Return a modality that two encoders embed alike, which shows that their vectors can be compared.

    Both embed a few texts or pictures; what was found is kept by their digests.

    Raises:
        EncoderError: there is none.
    """
    common = [
        modality for modality in (Modality.TEXT, Modality.IMAGE) if modality in first.modalities & second.modalities
    ]
    known = models_folder() / _FOLDER / f"{fingerprint_of(first.digest, second.digest)}.json"
    if (kept := _read(known)) in common:
        return Modality(kept)
    reasons = [] if common else ["both embed texts or both embed pictures in no modality"]
    if first.dim != second.dim:
        reasons = [f"{first.name} has {first.dim} dimensions, {second.name} {second.dim}"]
        common = []
    for modality in common:
        cosine = _least_cosine(first, second, _probes(modality))
        if cosine >= LEAST_COSINE:
            _write(known, modality)
            return modality
        reasons.append(f"their vectors of the same {modality} have cosines down to {cosine:.2f}")
    raise EncoderError(
        f"{first.name}+{second.name} share no space ({'; '.join(reasons)}): make a bridge from captions, "
        f"`bindsearch bind --bridge {second.name} --hub {first.name} --pairs captions.csv --out NAME`"
    )


def _probes(modality: Modality) -> list[Media]:
    """Return media that differ from each other: texts, or pictures of noise and of stripes."""
    if modality is Modality.TEXT:
        return [Passage(text) for text in TEXTS]
    noise = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3), np.uint8)
    stripes = np.zeros((64, 64, 3), np.uint8)
    stripes[::8] = (255, 64, 0)
    return [Picture(rgb) for rgb in (*noise, stripes, stripes.transpose(1, 0, 2))]


def _least_cosine(first: Encoder, second: Encoder, probes: list[Media]) -> float:
    return float((encode_media(first, probes) * encode_media(second, probes)).sum(axis=1).min())


def _read(path: Path) -> str | None:
    """Return a modality that was found before; None if nothing that can be read was kept."""
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))["anchor"]
    except (OSError, ValueError, TypeError, KeyError):
        return None
    return kept if isinstance(kept, str) else None


def _write(path: Path, modality: Modality) -> None:
    """Keep a modality; where nothing can be written, it is found again next time."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(path) as file:
            file.write(json.dumps({"anchor": modality.value}).encode())
    except OSError:
        pass
