"""Towers of a CLIP model from open_clip's modules; each can be built and filled without the other."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from open_clip.hf_model import HFTextEncoder
from open_clip.model import CLIPTextCfg, CLIPVisionCfg, _build_text_tower, _build_vision_tower
from open_clip.transformer import LayerNormFp32, text_global_pool
from torch import Tensor, nn

from bindsearch.encoders.openclip.dense import pooling_of
from bindsearch.encoders.openclip.texts import TOWER_CONFIG_FILE, TOWER_FAMILIES
from bindsearch.errors import EncoderError

NORMS_IN_FP32 = (LayerNormFp32, nn.BatchNorm2d)
"""Modules whose weights stay in fp32 regardless of the format of their input."""

# With this format, open_clip uses LayerNormFp32, which in fp32 equals its other layer norm.
_ANY_DTYPE = torch.bfloat16

MAX_LAYERS = 1_000
"""Most layers of a text tower of the transformers library."""


class ImageTower(nn.Module):
    """Tower of pictures; its tensors have the names of the checkpoint."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__()
        vision = CLIPVisionCfg(**{**config["vision_cfg"], "output_tokens": False})  # CoCa's decoder reads tokens
        self.visual = _build_vision_tower(config["embed_dim"], vision, config["quick_gelu"], _ANY_DTYPE)

    def forward(self, pixels: Tensor) -> Tensor:
        """Return features (n, d), not of unit length, of normalised pictures (n, 3, height, width)."""
        features: Tensor = self.visual(self._as_weights(pixels))
        return features

    def locate(self, pixels: Tensor) -> Tensor:
        """Return features of each patch (n, h, w, d), not of unit length, of normalised pictures.

        Raises:
            EncoderError: as `pooling_of`.
        """
        pooling = pooling_of(self.visual)
        return pooling.project(pooling.values(self._as_weights(pixels)).patches)

    def _as_weights(self, pixels: Tensor) -> Tensor:
        """Return pixels in the number format of the weights."""
        kernel = next(parameter for parameter in self.visual.parameters() if parameter.ndim == 4)
        return pixels.to(kernel.dtype)


class TextTower(nn.Module):
    """Transformer of open_clip for texts; its tensors have the names of the checkpoint.

    If attention is causal and the result is read at the end token, later tokens have no effect: a batch may be trimmed
    after its last end token. Other towers read the padding, see `texts.reads_padding`.
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__()
        settings = CLIPTextCfg(**config["text_cfg"])
        text = _build_text_tower(config["embed_dim"], settings, config["quick_gelu"], _ANY_DTYPE)
        self.token_embedding, self.positional_embedding = text.token_embedding, text.positional_embedding
        self.cls_emb, self.transformer = text.cls_emb, text.transformer
        self.ln_final, self.text_projection = text.ln_final, text.text_projection
        self._is_causal = text.attn_mask is not None
        self._heads, self._pad_id = text.heads, text.pad_id
        self._pool_type, self._eos_id = text.pool_type, text.eos_id

    def forward(self, tokens: Tensor) -> Tensor:
        """Return features (n, d), not of unit length, of token ids, int64 (n, length)."""
        x = self.token_embedding(tokens)
        if self.cls_emb is not None:
            x = torch.cat([x, self.cls_emb.expand(len(x), 1, -1)], dim=1)
        x = x + self.positional_embedding[: x.shape[1]]
        x = self.transformer(x, attn_mask=self._mask(tokens, x))
        if self.cls_emb is not None:
            pooled = self.ln_final(x[:, -1])
        else:
            pooled = text_global_pool(self.ln_final(x), tokens, self._pool_type, self._eos_id)
        if isinstance(self.text_projection, nn.Linear):
            pooled = self.text_projection(pooled)
        elif self.text_projection is not None:
            pooled = pooled @ self.text_projection
        features: Tensor = pooled
        return features

    def _mask(self, tokens: Tensor, x: Tensor) -> Tensor | None:
        """Return what is added to the attention of embedded tokens x (n, length, width); None: nothing.

        It is not a buffer: modules are built without memory, and a buffer would have to be filled after loading.
        """
        length, never, causal = x.shape[1], float("-inf"), None
        if self._is_causal:
            causal = torch.full((length, length), never, dtype=x.dtype, device=x.device).triu_(1)
        if self.cls_emb is None:
            return causal
        # CoCa hides the padding, one place too late: published weights were trained with it.
        hidden = torch.cat([tokens.new_zeros(len(tokens), 1, dtype=torch.bool), tokens == self._pad_id], dim=1)
        mask = torch.zeros(len(x), length, length, dtype=x.dtype, device=x.device)
        mask.masked_fill_(hidden[:, None], never)
        mask = mask if causal is None else mask + causal
        return mask.repeat_interleave(self._heads, dim=0)


def build_text_tower(config: Mapping[str, Any], tower_config: Mapping[str, Any] | None) -> nn.Module:
    """Return the tower of texts.

    Raises:
        EncoderError: the configuration is not that of a tower that open_clip can use.
    """
    if not config["text_cfg"].get("hf_model_name"):
        return TextTower(config)
    from transformers import AutoConfig

    text = CLIPTextCfg(**config["text_cfg"])
    unused = ("auto_map", "quantization_config")
    settings = {key: value for key, value in (tower_config or {}).items() if key not in unused}
    family = settings.pop("model_type", None)
    if family not in TOWER_FAMILIES:
        raise EncoderError(
            f"{TOWER_CONFIG_FILE} is of a model of the type {family!r}, expected one of {', '.join(TOWER_FAMILIES)}: "
            f"it must be config.json of {text.hf_model_name}"
        )
    layers = [value for key, value in settings.items() if key.endswith("layers") and isinstance(value, int)]
    if max(layers, default=0) > MAX_LAYERS:
        raise EncoderError(f"{TOWER_CONFIG_FILE} has {max(layers)} layers, more than {MAX_LAYERS}")
    try:
        tower = HFTextEncoder(
            text.hf_model_name,
            output_dim=config["embed_dim"],
            config=AutoConfig.for_model(family, **settings),
            pooler_type=text.hf_pooler_type,
            proj_type=text.hf_proj_type,
        )
    except Exception as error:  # of the checks and models of the library, each with errors of its own
        line = " ".join(str(error).split())[:300]
        raise EncoderError(f"{TOWER_CONFIG_FILE} describes no text tower of {text.hf_model_name} ({line})") from error
    if tower.config.is_encoder_decoder:
        tower.transformer = tower.transformer.encoder
    elif text.hf_pooler_type != "cls_pooler":
        tower.transformer.pooler = None  # as open_clip builds it from a name
    built: nn.Module = tower
    return built
