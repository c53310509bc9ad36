"""Complete ImageBind model with the interface of the published code, for parity and evaluation.

Searches use single towers from converted files (`checkpoint.py`, `encoder.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from bindsearch.encoders.imagebind.config import ModelConfig, make_config
from bindsearch.encoders.imagebind.published_weights import (
    check_published,
    convert_tensor,
    fill_randomly,
    published_tensors,
)
from bindsearch.encoders.imagebind.towers import TOWERS, build_tower
from bindsearch.errors import UsageError


class ImageBindModel(nn.Module):
    """Model of all six towers; its parameters have no values yet (see `build_model`).

    Inputs and outputs are named "vision", "text", "audio", "depth", "thermal", "imu".
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.towers = nn.ModuleDict({name: build_tower(name, config) for name in TOWERS})

    def forward(self, inputs: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Return temperature-scaled features.

        Clips are averaged after scaling and not normalised again, as published.

        Args:
            inputs: Media by modality: vision (B, 3, 224, 224), or (B, S, 3, [2,] 224, 224) with S clips; text int64
                (B, 77); audio (B, S, 1, 128, 204); depth and thermal (B, 1, 224, 224); imu (B, 6, 2000).

        Returns:
            Features by modality, float32 (B, d).

        Raises:
            UsageError: a modality is unknown.
        """
        features = {}
        for modality, media in inputs.items():
            name = "image" if modality == "vision" else modality
            if modality == "image" or name not in self.towers:
                raise UsageError(f"unknown modality {modality!r}: the model takes vision, {', '.join(TOWERS[1:])}")
            of_clips = self.towers[name](media if media.ndim < 5 else media.flatten(0, 1))
            features[modality] = of_clips if media.ndim < 5 else of_clips.unflatten(0, media.shape[:2]).mean(dim=1)
        return features


def build_model(**config: Any) -> ImageBindModel:
    """Build a model with random weights, in eval mode.

    Raises:
        UsageError: an argument is unknown.
    """
    model = ImageBindModel(make_config(**config)).eval()
    fill_randomly(model)
    return model


def load_published_weights(model: ImageBindModel, state_dict: Mapping[str, torch.Tensor]) -> None:
    """Fill a model with a published checkpoint.

    Raises:
        UsageError: `state_dict` is not a mapping.
        EncoderError: a key is missing or unknown, or a value has another shape, is not a tensor of floats or is not
            finite; the message names the key.
    """
    if not isinstance(state_dict, Mapping):
        raise UsageError(
            f"expected a state dict, not {type(state_dict).__name__}: torch.load(path, weights_only=True, mmap=True)"
        )
    check_published(state_dict, model.config)
    with torch.no_grad():
        for name in TOWERS:
            parameters = dict(model.towers[name].named_parameters())
            for tensor in published_tensors(name, model.config):
                parameters[tensor.parameter].copy_(convert_tensor(state_dict[tensor.key], tensor, "fp32"))
