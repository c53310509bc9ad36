"""The Transformer all towers are made of: OpenCLIP's, parameter for parameter, and attention with a learned key.

OpenCLIP's own modules give the same (a test holds them side by side); importing its package costs a text search 2 s
and 200 MB, for models and loaders that no tower uses.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

NORM_EPSILON = 1e-6
"""Of every norm but those of the sensors' stems; OpenCLIP's ViT-H-14 has 1e-5."""

MLP_RATIO = 4


class Norm(nn.LayerNorm):
    """Layer norm over the last axis, with ImageBind's epsilon."""

    def __init__(self, width: int) -> None:
        super().__init__(width, eps=NORM_EPSILON)


class Attention(nn.Module):
    """Multi-head self-attention over tokens (n, tokens, width); `biased`: every token sees one more, learned key and
    value (`add_bias_kv` of PyTorch's attention)."""

    def __init__(self, width: int, heads: int, *, biased: bool) -> None:
        super().__init__()
        self.heads = heads
        self.in_proj_weight = nn.Parameter(torch.empty(3 * width, width))
        self.in_proj_bias = nn.Parameter(torch.empty(3 * width))
        self.out_proj = nn.Linear(width, width)
        self.bias_k: nn.Parameter | None
        self.bias_v: nn.Parameter | None
        for name in ("bias_k", "bias_v"):
            self.register_parameter(name, nn.Parameter(torch.empty(1, 1, width)) if biased else None)

    def forward(self, x: torch.Tensor, *, causal: bool) -> torch.Tensor:
        """The same shape; `causal`: a token sees itself and those before it."""
        n, tokens, width = x.shape
        q, k, v = F.linear(x, self.in_proj_weight, self.in_proj_bias).chunk(3, dim=-1)
        if self.bias_k is not None and self.bias_v is not None:
            k = torch.cat([k, self.bias_k.to(k.dtype).expand(n, 1, width)], dim=1)
            v = torch.cat([v, self.bias_v.to(v.dtype).expand(n, 1, width)], dim=1)
        q, k, v = (part.reshape(n, -1, self.heads, width // self.heads).transpose(1, 2) for part in (q, k, v))
        attended = F.scaled_dot_product_attention(q, k, v, is_causal=causal)
        projected: torch.Tensor = self.out_proj(attended.transpose(1, 2).reshape(n, tokens, width))
        return projected


class Mlp(nn.Module):
    """Two layers with GELU between them, MLP_RATIO times as wide inside."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.c_fc = nn.Linear(width, MLP_RATIO * width)
        self.c_proj = nn.Linear(MLP_RATIO * width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(..., width) to (..., width)."""
        projected: torch.Tensor = self.c_proj(F.gelu(self.c_fc(x)))
        return projected


class Block(nn.Module):
    """Attention and MLP, each behind a norm and added to what came in."""

    def __init__(self, width: int, heads: int, *, biased: bool) -> None:
        super().__init__()
        self.ln_1 = Norm(width)
        self.attn = Attention(width, heads, biased=biased)
        self.ln_2 = Norm(width)
        self.mlp = Mlp(width)

    def forward(self, x: torch.Tensor, *, causal: bool) -> torch.Tensor:
        """(n, tokens, width) to the same."""
        x = x + self.attn(self.ln_1(x), causal=causal)
        added: torch.Tensor = x + self.mlp(self.ln_2(x))
        return added


class Transformer(nn.Module):
    """Blocks in a row; `causal` as in `Attention.forward`."""

    def __init__(self, width: int, blocks: int, heads: int, *, biased: bool = False, causal: bool = False) -> None:
        super().__init__()
        self.causal = causal
        self.resblocks = nn.ModuleList([Block(width, heads, biased=biased) for _ in range(blocks)])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(n, tokens, width) to the same."""
        for block in self.resblocks:
            x = block(x, causal=self.causal)
        return x
