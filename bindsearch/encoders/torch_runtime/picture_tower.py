"""Towers made of networks of others: called in their own way, or as modules that can be trained for bound towers."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize


class PictureTower(nn.Module):
    """Tower of pictures whose features are vectors of the space; see `encoders.bound.networks.PictureTower`."""

    def __init__(
        self, load: Callable[[str, torch.device], nn.Module], to_pixels: Callable[[Tensor], Tensor], dim: int
    ) -> None:
        """Load the tower "image" on the CPU, in fp32; `to_pixels` makes its input of uint8 (n, side, side, 3)."""
        super().__init__()
        network = load("image", torch.device("cpu"))
        for parameter in network.parameters():
            parameter.data = parameter.data.clone()  # those of an installed model are mapped from its file
        self.network, self.width = network.float(), dim
        self._to_pixels = to_pixels

    def features(self, squares: Tensor) -> Tensor:
        """Return vectors of the space, float32 (n, d), not of unit length."""
        features: Tensor = self.network(self._to_pixels(squares)).float()
        return features

    def project(self, features: Tensor) -> Tensor:
        """Return vectors at unit length."""
        return normalize(features, dim=1)


Call = Callable[[nn.Module, Tensor], Tensor]
"""Runs a network on the input of a tower and returns vectors (n, d)."""


class Tower(nn.Module):
    """Network that maps one tensor to vectors, whatever its own arguments and results are."""

    def __init__(self, network: nn.Module, call: Call) -> None:
        super().__init__()
        self.network = network
        self._call = call

    def forward(self, batch: Tensor) -> Tensor:
        """Return vectors (n, d), not of unit length."""
        return self._call(self.network, batch)


def embed_texts(network: nn.Module, tokens: Tensor) -> Tensor:
    """Return the vectors of token ids and masks, int64 (n, 2, length), by a text model of transformers."""
    embeds: Tensor = network(input_ids=tokens[:, 0], attention_mask=tokens[:, 1]).text_embeds
    return embeds
