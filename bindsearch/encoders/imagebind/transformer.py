"""Transformer of all towers, with the parameters of OpenCLIP's, and attention with a learned key.

OpenCLIP's own modules have the same results (a test compares them), but importing its package costs a text search 2 s
and 200 MB for models and loaders that no tower uses.
"""

from __future__ import annotations

from collections import OrderedDict
from functools import partial
from typing import cast

import torch
import torch.nn.functional as F
from torch import nn

NORM_EPSILON = 1e-6
"""Epsilon of all norms except those of the sensor stems; OpenCLIP's ViT-H-14 has 1e-5."""

MLP_RATIO = 4
"""Width of the hidden layer of an MLP, in widths of a token."""


Norm = partial(nn.LayerNorm, eps=NORM_EPSILON)
"""Makes a layer norm over the last axis, of a width."""


class Attention(nn.Module):
    """Multi-head self-attention over tokens (n, tokens, width)."""

    def __init__(self, width: int, heads: int, *, biased: bool) -> None:
        """Create the parameters; `biased`: add one learned key and value (`add_bias_kv` of PyTorch's attention)."""
        super().__init__()
        self.heads = heads
        self.in_proj_weight = nn.Parameter(torch.empty(3 * width, width))
        self.in_proj_bias = nn.Parameter(torch.empty(3 * width))
        self.out_proj = nn.Linear(width, width)
        self.bias_k: nn.Parameter | None
        self.bias_v: nn.Parameter | None
        for name in ("bias_k", "bias_v"):
            self.register_parameter(name, nn.Parameter(torch.empty(1, 1, width)) if biased else None)

    def values(self, x: torch.Tensor) -> torch.Tensor:
        """Return the value of each token, which attention weighs, of all heads: (n, tokens, width)."""
        width = x.shape[-1]
        return F.linear(x, self.in_proj_weight[-width:], self.in_proj_bias[-width:])

    def forward(self, x: torch.Tensor, *, causal: bool) -> torch.Tensor:
        """Return attended tokens of the same shape; `causal`: a token attends only to itself and earlier ones."""
        n, tokens, width = x.shape
        q, k, v = F.linear(x, self.in_proj_weight, self.in_proj_bias).chunk(3, dim=-1)
        if self.bias_k is not None and self.bias_v is not None:
            k = torch.cat([k, self.bias_k.to(k.dtype).expand(n, 1, width)], dim=1)
            v = torch.cat([v, self.bias_v.to(v.dtype).expand(n, 1, width)], dim=1)
        q, k, v = (part.reshape(n, -1, self.heads, width // self.heads).transpose(1, 2) for part in (q, k, v))
        attended = F.scaled_dot_product_attention(q, k, v, is_causal=causal)
        projected: torch.Tensor = self.out_proj(attended.transpose(1, 2).reshape(n, tokens, width))
        return projected


class Block(nn.Module):
    """Residual block of attention and MLP, each after a norm."""

    def __init__(self, width: int, heads: int, *, biased: bool, drop_path: float = 0.0) -> None:
        """Create the layers; `drop_path`: probability that training leaves out a branch of a medium."""
        super().__init__()
        self.ln_1 = Norm(width)
        self.attn = Attention(width, heads, biased=biased)
        self.ln_2 = Norm(width)
        widen, narrow = nn.Linear(width, MLP_RATIO * width), nn.Linear(MLP_RATIO * width, width)
        self.mlp = nn.Sequential(OrderedDict(c_fc=widen, gelu=nn.GELU(), c_proj=narrow))
        self.drop_path = drop_path

    def forward(self, x: torch.Tensor, *, causal: bool) -> torch.Tensor:
        """Return the result of the block: (n, tokens, width), like the input."""
        x = x + self._kept(self.attn(self.ln_1(x), causal=causal))
        added: torch.Tensor = x + self._kept(self.mlp(self.ln_2(x)))
        return added

    def _kept(self, branch: torch.Tensor) -> torch.Tensor:
        """Return a branch (n, tokens, width), in training left out for some media (stochastic depth, Huang 2016)."""
        if not (self.training and self.drop_path):
            return branch
        keep = 1.0 - self.drop_path
        return branch * (torch.rand(len(branch), 1, 1, device=branch.device) < keep) / keep


class Transformer(nn.Module):
    """Sequence of blocks; `causal` as in `Attention.forward`."""

    def __init__(
        self, width: int, blocks: int, heads: int, *, biased: bool = False, causal: bool = False, drop_path: float = 0.0
    ) -> None:
        """Create the blocks; `drop_path` as in `Block`, rising from 0 at the first block to it at the last."""
        super().__init__()
        self.causal = causal
        rates = [drop_path * number / max(blocks - 1, 1) for number in range(blocks)]
        self.resblocks = nn.ModuleList([Block(width, heads, biased=biased, drop_path=rate) for rate in rates])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the result of all blocks: (n, tokens, width), like the input."""
        for block in self.resblocks:
            x = block(x, causal=self.causal)
        return x

    @property
    def last(self) -> Block:
        """The last block."""
        return cast("Block", self.resblocks[-1])

    def values(self, x: torch.Tensor) -> torch.Tensor:
        """Return the value of each token in the last block, before attention weighs them: (n, tokens, width)."""
        for block in self.resblocks[:-1]:
            x = block(x, causal=self.causal)
        return self.last.attn.values(self.last.ln_1(x))
