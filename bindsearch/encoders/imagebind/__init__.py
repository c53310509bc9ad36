"""ImageBind (Girdhar et al., CVPR 2023, arXiv 2305.05665): seven modalities in one space, one file per tower.

The names below have the meaning of the published code, for parity and evaluation; searches use
`bindsearch.load_encoder("imagebind-huge")`. The names are imported on first use: importing this package loads neither
torch nor weights.

    from bindsearch.encoders.imagebind import build_model, load_published_weights, preprocess_image, tokenize

    model = build_model(**config)
    load_published_weights(model, torch.load("imagebind_huge.pth", weights_only=True, mmap=True))
    features = model({"vision": preprocess_image(picture), "text": tokenize(["A dog."])})
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bindsearch.encoders.imagebind.config import HUGE, ModelConfig
    from bindsearch.encoders.imagebind.encoder import ImageBindEncoder
    from bindsearch.encoders.imagebind.model import ImageBindModel, build_model, load_published_weights
    from bindsearch.encoders.imagebind.preprocessing import Preprocessing
    from bindsearch.encoders.imagebind.preprocessing.audio import preprocess_audio
    from bindsearch.encoders.imagebind.preprocessing.image import preprocess_image
    from bindsearch.encoders.imagebind.preprocessing.views import clip_timepoints
    from bindsearch.encoders.preprocessing.clip_tokenizer import tokenize

_MODULES = {
    "config": ("HUGE", "ModelConfig"),
    "encoder": ("ImageBindEncoder",),
    "model": ("ImageBindModel", "build_model", "load_published_weights"),
    "preprocessing": ("Preprocessing",),
    "preprocessing.audio": ("preprocess_audio",),
    "preprocessing.image": ("preprocess_image",),
    "preprocessing.views": ("clip_timepoints",),
}
_MODULE_OF = {name: f"{__name__}.{module}" for module, names in _MODULES.items() for name in names}
_MODULE_OF["tokenize"] = "bindsearch.encoders.preprocessing.clip_tokenizer"

__all__ = [
    "HUGE",
    "ImageBindEncoder",
    "ImageBindModel",
    "ModelConfig",
    "Preprocessing",
    "build_model",
    "clip_timepoints",
    "load_published_weights",
    "preprocess_audio",
    "preprocess_image",
    "tokenize",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_MODULE_OF[name]), name)


def __dir__() -> list[str]:
    return __all__
