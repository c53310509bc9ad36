"""Tower of a timm model: pooled features, without its classifier."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import timm
import torch
from torch import Tensor, nn

NORMS_IN_FP32 = (nn.BatchNorm2d,)
"""Modules whose weights stay in fp32 regardless of the format of their input."""


class ImageTower(nn.Module):
    """Tower of pictures; its tensors have the names of the checkpoint after "visual."."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__()
        self.visual = timm.create_model(config["model"], pretrained=False, num_classes=0)

    def forward(self, pixels: Tensor) -> Tensor:
        """Return features (n, d), not of unit length, of normalised pictures (n, 3, side, side)."""
        weights = [parameter for parameter in self.visual.parameters() if parameter.ndim >= 2]
        kernel = next((weight for weight in weights if weight.ndim == 4), weights[0])
        features: Tensor = self.visual(pixels.to(kernel.dtype))
        return features


def classifier_names(config: Mapping[str, Any]) -> frozenset[str]:
    """Return the names of the tensors of a model's classifier: those that only the whole model has."""
    with torch.device("meta"):
        whole = timm.create_model(config["model"], pretrained=False, num_classes=1_000)
        tower = ImageTower(config)
    return frozenset(whole.state_dict().keys() - tower.visual.state_dict().keys())
