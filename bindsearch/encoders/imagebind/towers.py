"""The six towers of ImageBind (paper, section 3.3): a stem to tokens, a Transformer, one token projected to the space.

Every tower returns temperature-scaled features, like the published heads. Matrices are multiplied in the number format
of their weights; norms, position embeddings and the residual stream stay in float32, which keeps 16-bit embeddings
accurate. No constructor draws random numbers: on the meta device, where towers are built to be filled from files, that
alone would import torch's compiler (1 s, 90 MB).
Letters: n media, d dimensions of the space, h and w rows and columns of patches.
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
"""Names of the towers; `image` embeds pictures and videos."""

TEMPERATURES = {"text": 1 / 0.07, "audio": 20.0, "depth": 5.0, "thermal": 10.0, "imu": 5.0}
"""Initial temperatures; only that of the text tower is learned."""


class Tower(nn.Module, ABC):
    """Base class of the towers: trunk, head and temperature; subclasses add the stem."""

    def __init__(self, trunk: Transformer, width: int, dim: int, *, temperature: float | None) -> None:
        """Create the layers, with an initial logit scale; None: features are not scaled (vision)."""
        super().__init__()
        self.trunk, self.norm = trunk, Norm(width)
        self.projection = nn.Linear(width, dim, bias=False)
        if temperature is not None:
            self.log_logit_scale = nn.Parameter(torch.tensor(math.log(temperature)))
        else:
            self.register_parameter("log_logit_scale", None)

    def forward(self, media: torch.Tensor) -> torch.Tensor:
        """Return temperature-scaled features, float32 (n, d)."""
        with self.autocast(media.device):
            features = self.projection(self.norm(self.pooled(media)))
        unit = F.normalize(features.float(), dim=-1)
        return unit if self.log_logit_scale is None else unit * self.temperature()

    def autocast(self, device: torch.device) -> torch.autocast:
        """Return the context in which matrices are multiplied in the number format of the weights."""
        number_format = self.projection.weight.dtype
        return torch.autocast(device.type, number_format, enabled=number_format != torch.float32)

    def temperature(self) -> torch.Tensor:
        """Return the logit scale, a scalar."""
        return self.log_logit_scale.float().exp().clamp(max=MAX_TEMPERATURE)

    @abstractmethod
    def pooled(self, media: torch.Tensor) -> torch.Tensor:
        """Return the token that represents each medium: (n, width)."""


class PatchTower(Tower):
    """Tower of patches and a class token, which comes first and represents the medium.

    Attributes:
        grid: Rows and columns (h, w) of patches.
    """

    def __init__(
        self, grid: tuple[int, int], trunk: Transformer, width: int, dim: int, *, temperature: float | None
    ) -> None:
        super().__init__(trunk, width, dim, temperature=temperature)
        self.grid = grid
        self.class_token = nn.Parameter(torch.empty(1, 1, width))
        self.position = nn.Parameter(torch.empty(1, math.prod(grid) + 1, width))

    @abstractmethod
    def tokens(self, media: torch.Tensor) -> torch.Tensor:
        """Return the class token and the patches of each medium: (n, h * w + 1, width)."""

    def pooled(self, media: torch.Tensor) -> torch.Tensor:
        """Return the class token of each medium: (n, width)."""
        first: torch.Tensor = self.trunk(self.tokens(media))[:, 0]
        return first

    def values(self, media: torch.Tensor) -> torch.Tensor:
        """Return what the class token gathers in the last block, before attention weighs it: (n, h * w + 1, width)."""
        with self.autocast(media.device):
            return self.trunk.values(self.tokens(media))

    def locate(self, media: torch.Tensor) -> torch.Tensor:
        """Return a unit vector for each patch: float32 (n, h, w, d).

        A patch gives what the class token would add to itself in the last block if it attended to that patch alone
        (MaskCLIP, arXiv 2112.01071, section 3.2): its value, projected. The residual stream and the MLP of that block
        are left out: they describe the whole picture, and disturb maps (ClearCLIP, arXiv
        2407.12442).
        """
        with self.autocast(media.device):
            added = self.trunk.last.attn.out_proj(self.values(media)[:, 1:])
            features = self.projection(self.norm(added)).float()
        return F.normalize(features, dim=-1).reshape(len(media), *self.grid, -1)

    def _with_class_token(self, patches: torch.Tensor) -> torch.Tensor:
        """Prepend the class token to patches (n, h * w, width), and add positions: float32."""
        first = self.class_token.expand(len(patches), -1, -1)
        return torch.cat([first, patches.float()], dim=1) + self.position


class ImageTower(PatchTower):
    """Tower of pictures (n, 3, side, side) and clips of frames (n, 3, frames, side, side), a ViT-H/14.

    The published patch embedding is a convolution over 2 frames, and a picture is a clip of equal frames: for pictures,
    the kernel is summed over time once, when the weights are converted.
    """

    def __init__(self, config: ModelConfig) -> None:
        width, dim = config.vision_embed_dim, config.out_embed_dim
        trunk = Transformer(width, config.vision_num_blocks, config.vision_num_heads)
        frames, rows_px, columns_px = config.kernel_size
        kernel = (rows_px, columns_px)
        grid = (PICTURE_SIDE_PX // rows_px, PICTURE_SIDE_PX // columns_px)
        super().__init__(grid, trunk, width, dim, temperature=None)
        self.stem = nn.Conv2d(3, width, kernel, kernel, bias=False)
        self.video_stem = nn.Conv2d(3 * frames, width, kernel, kernel, bias=False)
        self.norm_pre = Norm(width)

    def tokens(self, media: torch.Tensor) -> torch.Tensor:
        """Return the class token and the patches of each medium: (n, h * w + 1, width)."""
        patches = self.stem(media) if media.ndim == 4 else self.video_stem(media.flatten(1, 2))
        normed: torch.Tensor = self.norm_pre(self._with_class_token(patches.flatten(2).mT))
        return normed


class TextTower(Tower):
    """Tower of token ids, int64 (n, length), zero after the end token: a causal Transformer.

    Tokens after the end token do not affect the result, so `length` may be that of the longest text.
    """

    def __init__(self, config: ModelConfig) -> None:
        width, dim = config.text_embed_dim, config.out_embed_dim
        trunk = Transformer(width, config.text_num_blocks, config.text_num_heads, causal=True)
        super().__init__(trunk, width, dim, temperature=TEMPERATURES["text"])
        self.token_embedding = nn.Embedding(VOCABULARY, width, _weight=torch.empty(VOCABULARY, width))
        self.position = nn.Parameter(torch.empty(1, CONTEXT_TOKENS, width))

    def pooled(self, media: torch.Tensor) -> torch.Tensor:
        """Return the token at the position of the end token, which has the highest id: (n, width)."""
        tokens = self.token_embedding(media).float() + self.position[:, : media.shape[1]]
        encoded = self.trunk(tokens)
        ends: torch.Tensor = encoded[torch.arange(len(media), device=media.device), media.argmax(dim=1)]
        return ends


class SensorTower(PatchTower):
    """Tower of sound, depth, thermal pictures or motion: patches through a Transformer with biased attention."""

    def __init__(
        self, stem: nn.Module, grid: tuple[int, int], trunk: Transformer, width: int, dim: int, *, temperature: float
    ) -> None:
        """Create the layers after a stem that converts media to patches (n, h * w, width)."""
        super().__init__(grid, trunk, width, dim, temperature=temperature)
        self.stem = stem
        self.stem_norm = nn.LayerNorm(width)  # the published stems use PyTorch's default epsilon, 1e-5

    def tokens(self, media: torch.Tensor) -> torch.Tensor:
        """Return the class token and the patches of each medium: (n, h * w + 1, width)."""
        return self._with_class_token(self.stem_norm(self.stem(media).float()))


class PlaneStem(nn.Conv2d):
    """Stem that converts one channel (n, 1, height, width) to square patches (n, patches, width), which may overlap."""

    def __init__(self, width: int, kernel: int, stride: int) -> None:
        super().__init__(1, width, kernel, stride, bias=False)

    def forward(self, plane: torch.Tensor) -> torch.Tensor:
        """Convert a channel (n, 1, height, width) to patches (n, patches, width)."""
        return super().forward(plane).flatten(2).mT


class SignalStem(nn.Linear):
    """Stem that converts motion to patches of `kernel` samples on all axes."""

    def __init__(self, width: int, kernel: int) -> None:
        super().__init__(IMU_AXES * kernel, width, bias=False)
        self.kernel = kernel

    def forward(self, signal: torch.Tensor) -> torch.Tensor:
        """Convert motion (n, axes, samples) to patches (n, samples // kernel, width)."""
        patches = signal.unfold(-1, self.kernel, self.kernel)  # (n, axes, patches, kernel)
        return super().forward(patches.transpose(1, 2).flatten(2))


def build_tower(name: str, config: ModelConfig) -> Tower:
    """Build a tower by name (see TOWERS); its weights have no values: load them or use `fill_randomly`."""
    if name == "image":
        return ImageTower(config)
    if name == "text":
        return TextTower(config)
    width = getattr(config, f"{name}_embed_dim")
    if name == "imu":
        stem: nn.Module = SignalStem(width, config.imu_kernel_size)
        grid = (1, IMU_SAMPLES // config.imu_kernel_size)
    else:
        kernel = getattr(config, f"{name}_kernel_size")
        stride = config.audio_stride if name == "audio" else kernel
        sound = (config.audio_num_mel_bins, config.audio_target_len)
        sides = sound if name == "audio" else (PICTURE_SIDE_PX, PICTURE_SIDE_PX)
        stem = PlaneStem(width, kernel, stride)
        rows, columns = ((side - kernel) // stride + 1 for side in sides)
        grid = (rows, columns)
    blocks, heads = getattr(config, f"{name}_num_blocks"), getattr(config, f"{name}_num_heads")
    trunk = Transformer(width, blocks, heads, biased=True)
    return SensorTower(stem, grid, trunk, width, config.out_embed_dim, temperature=TEMPERATURES[name])


def keep_fp32(name: str) -> bool:
    """Return whether a parameter stays in float32: norms, class and position embeddings, temperature."""
    return any(part in name for part in ("norm", "ln_", "class_token", "position", "log_logit_scale"))
