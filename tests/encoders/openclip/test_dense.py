"""Dense features of picture towers: what the network pools of them is its embedding, to rounding.

The weights of attention are those that the network computes itself.
"""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import safetensors.torch
import torch
import torch.nn.functional as F
from open_clip.timm_model import TimmModel
from open_clip.transformer import VisionTransformer
from timm.models.eva import Eva
from torch import Tensor, nn

from bindsearch.encoders.base import locatable_modalities
from bindsearch.encoders.model_store.checkpoints import names_in_fp32
from bindsearch.encoders.model_store.installed import FORMAT, ModelFile, ModelManifest, model_folder, write_manifest
from bindsearch.encoders.openclip.dense import Values, pooling_of
from bindsearch.encoders.openclip.encoder import OpenClipEncoder, has_dense_features
from bindsearch.encoders.openclip.model_source import list_openclip_names
from bindsearch.encoders.openclip.networks import NORMS_IN_FP32, ImageTower
from bindsearch.encoders.torch_runtime.device import Runtime
from bindsearch.errors import EncoderError, UsageError
from bindsearch.hashing import hash_file
from bindsearch.media import Picture
from bindsearch.types import Modality
from helpers.attention import pool, recorded_attention

DIM = 48
VIT = {"image_size": 64, "layers": 2, "width": 64, "patch_size": 16, "head_width": 32}
VISION: Mapping[str, Mapping[str, Any]] = {
    "vit": VIT,
    "wide": {**VIT, "image_size": [64, 96]},
    "layer-scale": {**VIT, "ls_init_value": 0.5},
    "clipa": {**VIT, "no_ln_pre": True, "pool_type": "avg", "final_ln_after_pool": True},
    "mean": {**VIT, "pool_type": "avg"},
    "coca": {**VIT, "attentional_pool": True, "attn_pooler_heads": 2},
    "resnet": {"image_size": 64, "layers": [1, 1, 1, 1], "width": 16, "patch_size": None},
    "siglip": {"timm_model_name": "test_vit", "timm_pool": "map", "timm_proj": "none", "image_size": 160},
    "pe-core": {
        "timm_model_name": "vit_pe_core_tiny_patch16_384",
        "timm_pool": "map",
        "timm_proj": None,
        "image_size": 384,
    },
    "mobileclip-b": {"timm_model_name": "test_vit", "timm_pool": "token", "timm_proj": None, "image_size": 160},
    "vitamin": {"timm_model_name": "test_vit2", "timm_pool": "", "timm_proj": "linear", "image_size": 160},
    "eva": {"timm_model_name": "eva02_tiny_patch14_224", "timm_pool": "token", "timm_proj": None, "image_size": 224},
    "convnext": {"timm_model_name": "test_convnext", "timm_pool": "", "timm_proj": "linear", "image_size": 160},
    "fastvit": {"timm_model_name": "fastvit_t8", "timm_pool": "avg", "timm_proj": None, "image_size": 256},
}
MEANS = ("clipa", "mean", "vitamin", "convnext", "fastvit")
TOLERANCE = 1e-4
POOLING_SETTINGS = ("timm_pool", "pool_type", "attentional_pool")


def config_of(kind: str, **changes: Any) -> dict[str, Any]:
    return {"embed_dim": DIM, "vision_cfg": {**VISION[kind], **changes}, "quick_gelu": kind == "wide"}


def random_tower(kind: str, **changes: Any) -> ImageTower:
    torch.manual_seed(0)
    tower = ImageTower(config_of(kind, **changes)).eval()
    with torch.no_grad():
        for name, tensor in tower.state_dict().items():
            if tensor.is_floating_point() and "var" not in name:
                tensor.add_(0.05 * torch.randn_like(tensor))
            if name.endswith("in_proj_weight"):
                tensor.mul_(3)  # attention that differs between patches
            if name.endswith("layer_scale.gamma"):
                tensor.fill_(0.05)
    return tower


def random_pixels(tower: ImageTower, n: int = 2) -> Tensor:
    size = tower.visual.image_size
    height, width = (size, size) if isinstance(size, int) else size
    blocks = torch.randn(n, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    return F.interpolate(blocks, (height, width), mode="bilinear")


def last_block(visual: nn.Module) -> Any:
    """Return the block whose class token is the result; None: the network pools after its last block."""
    if isinstance(visual, VisionTransformer) and visual.pool_type == "tok" and visual.attn_pool is None:
        return visual.transformer.resblocks[-1]
    if isinstance(visual, TimmModel) and getattr(visual.trunk, "global_pool", "") == "token":
        return visual.trunk.blocks[-1]
    return None


def embedded(tower: ImageTower, pixels: Tensor, values: Values, weights: Tensor | None) -> Tensor:
    """Return the embedding from the values, pooled with these weights; None: their mean."""
    block = last_block(tower.visual)
    if weights is None:
        pooled = values.patches.mean(dim=(1, 2))
    else:
        pooled = pool(weights, torch.cat([values.others, values.patches.flatten(1, 2)], dim=1))
    if block is None:
        return pooling_of(tower.visual).project(pooled)
    attention = block.attn
    added = attention.out_proj(pooled) if hasattr(attention, "out_proj") else attention.proj(attention.norm(pooled))

    def replace(_module: nn.Module, _given: Any, output: Any) -> Any:
        tokens = output[0] if isinstance(output, tuple) else output
        replaced = torch.cat([added[:, None], tokens[:, 1:]], dim=1)
        return (replaced, *output[1:]) if isinstance(output, tuple) else replaced

    handle = attention.register_forward_hook(replace)
    try:
        features: Tensor = tower(pixels)
    finally:
        handle.remove()
    return features


def check_pooling(tower: ImageTower, *, is_mean: bool) -> None:
    """Compare an embedding with what the network's own pooling makes of the values of the patches."""
    pixels = random_pixels(tower)
    with recorded_attention() as recorded:
        expected = F.normalize(tower(pixels), dim=-1)
    pooling = pooling_of(tower.visual)
    values = pooling.values(pixels)
    weights = None if is_mean else recorded[-1]
    found = F.normalize(embedded(tower, pixels, values, weights), dim=-1)
    assert (found - expected).abs().max() <= TOLERANCE
    if weights is not None:  # another pooling gives other vectors
        other = F.normalize(embedded(tower, pixels, values, weights.flip(-1)), dim=-1)
        assert (other - expected).abs().max() > 3 * TOLERANCE
    located = tower.locate(pixels)
    torch.testing.assert_close(located, pooling.project(values.patches))
    assert located.shape == (*values.patches.shape[:3], expected.shape[-1])


@pytest.mark.parametrize("kind", VISION)
def test_values_pooled_by_the_network_itself_are_its_embedding(kind: str) -> None:
    check_pooling(random_tower(kind), is_mean=kind in MEANS)


@pytest.mark.parametrize("settings", [{"use_post_norm": True}, {"qkv_fused": False, "scale_attn_inner": True}])
def test_blocks_of_other_sizes_of_eva(settings: Mapping[str, Any]) -> None:
    tower = random_tower("eva")
    tower.visual.trunk = Eva(
        img_size=224,
        patch_size=56,
        embed_dim=64,
        depth=2,
        num_heads=2,
        num_classes=DIM,
        global_pool="token",
        use_rot_pos_emb=True,
        **settings,
    ).eval()
    with torch.no_grad():
        for parameter in tower.visual.trunk.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    check_pooling(tower, is_mean=False)


def test_patches_that_change_places_change_places_in_the_grid() -> None:
    """Without embeddings of positions, in Transformers whose patches do not overlap."""
    for kind in ("vit", "clipa", "coca", "siglip", "mobileclip-b"):
        tower = random_tower(kind)
        with torch.no_grad():
            for name, parameter in tower.named_parameters():
                if "positional_embedding" in name or "pos_embed" in name:
                    parameter.zero_()
        pixels = random_pixels(tower, n=1)
        with torch.inference_mode():
            located = tower.locate(pixels)[0]
            rows, columns = located.shape[:2]
            height, width = pixels.shape[-2] // rows, pixels.shape[-1] // columns
            patches = pixels.unfold(2, height, height).unfold(3, width, width)  # (1, 3, rows, columns, height, width)
            order = torch.randperm(rows * columns, generator=torch.Generator().manual_seed(2))
            moved = patches.flatten(2, 3)[:, :, order].reshape(patches.shape)
            found = tower.locate(moved.permute(0, 1, 2, 4, 3, 5).reshape(pixels.shape))[0]
        torch.testing.assert_close(found.flatten(0, 1), located.flatten(0, 1)[order], atol=1e-4, rtol=1e-3)


def test_settings_say_which_networks_of_the_library_have_dense_features() -> None:
    """Built without weights: one of each class of network and pooling."""
    seen = set()
    for model in open_clip.list_models():
        vision = {**(open_clip.get_model_config(model) or {})["vision_cfg"]}
        trunk = str(vision.get("timm_model_name", ""))
        pooling = map(str, map(vision.get, POOLING_SETTINGS))
        key = (trunk.split("_")[0], "relpos" in trunk, isinstance(vision.get("layers"), list), *pooling)
        if key in seen:
            continue
        seen.add(key)
        if trunk:
            vision["timm_model_pretrained"] = False
        with torch.device("meta"):
            visual = ImageTower({"embed_dim": DIM, "vision_cfg": vision, "quick_gelu": False}).visual
        if has_dense_features(vision):
            pooling_of(visual)
        else:
            with pytest.raises(EncoderError, match=r"^a picture tower of the type TimmModel has no dense features$"):
                pooling_of(visual)
    assert len(seen) >= 10


def test_all_weights_that_can_be_pulled_have_dense_features() -> None:
    models = {name.partition(":")[2].partition("/")[0] for name in list_openclip_names()}
    assert models
    for model in models:
        assert has_dense_features((open_clip.get_model_config(model) or {})["vision_cfg"]), model


@pytest.mark.parametrize(
    "changes",
    [{"attentional_pool": "parallel", "attn_pooler_heads": 2}, {"block_type": "custom"}, {"qk_norm": True}],
)
def test_other_poolings_and_blocks_have_none(changes: Mapping[str, Any]) -> None:
    assert not has_dense_features({**VIT, **changes})
    with pytest.raises(EncoderError, match=r"^a picture tower of the type VisionTransformer has no dense features$"):
        random_tower("vit", **changes).locate(torch.zeros(1, 3, 64, 64))


def install(
    kind: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, dtype: torch.dtype = torch.float32
) -> OpenClipEncoder:
    """Install a model with a picture tower only."""
    monkeypatch.setenv("BINDSEARCH_MODELS", str(tmp_path / "models"))
    name = f"openclip:{kind}/{str(dtype).removeprefix('torch.')}"
    folder = model_folder(name)
    folder.mkdir(parents=True)
    path = folder / "image.safetensors"
    tower = random_tower(kind)
    kept = names_in_fp32(tower, NORMS_IN_FP32)
    state = {name: tensor if name in kept else tensor.to(dtype) for name, tensor in tower.state_dict().items()}
    safetensors.torch.save_file(state, path)
    size = tower.visual.image_size
    height, width = (size, size) if isinstance(size, int) else size
    manifest = ModelManifest(
        format=FORMAT,
        name=name,
        family="openclip",
        architecture={
            "config": {**config_of(kind), "text_cfg": {"width": 64, "heads": 2, "layers": 2}},
            "preprocess": {
                "size_px": [height, width],
                "mean": [0.5, 0.5, 0.5],
                "std": [0.5, 0.5, 0.5],
                "interpolation": "bicubic",
                "resize_mode": "squash",
            },
        },
        dtype="fp32",
        source="random weights",
        source_sha256=hash_file(path),
        source_bytes=0,
        license="none",
        created="2026-01-01T00:00:00Z",
        temperatures={"text": 1.0, "image": 1.0, "video": 1.0},
        files={"image": ModelFile(path.stat().st_size, hash_file(path))},
    )
    write_manifest(folder, manifest)
    return OpenClipEncoder(manifest, runtime=Runtime("cpu", batch=2))


def test_an_encoder_locates_each_view_by_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = install("wide", monkeypatch, tmp_path)
    assert locatable_modalities(encoder) == {Modality.IMAGE}
    assert encoder.loaded_towers == frozenset()
    rng = np.random.default_rng(0)
    sizes = [(64, 96), (40, 200), (64, 64)]  # the second has several views
    prepared = [encoder.prepare(Picture(rng.integers(0, 256, (*size, 3), np.uint8))) for size in sizes]
    located = encoder.locate(Modality.IMAGE, prepared)
    assert located.shape == (sum(map(len, prepared)), 4, 6, DIM)
    assert located.dtype == np.float32
    assert len(prepared[1]) > 1
    np.testing.assert_allclose(np.linalg.norm(located, axis=-1), 1, atol=1e-5)
    alone = np.concatenate([encoder.locate(Modality.IMAGE, [view[None]]) for one in prepared for view in one])
    np.testing.assert_allclose(located, alone, atol=1e-5)
    copy = pickle.loads(pickle.dumps(encoder))
    np.testing.assert_array_equal(copy.locate(Modality.IMAGE, prepared), located)
    for modality in (Modality.VIDEO, Modality.TEXT, Modality.DEPTH):
        with pytest.raises(UsageError) as error:
            encoder.locate(modality, prepared)
        assert str(error.value) == f"openclip:wide/float32 has no dense features of {modality}, but of image"


@pytest.mark.parametrize("kind", VISION)
def test_16_bit_towers_stay_close(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    exact, half = (install(kind, monkeypatch, tmp_path, dtype) for dtype in (torch.float32, torch.bfloat16))
    blocks = np.random.default_rng(0).integers(0, 256, (2, 4, 4, 3), np.uint8)
    prepared = [exact.prepare(Picture(np.kron(rgb, np.ones((32, 32, 1), np.uint8)))) for rgb in blocks]
    cosines = (exact.locate(Modality.IMAGE, prepared) * half.locate(Modality.IMAGE, prepared)).sum(axis=-1)
    assert cosines.mean() > 0.99


def test_an_encoder_without_dense_features_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = install("vit", monkeypatch, tmp_path)
    encoder._config["vision_cfg"]["timm_model_name"] = "swin_base_patch4_window7_224"
    assert locatable_modalities(encoder) == frozenset()
    with pytest.raises(UsageError, match=r"^openclip:vit/float32 has no dense features of image, but of no modality$"):
        encoder.locate(Modality.IMAGE, [])
