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

from typing import Any

import torch
import torch.nn.functional as F
from open_clip.modified_resnet import ModifiedResNet
from open_clip.timm_model import TimmModel
from open_clip.transformer import ResidualAttentionBlock, VisionTransformer
from torch import Tensor, nn

from bindsearch.encoders.openclip.dense_timm import trunk_pooling
from bindsearch.encoders.openclip.pooling import Pooling, Values, split_tokens
from bindsearch.errors import EncoderError


def pooling_of(visual: nn.Module) -> Pooling:
    """Return the parts of a picture tower of open_clip.

    Raises:
        EncoderError: it pools in a way that gives patches no vectors of their own; see
            `picture_settings.has_dense_features`.
    """
    pooling = None
    if isinstance(visual, ModifiedResNet):
        pooling = _resnet(visual)
    elif isinstance(visual, TimmModel):
        pooling = trunk_pooling(visual.trunk, visual.head)
    elif isinstance(visual, VisionTransformer):
        pooling = _transformer(visual)
    if pooling is None:
        raise EncoderError(f"a picture tower of the type {type(visual).__name__} has no dense features")
    return pooling


def _transformer(visual: Any) -> Pooling | None:
    """Return the parts of a Transformer of open_clip; None: it pools in another way."""
    if visual.attn_pool is not None:
        return _attention_pooler(visual) if visual.attn_pool_contrastive is None else None
    if visual.pool_type == "avg":
        return _mean_of_tokens(visual)
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


def _mean_of_tokens(visual: Any) -> Pooling:
    """Return the parts of a Transformer that averages its patches (CLIPA)."""

    def values(pixels: Tensor) -> Values:
        x = visual.transformer(visual._embeds(pixels))
        return split_tokens(x if visual.final_ln_after_pool else visual.ln_post(x), visual.grid_size)

    def project(values: Tensor) -> Tensor:
        features: Tensor = (visual.ln_post(values) if visual.final_ln_after_pool else values) @ visual.proj
        return features

    return Pooling(values, project)


def _attention_pooler(visual: Any) -> Pooling:
    """Return the parts of a Transformer whose first learned query gathers from all tokens (CoCa)."""
    pooler = visual.attn_pool

    def values(pixels: Tensor) -> Values:
        x = visual.transformer(visual._embeds(pixels))
        return split_tokens(_values(pooler.attn, pooler.ln_k(x)), visual.grid_size)

    def project(values: Tensor) -> Tensor:
        features: Tensor = visual.ln_post(pooler.attn.out_proj(values)) @ visual.proj
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
