"""Sources of timm's image models, and the settings to build them; no network is used."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bindsearch.encoders.model_store.source import TIMM_PREFIX as PREFIX
from bindsearch.encoders.model_store.source import ModelSource, unknown_model
from bindsearch.errors import EncoderError

EXAMPLE = f"{PREFIX}vit_small_patch16_224.dino"

CROP_MODES = ("center", "squash")
"""Ways to make a square of a picture, in timm's terms."""

INTERPOLATIONS = ("nearest", "bilinear", "bicubic", "lanczos")
"""Filters for resizing, in timm's terms."""

MAX_SIDE_PX = 2_048
"""Largest side of a picture that a model may take."""

_HUB_FILES = ("model.safetensors", "pytorch_model.bin")  # in the order of timm


def find_timm_source(name: str) -> ModelSource:
    """Return the source of "timm:MODEL", with the names of timm, such as vit_small_patch16_224.dino.

    A name without the part after the dot has the preprocessing of timm's default weights.

    Raises:
        EncoderError: timm has no such model, or its features are not one vector per square picture.
    """
    from timm.data.config import resolve_data_config
    from timm.models import get_pretrained_cfg, is_model, list_models, list_pretrained

    model, names = name.removeprefix(PREFIX), list_pretrained()
    family, _, tag = model.partition(".")
    if not is_model(family) or "/" in model or (tag and model not in names):
        if tag and (tags := [f"{PREFIX}{known}" for known in names if known.partition(".")[0] == family]):
            raise EncoderError(f"unknown model {name!r}: the weights of {family} are {', '.join(tags)}")
        form = f"{PREFIX}MODEL with the names of timm, such as {EXAMPLE}"
        raise EncoderError(unknown_model(name, PREFIX, [*names, *list_models()], form))
    found = get_pretrained_cfg(model)
    settings = found.to_dict() if found is not None else {}
    facts = resolve_data_config({}, pretrained_cfg=settings)
    dim, obstacle = _dim(model, facts["input_size"]), _obstacle(facts)
    if dim is None or obstacle:
        raise EncoderError(
            f"{name} cannot run here: {obstacle or 'its features are not one vector per picture'}; "
            f"choose another model, such as {EXAMPLE}"
        )
    urls: tuple[str, ...] = ()  # in timm's own names of tensors; none if the model is not on the hub
    if repository := settings.get("hf_hub_id"):
        from huggingface_hub import hf_hub_url

        files = (settings["hf_hub_filename"],) if settings.get("hf_hub_filename") else _HUB_FILES
        urls = tuple(hf_hub_url(repository, file) for file in files)
    card = urls[0].partition("/resolve/")[0] if urls else "https://github.com/huggingface/pytorch-image-models"
    return ModelSource(
        name=name,
        family="timm",
        urls=urls,
        license=settings.get("license") or "see the model card",
        license_text=(
            f"The code of timm has the Apache 2.0 licence; the licence of the weights is on their model card, {card}"
        ),
        needs_consent=False,
        architecture={
            "model": model,
            "config": {"model": model, "embed_dim": dim},
            "preprocess": {
                "size_px": int(facts["input_size"][1]),
                "crop_pct": float(facts["crop_pct"]),
                "crop_mode": facts["crop_mode"],
                "mean": list(facts["mean"]),
                "std": list(facts["std"]),
                "interpolation": facts["interpolation"],
            },
        },
        expected_bytes=None,
    )


def _obstacle(facts: Mapping[str, Any]) -> str | None:
    """Return why pictures cannot be preprocessed for a model; None if they can."""
    channels, height, width = facts["input_size"]
    if channels != 3 or height != width:
        return f"its pictures are not squares in colour ({channels} channels, {height} x {width})"
    if height > MAX_SIDE_PX:
        return f"its pictures have {height} pixels a side, more than {MAX_SIDE_PX}"
    if facts["crop_mode"] not in CROP_MODES:
        return f"its pictures are cropped by {facts['crop_mode']!r}"
    if facts["interpolation"] not in INTERPOLATIONS:
        return f"its pictures are resized by {facts['interpolation']!r}"
    return None


def _dim(model: str, input_size: tuple[int, int, int]) -> int | None:
    """Return the dimension of a model's features, by a run without memory; None if they are not one vector."""
    import torch

    from bindsearch.encoders.timm.networks import ImageTower

    try:
        with torch.device("meta"), torch.inference_mode():
            features = ImageTower({"model": model}).eval()(torch.zeros(1, *input_size))
    except Exception:  # of timm's models, each with code of its own
        return None
    return int(features.shape[1]) if isinstance(features, torch.Tensor) and features.ndim == 2 else None
