"""Dense features of an open_clip model, by its picture configuration; no torch is loaded."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_TIMM_TRUNKS = ("convnext", "eva", "fastvit", "vit")
_OTHER_TRUNKS = ("vit_relpos",)  # its blocks are of another class
_ATTENTION = ("qk_norm", "scale_attn", "scale_attn_inner", "scale_heads", "scaled_cosine_attn")
_OTHER_BLOCKS = ("block_type", "scale_fc", *_ATTENTION)


def has_dense_features(vision: Mapping[str, Any]) -> bool:
    """Return whether patches of a picture have vectors of their own: see `bindsearch.encoders.openclip.dense`."""
    if trunk := vision.get("timm_model_name"):
        name = str(trunk).removeprefix("test_")
        return name.startswith(_TIMM_TRUNKS) and not name.startswith(_OTHER_TRUNKS)
    has_one_query = not isinstance(vision.get("attentional_pool"), str)
    return has_one_query and not any(vision.get(setting) for setting in _OTHER_BLOCKS)
