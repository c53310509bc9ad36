"""Sources of open_clip models' checkpoints, and the settings to build them; no network is used."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bindsearch.encoders.model_store.source import OPENCLIP_PREFIX as PREFIX
from bindsearch.encoders.model_store.source import ExtraFile, ModelSource, unknown_model
from bindsearch.encoders.openclip.texts import (
    TOKENIZER_FILE,
    TOKENIZER_SETTINGS_FILE,
    TOWER_CONFIG_FILE,
    text_obstacle,
)
from bindsearch.encoders.package_files import check_extra
from bindsearch.encoders.preprocessing.picture_input import FILTERS, FITS
from bindsearch.environment import check_libraries
from bindsearch.errors import EncoderError

EXAMPLE = f"{PREFIX}ViT-B-32/laion2b_s34b_b79k"

_HUB_CONFIG = "config.json"
_HUB_FILES = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")  # in the order of open_clip
_TORCHSCRIPT_HOST = "openaipublic"  # OpenAI's own files are TorchScript programs, not tensors


def find_openclip_source(name: str) -> ModelSource:
    """Return the source of "openclip:MODEL/PRETRAINED", with the names of open_clip.

    Raises:
        EncoderError: open_clip has no such model or weights, or the model cannot be run.
        InstallationError: a library that the model needs is missing.
    """
    import open_clip

    model, _, tag = name.removeprefix(PREFIX).partition("/")
    settings = open_clip.get_pretrained_cfg(model, tag)
    config = open_clip.get_model_config(model) if tag in open_clip.list_pretrained_tags_by_model(model) else None
    if config is None:
        if tags := open_clip.list_pretrained_tags_by_model(model):
            raise EncoderError(f"unknown model {name!r}: the weights of {model} are {', '.join(tags)}")
        names = [known.removeprefix(PREFIX) for known in list_openclip_names()]
        raise EncoderError(unknown_model(name, PREFIX, names, f"openclip:MODEL/PRETRAINED, such as {EXAMPLE}"))
    if obstacle := _obstacle(config, settings):
        raise EncoderError(f"{name} cannot run here: {obstacle}; choose another model, such as {EXAMPLE}")
    if config["text_cfg"].get("hf_model_name"):  # the library that its text tower is built with
        check_extra(f"the text tower of {name} needs", "hf", "transformers")
        check_libraries(("transformers",))
    urls = _urls(settings)
    card = urls[0].partition("/resolve/")[0] if settings["hf_hub"] else "https://github.com/mlfoundations/open_clip"
    return ModelSource(
        name=name,
        family="openclip",
        urls=urls,
        license="see the model card",
        license_text=(
            f"The code of open_clip has the MIT licence; the licence of the weights is on their model card, {card}"
        ),
        needs_consent=False,
        architecture=_architecture(model, tag, config, settings),
        expected_bytes=None,
        extra_files=_extra_files(config["text_cfg"]),
    )


def list_openclip_names() -> list[str]:
    """Return the names of all models that can be pulled, in the order of open_clip."""
    import open_clip

    return [
        f"{PREFIX}{model}/{tag}"
        for model, tag in open_clip.list_pretrained()
        if (config := open_clip.get_model_config(model)) is not None
        and _obstacle(config, open_clip.get_pretrained_cfg(model, tag)) is None
    ]


def _obstacle(config: Mapping[str, Any], settings: Mapping[str, Any]) -> str | None:
    """Return why a model cannot be run; None if it can."""
    for key, known in (("resize_mode", FITS), ("interpolation", FILTERS)):
        if settings[key] not in known:
            return f"its pictures are resized by {settings[key]!r}"
    return text_obstacle(config["text_cfg"])


def _extra_files(text: Mapping[str, Any]) -> tuple[ExtraFile, ...]:
    """Return the files of a published tokenizer, and that of the configuration of a text tower."""
    from huggingface_hub import hf_hub_url

    files = []
    if tokenizer := text.get("hf_tokenizer_name"):
        for name, required in ((TOKENIZER_FILE, True), (TOKENIZER_SETTINGS_FILE, False)):
            files.append(ExtraFile(name, hf_hub_url(tokenizer, name), name, required))
    if tower := text.get("hf_model_name"):
        files.append(ExtraFile(TOWER_CONFIG_FILE, hf_hub_url(tower, _HUB_CONFIG), _HUB_CONFIG))
    return tuple(files)


def _urls(settings: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the URLs of the files on the hub, then the direct URL."""
    urls = []
    if settings["hf_hub"]:
        from huggingface_hub import hf_hub_url

        repository, _, file = settings["hf_hub"].rpartition("/")
        files = (f"{file.rpartition('.')[0]}.safetensors", file) if file else _HUB_FILES
        urls = [hf_hub_url(repository, file) for file in files]
    if settings["url"] and _TORCHSCRIPT_HOST not in settings["url"]:
        urls.append(settings["url"])
    return tuple(urls)


def _architecture(
    model: str, tag: str, config: Mapping[str, Any], settings: Mapping[str, Any]
) -> Mapping[str, str | Mapping[str, Any]]:
    """Return the settings for building and preprocessing, as JSON-compatible values."""
    vision = {**config["vision_cfg"]}
    if "timm_model_name" in vision:
        vision["timm_model_pretrained"] = False  # otherwise timm downloads weights that are replaced anyway
    return {
        "model": model,
        "pretrained": tag,
        "config": {
            "embed_dim": config["embed_dim"],
            "vision_cfg": vision,
            "text_cfg": config["text_cfg"],
            # The GELU that the weights were trained with; open_clip only warns if the model's name has another one.
            "quick_gelu": bool(settings.get("quick_gelu", False) or config.get("quick_gelu", False)),
        },
        "preprocess": {
            "size_px": vision.get("image_size", 224),
            "mean": list(settings["mean"]),
            "std": list(settings["std"]),
            "interpolation": settings["interpolation"],
            "resize_mode": settings["resize_mode"],
            **({"fill_color": settings.get("fill_color", 0)} if settings["resize_mode"] == "longest" else {}),
        },
    }
