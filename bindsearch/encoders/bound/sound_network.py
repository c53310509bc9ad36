"""Network of a tower that distinguishes labels of sound: a small convolutional network over log-mel views."""

from __future__ import annotations

import torch
from torch import Tensor, nn


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
