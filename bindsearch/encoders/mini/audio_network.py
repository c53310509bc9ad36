"""Network of the audio tower (the convolutions of aiSFX over a whole sound), and the map of its features to texts.

The vector of a window of a sound is the sum of two parts:

* meaning: a mixture of the texts of the ten kinds of ESC-10, by classifiers of this project, and of categories of sound
  effects, by those of aiSFX. A gate weighs both: how near the features are to those of the sounds of the ten kinds.
  Like ConSE (Norouzi et al. 2013, arXiv 1312.5650), a sound is near the texts and pictures of what it may be.
* detail: the features in the directions of the text space that texts use least, like the appearance of pictures (see
  `class_prototypes`). Texts are nearly orthogonal to it, so it hardly changes their ranking of sounds, while sounds
  find each other by it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

CHANNELS = (1, 64, 64, 128, 128, 256, 256, 512, 512)
"""Channels before and after each convolution; time and frequency are halved after every second one but the last."""

FEATURES = CHANNELS[-1]
FRAMES_PER_COLUMN = 8
WINDOW_COLUMNS = 12
"""Columns of features, 186 ms each, of a window of 2.2 s, as long as what the network was trained with."""

SILENT_BELOW = 0.317
"""Levels, 30 dB: windows whose loudest point is this far below that of the sound are left out."""

INT8_LIMIT = 127

# Chosen on the open part of the evaluation data; benchmarks/QUALITY_SOUNDS.md lists what else was tried.
NEIGHBOURS = 3
GATE_WIDTH = 0.05
DETAIL_SHARE = 0.4

Layers = Sequence[tuple[Tensor, Tensor]]
"""Weight (out, in) and bias (out,) of linear layers, with a ReLU between them."""


class SoundNetwork(nn.Module):
    """Network that maps the levels of a sound (frames, 96), of at least 96 frames, to features (windows, 512)."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for number, (before, after) in enumerate(pairwise(CHANNELS), start=1):
            layers += [nn.Conv2d(before, after, 3, padding=1), nn.ReLU(inplace=True)]
            if number % 2 == 0 and number < len(CHANNELS) - 1:
                layers.append(nn.MaxPool2d(2))
        self.body = nn.Sequential(*layers)

    def forward(self, levels: Tensor) -> Tensor:
        """Return features: means over frequency, then maxima over windows that overlap by at least half.

        Windows that are silent beside the others are left out; at least one remains.
        """
        columns = self.body(levels[None, None]).mean(dim=3)[0]
        free = columns.shape[1] - WINDOW_COLUMNS
        hops = -(-2 * free // WINDOW_COLUMNS)
        starts = [round(hop * free / hops) for hop in range(hops + 1)] if hops else [0]
        features = torch.stack([columns[:, start : start + WINDOW_COLUMNS].amax(dim=1) for start in starts])
        frames = levels.amax(dim=1)
        loudest = torch.stack(
            [frames[FRAMES_PER_COLUMN * start :][: FRAMES_PER_COLUMN * WINDOW_COLUMNS].amax() for start in starts]
        )
        return features[loudest >= loudest.max() - SILENT_BELOW]


def network_from_state(state: Mapping[str, Tensor]) -> SoundNetwork:
    """Build the network of a state dict, ready for inference.

    Raises:
        RuntimeError: the tensors are not those of this network.
    """
    network = SoundNetwork()
    network.load_state_dict({name: tensor for name, tensor in state.items() if name.startswith("body.")})
    # Channels last is the fastest layout for convolutions on a CPU.
    cast("Any", network).to(memory_format=torch.channels_last)  # torch 2.11 declares no such keyword
    return network.eval().requires_grad_(False)


@dataclass(frozen=True, slots=True)
class SoundMap:
    """Map of features to the text space.

    Attributes:
        mean: Mean of the features, (512,).
        scale: Deviation of the features, (512,).
        neighbours: Standardised features of windows of sounds of the ten kinds, unit rows (n, 512).
        gate: Similarity at which a sound is as probably of the ten kinds as not.
        kinds: Classifiers of the ten kinds, of standardised features; their probabilities are averaged.
        kind_texts: Texts of the ten kinds without their part in the directions of the detail, (10, 384).
        effects: Classifiers of aiSFX, of features, each with the text of the category of each output, likewise,
            (outputs, 384), 0 for none, and which outputs have a category, 0 or 1, (outputs,).
        detail: Map of centred features, (512, 96).
        detail_texts: Orthonormal directions of the text space that it is mapped to, (96, 384).
    """

    mean: Tensor
    scale: Tensor
    neighbours: Tensor
    gate: float
    kinds: Sequence[Layers]
    kind_texts: Tensor
    effects: Sequence[tuple[Layers, Tensor, Tensor]]
    detail: Tensor
    detail_texts: Tensor


def map_from_state(state: Mapping[str, Tensor]) -> SoundMap:
    """Build the map of the tensors of both files.

    Raises:
        KeyError: a tensor is missing.
        RuntimeError: tensors do not fit each other.
    """
    effects = []
    for number in range(_count(state, "effects")):
        category_of = state[f"effect_categories.{number}"].long()
        is_named = (category_of >= 0).float()
        texts = state["category_texts"][category_of.clamp(min=0)] * is_named[:, None]
        effects.append((_layers(state, f"effects.{number}"), texts, is_named))
    return SoundMap(
        neighbours=functional.normalize(state["neighbours"], dim=1),
        gate=float(state["gate"]),
        kinds=[_layers(state, f"kinds.{number}") for number in range(_count(state, "kinds"))],
        effects=effects,
        **{name: state[name] for name in ("mean", "scale", "kind_texts", "detail", "detail_texts")},
    )


def _count(state: Mapping[str, Tensor], group: str) -> int:
    """Return how many classifiers a group has."""
    return len({name.split(".")[1] for name in state if name.startswith(f"{group}.")})


def _layers(state: Mapping[str, Tensor], name: str) -> Layers:
    """Return the layers of a classifier."""
    numbers = sorted({int(key.split(".")[2]) for key in state if key.startswith(f"{name}.")})
    return [(state[f"{name}.{number}.weight"], state[f"{name}.{number}.bias"]) for number in numbers]


def map_windows(features: Tensor, by: SoundMap) -> Tensor:
    """Map the features of the windows of one sound, float32 (n, 512), to a unit vector of the text space (384,)."""
    standardized = (features - by.mean) / by.scale
    is_kind = ((similarity(standardized, by.neighbours) - by.gate) / GATE_WIDTH).sigmoid()[:, None]
    kinds = torch.stack([logits(standardized, layers).softmax(dim=1) for layers in by.kinds]).mean(dim=0)
    meaning = is_kind * (kinds @ by.kind_texts) + (1 - is_kind) * _effect_mixture(features, by)
    detail = (features.mean(dim=0) - by.mean) @ by.detail @ by.detail_texts
    return functional.normalize(
        (1 - DETAIL_SHARE) ** 0.5 * functional.normalize(meaning.mean(dim=0), dim=0)
        + DETAIL_SHARE**0.5 * functional.normalize(detail, dim=0),
        dim=0,
    )


def similarity(standardized: Tensor, neighbours: Tensor) -> Tensor:
    """Return the mean cosine of each row (n, f) and the NEIGHBOURS nearest of the unit rows (m, f): (n,)."""
    cosines = functional.normalize(standardized, dim=1) @ neighbours.T
    return cosines.topk(min(NEIGHBOURS, len(neighbours)), dim=1).values.mean(dim=1)


def logits(features: Tensor, layers: Layers) -> Tensor:
    """Return the outputs of a classifier (n, outputs) of features (n, f)."""
    for weight, bias in layers[:-1]:
        features = functional.relu(features @ weight.T + bias)
    weight, bias = layers[-1]
    return features @ weight.T + bias


def _effect_mixture(features: Tensor, by: SoundMap) -> Tensor:
    """Return the mean of the texts of the categories (n, d), weighted by their shares of the probability of all."""
    texts, mass = torch.zeros(()), torch.zeros(())
    for layers, text_of, is_named in by.effects:
        probabilities = logits(features, layers).softmax(dim=1)
        texts = texts + probabilities @ text_of
        mass = mass + probabilities @ is_named
    return texts / mass[:, None].clamp(min=1e-6)


def pack_int8(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return matrices as int8 with a scale for each row, and vectors in fp16, for a file a quarter as large.

    Args:
        tensors: Weights (outputs, ...) and biases (outputs,), float32.
    """
    packed = {}
    for name, tensor in tensors.items():
        if tensor.ndim < 2:
            packed[name] = tensor.half()
            continue
        scale = tensor.flatten(1).abs().amax(dim=1) / INT8_LIMIT
        rounded = (tensor / scale.reshape(-1, *[1] * (tensor.ndim - 1))).round()
        packed[name] = rounded.clamp(-INT8_LIMIT, INT8_LIMIT).to(torch.int8).contiguous()
        packed[f"{name}.scale"] = scale
    return packed


def unpack_int8(packed: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors of `pack_int8` in float32, and numbers of categories as they are.

    Raises:
        KeyError: a scale is missing.
    """
    tensors = {}
    for name, tensor in packed.items():
        if name.endswith(".scale"):
            continue
        tensors[name] = tensor if tensor.dtype is torch.int16 else tensor.float()
        if tensor.dtype is torch.int8:
            tensors[name] *= packed[f"{name}.scale"].reshape(-1, *[1] * (tensor.ndim - 1))
    return tensors
