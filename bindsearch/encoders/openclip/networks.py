"""Towers of a CLIP model from open_clip's modules; each can be built and filled without the other."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from open_clip.model import CLIPTextCfg, CLIPVisionCfg, _build_text_tower, _build_vision_tower
from open_clip.transformer import LayerNormFp32
from torch import Tensor, nn

NORMS_IN_FP32 = (LayerNormFp32, nn.BatchNorm2d)
"""Modules whose weights stay in fp32 regardless of the format of their input."""

# With this format, open_clip uses LayerNormFp32, which in fp32 equals its other layer norm.
_ANY_DTYPE = torch.bfloat16


class ImageTower(nn.Module):
    """Tower of pictures; its tensors have the names of the checkpoint."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__()
        vision = CLIPVisionCfg(**config["vision_cfg"])
        self.visual = _build_vision_tower(config["embed_dim"], vision, config["quick_gelu"], _ANY_DTYPE)

    def forward(self, pixels: Tensor) -> Tensor:
        """Return features (n, d), not of unit length, of normalised pictures (n, 3, side, side)."""
        kernel = next(parameter for parameter in self.visual.parameters() if parameter.ndim == 4)
        features: Tensor = self.visual(pixels.to(kernel.dtype))
        return features


class TextTower(nn.Module):
    """Tower of texts; its tensors have the names of the checkpoint.

    Attention is causal and the result is read at the end token, so later tokens have no effect: a batch may be trimmed
    after its last end token.
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__()
        text = _build_text_tower(
            config["embed_dim"], CLIPTextCfg(**config["text_cfg"]), config["quick_gelu"], _ANY_DTYPE
        )
        self.token_embedding = text.token_embedding
        self.positional_embedding = text.positional_embedding
        self.transformer = text.transformer
        self.ln_final = text.ln_final
        self.text_projection = text.text_projection

    def forward(self, tokens: Tensor) -> Tensor:
        """Return features (n, d), not of unit length.

        Args:
            tokens: Token ids, int64 (n, length); the end token has the highest id of each row.
        """
        length = tokens.shape[1]
        x = self.token_embedding(tokens) + self.positional_embedding[:length]
        # Not a buffer: modules are built without memory, and a buffer would have to be filled after loading.
        mask = torch.full((length, length), float("-inf"), dtype=x.dtype, device=x.device).triu_(1)
        x = self.ln_final(self.transformer(x, attn_mask=mask))
        pooled = x[torch.arange(len(x), device=x.device), tokens.argmax(dim=1)]
        if isinstance(self.text_projection, nn.Linear):
            pooled = self.text_projection(pooled)
        elif self.text_projection is not None:
            pooled = pooled @ self.text_projection
        features: Tensor = pooled
        return features


def names_in_fp32(tower: nn.Module) -> frozenset[str]:
    """Return the names of the tensors that stay in fp32 regardless of the tower's number format."""
    return frozenset(
        f"{module_name}.{name}"
        for module_name, module in tower.named_modules()
        if isinstance(module, NORMS_IN_FP32)
        for name in module.state_dict()
    )
