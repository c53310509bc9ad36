"""Catalog of the models of all families that can be pulled."""

from __future__ import annotations

from bindsearch.encoders.imagebind.model_source import IMAGEBIND_HUGE
from bindsearch.encoders.model_store.source import HUGE_NAME, OPENCLIP_PREFIX, TIMM_PREFIX, ModelSource
from bindsearch.encoders.openclip import model_source as openclip
from bindsearch.encoders.timm import model_source as timm
from bindsearch.errors import EncoderError


def find_model_source(name: str) -> ModelSource:
    """Return the source of a model.

    Raises:
        EncoderError: there is no such model.
    """
    if name == HUGE_NAME:
        return IMAGEBIND_HUGE
    if name.startswith(OPENCLIP_PREFIX):
        return openclip.find_openclip_source(name)
    if name.startswith(TIMM_PREFIX):
        return timm.find_timm_source(name)
    if name == "mini":
        raise EncoderError("mini comes with BindSearch: no download is needed")
    hint = f"did you mean {HUGE_NAME}? " if "imagebind" in name.lower() else ""
    raise EncoderError(
        f"unknown model {name!r}: {hint}available models are {HUGE_NAME}, openclip:MODEL/PRETRAINED, "
        f"such as {openclip.EXAMPLE}, timm:MODEL, such as {timm.EXAMPLE}, and st:ORG/NAME, hf:ORG/NAME and "
        "owlv2:ORG/NAME of the Hugging Face hub"
    )
