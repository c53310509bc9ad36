"""Dense features of the trunks of the timm library; see `bindsearch.encoders.openclip.dense`."""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from timm.layers.attention import Attention
from timm.layers.attention_pool import AttentionPoolLatent
from timm.layers.classifier import ClassifierHead, NormMlpClassifierHead
from timm.models.eva import Eva, EvaAttention, EvaBlock, EvaBlockPostNorm
from timm.models.vision_transformer import Block, VisionTransformer
from torch import Tensor, nn

from bindsearch.encoders.openclip.pooling import Pooling, Values, split_tokens


def trunk_pooling(trunk: Any, head: nn.Module) -> Pooling | None:
    """Return the parts of a network of timm.

    Args:
        trunk: The network, with its pooling.
        head: What open_clip adds after the pooling.

    Returns:
        The parts; None: it pools in another way.
    """
    if isinstance(trunk, VisionTransformer | Eva):
        return _transformer(trunk, head)
    if isinstance(getattr(trunk, "head", None), ClassifierHead | NormMlpClassifierHead):
        return _mean_of_map(trunk, head)
    return None


def _transformer(trunk: Any, head: nn.Module) -> Pooling | None:
    """Return the parts of a Transformer; None: it pools in another way."""
    if trunk.attn_pool is not None:
        is_known = isinstance(trunk.attn_pool, AttentionPoolLatent) and trunk.attn_pool.latent_len == 1
        return _latent_query(trunk, head) if is_known else None
    makers = {"avg": _mean_of_tokens, "token": _class_token}
    return makers[trunk.global_pool](trunk, head) if trunk.global_pool in makers else None


def _latent_query(trunk: Any, head: nn.Module) -> Pooling:
    """Return the parts of a Transformer with a learned query (SigLIP, PE-Core)."""
    pool = trunk.attn_pool
    skipped = 0 if getattr(trunk, "pool_include_prefix", True) else trunk.num_prefix_tokens

    def values(pixels: Tensor) -> Values:
        x = trunk.forward_features(pixels)[:, skipped:]
        if pool.pos_embed is not None:
            x = x + pool.pos_embed.to(x.dtype)
        return split_tokens(_last_part(pool.kv, x, parts=2), trunk.patch_embed.grid_size)

    def project(values: Tensor) -> Tensor:
        x = pool.proj(values)
        return _rest(trunk, head, x if pool.mlp is None else x + pool.mlp(pool.norm(x)))

    return Pooling(values, project)


def _mean_of_tokens(trunk: Any, head: nn.Module) -> Pooling | None:
    """Return the parts of a Transformer that averages its patches (ViTamin); None: it averages other tokens, too."""
    if getattr(trunk, "pool_include_prefix", False) and trunk.num_prefix_tokens:
        return None

    def values(pixels: Tensor) -> Values:
        return split_tokens(trunk.forward_features(pixels), trunk.patch_embed.grid_size)

    def project(values: Tensor) -> Tensor:
        return _rest(trunk, head, values)

    return Pooling(values, project)


def _class_token(trunk: Any, head: nn.Module) -> Pooling | None:
    """Return the parts of a Transformer whose class token is the result (EVA, MobileCLIP-B); None: of other blocks."""
    last = trunk.blocks[-1]
    attention = last.attn
    is_known = isinstance(last, Block | EvaBlock | EvaBlockPostNorm) and isinstance(attention, Attention | EvaAttention)
    if not is_known or attention.gate is not None or getattr(trunk, "rope_mixed", False):
        return None
    is_after = isinstance(last, EvaBlockPostNorm)

    def values(pixels: Tensor) -> Values:
        embedded = trunk._pos_embed(trunk.patch_embed(pixels))
        x, *rotations = embedded if isinstance(trunk, Eva) else (embedded,)
        x = trunk.norm_pre(x)
        for block in trunk.blocks[:-1]:
            x = block(x, *rotations)
        x = x if is_after else last.norm1(x)
        return split_tokens(_attention_values(attention, x), trunk.patch_embed.grid_size)

    def project(values: Tensor) -> Tensor:
        x = attention.proj(attention.norm(values))
        return _rest(trunk, head, trunk.norm(last.norm1(x) if is_after else x))

    return Pooling(values, project)


def _mean_of_map(trunk: Any, head: nn.Module) -> Pooling | None:
    """Return the parts of a convolutional network that averages its last map (ConvNeXt, FastViT); None: it does not."""
    if trunk.head.global_pool.pool_type != "avg" or getattr(trunk.head, "input_fmt", "NCHW") != "NCHW":
        return None

    def values(pixels: Tensor) -> Values:
        patches = trunk.forward_features(pixels).movedim(1, -1)
        return Values(patches, patches.new_empty(len(patches), 0, patches.shape[-1]))

    def project(values: Tensor) -> Tensor:
        features: Tensor = head(trunk.forward_head(values.reshape(-1, values.shape[-1], 1, 1)))
        return features.reshape(*values.shape[:-1], -1)

    return Pooling(values, project)


def _rest(trunk: Any, head: nn.Module, pooled: Tensor) -> Tensor:
    """Return the features of what was pooled (..., width): (..., d)."""
    features: Tensor = head(trunk.head(trunk.fc_norm(pooled)))
    return features


def _attention_values(attention: Any, x: Tensor) -> Tensor:
    """Return the value of each token, of all heads."""
    if attention.qkv is None:
        separate: Tensor = attention.v_proj(x)
        return separate
    if attention.qkv.bias is None and getattr(attention, "v_bias", None) is not None:  # EVA's keys have no bias
        return F.linear(x, attention.qkv.weight.chunk(3)[-1], attention.v_bias)
    return _last_part(attention.qkv, x, parts=3)


def _last_part(linear: nn.Linear, x: Tensor, *, parts: int) -> Tensor:
    """Return the last of equal parts of a layer's output."""
    bias = linear.bias
    return F.linear(x, linear.weight.chunk(parts)[-1], None if bias is None else bias.chunk(parts)[-1])
