"""Vision tower of LanguageBind: CLIP's, with attention over frames, under the names of its checkpoints.

Depth, thermal pictures and log-mels go through the same tower as pictures. Attention over frames precedes each block
where `add_time_attn` is set; at the end, the class tokens of frames are averaged (modeling_video.py of the published
code). Checkpoints that were trained with LoRA have weights and their changes apart, as PEFT names them: they are added.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from bindsearch.errors import EncoderError

_ADAPTED = re.compile(r"(?P<layer>.+)\.lora_(?P<side>[AB])(?:\.default)?\.weight")
_ACTIVATIONS: Mapping[str, Callable[[Tensor], Tensor]] = {
    "gelu": nn.functional.gelu,
    "quick_gelu": lambda values: values * torch.sigmoid(1.702 * values),
}


@dataclass(frozen=True, slots=True)
class VisionConfig:
    """Sizes of the tower: `height_px` and `width_px` of its input, `frames` 0 without attention over frames."""

    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    patch_size: int
    height_px: int
    width_px: int
    frames: int
    projection_dim: int
    hidden_act: str
    layer_norm_eps: float


class VisionTower(nn.Module):
    """Tower of one modality: pixels (n, 3, height, width) or (n, 3, frames, height, width) to vectors (n, d)."""

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.vision_model = _Transformer(config)
        self.visual_projection = nn.Linear(config.hidden_size, config.projection_dim, bias=False)

    def forward(self, pixels: Tensor) -> Tensor:
        """Return vectors (n, d), not of unit length."""
        pixels = pixels.to(self.visual_projection.weight.dtype)
        frames = pixels.movedim(1, 2) if pixels.ndim == 5 else pixels[:, None]
        projected: Tensor = self.visual_projection(self.vision_model(frames))
        return projected


class _Transformer(nn.Module):
    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.embeddings = _Embeddings(config)
        self.pre_layrnorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        blocks = nn.ModuleList(_Block(config) for _ in range(config.num_hidden_layers))
        self.encoder = nn.ModuleDict({"layers": blocks})
        self.post_layernorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)

    def forward(self, frames: Tensor) -> Tensor:
        """Return the mean of the class tokens of frames (n, t, 3, height, width): (n, width)."""
        count, times = frames.shape[:2]
        states = self.pre_layrnorm(self.embeddings(frames.flatten(0, 1)))
        for block in self.encoder["layers"].children():
            states = block(states, times)
        pooled: Tensor = self.post_layernorm(states[:, 0]).reshape(count, times, -1).mean(dim=1)
        return pooled


class _Embeddings(nn.Module):
    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        width, patch = config.hidden_size, config.patch_size
        self.class_embedding = nn.Parameter(torch.empty(width))
        self.patch_embedding = nn.Conv2d(3, width, patch, patch, bias=False)
        patches = (config.height_px // patch) * (config.width_px // patch)
        self.position_embedding = nn.Embedding(1 + patches, width)

    def forward(self, pixels: Tensor) -> Tensor:
        """Return tokens of pixels (n, 3, height, width): (n, 1 + patches, width)."""
        patches = self.patch_embedding(pixels).flatten(2).mT
        first = self.class_embedding.expand(len(pixels), 1, -1)
        return torch.cat([first, patches], dim=1) + self.position_embedding.weight


class _Block(nn.Module):
    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        width, eps = config.hidden_size, config.layer_norm_eps
        self.self_attn = _Attention(config)
        self.layer_norm1 = nn.LayerNorm(width, eps=eps)
        inner = config.intermediate_size
        self.mlp = nn.ModuleDict({"fc1": nn.Linear(width, inner), "fc2": nn.Linear(inner, width)})
        self._activation = _ACTIVATIONS[config.hidden_act]
        self.layer_norm2 = nn.LayerNorm(width, eps=eps)
        self.frames = config.frames
        if config.frames:
            self.temporal_embedding = nn.Parameter(torch.empty(1, config.frames, width))
            self.temporal_attn = _Attention(config)
            self.temporal_layer_norm1 = nn.LayerNorm(width, eps=eps)

    def forward(self, states: Tensor, times: int) -> Tensor:
        """Return the states of tokens after the block, (n * t, tokens, width)."""
        if self.frames:
            across = states.reshape(-1, times, *states.shape[1:]).transpose(1, 2)  # (n, tokens, t, width)
            if times > 1:
                across = across + self.temporal_embedding[:, None, :times]
            attended = self.temporal_attn(self.temporal_layer_norm1(across).flatten(0, 1)).view_as(across)
            states = (across + attended).transpose(1, 2).flatten(0, 1)
        states = states + self.self_attn(self.layer_norm1(states))
        widened = self._activation(self.mlp["fc1"](self.layer_norm2(states)))
        after: Tensor = states + self.mlp["fc2"](widened)
        return after


class _Attention(nn.Module):
    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.heads = config.num_attention_heads
        self.q_proj, self.k_proj, self.v_proj, self.out_proj = (
            nn.Linear(config.hidden_size, config.hidden_size) for _ in range(4)
        )

    def forward(self, states: Tensor) -> Tensor:
        """Return attended states, (n, tokens, width)."""
        split = [
            project(states).reshape(*states.shape[:2], self.heads, -1).transpose(1, 2)
            for project in (self.q_proj, self.k_proj, self.v_proj)
        ]
        attended: Tensor = self.out_proj(scaled_dot_product_attention(*split).transpose(1, 2).flatten(2))
        return attended


def build_vision_tower(
    config: VisionConfig, tensors: Mapping[str, Tensor], lora_alpha: float, device: torch.device, dtype: torch.dtype
) -> nn.Module:
    """Return the tower with the tensors of a checkpoint, in eval mode.

    Raises:
        EncoderError: tensors are missing, unknown or of other shapes.
    """
    with torch.device("meta"):
        tower = VisionTower(config)
    own = ("vision_model.", "visual_projection.")
    chosen = {name: tensor for name, tensor in tensors.items() if name.startswith(own)}
    state = {name: tensor.to(device, dtype) for name, tensor in merge_lora(chosen, lora_alpha).items()}
    state.pop("vision_model.embeddings.position_ids", None)  # numbers, kept by old versions of the library
    try:
        tower.load_state_dict(state, assign=True)
    except RuntimeError as error:
        raise EncoderError(f"the weights do not fit the tower ({' '.join(str(error).split())[:300]})") from error
    return tower.eval().requires_grad_(False)


def merge_lora(tensors: Mapping[str, Tensor], alpha: float) -> dict[str, Tensor]:
    """Return tensors under plain names, with the changes of LoRA added: W + alpha / rank * B A (arXiv 2106.09685).

    Raises:
        EncoderError: one of the two matrices of a change is missing, or a change is of no weight.
    """
    plain: dict[str, Tensor] = {}
    sides: dict[str, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        short = name.replace(".base_model.model.", ".").replace(".base_layer.", ".")
        if (found := _ADAPTED.fullmatch(short)) is not None:
            sides.setdefault(f"{found['layer']}.weight", {})[found["side"]] = tensor
        else:
            plain[short] = tensor
    for name, change in sides.items():
        if change.keys() != {"A", "B"} or name not in plain:
            raise EncoderError(f"the changes of {name} by LoRA are incomplete")
        down, up = change["A"].float(), change["B"].float()
        plain[name] = plain[name].float() + alpha / len(down) * (up @ down)
    return plain


def same_texts(first: Mapping[str, Any], second: Mapping[str, Any], tolerance: float = 0.01) -> bool:
    """Return whether two checkpoints have the same text tower, by its projection, norms and biases."""
    of_texts = {name: tensor for name, tensor in first.items() if name.startswith("text_")}
    names = [name for name, tensor in of_texts.items() if tensor.ndim == 1 or "projection" in name]
    return bool(names) and all(
        name in second
        and first[name].shape == second[name].shape
        and (first[name].float() - second[name].float()).norm() <= tolerance * first[name].float().norm()
        for name in names
    )
