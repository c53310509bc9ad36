"""The model agrees with the published code's numbers, and takes its checkpoint and no other."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from bindsearch.encoders.imagebind.config import HUGE, make_config
from bindsearch.encoders.imagebind.model import ImageBindModel, build_model, load_published_weights
from bindsearch.encoders.imagebind.published_weights import check_published, fill_randomly, published_shapes
from bindsearch.encoders.imagebind.towers import build_tower
from bindsearch.errors import EncoderError, UsageError

GOLDEN = Path(__file__).parents[2] / "golden" / "imagebind"
TINY = json.loads((GOLDEN / "tiny.json").read_text())
TINY_SHAPES = json.loads((GOLDEN / "tiny_state_shapes.json").read_text())
OUTPUTS = np.load(GOLDEN / "tiny_outputs.npz")


def tiny_state() -> dict[str, torch.Tensor]:
    """Return the weights that the goldens were made with, by the recipe in their README."""
    rng = np.random.default_rng(TINY["weight_seed"])
    state = {}
    for key, shape in sorted(TINY_SHAPES.items()):
        if key.endswith(".mask"):
            state[key] = torch.full(shape, -torch.inf).triu(1)
        elif key.endswith("log_logit_scale"):
            state[key] = torch.tensor(np.log(TINY["logit_scale"][key.split(".")[1]]), dtype=torch.float32)
        else:
            r = rng.standard_normal(shape).astype(np.float32)
            norm = len(shape) == 1 and key.endswith(".weight")
            state[key] = torch.from_numpy(np.asarray(1 + 0.2 * r if norm else 0.05 * r, np.float32))
    return state


@pytest.fixture(scope="module")
def tiny() -> ImageBindModel:
    model = build_model(**TINY["config"])
    load_published_weights(model, tiny_state())
    return model


@pytest.fixture(scope="module")
def inputs() -> dict[str, torch.Tensor]:
    rng = np.random.default_rng(TINY["input_seed"])
    shapes = {
        "vision": (2, 3, 224, 224),
        "audio": (2, 3, 1, 128, 204),
        "depth": (2, 1, 224, 224),
        "thermal": (2, 1, 224, 224),
        "imu": (2, 6, 2000),
        "video": (1, 4, 3, 2, 224, 224),
    }
    drawn = {name: rng.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}
    return {**{k: torch.from_numpy(v) for k, v in drawn.items()}, "text": torch.from_numpy(OUTPUTS["text_tokens"])}


@pytest.mark.parametrize("modality", ["vision", "text", "audio", "depth", "thermal", "imu", "video"])
def test_features_agree_with_the_published_code(
    modality: str, tiny: ImageBindModel, inputs: dict[str, torch.Tensor]
) -> None:
    key = "vision" if modality == "video" else modality
    with torch.inference_mode():
        features = tiny({key: inputs[modality]})[key].numpy()
    golden = OUTPUTS[f"embedding_{modality}"]
    error = np.abs(features - golden).max() / np.abs(golden).max()
    assert features.dtype == np.float32
    assert features.shape == golden.shape
    assert error <= 2e-4


def test_the_published_keys_and_shapes_are_exactly_those_of_the_model() -> None:
    golden = json.loads((GOLDEN / "imagebind_huge_state_dict.json").read_text())
    assert published_shapes(HUGE) == {key: tuple(shape) for key, shape in golden.items()}
    assert len(golden) == 1311
    check_published(huge_state(), HUGE)


def huge_state() -> dict[str, Any]:
    """All keys of the published checkpoint; every tensor is one number seen many times, so it takes no memory."""
    golden = json.loads((GOLDEN / "imagebind_huge_state_dict.json").read_text())
    return {key: torch.tensor(0.01).expand(shape) for key, shape in golden.items()}


def without(key: str) -> Callable[[dict[str, Any]], None]:
    return lambda state: state.pop(key)


def replaced(key: str, value: Any) -> Callable[[dict[str, Any]], None]:
    return lambda state: state.update({key: value})


QKV = "modality_trunks.vision.blocks.31.attn.in_proj_weight"
KERNEL = "modality_preprocessors.vision.rgbt_stem.proj.1.weight"
DAMAGED: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "a key missing": (without(QKV), f"the key {QKV} is missing"),
    "a tower missing": (
        lambda state: [state.pop(key) for key in list(state) if ".imu." in key],
        r"the key modality_\w+\.imu\.\S+ is missing \(and \d\d faults more\)",
    ),
    "an unknown key": (replaced("modality_trunks.touch.weight", torch.zeros(2)), "trunks.touch.weight is unknown"),
    "one more block": (
        replaced("modality_trunks.vision.blocks.32.norm_1.weight", torch.zeros(1280)),
        r"vision\.blocks\.32\.norm_1\.weight is unknown",
    ),
    "a key renamed": (
        lambda state: state.update({"module." + QKV: state.pop(QKV)}),
        rf"the key {QKV} is missing \(and 1 fault more\)",
    ),
    "too wide": (
        replaced("modality_heads.audio.2.weight", torch.zeros(1024, 1024)),
        r"modality_heads\.audio\.2\.weight has the shape \(1024, 1024\), expected \(1024, 768\)",
    ),
    "transposed": (
        replaced("modality_trunks.text.blocks.0.mlp.fc1.weight", torch.zeros(1024, 4096)),
        r"has the shape \(1024, 4096\), expected \(4096, 1024\)",
    ),
    "a kernel without time": (
        replaced(KERNEL, torch.zeros(1280, 3, 14, 14)),
        r"has the shape \(1280, 3, 14, 14\), expected \(1280, 3, 2, 14, 14\)",
    ),
    "another vocabulary": (
        replaced("modality_preprocessors.text.token_embedding.weight", torch.zeros(1, 1).expand(50_000, 1024)),
        r"token_embedding\.weight has the shape \(50000, 1024\), expected \(49408, 1024\)",
    ),
    "integers": (
        replaced(QKV, torch.zeros(1, 1, dtype=torch.int8).expand(3840, 1280)),
        r"in_proj_weight is torch\.int8, expected a tensor of floats",
    ),
    "no tensor": (replaced(QKV, [0.0]), "in_proj_weight is list, expected a tensor of floats"),
    "not finite": (
        replaced("modality_trunks.depth.blocks.3.norm_2.bias", torch.full((384,), torch.nan)),
        r"depth\.blocks\.3\.norm_2\.bias holds NaN or infinity",
    ),
}


@pytest.mark.parametrize("fault", DAMAGED)
def test_a_damaged_full_size_state_dict_is_refused_by_name(fault: str) -> None:
    damage, message = DAMAGED[fault]
    state = huge_state()
    damage(state)
    with torch.device("meta"):
        model = ImageBindModel(HUGE)
    with pytest.raises(EncoderError, match=message):
        load_published_weights(model, state)


def test_unknown_arguments_and_modalities_are_refused() -> None:
    with pytest.raises(UsageError, match="unknown argument 'vision_blocks'"):
        build_model(vision_blocks=3)
    with pytest.raises(UsageError, match=r"text_embed_dim is 25: expected a multiple of text_num_heads, 3"):
        build_model(**{**TINY["config"], "text_embed_dim": 25})
    model = build_model(**TINY["config"])
    for modality in ("image", "smell"):
        with pytest.raises(UsageError, match=f"unknown modality '{modality}'"):
            model({modality: torch.zeros(1, 3, 224, 224)})


def test_what_follows_the_end_token_changes_nothing(tiny: ImageBindModel) -> None:
    tokens = torch.from_numpy(OUTPUTS["text_tokens"][:2]).long()
    longest = int(tokens.argmax(dim=1).max()) + 1
    with torch.inference_mode():
        whole, cut = tiny({"text": tokens})["text"], tiny({"text": tokens[:, :longest]})["text"]
    assert torch.allclose(whole, cut, atol=1e-5)
    assert longest < 20


def test_a_picture_is_a_clip_of_two_like_frames(tiny: ImageBindModel) -> None:
    picture = torch.randn(2, 3, 224, 224, generator=torch.Generator().manual_seed(1))
    clip = picture[:, None, :, None].expand(-1, 1, -1, 2, -1, -1)
    with torch.inference_mode():
        assert torch.allclose(tiny({"vision": picture})["vision"], tiny({"vision": clip})["vision"], atol=1e-5)


def test_image_and_text_towers_are_openclips_parameter_for_parameter() -> None:
    """Norms that open_clip keeps at 1e-5 are ImageBind's 1e-6; all else is its ViT and its text Transformer."""
    from open_clip.transformer import LayerNorm, TextTransformer, VisionTransformer

    norm = partial(LayerNorm, eps=1e-6)
    config = make_config(**{**TINY["config"], "vision_num_heads": 4, "vision_embed_dim": 64})
    generator = torch.Generator().manual_seed(4)
    vision = VisionTransformer(224, 14, 64, 3, 4, 4.0, output_dim=32, norm_layer=norm)
    text = TextTransformer(77, 49408, 24, 3, 2, output_dim=32, norm_layer=norm)
    for module in (vision, text):
        fill_randomly(module, generator)
    image_tower, text_tower = build_tower("image", config), build_tower("text", config)
    fill_randomly(image_tower, generator)
    fill_randomly(text_tower, generator)
    picture = torch.randn(2, 3, 224, 224, generator=generator)
    tokens = torch.from_numpy(OUTPUTS["text_tokens"]).long()
    image_tower.load_state_dict(
        _ours(vision.state_dict(), "visual") | {"video_stem.weight": torch.zeros(64, 6, 14, 14)}
    )
    text_tower.load_state_dict(_ours(text.state_dict(), "text") | {"log_logit_scale": torch.tensor(0.0)})
    with torch.inference_mode():
        for ours, theirs in ((image_tower(picture), vision.eval()(picture)), (text_tower(tokens), text.eval()(tokens))):
            assert torch.allclose(ours, torch.nn.functional.normalize(theirs, dim=-1), atol=1e-5)


def _ours(state: dict[str, torch.Tensor], kind: str) -> dict[str, torch.Tensor]:
    """open_clip's parameters under our names: blocks keep theirs, tokens get a batch axis, projections are turned."""
    projection = "proj" if kind == "visual" else "text_projection"
    names = {
        "class_embedding": "class_token",
        "positional_embedding": "position",
        "conv1.weight": "stem.weight",
        projection: "projection.weight",
    }
    ours = {}
    for key, value in state.items():
        name = names.get(key, key.replace("transformer.", "trunk.").replace("ln_pre", "norm_pre"))
        name = name.replace("ln_post", "norm").replace("ln_final", "norm")
        value = value.T if key == projection else value
        ours[name] = {"class_token": value.reshape(1, 1, -1), "position": value[None]}.get(name, value)
    return ours
