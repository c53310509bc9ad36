"""The six towers of ImageBind (paper, section 3.3): a stem to tokens, a Transformer, one token projected to the space.

Every tower gives temperature-scaled features, as the published heads do. Matrices run in the number format of their
weights; norms, position embeddings and the residual stream stay in float32, which keeps 16-bit embeddings close.
No constructor draws random numbers: on the meta device, where towers are built to be filled from files, that alone
would import torch's compiler (1 s, 90 MB).
Letters: n media, d dimensions of the space.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

import torch
import torch.nn.functional as F
from torch import nn

from bindsearch.encoders.imagebind.config import (
    CONTEXT_TOKENS,
    IMU_AXES,
    IMU_SAMPLES,
    PICTURE_SIDE_PX,
    VOCABULARY,
    ModelConfig,
)
from bindsearch.encoders.imagebind.transformer import Norm, Transformer
from bindsearch.encoders.model_store.checkpoints import MAX_TEMPERATURE

TOWERS = ("image", "text", "audio", "depth", "thermal", "imu")
"""Names of the towers; `image` takes pictures and videos."""

TEMPERATURES = {"text": 1 / 0.07, "audio": 20.0, "depth": 5.0, "thermal": 10.0, "imu": 5.0}
"""Initial temperatures; all but the text tower's are fixed."""


class Tower(nn.Module, ABC):
    """Trunk, head and temperature, common to all towers; the stems differ.

    `temperature`: the initial one, None where the features are not scaled (vision).
    """

    def __init__(self, trunk: Transformer, width: int, dim: int, *, temperature: float | None) -> None:
        super().__init__()
        self.trunk = trunk
        self.norm = Norm(width)
        self.projection = nn.Linear(width, dim, bias=False)
        if temperature is not None:
            self.log_logit_scale = nn.Parameter(torch.tensor(math.log(temperature)))
        else:
            self.register_parameter("log_logit_scale", None)

    def forward(self, media: torch.Tensor) -> torch.Tensor:
        """Temperature-scaled features (n, d), float32."""
        number_format = self.projection.weight.dtype
        with torch.autocast(media.device.type, number_format, enabled=number_format != torch.float32):
            features = self.projection(self.norm(self.pooled(media)))
        unit = F.normalize(features.float(), dim=-1)
        return unit if self.log_logit_scale is None else unit * self.temperature()

    def temperature(self) -> torch.Tensor:
        """The logit scale, a scalar."""
        return self.log_logit_scale.float().exp().clamp(max=MAX_TEMPERATURE)

    @abstractmethod
    def pooled(self, media: torch.Tensor) -> torch.Tensor:
        """Media to the one token of each that stands for the whole: (n, width)."""


class ImageTower(Tower):
    """Pictures (n, 3, side, side) or clips of frames (n, 3, frames, side, side) through ViT-H/14.

    The published patch embedding is a convolution over 2 frames, and a picture is a clip whose frames are alike: for
    pictures the kernel is summed over time once, when the weights are converted.
    """

    def __init__(self, config: ModelConfig) -> None:
        width, dim = config.vision_embed_dim, config.out_embed_dim
        trunk = Transformer(width, config.vision_num_blocks, config.vision_num_heads)
        super().__init__(trunk, width, dim, temperature=None)
        frames, *sides = config.kernel_size
        kernel = sides[0], sides[1]
        patches = math.prod(PICTURE_SIDE_PX // side for side in kernel)
        self.stem = nn.Conv2d(3, width, kernel, kernel, bias=False)
        self.video_stem = nn.Conv2d(3 * frames, width, kernel, kernel, bias=False)
        self.class_token = nn.Parameter(torch.empty(1, 1, width))
        self.position = nn.Parameter(torch.empty(1, patches + 1, width))
        self.norm_pre = Norm(width)

    def pooled(self, media: torch.Tensor) -> torch.Tensor:
        """See `Tower.pooled`."""
        patches = self.stem(media) if media.ndim == 4 else self.video_stem(media.flatten(1, 2))
        tokens = _with_class_token(patches.flatten(2).mT, self.class_token, self.position)
        return _first(self.trunk(self.norm_pre(tokens)))


class TextTower(Tower):
    """Token ids int64 (n, length), zero after the end token, through a causal Transformer.

    What comes after the end token cannot be seen from it, so `length` may be that of the longest text.
    """

    def __init__(self, config: ModelConfig) -> None:
        width, dim = config.text_embed_dim, config.out_embed_dim
        trunk = Transformer(width, config.text_num_blocks, config.text_num_heads, causal=True)
        super().__init__(trunk, width, dim, temperature=TEMPERATURES["text"])
        self.token_embedding = nn.Embedding(VOCABULARY, width, _weight=torch.empty(VOCABULARY, width))
        self.position = nn.Parameter(torch.empty(1, CONTEXT_TOKENS, width))

    def pooled(self, media: torch.Tensor) -> torch.Tensor:
        """See `Tower.pooled`: the token at the end token's place, which has the highest id."""
        tokens = self.token_embedding(media).float() + self.position[:, : media.shape[1]]
        encoded = self.trunk(tokens)
        ends: torch.Tensor = encoded[torch.arange(len(media), device=media.device), media.argmax(dim=1)]
        return ends


class SensorTower(Tower):
    """Sound, depth, thermal pictures and motion: patches through a Transformer with biased attention.

    `stem` makes patches (n, patches, width) of the media.
    """

    def __init__(
        self, stem: nn.Module, patches: int, trunk: Transformer, width: int, dim: int, *, temperature: float
    ) -> None:
        super().__init__(trunk, width, dim, temperature=temperature)
        self.stem = stem
        self.stem_norm = nn.LayerNorm(width)  # the published stems keep PyTorch's epsilon, 1e-5
        self.class_token = nn.Parameter(torch.empty(1, 1, width))
        self.position = nn.Parameter(torch.empty(1, patches + 1, width))

    def pooled(self, media: torch.Tensor) -> torch.Tensor:
        """See `Tower.pooled`."""
        patches = self.stem_norm(self.stem(media).float())
        return _first(self.trunk(_with_class_token(patches, self.class_token, self.position)))


class PlaneStem(nn.Conv2d):
    """One channel (n, 1, height, width) to square patches (n, patches, width), which may overlap."""

    def __init__(self, width: int, kernel: int, stride: int) -> None:
        super().__init__(1, width, kernel, stride, bias=False)

    def forward(self, plane: torch.Tensor) -> torch.Tensor:
        """See the class."""
        return super().forward(plane).flatten(2).mT


class SignalStem(nn.Linear):
    """Motion (n, axes, samples) to patches (n, samples // kernel, width) of `kernel` samples on all axes."""

    def __init__(self, width: int, kernel: int) -> None:
        super().__init__(IMU_AXES * kernel, width, bias=False)
        self.kernel = kernel

    def forward(self, signal: torch.Tensor) -> torch.Tensor:
        """See the class."""
        patches = signal.unfold(-1, self.kernel, self.kernel)  # (n, axes, patches, kernel)
        return super().forward(patches.transpose(1, 2).flatten(2))


def build_tower(name: str, config: ModelConfig) -> Tower:
    """The tower of that name (see TOWERS). Its weights have no values yet: load them, or see `fill_randomly`."""
    if name == "image":
        return ImageTower(config)
    if name == "text":
        return TextTower(config)
    width = getattr(config, f"{name}_embed_dim")
    if name == "imu":
        stem: nn.Module = SignalStem(width, config.imu_kernel_size)
        patches = IMU_SAMPLES // config.imu_kernel_size
    else:
        kernel = getattr(config, f"{name}_kernel_size")
        stride = config.audio_stride if name == "audio" else kernel
        sound = (config.audio_num_mel_bins, config.audio_target_len)
        sides = sound if name == "audio" else (PICTURE_SIDE_PX, PICTURE_SIDE_PX)
        stem = PlaneStem(width, kernel, stride)
        patches = math.prod((side - kernel) // stride + 1 for side in sides)
    blocks, heads = getattr(config, f"{name}_num_blocks"), getattr(config, f"{name}_num_heads")
    trunk = Transformer(width, blocks, heads, biased=True)
    return SensorTower(stem, patches, trunk, width, config.out_embed_dim, temperature=TEMPERATURES[name])


def keep_fp32(name: str) -> bool:
    """Return whether a tower's parameter of that name keeps float32: norms, class and position embeddings,
    temperature."""
    return any(part in name for part in ("norm", "ln_", "class_token", "position", "log_logit_scale"))


def _with_class_token(patches: torch.Tensor, class_token: torch.Tensor, position: torch.Tensor) -> torch.Tensor:
    """Patches (n, patches, width) behind the class token, positions added: float32 (n, patches + 1, width)."""
    first = class_token.expand(len(patches), -1, -1)
    return torch.cat([first, patches.float()], dim=1) + position


def _first(tokens: torch.Tensor) -> torch.Tensor:
    return tokens[:, 0]
