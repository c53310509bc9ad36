"""Tables that no checkpoint holds are computed, without the memory of a second tower."""

from __future__ import annotations

import resource
import threading

import pytest
import torch
from timm.layers.pos_embed_sincos import RotaryEmbeddingCat
from torch import nn

from bindsearch.encoders.torch_runtime.towers import fill_tables


class Tower(nn.Module):
    """A tower with one weight and a table of each kind."""

    def __init__(self, side: int = 8, *, table: tuple[float, ...] = (), rotated: bool = False) -> None:
        super().__init__()
        self.linear = nn.Linear(side, side)
        self.register_buffer("positions", torch.arange(side), persistent=False)
        if table:
            self.register_buffer("table", torch.tensor(table), persistent=False)
        if rotated:
            self.rope = RotaryEmbeddingCat(8, in_pixels=False, feat_shape=[2, 2])


def filled(dtype: torch.dtype = torch.bfloat16, **options: tuple[float, ...] | bool) -> Tower:
    def build() -> Tower:
        return Tower(**options)  # type: ignore[arg-type]

    with torch.device("meta"):
        tower = build()
    tower.load_state_dict({name: value.to(dtype) for name, value in build().state_dict().items()}, assign=True)
    fill_tables(tower, build, torch.device("cpu"))
    return tower


def test_whole_numbers_and_exact_floats_leave_the_format_of_the_weights() -> None:
    tower = filled(table=(0.0, -1.5, 1024.0))
    assert tower.linear.weight.dtype == torch.bfloat16
    assert torch.equal(tower.get_buffer("positions"), torch.arange(8))
    assert torch.equal(tower.get_buffer("table"), torch.tensor([0.0, -1.5, 1024.0], dtype=torch.bfloat16))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_floats_that_would_be_rounded_make_the_tower_run_in_fp32(dtype: torch.dtype) -> None:
    tower = filled(dtype, table=(0.1,))
    assert tower.linear.weight.dtype == torch.float32
    assert torch.equal(tower.get_buffer("table"), torch.tensor([0.1]))


def test_rotations_stay_exact_beside_weights_of_16_bits() -> None:
    tower = filled(rotated=True)
    assert tower.linear.weight.dtype == torch.bfloat16
    assert tower.get_buffer("rope.pos_embed").dtype == torch.float32
    assert torch.equal(tower.get_buffer("rope.pos_embed"), Tower(rotated=True).get_buffer("rope.pos_embed"))


def test_a_second_tower_takes_no_memory_and_others_built_meanwhile_keep_theirs() -> None:
    side = 16_384  # 1 GB of weights
    others: list[nn.Module] = []

    def build() -> Tower:
        thread = threading.Thread(target=lambda: others.append(nn.Linear(2, 2)))
        thread.start()
        thread.join()
        return Tower(side)

    with torch.device("meta"):
        tower = Tower(side)
        tower.linear = nn.Linear(2, 2, device="cpu")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    fill_tables(tower, build, torch.device("cpu"))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000
    assert torch.equal(tower.get_buffer("positions"), torch.arange(side))
    assert [parameter.device.type for other in others for parameter in other.parameters()] == ["cpu", "cpu"]
    assert nn.Linear(2, 2).weight.device.type == "cpu"
