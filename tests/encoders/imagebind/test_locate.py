"""Dense features of ImageBind: values that, gathered by the attention of the class token, are the embedding."""

from __future__ import annotations

import pickle
from dataclasses import asdict
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from bindsearch.encoders.base import locatable_modalities
from bindsearch.encoders.benchmark import sample_media
from bindsearch.encoders.imagebind.config import HUGE, ModelConfig, make_config
from bindsearch.encoders.imagebind.encoder import ImageBindEncoder, random_encoder, to_input
from bindsearch.encoders.imagebind.published_weights import random_tower
from bindsearch.encoders.imagebind.towers import PatchTower
from bindsearch.encoders.model_store.installed import FORMAT, ModelManifest
from bindsearch.encoders.torch_runtime.device import Runtime
from bindsearch.errors import UsageError
from bindsearch.types import Modality
from helpers.attention import pool, recorded_attention

SMALL = make_config(
    out_embed_dim=48,
    kernel_size=(2, 28, 28),
    **{f"{tower}_embed_dim": 64 for tower in ("vision", "depth", "thermal")},
    **{f"{tower}_num_blocks": 3 for tower in ("vision", "depth", "thermal")},
    **{f"{tower}_num_heads": 4 for tower in ("vision", "depth", "thermal")},
)
GRIDS = {Modality.IMAGE: (8, 8), Modality.DEPTH: (14, 14), Modality.THERMAL: (14, 14)}
HUGE_GRIDS = {**GRIDS, Modality.IMAGE: (16, 16)}
CPU = torch.device("cpu")
TOLERANCE = 1e-4


def small_tower(tower: str, device: torch.device) -> nn.Module:
    return random_tower(tower, SMALL, torch.float32, device, seed=3)


def small_encoder() -> ImageBindEncoder:
    manifest = ModelManifest(
        format=FORMAT,
        name="imagebind-small",
        family="imagebind",
        architecture=asdict(SMALL),
        dtype="fp32",
        source="random weights",
        source_sha256="random",
        source_bytes=0,
        license="none",
        created="",
        temperatures=dict.fromkeys(Modality, 1.0),
        files={},
    )
    return ImageBindEncoder(manifest, runtime=Runtime("cpu", batch=2), load=small_tower)


def check_pooling(modality: Modality, config: ModelConfig, encoder: ImageBindEncoder) -> None:
    """Compare the embedding with that from the values of all tokens, gathered by the class token's attention."""
    tower: Any = random_tower(modality.value, config, torch.float32, CPU, seed=3)
    assert isinstance(tower, PatchTower)
    media = to_input(modality, encoder.prepare(sample_media(modality, 1)), CPU)
    last: Any = tower.trunk.resblocks[-1]
    inputs: list[torch.Tensor] = []
    handle = last.register_forward_pre_hook(lambda _module, given: inputs.append(given[0][:, 0]))
    with recorded_attention() as recorded, torch.inference_mode():
        expected = F.normalize(tower(media), dim=-1)
    handle.remove()
    with torch.inference_mode():
        values = tower.values(media)
        if last.attn.bias_v is not None:  # the learned key of sensors has a value of its own
            values = torch.cat([values, last.attn.bias_v.expand(len(values), 1, -1)], dim=1)

        def embedded(weights: torch.Tensor) -> torch.Tensor:
            x = inputs[0] + last.attn.out_proj(pool(weights, values))
            x = x + last.mlp(last.ln_2(x))
            return F.normalize(tower.projection(tower.norm(x)), dim=-1)

        assert (embedded(recorded[-1]) - expected).abs().max() <= TOLERANCE
        assert (embedded(recorded[-1].flip(-1)) - expected).abs().max() > 3 * TOLERANCE  # another pooling
        patches = tower.projection(tower.norm(last.attn.out_proj(tower.values(media)[:, 1:])))
        located = tower.locate(media)
    torch.testing.assert_close(located.flatten(1, 2), F.normalize(patches, dim=-1))


@pytest.mark.parametrize("modality", GRIDS)
def test_values_gathered_by_the_class_token_are_the_embedding(modality: Modality) -> None:
    check_pooling(modality, SMALL, small_encoder())


@pytest.mark.slow
@pytest.mark.parametrize("modality", GRIDS)
def test_values_gathered_by_the_class_token_are_the_embedding_of_imagebind_huge(modality: Modality) -> None:
    check_pooling(modality, HUGE, random_encoder("fp32", Runtime("cpu")))


@pytest.mark.slow
def test_the_grids_of_imagebind_huge() -> None:
    encoder = random_encoder("fp32", Runtime("cpu"))
    for modality, grid in HUGE_GRIDS.items():
        prepared = [encoder.prepare(sample_media(modality, 1))]
        assert encoder.locate(modality, prepared).shape == (len(prepared[0]), *grid, 1024)


@pytest.mark.parametrize("modality", GRIDS)
def test_each_view_has_a_grid_of_unit_vectors_of_its_own(modality: Modality) -> None:
    encoder = small_encoder()
    assert locatable_modalities(encoder) == GRIDS.keys()
    assert encoder.loaded_towers == frozenset()
    prepared = [encoder.prepare(sample_media(modality, seed)) for seed in range(3)]
    prepared[1] = np.concatenate(prepared)  # a medium of several views
    located = encoder.locate(modality, prepared)
    assert located.shape == (5, *GRIDS[modality], 48)
    assert located.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(located, axis=-1), 1, atol=1e-5)
    alone = np.concatenate([encoder.locate(modality, [view[None]]) for one in prepared for view in one])
    np.testing.assert_allclose(located, alone, atol=1e-5)
    copy = pickle.loads(pickle.dumps(encoder))
    np.testing.assert_array_equal(copy.locate(modality, prepared), located)


@pytest.mark.parametrize(("modality", "side_px"), [(Modality.IMAGE, 28), (Modality.DEPTH, 16), (Modality.THERMAL, 16)])
def test_patches_that_change_places_change_places_in_the_grid(modality: Modality, side_px: int) -> None:
    tower: Any = small_tower(modality.value, CPU)
    with torch.inference_mode():
        tower.position.zero_()
        media = torch.randn(
            1, 3 if modality is Modality.IMAGE else 1, 224, 224, generator=torch.Generator().manual_seed(1)
        )
        located = tower.locate(media)[0]
        rows, columns = located.shape[:2]
        patches = media.unfold(2, side_px, side_px).unfold(3, side_px, side_px)
        order = torch.randperm(rows * columns, generator=torch.Generator().manual_seed(2))
        moved = patches.flatten(2, 3)[:, :, order].reshape(patches.shape).transpose(3, 4).reshape(media.shape)
        found = tower.locate(moved)[0]
    torch.testing.assert_close(found.flatten(0, 1), located.flatten(0, 1)[order], atol=1e-4, rtol=1e-3)


def test_other_modalities_are_refused() -> None:
    encoder = small_encoder()
    for modality in (Modality.VIDEO, Modality.AUDIO, Modality.TEXT, Modality.IMU):
        with pytest.raises(UsageError) as error:
            encoder.locate(modality, [np.zeros((1, 3))])
        expected = f"imagebind-small has no dense features of {modality}, but of depth, image, thermal"
        assert str(error.value) == expected


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_16_bit_towers_stay_close(dtype: torch.dtype) -> None:
    media = to_input(Modality.IMAGE, small_encoder().prepare(sample_media(Modality.IMAGE, 1)), CPU)
    with torch.inference_mode():
        exact = random_tower("image", SMALL, torch.float32, CPU, seed=3).locate(media)  # type: ignore[operator]
        half = random_tower("image", SMALL, dtype, CPU, seed=3).locate(media)  # type: ignore[operator]
    assert half.dtype == torch.float32
    assert (exact * half).sum(dim=-1).min() > 0.99
