"""Compute the class bank, class_bank.safetensors, from class_texts.json and the packaged weights.

Run as `python -m bindsearch.encoders.mini.training.class_prototypes`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from bindsearch.encoders.mini.class_map import ClassTexts, fit_appearance
from bindsearch.encoders.mini.class_prototypes import BANK_FILE, ImageNetClass, read_classes

if TYPE_CHECKING:
    from bindsearch.encoders.mini.efficientnet import Weights

CURATED_SHARE = 0.5  # weight of the curated name relative to ImageNet's own name


def embed_classes(classes: Sequence[ImageNetClass]) -> ClassTexts:
    """Return text vectors of k classes: names and scenes, float32 (k, d)."""
    import torch
    from torch.nn.functional import normalize

    from bindsearch.encoders.mini.text import TextTower

    tower = TextTower()
    names = torch.from_numpy(tower.encode_texts([row.name for row in classes]))
    curated = torch.from_numpy(tower.encode_texts([row.curated_name for row in classes]))
    scenes = torch.from_numpy(tower.encode_texts([text for row in classes for text in row.scenes]))
    means = torch.stack([part.mean(0) for part in torch.split(scenes, [len(row.scenes) for row in classes])])
    return ClassTexts(normalize(names + CURATED_SHARE * curated, dim=1), normalize(means, dim=1))


def write_bank(weights: Weights) -> None:
    """Compute class_bank.safetensors from the texts and the classifier's weights, in float16 (2 MB)."""
    from safetensors.torch import save_file

    texts = embed_classes(read_classes())
    appearance = fit_appearance(weights["_fc.weight"], texts)
    tensors = {
        "names": texts.names,
        "scenes": texts.scenes,
        "appearance.features": appearance.features,
        "appearance.texts": appearance.texts,
    }
    save_file({name: tensor.half().contiguous() for name, tensor in tensors.items()}, BANK_FILE)


if __name__ == "__main__":
    from bindsearch.encoders.mini.efficientnet import read_weights
    from bindsearch.encoders.mini.image import ImageTower

    write_bank(read_weights(ImageTower().files[0]))
