"""Map of an image network's features to the text space by texts about its 1000 classes; no pictures are used for it.

The vector of a picture is the sum of four parts, each of unit length before it is weighted:

* names: ConSE (Norouzi et al. 2013, arXiv 1312.5650), the mean of the text vectors of the class names, weighted by
  probability;
* scenes: ConSE with a higher temperature, over captions of typical scenes with each class;
* linear: ridge regression from the classifier's weight vectors to the scenes (like DeViSE, Frome et al. 2013, but from
  the 1000 prototypes instead of pictures), which preserves information that the probabilities lose;
* appearance: the features in the directions of the text space that texts hardly use. Texts are nearly orthogonal to it,
  so it hardly changes their ranking of pictures, while pictures, thermal and depth find each other by appearance.

The class bank, class_bank.safetensors, has the text vectors of the classes and the fitted appearance map.
`python -m bindsearch.encoders.mini.class_prototypes` computes the file from class_texts.json and the packaged weights.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bindsearch.encoders.mini.weights import reading_weights

if TYPE_CHECKING:
    import torch

    from bindsearch.encoders.mini.efficientnet import Weights


# Chosen on the open part of the evaluation data; benchmarks/QUALITY.md lists what else was tried.
NAMES_TEMPERATURE, NAMES_TOP = 1.0, 20
SCENES_TEMPERATURE, SCENES_TOP = 1.5, 20
SCENES_SHARE = 0.3
LINEAR_SHARE = 0.4
APPEARANCE_SHARE = 0.7
RIDGE = 1.0  # of the mean eigenvalue of the prototypes' Gram matrix
APPEARANCE_DIMS = 128


@dataclass(frozen=True, slots=True)
class ClassMap:
    """Map of features to the text space by texts about k classes.

    Attributes:
        weight: Weights of the classifier, float32 (k, f).
        bias: Bias of the classifier, (k,).
        names: Unit vectors of the names of the classes, float32 (k, d).
        scenes: Unit vectors of the scenes, float32 (k, d).
        linear: Linear map of the features, (f, d).
        appearance: Directions of the features of the appearance, (f, a).
        appearance_texts: Orthonormal directions of the text space that they are mapped to, (d, a).
    """

    weight: torch.Tensor
    bias: torch.Tensor
    names: torch.Tensor
    scenes: torch.Tensor
    linear: torch.Tensor
    appearance: torch.Tensor
    appearance_texts: torch.Tensor


def fit_linear(weight: torch.Tensor, scenes: torch.Tensor) -> torch.Tensor:
    """Fit a ridge regression from centred class prototypes (k, f) to centred scene vectors (k, d): (f, d)."""
    import torch

    prototypes = (weight - weight.mean(0)).double()
    gram = prototypes @ prototypes.T
    gram.diagonal().add_(RIDGE * gram.diagonal().mean())
    coefficients = torch.linalg.solve(gram, (scenes - scenes.mean(0)).double())
    linear: torch.Tensor = (prototypes.T @ coefficients).float()
    return linear


def fit_appearance(
    weight: torch.Tensor, names: torch.Tensor, scenes: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Map the principal directions of the class prototypes to the directions of least energy of the class texts.

    Eigenvectors are unique only up to sign and rotation. The result is therefore stored with the encoder, not fitted
    when it loads: vectors from two machines must agree.

    Args:
        weight: Weights of the classifier, float32 (k, f).
        names: Vectors of the names of the k classes, float32 (k, d).
        scenes: Vectors of their scenes, float32 (k, d).

    Returns:
        Values of `ClassMap.appearance` and `ClassMap.appearance_texts`.
    """
    import torch

    prototypes = weight - weight.mean(0)
    _, _, directions = torch.linalg.svd(prototypes.double(), full_matrices=False)
    vectors = torch.cat([names, scenes]).double()
    _, ascending = torch.linalg.eigh(vectors.T @ vectors)
    return directions[:APPEARANCE_DIMS].T.float().contiguous(), ascending[:, :APPEARANCE_DIMS].float().contiguous()


def map_features(features: torch.Tensor, by: ClassMap) -> torch.Tensor:
    """Map pooled features, float32 (n, f), to unit vectors of the text space, float32 (n, d)."""
    from torch.nn.functional import normalize

    logits = features @ by.weight.T + by.bias
    names = _weighted_texts(logits, by.names, temperature=NAMES_TEMPERATURE, top=NAMES_TOP)
    scenes = _weighted_texts(logits, by.scenes, temperature=SCENES_TEMPERATURE, top=SCENES_TOP)
    semantic = normalize(names + SCENES_SHARE * scenes, dim=1)
    semantic = normalize(semantic + LINEAR_SHARE * normalize(features @ by.linear, dim=1), dim=1)
    appearance = normalize(features @ by.appearance, dim=1) @ by.appearance_texts.T
    return normalize(semantic + APPEARANCE_SHARE * appearance, dim=1)


def _weighted_texts(logits: torch.Tensor, texts: torch.Tensor, *, temperature: float, top: int) -> torch.Tensor:
    """Return the mean of the texts (k, d) of the `top` classes, weighted by probability: unit vectors (n, d)."""
    import torch
    from torch.nn.functional import normalize

    best = (logits / temperature).softmax(dim=1).topk(min(top, logits.shape[1]), dim=1)
    weights = torch.zeros_like(logits).scatter_(1, best.indices, best.values)
    return normalize(weights @ texts, dim=1)


TEXTS_FILE = Path(__file__).with_name("class_texts.json")
BANK_FILE = Path(__file__).with_name("class_bank.safetensors")
CURATED_SHARE = 0.5  # weight of the curated name relative to ImageNet's own name


@dataclass(frozen=True, slots=True)
class ImageNetClass:
    """Class of ImageNet by its WordNet id, with its name there, an edited name, and captions of typical scenes."""

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
