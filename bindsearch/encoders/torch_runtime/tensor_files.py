"""Tensor files, written one tensor at a time and memory-mapped for reading.

The format is safetensors (https://github.com/huggingface/safetensors, "Format"): eight bytes of header length, a JSON
header, then the tensors. The writer of the library needs a whole tower in memory; this one needs one tensor.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING

from bindsearch.atomic import atomic_write
from bindsearch.errors import EncoderError

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray

ALIGNMENT_BYTES = 64
"""Alignment of tensors, a cache line, so that vector instructions can read the mapped file directly."""

OnProgress = Callable[[int, int], None]
"""Called with the number of bytes written so far and the total."""

_DTYPES = {"fp32": ("F32", 4), "bf16": ("BF16", 2), "fp16": ("F16", 2)}


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """Tensor to be written as "fp32", "bf16" or "fp16"; `read` returns it, in any format."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    read: Callable[[], torch.Tensor]

    @property
    def size_bytes(self) -> int:
        """Size of the tensor in the file, in bytes."""
        return prod(self.shape) * _DTYPES[self.dtype][1]


def write_towers(folder: Path, towers: Mapping[str, Sequence[TensorSpec]], on_progress: OnProgress) -> None:
    """Write `<tower>.safetensors` of each tower into `folder`.

    Raises:
        EncoderError: as `write_tensors`.
    """
    total = sum(spec.size_bytes for specs in towers.values() for spec in specs)
    done = 0

    def count(written: int) -> None:
        nonlocal done
        done += written
        on_progress(done, total)

    for tower, specs in towers.items():
        write_tensors(folder / f"{tower}.safetensors", specs, count)


def write_tensors(
    path: Path, tensors: Iterable[TensorSpec], on_written: Callable[[int], None] = lambda _: None
) -> None:
    """Write a safetensors file atomically, one tensor in memory at a time.

    Args:
        path: File to write.
        tensors: Tensors to write; they are ordered so that all are aligned.
        on_written: Called with the number of bytes of each tensor written.

    Raises:
        EncoderError: a tensor has another shape than its specification.
    """
    import torch

    from bindsearch.encoders.torch_runtime.device import torch_dtype

    # Tensors whose size is a multiple of the alignment come first, so that they all start aligned.
    ordered = sorted(
        tensors, key=lambda spec: (spec.size_bytes % ALIGNMENT_BYTES != 0, -_DTYPES[spec.dtype][1], spec.name)
    )
    with atomic_write(path) as file:
        header, begin = {}, 0
        for spec in ordered:
            end, dtype = begin + spec.size_bytes, _DTYPES[spec.dtype][0]
            header[spec.name] = {"dtype": dtype, "shape": list(spec.shape), "data_offsets": [begin, end]}
            begin = end
        start = json.dumps(header).encode()
        start += b" " * (-(8 + len(start)) % ALIGNMENT_BYTES)
        file.write(len(start).to_bytes(8, "little") + start)
        for spec in ordered:
            tensor = spec.read()
            if tuple(tensor.shape) != spec.shape:
                raise EncoderError(f"{spec.name} has the shape {tuple(tensor.shape)}, expected {spec.shape}")
            converted = tensor.detach().to(torch_dtype(spec.dtype)).contiguous()
            raw: NDArray[np.uint8] = converted.reshape(-1).view(torch.uint8).numpy()
            file.write(raw.data)
            on_written(spec.size_bytes)


def map_tensors(path: Path) -> dict[str, torch.Tensor]:
    """Memory-map the tensors of a safetensors file: pages are read on use, and shared between processes.

    Raises:
        EncoderError: the file is missing or damaged.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (the file object cannot be iterated)
    except (OSError, SafetensorError) as error:
        way_out = "download the model again with `bindsearch model pull`"
        raise EncoderError(f"cannot read {path}: {error}; {way_out}") from error
