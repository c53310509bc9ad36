"""Networks of bound towers: shapes, first values, what is trained, and their state."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from bindsearch.encoders.bound.encoder import prepare, start_of
from bindsearch.encoders.bound.networks import HubTower, build_tower, initialize, load_trained, trained_state
from bindsearch.encoders.bound.tower_config import TowerConfig, read_config
from bindsearch.encoders.registry import load_encoder
from bindsearch.errors import EncoderError
from bindsearch.media import DepthMap, Media, Motion, Picture, Sound, ThermalPicture
from bindsearch.types import Modality

DIM = 24
RNG = np.random.default_rng(0)
MEDIA: dict[Modality, Media] = {
    Modality.THERMAL: ThermalPicture(RNG.random((40, 50), dtype=np.float32)),
    Modality.DEPTH: DepthMap(RNG.random((40, 50), dtype=np.float32) + 1, np.ones((40, 50), bool), 500.0, 0.1),
    Modality.AUDIO: Sound(RNG.standard_normal(48_000).astype(np.float32) * 0.1, 16_000),
    Modality.IMU: Motion(RNG.standard_normal((300, 6)).astype(np.float32), 50.0),
    Modality.IMAGE: Picture(RNG.integers(0, 256, (40, 50, 3), dtype=np.uint8)),
}


def tower_of(config: TowerConfig, seed: int = 0, start: Any = None) -> nn.Module:
    tower = build_tower(config, start)
    initialize(tower, torch.Generator().manual_seed(seed))
    return tower.eval()


@pytest.mark.parametrize(
    ("modality", "network", "options"),
    [
        (Modality.THERMAL, "vit-nano", {"side_px": 32, "patch_px": 8}),
        (Modality.DEPTH, "vit-tiny", {"side_px": 64}),
        (Modality.AUDIO, "vit-nano", {"head": "mlp"}),
        (Modality.IMU, "imu-nano", {"drop_path": 0.7}),
        (Modality.IMU, "imu-tiny", {}),
    ],
)
def test_shapes_and_first_values(modality: Modality, network: str, options: dict[str, Any]) -> None:
    config = TowerConfig(modality.value, network, DIM, **options)
    views = torch.from_numpy(prepare(MEDIA[modality], config, load_encoder("null")))
    with torch.no_grad():
        towers = [tower_of(config, seed) for seed in (0, 0, 1)]
        first, same, other = (tower(views) for tower in towers)
        torch.manual_seed(9)  # the state of torch's own generator has no part in them
        assert torch.equal(tower_of(config)(views), first)
    assert (first.shape, first.dtype) == ((len(views), DIM), torch.float32)
    torch.testing.assert_close(first.norm(dim=1), torch.ones(len(views)))
    assert torch.equal(first, same)
    assert not torch.allclose(first, other)
    assert read_config(asdict(config)) == config
    fresh = build_tower(config).eval()
    load_trained(fresh, {name: value.detach().clone() for name, value in trained_state(towers[2]).items()})
    with torch.no_grad():
        assert torch.equal(fresh(views), other)


def test_state_of_another_tower_is_refused() -> None:
    config = TowerConfig("thermal", "vit-nano", DIM, side_px=32, patch_px=8)
    state = {name: value.detach().clone() for name, value in trained_state(tower_of(config)).items()}
    fresh = build_tower(config)
    name = next(iter(state))
    with pytest.raises(
        EncoderError, match=r"the tensors do not fit the tower \(missing or unknown: .+\): bind it again"
    ):
        load_trained(fresh, {key: value for key, value in state.items() if key != name})
    with pytest.raises(EncoderError, match=f"the tensor {name} has another shape than the tower's: bind it again"):
        load_trained(fresh, {**state, name: torch.zeros(3, 3, 3)})


@pytest.mark.parametrize("tuning", ["full", "lora", "head"])
def test_a_tower_of_mini_starts_as_mini(tuning: str) -> None:
    """Before training, a thermal picture has mini's vector of its grey picture; then only what is tuned changes."""
    mini = load_encoder("mini")
    config = TowerConfig("thermal", "hub", mini.dim, tuning=tuning, lora_rank=2)
    tower = tower_of(config, start=start_of(mini, config))
    grey = np.stack([np.rint(MEDIA[Modality.THERMAL].values * 255)] * 3, axis=2).astype(np.uint8)  # type: ignore[union-attr]
    squares = prepare(MEDIA[Modality.THERMAL], config, mini)
    with torch.no_grad():
        vectors = tower(torch.from_numpy(squares)).numpy()
    expected = mini.encode(Modality.IMAGE, [mini.prepare(Picture(grey))])
    assert float((vectors * expected).sum()) > 0.99
    before = {name: value.detach().clone() for name, value in tower.named_parameters()}
    tower.train()
    trained = list(trained_state(tower).values())
    optimizer = torch.optim.SGD(trained, 1e-2)
    tower(torch.from_numpy(squares))[:, 0].sum().backward()
    optimizer.step()
    changed = {name for name, value in tower.named_parameters() if not torch.equal(value, before[name])}
    assert changed <= trained_state(tower).keys()
    assert any(name.startswith("head.") for name in changed)
    inside = {name for name in changed if name.startswith("start.")}
    match tuning:
        case "head":
            assert not inside
        case "lora":
            assert inside
            assert all(name.endswith((".up", ".down")) and ".parametrizations." in name for name in inside)
        case "full":
            assert inside


class NormalisedTower(nn.Module):
    """Tower of pictures with a batch norm."""

    width = 6

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(1, 6, 3), nn.BatchNorm2d(6))

    def features(self, squares: Tensor) -> Tensor:
        return self.layers(squares).mean(dim=(2, 3))

    def project(self, features: Tensor) -> Tensor:
        return nn.functional.normalize(features, dim=1)


@pytest.mark.parametrize("tuning", ["full", "lora", "head"])
def test_means_of_batch_norms_stay(tuning: str) -> None:
    torch.manual_seed(0)
    tower = tower_of(TowerConfig("thermal", "hub", 6, tuning=tuning), start=NormalisedTower()).train()
    assert isinstance(tower, HubTower)
    buffers = {name: value.clone() for name, value in tower.named_buffers()}
    squares = torch.randn(8, 1, 9, 9)
    with torch.no_grad():
        whole, part = tower(squares), tower(squares[:3])
    torch.testing.assert_close(whole[:3], part)  # media of a batch do not change each other
    assert all(torch.equal(value, buffers[name]) for name, value in tower.named_buffers())


def test_hub_without_pictures_to_start_from() -> None:
    config = TowerConfig("thermal", "hub", 8)
    with pytest.raises(
        EncoderError, match="the encoder null has no tower of pictures to start from: choose another ne"
    ):
        start_of(load_encoder("null"), config)
    with pytest.raises(
        EncoderError, match="this tower starts from the hub's tower of pictures, and the hub gives none"
    ):
        build_tower(config)
