"""Map of an image network's features to the text space by texts about its 1000 classes; no pictures are used for it.

The vector of a picture is the sum of four parts, each of unit length before it is weighted:

* names: ConSE (Norouzi et al. 2013, arXiv 1312.5650), the mean of the text vectors of the class names, weighted by
  probability;
* scenes: ConSE with a higher temperature, over captions of typical scenes with each class;
* linear: ridge regression from the classifier's weight vectors to the scenes (like DeViSE, Frome et al. 2013, but from
  the 1000 prototypes instead of pictures), which preserves information that the probabilities lose;
* appearance: the features in the directions of the text space that texts hardly use. Texts are nearly orthogonal to it,
  so it hardly changes their ranking of pictures, while pictures, thermal and depth find each other by appearance.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

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
