"""Towers that distinguish labels: their vectors are mixtures of the hub's vectors of the labels that were trained on.

For few recordings of few kinds of sound or motion: a free vector learns nothing about the space from ten labels, and a
mixture of them is at least where the labels are (like ConSE, Norouzi et al. 2013, arXiv 1312.5650).
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor
from torch.nn.functional import normalize

from bindsearch.encoders.bound.sound_network import AudioNetwork
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
