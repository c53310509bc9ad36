"""Networks of bound towers: media in the form of `inputs.prepare` to vectors of the hub's space.

No constructor draws random numbers, like those of `encoders.imagebind.towers`; `initialize` does.
Letters: n media, d dimensions of the hub's space.
"""

from __future__ import annotations

import math
from typing import Protocol, cast

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize
from torch.nn.utils.parametrize import register_parametrization

from bindsearch.encoders.bound.label_tower import LabelTower
from bindsearch.encoders.bound.tower_config import HUB, LABEL_NETWORKS, PLANE_SIZES, SIGNAL_SIZES, TowerConfig
from bindsearch.encoders.imagebind.config import IMU_SAMPLES
from bindsearch.encoders.imagebind.preprocessing.audio import FRAMES, MEL_BINS
from bindsearch.encoders.imagebind.towers import PlaneStem, SignalStem
from bindsearch.encoders.imagebind.transformer import Norm, Transformer
from bindsearch.errors import EncoderError
from bindsearch.types import Modality

AUDIO_KERNEL, AUDIO_STRIDE = 16, 10
"""Patches of a spectrogram and their distance (paper, section 3.3, after AST, arXiv 2104.01778)."""

IMU_KERNEL = 8
"""Samples of a patch of motion (paper, section 3.3)."""

HIDDEN_RATIO = 4
"""Width of the hidden layer of an "mlp" head, in widths of its input."""

LORA_SCALE = 2.0
"""Factor of the additions of low rank: alpha / rank of LoRA (arXiv 2106.09685), with alpha = 2 * rank."""

DEVIATION = 0.02
"""Standard deviation of new tokens and position embeddings (ViT, arXiv 2010.11929)."""


class PictureTower(Protocol):
    """Tower of pictures that a bound tower may start from, a `torch.nn.Module` in fp32; encoders have `picture_tower`.

    It takes stacked squares as `prepare` of its encoder returns them for a `Picture`.
    """

    width: int
    """Width of `features`."""

    def features(self, squares: Tensor) -> Tensor:
        """Return features, float32 (n, width), of squares (n, ...)."""

    def project(self, features: Tensor) -> Tensor:
        """Return unit vectors, float32 (n, d), of features (n, width)."""


class TransformerTower(nn.Module):
    """Tower of patches and a Transformer, whose class token is mapped to the space."""

    def __init__(self, stem: nn.Module, patches: int, config: TowerConfig) -> None:
        """Create the layers after a stem that converts media to patches (n, patches, width)."""
        super().__init__()
        size = (PLANE_SIZES | SIGNAL_SIZES)[config.network]  # type: ignore[operator]
        self.stem = stem
        self.stem_norm = Norm(size.width)
        self.class_token = nn.Parameter(torch.empty(1, 1, size.width))
        self.position = nn.Parameter(torch.empty(1, patches + 1, size.width))
        self.trunk = Transformer(size.width, size.blocks, size.heads, drop_path=config.drop_path)
        self.norm = Norm(size.width)
        self.head = _head(config, size.width)

    def forward(self, media: Tensor) -> Tensor:
        """Return unit vectors, float32 (n, d), of media in the form that the stem takes."""
        patches = self.stem_norm(self.stem(media))
        first = self.class_token.expand(len(patches), -1, -1)
        tokens = self.trunk(torch.cat([first, patches], dim=1) + self.position)
        return normalize(self.head(self.norm(tokens[:, 0])).float(), dim=1)


class HubTower(nn.Module):
    """Tower that starts as the hub's tower of pictures, with a head that is added to its vectors and starts at 0."""

    def __init__(self, start: PictureTower, config: TowerConfig) -> None:
        """Add a head to the hub's tower of pictures, which is not shared with the hub."""
        super().__init__()
        self.start = cast("nn.Module", start)
        self.width = start.width
        self.norm = nn.LayerNorm(start.width, elementwise_affine=False)
        self.head = _head(config, start.width)
        self.dropout = nn.Dropout(config.drop_path)

    def train(self, mode: bool = True) -> HubTower:
        """Set the mode; means and variances of the hub's batch norms stay: no part of a batch may change another."""
        super().train(mode)
        for module in self.start.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.eval()
        return self

    def frozen_features(self, squares: Tensor) -> Tensor:
        """Return the features of the tower that it starts from, float32 (n, width), of squares as the hub has them."""
        return cast("PictureTower", self.start).features(squares)

    def forward(self, media: Tensor) -> Tensor:
        """Return unit vectors, float32 (n, d).

        Args:
            media: Squares as the hub prepares them (n, ...), or their `frozen_features` (n, width).
        """
        start = cast("PictureTower", self.start)
        features = media if media.ndim == 2 else start.features(media)
        return normalize(start.project(features) + self.head(self.dropout(self.norm(features))).float(), dim=1)


class LowRank(nn.Module):
    """Matrix of low rank that is added to a weight (LoRA, arXiv 2106.09685); it starts at 0."""

    def __init__(self, weight: Tensor, rank: int) -> None:
        super().__init__()
        rows, columns = len(weight), weight[0].numel()
        rank = min(rank, rows, columns)
        self.down = nn.Parameter(torch.empty(rank, columns, device=weight.device))
        self.up = nn.Parameter(torch.empty(rows, rank, device=weight.device))

    def forward(self, weight: Tensor) -> Tensor:
        """Return the weight with the addition, of the same shape."""
        return weight + LORA_SCALE * (self.up @ self.down).reshape(weight.shape)


def build_tower(config: TowerConfig, start: PictureTower | None = None) -> nn.Module:
    """Build a tower whose own parameters have no values yet: load them or call `initialize`.

    Args:
        config: Settings of the tower.
        start: The hub's tower of pictures, for the network HUB.

    Returns:
        Module that maps media (n, ...), as `inputs.prepare` returns their views, to unit vectors, float32 (n, d).
        What is not trained has `requires_grad` False.
    """
    if config.network == HUB:
        if start is None:
            raise EncoderError("this tower starts from the hub's tower of pictures, and the hub gives none")
        tower = HubTower(start, config)
        tower.start.requires_grad_(config.tuning == "full")
        if config.tuning == "lora":
            _add_low_rank(tower.start, config.lora_rank)
        return tower
    if config.network in LABEL_NETWORKS:
        return LabelTower(config)
    if config.modality == Modality.IMU:
        width = SIGNAL_SIZES[config.network].width
        return TransformerTower(SignalStem(width, IMU_KERNEL), IMU_SAMPLES // IMU_KERNEL, config)
    width = PLANE_SIZES[config.network].width
    is_sound = config.modality == Modality.AUDIO
    kernel, stride = (AUDIO_KERNEL, AUDIO_STRIDE) if is_sound else (config.patch_px, config.patch_px)
    sides = (MEL_BINS, FRAMES) if is_sound else (config.side_px, config.side_px)
    patches = math.prod((side - kernel) // stride + 1 for side in sides)
    return TransformerTower(PlaneStem(width, kernel, stride), patches, config)


@torch.no_grad()
def initialize(tower: nn.Module, generator: torch.Generator) -> None:
    """Give the parameters of a new tower their first values; those of the hub's tower keep theirs.

    Matrices as Xavier and Bengio 2010 (uniform), tokens and positions normal with DEVIATION, biases 0, norms 1, and
    the last layer of a head that is added to another tower 0.
    """
    for name, parameter in tower.named_parameters():
        is_low_rank = ".parametrizations." in name
        if name.startswith("start.") and not (is_low_rank and name.endswith((".up", ".down"))):
            continue
        if name.endswith(".up") and is_low_rank:
            parameter.zero_()
        elif parameter.ndim > 1 and len(parameter) > 1:
            bound = math.sqrt(6 / (len(parameter) + parameter[0].numel()))
            parameter.uniform_(-bound, bound, generator=generator)
        elif parameter.ndim > 1:
            parameter.normal_(0, DEVIATION, generator=generator)
        else:
            parameter.fill_(1.0 if name.endswith("weight") else 0.0)
    if isinstance(tower, HubTower):
        last = tower.head[-1] if isinstance(tower.head, nn.Sequential) else tower.head
        for parameter in last.parameters():
            parameter.zero_()


def trained_state(tower: nn.Module) -> dict[str, Tensor]:
    """Return the tensors by name that make a trained tower: trained parameters, and the buffers of a new network.

    Buffers are the running statistics of batch normalisation and the vectors of labels; those of a tower that is
    started from belong to the hub.
    """
    trained: dict[str, Tensor] = {name: value for name, value in tower.named_parameters() if value.requires_grad}
    parameters = {name for name, _ in tower.named_parameters()}
    for name, value in tower.state_dict().items():
        if name not in parameters and value.is_floating_point() and not name.startswith("start."):
            trained[name] = value
    return trained


def load_trained(tower: nn.Module, tensors: dict[str, Tensor]) -> None:
    """Fill the tensors that `trained_state` returns.

    Raises:
        EncoderError: a tensor is missing, unknown, or has another shape.
    """
    own = trained_state(tower)
    if own.keys() != tensors.keys():
        odd = ", ".join(sorted(own.keys() ^ tensors.keys())[:3])
        raise EncoderError(f"the tensors do not fit the tower (missing or unknown: {odd}): bind it again")
    with torch.no_grad():
        for name, parameter in own.items():
            if parameter.shape != tensors[name].shape:
                raise EncoderError(f"the tensor {name} has another shape than the tower's: bind it again")
            parameter.copy_(tensors[name])


def _head(config: TowerConfig, width: int) -> nn.Module:
    """Return the layers from features (n, width) to the space (n, d)."""
    if config.head == "linear":
        return _linear(width, config.dim, bias=False)
    hidden = min(HIDDEN_RATIO * width, 2048)
    return nn.Sequential(_linear(width, hidden, bias=True), nn.GELU(), _linear(hidden, config.dim, bias=False))


def _linear(inputs: int, outputs: int, *, bias: bool) -> nn.Linear:
    """Return a linear layer without values."""
    layer: nn.Linear = nn.utils.skip_init(nn.Linear, inputs, outputs, bias=bias)  # type: ignore[no-untyped-call]
    return layer


def _add_low_rank(network: nn.Module, rank: int) -> None:
    """Add a trained matrix of low rank to each weight that multiplies all channels, in place."""
    for module in [*network.modules()]:
        for name in ("weight", "in_proj_weight"):
            weight = getattr(module, name, None)
            of_channels = isinstance(module, nn.Linear) or (isinstance(module, nn.Conv2d) and module.groups == 1)
            if isinstance(weight, nn.Parameter) and (of_channels or name != "weight"):
                register_parametrization(module, name, LowRank(weight, rank))
