"""Catalog of the models of all families that can be pulled."""

from __future__ import annotations

from dataclasses import asdict
from types import MappingProxyType

from bindsearch.encoders.imagebind.config import HUGE
from bindsearch.encoders.model_store.source import HUGE_NAME, OPENCLIP_PREFIX, TIMM_PREFIX, ModelSource
from bindsearch.encoders.openclip import model_source as openclip
from bindsearch.encoders.timm import model_source as timm
from bindsearch.errors import EncoderError

IMAGEBIND_HUGE = ModelSource(
    name=HUGE_NAME,
    family="imagebind",
    urls=("https://dl.fbaipublicfiles.com/imagebind/imagebind_huge.pth",),
    license="CC BY-NC-SA 4.0",
    license_text=(
        "The weights of ImageBind are published by Meta under the licence CC BY-NC-SA 4.0 "
        "(https://creativecommons.org/licenses/by-nc-sa/4.0/): for research and other non-commercial uses, "
        "with attribution of the authors; derived works that you distribute must have the same licence. The licence of "
        "BindSearch itself, Apache 2.0, does not change that."
    ),
    needs_consent=True,
    architecture=MappingProxyType(asdict(HUGE)),
    expected_bytes=4_800_000_000,
)


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
