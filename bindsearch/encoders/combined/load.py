"""Loading of combined encoders: by the names of both, or by an installed bridge between them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING

import numpy as np

from bindsearch.atomic import atomic_write
from bindsearch.encoders.base import OF_SECOND, Encoder, encode_media
from bindsearch.encoders.bound.encoder import BoundEncoder
from bindsearch.encoders.combined.encoder import CombinedEncoder
from bindsearch.encoders.model_store.installed import ModelManifest, damaged_manifest, models_folder
from bindsearch.errors import EncoderError, UsageError
from bindsearch.hashing import fingerprint_of
from bindsearch.media import Media, Passage, Picture
from bindsearch.types import Modality

if TYPE_CHECKING:
    from bindsearch.encoders.registry import Options


def load_combined(name: str, load: Callable[[str, Options], Encoder], options: Options) -> Encoder:
    """Return the encoder of "A+B", two encoders that share a space.

    Args:
        name: Both names, with a plus sign between them.
        load: Returns an encoder by name and options.
        options: Options of the first encoder, and with OF_SECOND before their names those of the second.

    Raises:
        EncoderError: an encoder cannot be loaded, or they share no space.
        UsageError: the name is not that of two encoders, or the second adds nothing.
    """
    first_name, _, second_name = name.partition("+")
    if not first_name or not second_name or "+" in second_name:
        raise UsageError(f"{name!r} is not a name: combine two encoders, such as bound:night+bound:depth")
    first, second = _load_both((first_name, second_name), load, options)
    # Taken from the second: what the first lacks, or has no bound tower for.
    of_first, of_second = (
        frozenset(one.configs) if isinstance(one, BoundEncoder) else frozenset() for one in (first, second)
    )
    taken = (second.modalities - first.modalities) | (of_second - of_first)
    if not taken:
        raise UsageError(f"{first_name} embeds all that {second_name} does: there is nothing to combine")
    find_anchor(first, second)
    return _checked(CombinedEncoder(name, first, second, taken), first, second)


def load_bridged(manifest: ModelManifest, load: Callable[[str, Options], Encoder], options: Options | None) -> Encoder:
    """Return the encoder of an installed bridge.

    Raises:
        EncoderError: the manifest is damaged, or an encoder is not the one that the bridge was made for.
    """
    from bindsearch.encoders.combined.encoder import load_bridge

    try:
        parts = [(part["encoder"], part["digest"], dict(part["options"])) for part in manifest.architecture["bridge"]]
        (first_name, first_digest, first_options), (second_name, second_digest, second_options) = parts
    except (KeyError, TypeError, ValueError) as error:
        raise damaged_manifest(manifest, error) from error
    recorded = {**first_options, **{OF_SECOND + key: value for key, value in second_options.items()}, **(options or {})}
    first, second = _load_both((first_name, second_name), load, recorded)
    for encoder, digest in ((first, first_digest), (second, second_digest)):
        if encoder.digest != digest:
            raise EncoderError(
                f"{manifest.name} was made with another version of {encoder.name} than the installed one: bind it "
                f"again, or install that version of {encoder.name}"
            )
    taken = second.modalities - first.modalities
    bridge = load_bridge(manifest, (first.dim, second.dim))
    return _checked(CombinedEncoder(manifest.name, first, second, taken, bridge), first, second)


def _checked(combined: CombinedEncoder, first: Encoder, second: Encoder) -> CombinedEncoder:
    """Return the encoder; raise UsageError if a part is set to joint inputs that the whole does not make."""
    for prefix, part in (("", first), (OF_SECOND, second)):
        if part.wants.joint and part.wants.joint != combined.wants.joint:
            value = part.options.get("joint", "")
            raise UsageError(
                f"{prefix}joint={value} of {part.name} cannot be set in {combined.name}: captions and sound are "
                "embedded with pictures and videos only where one of both encoders embeds all of them"
            )
    return combined


def _load_both(
    names: tuple[str, str], load: Callable[[str, Options], Encoder], options: Options
) -> tuple[Encoder, Encoder]:
    second: Mapping[str, str | int | float | bool] = {
        key.removeprefix(OF_SECOND): value for key, value in options.items() if key.startswith(OF_SECOND)
    }
    first = {key: value for key, value in options.items() if not key.startswith(OF_SECOND)}
    return load(names[0], first), load(names[1], second)


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
    with suppress(OSError, ValueError, TypeError, KeyError):
        if (kept := Modality(json.loads(known.read_text(encoding="utf-8"))["anchor"])) in common:
            return kept
    reasons = [] if common else ["both embed texts or both embed pictures in no modality"]
    if first.dim != second.dim:
        reasons = [f"{first.name} has {first.dim} dimensions, {second.name} {second.dim}"]
        common = []
    for modality in common:
        cosine = _least_cosine(first, second, _probes(modality))
        if cosine >= LEAST_COSINE:
            with suppress(OSError):  # where nothing can be written, it is found again next time
                known.parent.mkdir(parents=True, exist_ok=True)
                with atomic_write(known) as file:
                    file.write(json.dumps({"anchor": modality.value}).encode())
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
