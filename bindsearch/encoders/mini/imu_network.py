"""Network of the IMU tower: small networks of convolutions and a Transformer; their probabilities are averaged."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from bindsearch.encoders.mini.label_head import LabelMixture, mixture_from_state

CHANNELS = 6
POSITIONS = 16  # of a view of 128 samples after three strides of 2
SCALE = (10.0, 10.0, 10.0, 2.0, 2.0, 2.0)  # about gravity in m/s^2, and a brisk turn in rad/s
TREMOR = (0.1, 0.1, 0.1, 0.02, 0.02, 0.02)  # about the sway that distinguishes standing from sitting, in the same units


class ImuNetwork(nn.Module):
    """Network that maps views (n, 6, 128) of accelerometer and gyroscope to logits (n, labels)."""

    scale: Tensor
    tremor: Tensor

    def __init__(self, labels: int, *, width: int, dropout: float = 0.3) -> None:
        super().__init__()
        self.register_buffer("scale", torch.tensor(SCALE)[:, None], persistent=False)
        self.register_buffer("tremor", torch.tensor(TREMOR)[:, None], persistent=False)
        self.convolutions = nn.Sequential(
            *_convolution(2 * CHANNELS, width, 7),
            *_convolution(width, 2 * width, 5),
            *_convolution(2 * width, 2 * width, 5),
        )
        self.positions = nn.Parameter(torch.randn(1, POSITIONS, 2 * width) * 0.02)
        self.attention = nn.TransformerEncoderLayer(
            2 * width, 4, 4 * width, 0.1, "gelu", batch_first=True, norm_first=True
        )
        self.norm = nn.LayerNorm(2 * width)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(4 * width, labels)

    def forward(self, views: Tensor) -> Tensor:
        """Return logits (n, labels) of views (n, 6, 128).

        The input has also the deviation of the signals from their mean, with small motions amplified.
        """
        deviation = torch.asinh((views - views.mean(dim=2, keepdim=True)) / self.tremor) / 3.0
        steps = self.convolutions(torch.cat([views / self.scale, deviation], dim=1)).transpose(1, 2)
        steps = self.norm(self.attention(steps + self.positions))
        logits: Tensor = self.head(self.dropout(torch.cat([steps.mean(dim=1), steps.amax(dim=1)], dim=1)))
        return logits


def _convolution(inputs: int, outputs: int, kernel: int) -> tuple[nn.Module, ...]:
    """Return a convolution with stride 2, batch normalisation and activation."""
    convolution = nn.Conv1d(inputs, outputs, kernel, 2, kernel // 2, bias=False)
    return convolution, nn.BatchNorm1d(outputs), nn.GELU()


def network_from_state(state: Mapping[str, Tensor]) -> LabelMixture:
    """Build the network of a state dict, ready for inference.

    Raises:
        KeyError: a tensor is missing.
        RuntimeError: the tensors are not those of this network.
    """
    width = state["members.0.convolutions.0.weight"].shape[0]
    return mixture_from_state(state, lambda labels: ImuNetwork(labels, width=width))
