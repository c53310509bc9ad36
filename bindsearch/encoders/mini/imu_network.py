"""Network of the IMU tower: small networks of convolutions and a Transformer; their probabilities are averaged.

How the phone lies must not matter much, so each view is turned until its mean acceleration (gravity) points along x;
the remaining turn about x is random in training. The direction of gravity in the phone, which distinguishes lying from
standing with a phone at the waist, is an input of its own, and so are its components by size, which no turn by a right
angle changes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

CHANNELS = 6
DIRECTION_CHANNELS = 6
"""Components of the direction of gravity, and the same by size."""

POSITIONS = 16  # of a view of 128 samples after three strides of 2
SCALE = (10.0, 10.0, 10.0, 2.0, 2.0, 2.0)  # about gravity in m/s^2, and a brisk turn in rad/s
TREMOR = (0.1, 0.1, 0.1, 0.02, 0.02, 0.02)  # about the sway that distinguishes standing from sitting, in the same units


class LabelMixture(nn.Module):
    """Network that maps views (n, ...) to unit vectors (n, d): label texts, weighted by the members' probabilities.

    The vectors are among those of texts (like those of ConSE, arXiv 1312.5650); a recording of two labels is between
    both.
    """

    bank: Tensor

    def __init__(self, members: Sequence[nn.Module], bank: Tensor) -> None:
        """Combine members."""
        super().__init__()
        self.members = nn.ModuleList(members)
        self.register_buffer("bank", bank)

    def forward(self, views: Tensor) -> Tensor:
        """Return the sum of the label texts, weighted by the mean probabilities of the members, at unit length."""
        probabilities = torch.stack([member(views).softmax(dim=1) for member in self.members]).mean(dim=0)
        return nn.functional.normalize(probabilities @ self.bank, dim=1)


class ImuNetwork(nn.Module):
    """Network that maps views (n, 6, 128) of accelerometer and gyroscope to logits (n, labels)."""

    scale: Tensor
    tremor: Tensor

    def __init__(self, labels: int, *, width: int, dropout: float = 0.3) -> None:
        super().__init__()
        self.register_buffer("scale", torch.tensor(SCALE)[:, None], persistent=False)
        self.register_buffer("tremor", torch.tensor(TREMOR)[:, None], persistent=False)
        self.convolutions = nn.Sequential(
            *_convolution(2 * CHANNELS + DIRECTION_CHANNELS, width, 7),
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
        gravity = nn.functional.normalize(views[:, :3].mean(dim=2), dim=1)
        turn = rotation_to_x(gravity)
        if self.training:
            turn = _random_turns_about_x(len(views)) @ turn
        upright = torch.cat([turn @ views[:, :3], turn @ views[:, 3:]], dim=1)
        deviation = torch.asinh((upright - upright.mean(dim=2, keepdim=True)) / self.tremor) / 3.0
        direction = torch.cat([gravity, gravity.abs().sort(dim=1).values], dim=1)
        constant = direction[:, :, None].expand(-1, -1, views.shape[2])
        steps = self.convolutions(torch.cat([upright / self.scale, deviation, constant], dim=1)).transpose(1, 2)
        steps = self.norm(self.attention(steps + self.positions))
        logits: Tensor = self.head(self.dropout(torch.cat([steps.mean(dim=1), steps.amax(dim=1)], dim=1)))
        return logits


def rotation_to_x(directions: Tensor) -> Tensor:
    """Return rotations (n, 3, 3) that turn unit vectors (n, 3) to (1, 0, 0) by the least angle.

    Rodrigues' formula: I + K + K^2 / (1 + x), K the cross product with v x e, for v = (x, y, z) and e = (1, 0, 0).
    A vector near (-1, 0, 0) is turned by 180 degrees about z.
    """
    x, y, z = directions.unbind(dim=1)
    zero = torch.zeros_like(x)
    cross = torch.stack([zero, y, z, -y, zero, zero, -z, zero, zero], dim=1).reshape(-1, 3, 3)
    identity = torch.eye(3, device=directions.device).expand_as(cross)
    turned = identity + cross + cross @ cross / (1 + x).clamp_min(1e-3)[:, None, None]
    opposite = torch.diag(torch.tensor([-1.0, -1.0, 1.0], device=directions.device)).expand_as(cross)
    return torch.where((x < -0.999)[:, None, None], opposite, turned)


def _random_turns_about_x(n: int) -> Tensor:
    """Return n rotations (n, 3, 3) about the x axis by random angles."""
    angles = 2 * torch.pi * torch.rand(n)
    turns = torch.zeros(n, 3, 3)
    turns[:, 0, 0] = 1.0
    turns[:, 1, 1] = turns[:, 2, 2] = angles.cos()
    turns[:, 2, 1] = angles.sin()
    turns[:, 1, 2] = -angles.sin()
    return turns


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
    width, bank = state["members.0.convolutions.0.weight"].shape[0], state["bank"]
    count = len({name.split(".")[1] for name in state if name.startswith("members.")})
    mixture = LabelMixture([ImuNetwork(len(bank), width=width) for _ in range(count)], torch.zeros(bank.shape))
    mixture.load_state_dict(dict(state))
    return mixture.eval()
