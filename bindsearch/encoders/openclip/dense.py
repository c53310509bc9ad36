"""Dense features of picture towers: a vector of the space for each patch, from the values that the network pools.

Every tower ends with a pooling of its patches, and with a projection of the result. A patch gives what that projection
makes of the value of this patch alone, as if the pooling had taken nothing else:

* attention of a class token in the last block: the value, through the output projection of the attention, the last norm
  and the projection (MaskCLIP, arXiv 2112.01071, section 3.2). The residual stream and the MLP of that block are left
  out, since they describe the whole picture and disturb maps (ClearCLIP, arXiv 2407.12442);
* attention of a learned or averaged query (SigLIP, PE-Core, CoCa, ResNets): the value, through all that follows;
* the mean of all patches: the patch, through all that follows.

Letters: n pictures, h and w rows and columns of patches, d dimensions of the space.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from open_clip.modified_resnet import ModifiedResNet
from open_clip.timm_model import TimmModel
from open_clip.transformer import ResidualAttentionBlock, VisionTransformer
from timm.layers.attention import Attention
from timm.layers.attention_pool import AttentionPoolLatent
from timm.layers.classifier import ClassifierHead, NormMlpClassifierHead
from timm.models import vision_transformer as timm_vit
from timm.models.eva import Eva, EvaAttention, EvaBlock, EvaBlockPostNorm
from torch import Tensor, nn

from bindsearch.errors import EncoderError


@dataclass(frozen=True)
class Values:
    """Values that a network pools: of patches, (n, h, w, width), and of other tokens, (n, tokens, width)."""

    patches: Tensor
    others: Tensor


@dataclass(frozen=True)
class Pooling:
    """The two parts of a network around its pooling.

    `values` maps normalised pictures (n, 3, height, width) to what the network pools, `project` maps values
    (..., width) to features (..., d), not of unit length.
    """

    values: Callable[[Tensor], Values]
    project: Callable[[Tensor], Tensor]


def split_tokens(tokens: Tensor, grid: tuple[int, int]) -> Values:
    """Return tokens (n, tokens, width), of which the last are the h * w patches, as values."""
    others = tokens.shape[1] - grid[0] * grid[1]
    return Values(tokens[:, others:].reshape(len(tokens), *grid, -1), tokens[:, :others])


def pooling_of(visual: nn.Module) -> Pooling:
    """Return the parts of a picture tower of open_clip.

    Raises:
        EncoderError: it pools in a way that gives patches no vectors of their own; see
            `encoder.has_dense_features`.
    """
    pooling = None
    if isinstance(visual, ModifiedResNet):
        pooling = _resnet(visual)
    elif isinstance(visual, TimmModel):
        pooling = _trunk_pooling(visual.trunk, visual.head)
    elif isinstance(visual, VisionTransformer):
        pooling = _transformer(visual)
    if pooling is None:
        raise EncoderError(f"a picture tower of the type {type(visual).__name__} has no dense features")
    return pooling


def _transformer(visual: Any) -> Pooling | None:
    """Return the parts of a Transformer of open_clip; None: it pools in another way."""

    def tokens(pixels: Tensor) -> Tensor:
        found: Tensor = visual.transformer(visual._embeds(pixels))
        return found

    if visual.attn_pool is not None:  # the first learned query gathers from all tokens (CoCa)
        attention, norm = visual.attn_pool.attn, visual.attn_pool.ln_k
        pooling = Pooling(
            lambda pixels: split_tokens(_values(attention, norm(tokens(pixels))), visual.grid_size),
            lambda values: visual.ln_post(attention.out_proj(values)) @ visual.proj,
        )
        return pooling if visual.attn_pool_contrastive is None else None
    if visual.pool_type == "avg":  # the mean of patches (CLIPA)
        before, after = (nn.Identity(), visual.ln_post)[:: 1 if visual.final_ln_after_pool else -1]
        return Pooling(
            lambda pixels: split_tokens(before(tokens(pixels)), visual.grid_size),
            lambda values: after(values) @ visual.proj,
        )
    last = visual.transformer.resblocks[-1]
    if visual.pool_type != "tok" or not isinstance(last, ResidualAttentionBlock):
        return None

    def values(pixels: Tensor) -> Values:
        x = visual._embeds(pixels)
        for block in visual.transformer.resblocks[:-1]:
            x = block(x)
        return split_tokens(_values(last.attn, last.ln_1(x)), visual.grid_size)

    def project(values: Tensor) -> Tensor:
        features: Tensor = visual.ln_post(last.attn.out_proj(values)) @ visual.proj
        return features

    return Pooling(values, project)


def _resnet(visual: Any) -> Pooling:
    """Return the parts of a ResNet of CLIP, whose mean patch attends to all patches and to itself."""
    pool = visual.attnpool

    def values(pixels: Tensor) -> Values:
        x = visual.stem(pixels)
        for layer in (visual.layer1, visual.layer2, visual.layer3, visual.layer4):
            x = layer(x)
        patches = x.flatten(2).mT
        tokens = torch.cat([patches.mean(dim=1, keepdim=True), patches], dim=1)
        return split_tokens(pool.v_proj(tokens + pool.positional_embedding.to(x.dtype)), x.shape[-2:])

    return Pooling(values, pool.c_proj)


def _values(attention: nn.MultiheadAttention, x: Tensor) -> Tensor:
    """Return the value of each token, of all heads: (n, tokens, width of the attention)."""
    width, bias = attention.embed_dim, attention.in_proj_bias
    weight = attention.v_proj_weight if attention.in_proj_weight is None else attention.in_proj_weight[-width:]
    return F.linear(x, weight, None if bias is None else bias[-width:])


def _trunk_pooling(trunk: Any, head: nn.Module) -> Pooling | None:
    """Return the parts of a network of timm and what open_clip adds after it; None: it pools in another way."""
    is_transformer = isinstance(trunk, timm_vit.VisionTransformer | Eva)
    if is_transformer:
        if trunk.attn_pool is not None:
            is_known = isinstance(trunk.attn_pool, AttentionPoolLatent) and trunk.attn_pool.latent_len == 1
            return _latent_query(trunk, head) if is_known else None
        makers = {"avg": _mean_of_trunk_tokens, "token": _class_token}
        return makers[trunk.global_pool](trunk, head) if trunk.global_pool in makers else None
    if isinstance(getattr(trunk, "head", None), ClassifierHead | NormMlpClassifierHead):
        return _mean_of_map(trunk, head)
    return None


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


def _mean_of_trunk_tokens(trunk: Any, head: nn.Module) -> Pooling | None:
    """Return the parts of a Transformer that averages its patches (ViTamin); None: it averages other tokens, too."""
    if getattr(trunk, "pool_include_prefix", False) and trunk.num_prefix_tokens:
        return None

    return Pooling(
        lambda pixels: split_tokens(trunk.forward_features(pixels), trunk.patch_embed.grid_size),
        lambda values: _rest(trunk, head, values),
    )


def _class_token(trunk: Any, head: nn.Module) -> Pooling | None:
    """Return the parts of a Transformer whose class token is the result (EVA, MobileCLIP-B); None: of other blocks."""
    last = trunk.blocks[-1]
    attention = last.attn
    is_known = isinstance(last, timm_vit.Block | EvaBlock | EvaBlockPostNorm) and isinstance(
        attention, Attention | EvaAttention
    )
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
