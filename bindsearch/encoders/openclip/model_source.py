"""Source of an open_clip model's checkpoint, and the settings that build it. Uses no network."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any

from bindsearch.encoders.model_store.source import OPENCLIP_PREFIX as PREFIX
from bindsearch.encoders.model_store.source import ModelSource
from bindsearch.errors import EncoderError

EXAMPLE = f"{PREFIX}ViT-B-32/laion2b_s34b_b79k"

TIMM_TOWERS = ("convnext_", "vitamin_")
"""Image towers of timm that keep all they need in their checkpoint; others compute tables when they are built."""

_HUB_FILES = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")  # as open_clip asks for them
_TORCHSCRIPT_HOST = "openaipublic"  # OpenAI's own files are programs, not tensors


def find_openclip_source(name: str) -> ModelSource:
    """The source of "openclip:MODEL/PRETRAINED", both as open_clip spells them.

    Raises:
        EncoderError: open_clip knows no such model or weights, or the model cannot run offline.
    """
    import open_clip

    model, _, tag = name.removeprefix(PREFIX).partition("/")
    settings = open_clip.get_pretrained_cfg(model, tag)
    config = open_clip.get_model_config(model) if tag in open_clip.list_pretrained_tags_by_model(model) else None
    if config is None:
        raise EncoderError(_unknown(name, model))
    if obstacle := _obstacle(config, settings):
        raise EncoderError(f"{name} cannot run here: {obstacle}; choose another model, such as {EXAMPLE}")
    urls = _urls(settings)
    return ModelSource(
        name=name,
        family="openclip",
        urls=urls,
        license="see the model card",
        license_text=_license_text(settings, urls),
        needs_consent=False,
        architecture=_architecture(model, tag, config, settings),
        expected_bytes=None,
    )


def list_openclip_names() -> list[str]:
    """Names of all models that can be brought, in open_clip's order."""
    import open_clip

    return [
        f"{PREFIX}{model}/{tag}"
        for model, tag in open_clip.list_pretrained()
        if (config := open_clip.get_model_config(model)) is not None
        and _obstacle(config, open_clip.get_pretrained_cfg(model, tag)) is None
    ]


def _unknown(name: str, model: str) -> str:
    import open_clip

    if tags := open_clip.list_pretrained_tags_by_model(model):
        return f"unknown model {name!r}: the weights of {model} are {', '.join(tags)}"
    names = [known.removeprefix(PREFIX) for known in list_openclip_names()]
    near = difflib.get_close_matches(name.removeprefix(PREFIX), names, n=5, cutoff=0.5)
    hint = (
        f"near names are {', '.join(PREFIX + known for known in near)}"
        if near
        else f"names are openclip:MODEL/PRETRAINED, such as {EXAMPLE}"
    )
    return f"unknown model {name!r}: {hint}"


def _obstacle(config: Mapping[str, Any], settings: Mapping[str, Any]) -> str | None:
    """Return why the model cannot be run from its checkpoint alone, or None."""
    text, vision = config["text_cfg"], config["vision_cfg"]
    if "multimodal_cfg" in config or text.get("embed_cls"):
        return "CoCa's captioning towers are not supported"
    if tower := text.get("hf_model_name"):
        return f"its text tower is the Hugging Face model {tower}"
    if tokenizer := text.get("hf_tokenizer_name"):
        return f"its text needs the Hugging Face tokenizer {tokenizer}"
    timm = vision.get("timm_model_name")
    if timm and not timm.startswith(TIMM_TOWERS):
        return f"its image tower is timm's {timm}"
    if text.get("no_causal_mask") or text.get("pool_type", "argmax") != "argmax":
        return "its text tower is not a causal one that ends at the end token"
    if text.get("context_length", 77) != 77 or text.get("vocab_size", 49408) != 49408 or text.get("tokenizer_kwargs"):
        return "its text is cut into tokens in another way than CLIP's"
    if not isinstance(vision.get("image_size", 224), int):
        return f"its pictures are not square ({vision['image_size']})"
    if settings["resize_mode"] not in ("shortest", "squash"):
        return f"its pictures are resized by {settings['resize_mode']!r}"
    return None


def _urls(settings: Mapping[str, Any]) -> tuple[str, ...]:
    """The hub's files, then the direct address."""
    urls = []
    if settings["hf_hub"]:
        from huggingface_hub import hf_hub_url

        repository, _, file = settings["hf_hub"].rpartition("/")
        files = (f"{file.rpartition('.')[0]}.safetensors", file) if file else _HUB_FILES
        urls = [hf_hub_url(repository, file) for file in files]
    if settings["url"] and _TORCHSCRIPT_HOST not in settings["url"]:
        urls.append(settings["url"])
    return tuple(urls)


def _license_text(settings: Mapping[str, Any], urls: tuple[str, ...]) -> str:
    card = urls[0].partition("/resolve/")[0] if settings["hf_hub"] else "https://github.com/mlfoundations/open_clip"
    return f"open_clip's code is under the MIT licence; what the weights allow is on their model card, {card}"


def _architecture(
    model: str, tag: str, config: Mapping[str, Any], settings: Mapping[str, Any]
) -> Mapping[str, str | Mapping[str, Any]]:
    """All that building and preprocessing need, as JSON can hold it."""
    vision = {**config["vision_cfg"]}
    if "timm_model_name" in vision:
        vision["timm_model_pretrained"] = False  # else timm would download weights that are replaced anyway
    return {
        "model": model,
        "pretrained": tag,
        "config": {
            "embed_dim": config["embed_dim"],
            "vision_cfg": vision,
            "text_cfg": config["text_cfg"],
            # The weights say which GELU they were trained with; open_clip only warns where the model's name does not.
            "quick_gelu": bool(settings.get("quick_gelu", False) or config.get("quick_gelu", False)),
        },
        "preprocess": {
            "size_px": vision.get("image_size", 224),
            "mean": list(settings["mean"]),
            "std": list(settings["std"]),
            "interpolation": settings["interpolation"],
            "resize_mode": settings["resize_mode"],
        },
    }
