"""The reader of the checkpoint of aiSFX: it runs nothing, and its layers are those of the network that `mini` uses."""

from __future__ import annotations

import io
import pickle
import sys
import zipfile
from collections import OrderedDict
from itertools import pairwise
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

BENCHMARKS = Path(__file__).parents[3] / "benchmarks"


@pytest.fixture
def checkpoints(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import aisfx_checkpoint

    yield aisfx_checkpoint
    sys.modules.pop("aisfx_checkpoint")


def write_wheel(folder: Path, checkpoint: object) -> Path:
    """Write a wheel with a checkpoint saved by torch, or with any other pickle."""
    inner = io.BytesIO()
    if isinstance(checkpoint, tuple):
        torch.save(checkpoint, inner)
        saved = zipfile.ZipFile(inner)
        members = {name.split("/", 1)[1]: saved.read(name) for name in saved.namelist()}
    else:
        members = {"data.pkl": pickle.dumps(checkpoint, 2)}
    copy = io.BytesIO()
    with zipfile.ZipFile(copy, "w") as archive:
        for name, content in members.items():
            archive.writestr(f"archive/{name}", content)
    with zipfile.ZipFile(folder / "aisfx.whl", "w") as wheel:
        wheel.writestr("aisfx/models/checkpoint.pth", copy.getvalue())
    return folder / "aisfx.whl"


class Harmful:
    """An object whose unpickling would run code."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.mark,)


def test_a_checkpoint_that_would_run_code_is_refused(checkpoints: ModuleType, tmp_path: Path) -> None:
    wheel = write_wheel(tmp_path, [Harmful(tmp_path / "ran")])
    with pytest.raises(pickle.UnpicklingError, match=r"the checkpoint names .*, which aiSFX 0\.1\.2 does not"):
        checkpoints.read_checkpoint(wheel)
    assert not (tmp_path / "ran").exists()


def test_fused_convolutions_are_those_with_batch_normalisation(checkpoints: ModuleType, tmp_path: Path) -> None:
    from bindsearch.encoders.mini.audio_network import CHANNELS, WINDOW_COLUMNS, network_from_state

    torch.manual_seed(0)
    state: OrderedDict[str, torch.Tensor] = OrderedDict()
    layers: list[torch.nn.Module] = []
    for number, (before, after) in enumerate(pairwise(CHANNELS)):
        convolution = torch.nn.Conv2d(before, after, 3, padding=1, bias=False)
        norm = torch.nn.BatchNorm2d(after)
        for tensor in (norm.weight, norm.bias, norm.running_mean, norm.running_var):
            assert tensor is not None
            torch.nn.init.uniform_(tensor, 0.5, 1.5)
        block, part = f"embedding_net.conv_block{number // 2 + 1}", number % 2 + 1
        state |= {f"{block}.conv{part}.weight": convolution.weight.detach()}
        state |= {f"{block}.bn{part}.{name}": value.clone() for name, value in norm.state_dict().items()}
        layers += [convolution, norm.eval(), torch.nn.ReLU()]
        if part == 2 and number < len(CHANNELS) - 2:
            layers.append(torch.nn.MaxPool2d(2))
    read = checkpoints.read_checkpoint(write_wheel(tmp_path, (state, {})))
    assert not any(name.endswith("num_batches_tracked") for name in read)
    network = network_from_state(checkpoints.fused_convolutions(read))
    levels = torch.rand(8 * WINDOW_COLUMNS + 4, 96)
    with torch.inference_mode():
        expected = torch.nn.Sequential(*layers)(levels[None, None]).mean(dim=3).amax(dim=2)
        torch.testing.assert_close(network(levels), expected, rtol=1e-3, atol=1e-3)
