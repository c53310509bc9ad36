"""Tensor files: as safetensors reads them, aligned, written in little memory, mapped without a copy."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from bindsearch.encoders.torch_runtime.tensor_files import ALIGNMENT_BYTES, TensorSpec, map_tensors, write_tensors
from bindsearch.errors import EncoderError


def spec(name: str, tensor: torch.Tensor, dtype: str) -> TensorSpec:
    return TensorSpec(name, tuple(tensor.shape), dtype, lambda: tensor)


@pytest.fixture
def tensors() -> dict[str, tuple[torch.Tensor, str]]:
    generator = torch.Generator().manual_seed(1)
    return {
        "scale": (torch.tensor(2.5), "fp32"),
        "odd": (torch.randn(3, 5, generator=generator), "bf16"),
        "matrix": (torch.randn(64, 32, generator=generator), "bf16"),
        "norm": (torch.randn(128, generator=generator), "fp32"),
        "half": (torch.randn(16, 16, generator=generator).T, "fp16"),
    }


def test_the_library_reads_what_was_written(tmp_path: Path, tensors: dict[str, tuple[torch.Tensor, str]]) -> None:
    written: list[int] = []
    path = tmp_path / "tower.safetensors"
    write_tensors(path, [spec(name, *given) for name, given in tensors.items()], written.append)
    formats = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
    for found in (load_file(path), map_tensors(path)):
        assert set(found) == set(tensors)
        for name, (tensor, dtype) in tensors.items():
            assert torch.equal(found[name], tensor.to(formats[dtype]))
    assert sum(written) == 4 + 30 + 4096 + 512 + 512


def test_all_but_odd_sizes_begin_at_a_cache_line(tmp_path: Path, tensors: dict[str, tuple[torch.Tensor, str]]) -> None:
    path = tmp_path / "tower.safetensors"
    write_tensors(path, [spec(name, *given) for name, given in tensors.items()])
    raw = path.read_bytes()
    length = int.from_bytes(raw[:8], "little")
    header = json.loads(raw[8 : 8 + length])
    assert (8 + length) % ALIGNMENT_BYTES == 0
    for name in ("matrix", "norm", "half"):
        assert header[name]["data_offsets"][0] % ALIGNMENT_BYTES == 0


def test_a_wrong_shape_leaves_no_file(tmp_path: Path) -> None:
    path = tmp_path / "tower.safetensors"
    wrong = TensorSpec("matrix", (2, 3), "fp32", lambda: torch.zeros(3, 2))
    with pytest.raises(EncoderError, match=r"matrix has the shape \(3, 2\), expected \(2, 3\)"):
        write_tensors(path, [spec("first", torch.zeros(4), "fp32"), wrong])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", [b"", b"\xff" * 100, b'\x10\0\0\0\0\0\0\0{"a": 1}'])
def test_damage_is_told(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "tower.safetensors"
    path.write_bytes(content)
    with pytest.raises(EncoderError, match=r"cannot read .*tower\.safetensors"):
        map_tensors(path)
    with pytest.raises(EncoderError, match=r"cannot read .*missing\.safetensors"):
        map_tensors(tmp_path / "missing.safetensors")
