"""The class bank: text vectors of ImageNet's classes and the fitted appearance map, shipped as class_bank.safetensors.

`python -m bindsearch.encoders.mini.training.class_prototypes` makes the file again.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bindsearch.encoders.mini.class_map import Appearance, ClassMap, ClassTexts, fit_appearance, fit_linear
from bindsearch.errors import EncoderError

if TYPE_CHECKING:
    import torch

    from bindsearch.encoders.mini.efficientnet import Weights

TEXTS_FILE = Path(__file__).with_name("class_texts.json")
BANK_FILE = Path(__file__).with_name("class_bank.safetensors")


@dataclass(frozen=True, slots=True)
class ImageNetClass:
    """A class in the order of the classifier's outputs (that of `wnid`, its WordNet id) and the texts about it."""

    wnid: str
    name: str
    curated_name: str
    scenes: tuple[str, ...]


def read_classes() -> list[ImageNetClass]:
    """The 1000 classes, in the order of the classifier's outputs."""
    rows = json.loads(TEXTS_FILE.read_text(encoding="utf-8"))["classes"]
    return [ImageNetClass(row["wnid"], row["name"], row["curated_name"], tuple(row["scenes"])) for row in rows]


def load_class_map(weights: Weights, exclude: frozenset[int] = frozenset()) -> ClassMap:
    """The map of the classes not in `exclude`; everything fitted is fitted without those.

    Raises:
        EncoderError: the bank cannot be read.
    """
    import torch

    tensors = _read_bank()
    weight, bias = weights["_fc.weight"], weights["_fc.bias"]
    kept = torch.tensor([index for index in range(len(bias)) if index not in exclude])
    texts = ClassTexts(tensors["names"].float()[kept], tensors["scenes"].float()[kept])
    if exclude:
        appearance = fit_appearance(weight[kept], texts)
    else:
        appearance = Appearance(tensors["appearance.features"].float(), tensors["appearance.texts"].float())
    return ClassMap(weight[kept], bias[kept], texts, fit_linear(weight[kept], texts.scenes), appearance)


def _read_bank() -> dict[str, torch.Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(BANK_FILE)
    except (OSError, SafetensorError) as error:
        raise EncoderError(f"cannot read {BANK_FILE}: {error}; reinstall bindsearch") from error
