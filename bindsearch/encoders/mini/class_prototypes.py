"""Class bank: text vectors of ImageNet's classes and the fitted appearance map, in class_bank.safetensors.

`python -m bindsearch.encoders.mini.class_prototypes` computes the file from class_texts.json and the packaged weights.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bindsearch.encoders.mini.class_map import ClassMap, fit_appearance, fit_linear
from bindsearch.encoders.mini.weights import reading_weights

if TYPE_CHECKING:
    import torch

    from bindsearch.encoders.mini.efficientnet import Weights

TEXTS_FILE = Path(__file__).with_name("class_texts.json")
BANK_FILE = Path(__file__).with_name("class_bank.safetensors")
CURATED_SHARE = 0.5  # weight of the curated name relative to ImageNet's own name


@dataclass(frozen=True, slots=True)
class ImageNetClass:
    """Class of ImageNet, and the texts about it.

    Attributes:
        wnid: WordNet id; the classifier's outputs are sorted by it.
        name: Name in ImageNet.
        curated_name: Edited name.
        scenes: Captions of typical scenes with the class.
    """

    wnid: str
    name: str
    curated_name: str
    scenes: tuple[str, ...]


def read_classes() -> list[ImageNetClass]:
    """Return the 1000 classes, in the order of the classifier's outputs."""
    rows = json.loads(TEXTS_FILE.read_text(encoding="utf-8"))["classes"]
    return [ImageNetClass(row["wnid"], row["name"], row["curated_name"], tuple(row["scenes"])) for row in rows]


def load_class_map(weights: Weights, exclude: frozenset[int] = frozenset()) -> ClassMap:
    """Return the map of features to the text space.

    Args:
        weights: Tensors of the image network.
        exclude: Classes that are not used; the fitted parts are fitted without them.

    Raises:
        EncoderError: the bank cannot be read.
    """
    import torch
    from safetensors.torch import load_file

    with reading_weights(BANK_FILE):
        tensors = {name: tensor.float() for name, tensor in load_file(BANK_FILE).items()}
    bias = weights["_fc.bias"]
    used = torch.tensor([index for index in range(len(bias)) if index not in exclude])
    weight, names, scenes = (one[used] for one in (weights["_fc.weight"], tensors["names"], tensors["scenes"]))
    appearance = tensors["appearance.features"], tensors["appearance.texts"]
    if exclude:
        appearance = fit_appearance(weight, names, scenes)
    return ClassMap(weight, bias[used], names, scenes, fit_linear(weight, scenes), *appearance)


def embed_classes(classes: Sequence[ImageNetClass]) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the vectors of the names and of the scenes of k classes, float32 (k, d) each."""
    """Return text vectors of k classes: names and scenes, float32 (k, d)."""
    import torch
    from torch.nn.functional import normalize

    from bindsearch.encoders.mini.text import TextTower

    tower = TextTower()
    names = torch.from_numpy(tower.encode_texts([row.name for row in classes]))
    curated = torch.from_numpy(tower.encode_texts([row.curated_name for row in classes]))
    scenes = torch.from_numpy(tower.encode_texts([text for row in classes for text in row.scenes]))
    means = torch.stack([part.mean(0) for part in torch.split(scenes, [len(row.scenes) for row in classes])])
    return normalize(names + CURATED_SHARE * curated, dim=1), normalize(means, dim=1)


def write_bank(weights: Weights) -> None:
    """Compute class_bank.safetensors from the texts and the classifier's weights, in float16 (2 MB)."""
    from safetensors.torch import save_file

    names, scenes = embed_classes(read_classes())
    appearance, appearance_texts = fit_appearance(weights["_fc.weight"], names, scenes)
    tensors = {"names": names, "scenes": scenes}
    tensors |= {"appearance.features": appearance, "appearance.texts": appearance_texts}
    save_file({name: tensor.half().contiguous() for name, tensor in tensors.items()}, BANK_FILE)


if __name__ == "__main__":
    from bindsearch.encoders.mini.efficientnet import read_weights
    from bindsearch.encoders.mini.weights import image_network_file

    write_bank(read_weights(image_network_file()))
