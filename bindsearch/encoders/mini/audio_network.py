"""Network of the audio tower: small convolutional networks whose label probabilities are averaged."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from bindsearch.encoders.mini.label_head import LabelMixture, mixture_from_state


class AudioNetwork(nn.Module):
    """Network that maps log-mel views (n, 64, frames) to logits (n, labels), for any number of frames."""

    def __init__(self, labels: int, *, width: int, dropout: float = 0.3) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(1, width, 5, stride=2, padding=2, bias=False), nn.BatchNorm2d(width), nn.ReLU(inplace=True)
        )
        self.body = nn.Sequential(
            *_convolution(width, 2 * width), nn.MaxPool2d(2), *_convolution(2 * width, 4 * width), nn.MaxPool2d(2),
            *_convolution(4 * width, 8 * width),
        )  # fmt: skip
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(16 * width, labels)

    def forward(self, views: Tensor) -> Tensor:
        """Return logits (n, labels) of views (n, 64, frames).

        Features are averaged over frequency, then pooled over time by mean (for textures) and maximum (for events).
        """
        features = self.body(self.stem(views[:, None])).mean(dim=2)
        pooled = torch.cat([features.mean(dim=2), features.amax(dim=2)], dim=1)
        logits: Tensor = self.head(self.dropout(pooled))
        return logits


def _convolution(inputs: int, outputs: int) -> tuple[nn.Module, ...]:
    """Return a convolution, batch normalisation and activation."""
    convolution = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
    return convolution, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)


def network_from_state(state: Mapping[str, Tensor]) -> LabelMixture:
    """Build the network of a state dict, ready for inference.

    Raises:
        KeyError: a tensor is missing.
        RuntimeError: the tensors are not those of this network.
    """
    width = state["members.0.stem.0.weight"].shape[0]
    network = mixture_from_state(state, lambda labels: AudioNetwork(labels, width=width))
    for member in network.members:
        assert isinstance(member, AudioNetwork)
        _fuse(member)
    # Channels last is the fastest layout for convolutions on a CPU.
    cast("Any", network).to(memory_format=torch.channels_last)  # torch 2.11 declares no such keyword
    return network


def _fuse(member: AudioNetwork) -> None:
    """Fold batch normalisations into the convolutions before them: same results, faster, for inference only."""
    for part in (member.stem, member.body):
        for index, (layer, following) in enumerate(pairwise(list(part))):
            if isinstance(layer, nn.Conv2d) and isinstance(following, nn.BatchNorm2d):
                part[index] = fuse_conv_bn_eval(layer, following)
                part[index + 1] = nn.Identity()
