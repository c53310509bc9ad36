"""Source of ImageBind's weights."""

from __future__ import annotations

from dataclasses import asdict
from types import MappingProxyType

from bindsearch.encoders.imagebind.config import HUGE
from bindsearch.encoders.model_store.source import HUGE_NAME, ModelSource

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
