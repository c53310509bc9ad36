"""From an image network's features to the text space, through texts about its 1000 classes; no picture is learned from.

A picture's vector is the sum of four parts, each of unit length before it is weighted:

* names: ConSE (Norouzi et al. 2013, arXiv 1312.5650), the mean of the class names' text vectors by probability;
* scenes: ConSE again, softer, over captions of typical scenes with each class;
* linear: ridge regression from the classifier's weight vectors to the scenes (as in DeViSE, Frome et al. 2013, but from
  the 1000 prototypes instead of pictures), which keeps what the probabilities throw away;
* appearance: the features in the directions of the text space that texts hardly use. Texts are nearly orthogonal to it,
  so it leaves their ranking of pictures alone, while pictures, thermal and depth find each other by their looks.
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
class ClassTexts:
    """The k classes of the image tower: `names` and `scenes` float32 (k, d), unit vectors of the text space."""

    names: torch.Tensor
    scenes: torch.Tensor


@dataclass(frozen=True, slots=True)
class Appearance:
    """`features` (f, a): directions of the features; `texts` (d, a): where they go in the text space, orthonormal."""

    features: torch.Tensor
    texts: torch.Tensor


@dataclass(frozen=True, slots=True)
class ClassMap:
    """`weight` (k, f) and `bias` (k,) of the classifier, and what its classes mean; `linear` (f, d)."""

    weight: torch.Tensor
    bias: torch.Tensor
    texts: ClassTexts
    linear: torch.Tensor
    appearance: Appearance


def fit_linear(weight: torch.Tensor, scenes: torch.Tensor) -> torch.Tensor:
    """Ridge regression from centred class prototypes (k, f) to centred scene vectors (k, d): (f, d)."""
    import torch

    prototypes = (weight - weight.mean(0)).double()
    gram = prototypes @ prototypes.T
    gram.diagonal().add_(RIDGE * gram.diagonal().mean())
    coefficients = torch.linalg.solve(gram, (scenes - scenes.mean(0)).double())
    linear: torch.Tensor = (prototypes.T @ coefficients).float()
    return linear


def fit_appearance(weight: torch.Tensor, texts: ClassTexts) -> Appearance:
    """Principal directions of the class prototypes, sent to the directions of least energy of the class texts.

    Eigenvectors are only known up to sign and rotation, so the result is stored with the encoder, not fitted at load:
    vectors made on two machines must agree.
    """
    import torch

    prototypes = weight - weight.mean(0)
    _, _, directions = torch.linalg.svd(prototypes.double(), full_matrices=False)
    vectors = torch.cat([texts.names, texts.scenes]).double()
    _, ascending = torch.linalg.eigh(vectors.T @ vectors)
    return Appearance(
        features=directions[:APPEARANCE_DIMS].T.float().contiguous(),
        texts=ascending[:, :APPEARANCE_DIMS].float().contiguous(),
    )


def map_features(features: torch.Tensor, by: ClassMap) -> torch.Tensor:
    """Pooled features float32 (n, f) to unit vectors of the text space float32 (n, d)."""
    from torch.nn.functional import normalize

    logits = features @ by.weight.T + by.bias
    names = _weighted_texts(logits, by.texts.names, temperature=NAMES_TEMPERATURE, top=NAMES_TOP)
    scenes = _weighted_texts(logits, by.texts.scenes, temperature=SCENES_TEMPERATURE, top=SCENES_TOP)
    spoken = normalize(names + SCENES_SHARE * scenes, dim=1)
    spoken = normalize(spoken + LINEAR_SHARE * normalize(features @ by.linear, dim=1), dim=1)
    looks = normalize(features @ by.appearance.features, dim=1) @ by.appearance.texts.T
    return normalize(spoken + APPEARANCE_SHARE * looks, dim=1)


def _weighted_texts(logits: torch.Tensor, texts: torch.Tensor, *, temperature: float, top: int) -> torch.Tensor:
    """Unit mean of the `top` most probable classes' texts (k, d), weighted by probability: (n, d)."""
    import torch
    from torch.nn.functional import normalize

    best = (logits / temperature).softmax(dim=1).topk(min(top, logits.shape[1]), dim=1)
    weights = torch.zeros_like(logits).scatter_(1, best.indices, best.values)
    return normalize(weights @ texts, dim=1)
