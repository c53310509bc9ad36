"""Towers that distinguish labels: their vectors are mixtures of the hub's vectors of the labels that were trained on.

For few recordings of few kinds of sound or motion: a free vector learns nothing about the space from ten labels, and a
mixture of them is at least where the labels are (like ConSE, Norouzi et al. 2013, arXiv 1312.5650).
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from bindsearch.encoders.bound.tower_config import LABEL_SOUND, TowerConfig
from bindsearch.encoders.mini.imu_network import ImuNetwork, LabelMixture

SOUND_WIDTH, MOTION_WIDTH = 16, 32
"""Widths of the first layers: those of the towers of `mini`, about 100,000 and 70,000 parameters a member."""


class LabelTower(LabelMixture):
    """Tower of several small networks, whose probabilities of the labels are averaged."""

    def __init__(self, config: TowerConfig) -> None:
        """Create the layers; the bank, float32 (labels, d), is 0 until it is filled."""
        networks = [_network(config) for _ in range(config.members)]
        super().__init__(networks, torch.zeros(config.labels, config.dim))
        self.sharpness = config.sharpness

    def forward(self, views: Tensor) -> Tensor:
        """Return unit vectors, float32 (n, d), of views (n, ...).

        In training each member has rows of its own, so that the members differ: row i is that of member i % members.
        """
        if not self.training:
            logits = torch.stack([member(views) for member in self.members])
            probabilities = (self.sharpness * logits).softmax(dim=2).mean(dim=0)
            return normalize((probabilities @ self.bank).float(), dim=1)
        count = len(self.members)
        order = torch.arange(len(views), device=views.device)
        rows = torch.cat([order[number::count] for number in range(count)])
        logits = torch.cat([member(views[number::count]) for number, member in enumerate(self.members)])
        return normalize((logits.softmax(dim=1) @ self.bank).float(), dim=1)[rows.argsort()]


def fill_bank(tower: LabelTower, bank: Tensor) -> None:
    """Set the vectors of the labels, unit rows float32 (labels, d)."""
    with torch.no_grad():
        tower.bank.copy_(bank)


def _network(config: TowerConfig) -> torch.nn.Module:
    """Return a network that maps views to logits (n, labels)."""
    if config.network != LABEL_SOUND:
        return ImuNetwork(config.labels, width=MOTION_WIDTH, dropout=config.drop_path)
    network = AudioNetwork(config.labels, width=SOUND_WIDTH, dropout=config.drop_path)
    # Channels last is the fastest layout for convolutions on a CPU.
    cast("Any", network).to(memory_format=torch.channels_last)  # torch 2.11 declares no such keyword
    return network


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
