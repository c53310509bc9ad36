"""Forward pass of a BERT encoder with torch: with one thread 1.2 times as fast as with NumPy."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from bindsearch.encoders.mini.bert import HEADS, LAYER_NORM_EPSILON, Array, Bert, Pair


def mean_pooled(bert: Bert, ids: NDArray[np.int64], mask: NDArray[np.bool_]) -> Array:
    """Return what `bert.mean_pooled` does, within rounding errors."""
    with torch.inference_mode():
        vectors: Array = _forward(bert, torch.from_numpy(ids), torch.from_numpy(mask)).numpy()
    return vectors


def _forward(bert: Bert, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    width = bert.words.shape[1]

    def linear(x: torch.Tensor, by: Pair) -> torch.Tensor:
        return F.linear(x, torch.from_numpy(by[0]), torch.from_numpy(by[1]))

    def norm(x: torch.Tensor, by: Pair) -> torch.Tensor:
        return F.layer_norm(x, (width,), torch.from_numpy(by[0]), torch.from_numpy(by[1]), LAYER_NORM_EPSILON)

    n, length = ids.shape
    x = F.embedding(ids, torch.from_numpy(bert.words)) + torch.from_numpy(bert.positions)[:length]
    x = norm(x, bert.norm)
    # Without padding no mask is needed, and attention uses a faster path.
    visible = None if bool(mask.all()) else mask[:, None, None, :]
    for query, key, value, attention_out, attention_norm, widen, narrow, after in bert.layers:
        q, k, v = (linear(x, by).view(n, length, HEADS, width // HEADS).transpose(1, 2) for by in (query, key, value))
        attended = F.scaled_dot_product_attention(q, k, v, attn_mask=visible)
        attended = attended.transpose(1, 2).reshape(n, length, width)
        x = norm(x + linear(attended, attention_out), attention_norm)
        x = norm(x + linear(F.gelu(linear(x, widen)), narrow), after)
    weights = mask[:, :, None].to(x.dtype)
    pooled = (x * weights).sum(1) / weights.sum(1)
    unit: torch.Tensor = F.normalize(pooled.float(), dim=1)
    return unit
