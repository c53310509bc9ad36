"""The checkpoint of aiSFX, read out of its wheel without running any code of it, in the layers that `mini` uses.

The checkpoint is a pickle. The unpickler here knows the seven names in it, each as an inert stand-in, and refuses every
other.
"""

from __future__ import annotations

import io
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bindsearch.encoders.mini.audio_network import CHANNELS

MEMBER = "aisfx/models/checkpoint.pth"
UCS_HEADS = {"prosfx": 0, "soundlyTrain": 1, "ucsMixed": 2}
"""Classifiers of categories of the Universal Category System, and their numbers in the checkpoint."""

HEAD_LAYERS = (0, 2, 4)
NORM_EPSILON = 1e-5
MAX_BYTES = 1 << 26

Tensors = dict[str, torch.Tensor]


def read_checkpoint(wheel: Path) -> Tensors:
    """Return the tensors of the checkpoint in the wheel of aiSFX 0.1.2.

    Raises:
        pickle.UnpicklingError: the checkpoint names something that is not in `_NAMES`.
    """
    with zipfile.ZipFile(wheel) as outer:
        checkpoint = zipfile.ZipFile(io.BytesIO(_read(outer, MEMBER)))
    with checkpoint:
        weights, _ = _Reader(checkpoint).load()
    return {name: value for name, value in weights.items() if not name.endswith("num_batches_tracked")}


def _read(archive: zipfile.ZipFile, name: str) -> bytes:
    size = archive.getinfo(name).file_size
    if size > MAX_BYTES:
        raise ValueError(f"{name} has {size} bytes, more than {MAX_BYTES}: this is not the checkpoint of aiSFX 0.1.2")
    return archive.read(name)


class _Dtype:
    """Stand-in for numpy.dtype."""

    def __init__(self, name: str, *_: object) -> None:
        self.name = name

    def __setstate__(self, _state: object) -> None:
        """Ignore byte order and alignment."""


def _scalar(dtype: _Dtype, raw: bytes) -> int:
    if dtype.name != "i8" or len(raw) != 8:
        raise pickle.UnpicklingError(f"a number of type {dtype.name} in {len(raw)} bytes: expected int64")
    return int.from_bytes(raw, "little", signed=True)


def _latin1(text: str, encoding: str) -> bytes:
    return text.encode("latin1" if encoding == "latin1" else "ascii")


class _Reader(pickle.Unpickler):
    """Unpickler of a zipped PyTorch checkpoint: tensors, ordered dictionaries and numbers, and nothing else."""

    def __init__(self, checkpoint: zipfile.ZipFile) -> None:
        super().__init__(io.BytesIO(_read(checkpoint, "archive/data.pkl")))
        self._checkpoint = checkpoint
        self._names: Mapping[tuple[str, str], Any] = {
            ("torch._utils", "_rebuild_tensor_v2"): self._tensor,
            ("collections", "OrderedDict"): OrderedDict,
            ("numpy.core.multiarray", "scalar"): _scalar,
            ("numpy", "dtype"): _Dtype,
            ("_codecs", "encode"): _latin1,
            ("torch", "FloatStorage"): "<f4",
            ("torch", "LongStorage"): "<i8",
        }

    def find_class(self, module: str, name: str) -> Any:
        """Return the stand-in of a name."""
        if (module, name) not in self._names:
            raise pickle.UnpicklingError(f"the checkpoint names {module}.{name}, which aiSFX 0.1.2 does not")
        return self._names[module, name]

    def persistent_load(self, pid: Any) -> tuple[str, str]:
        """Return the number format and the key of a storage."""
        kind, dtype, key = pid[:3]
        if kind != "storage":
            raise pickle.UnpicklingError(f"the checkpoint refers to {kind!r}: expected a storage")
        return dtype, key

    def _tensor(self, storage: tuple[str, str], offset: int, size: Sequence[int], *_: object) -> torch.Tensor:
        dtype, key = storage
        data = np.frombuffer(_read(self._checkpoint, f"archive/data/{key}"), dtype)
        if offset != 0 or data.size != int(np.prod(size, dtype=np.int64)):
            raise pickle.UnpicklingError(f"storage {key} has {data.size} numbers, its tensor is of shape {size}")
        return torch.from_numpy(data.reshape(size).copy())


def fused_convolutions(checkpoint: Mapping[str, torch.Tensor]) -> Tensors:
    """Return the convolutions with their batch normalisations folded in, with the names of SoundNetwork."""
    tensors: Tensors = {}
    position = 0
    for number in range(1, len(CHANNELS)):
        block, part = f"embedding_net.conv_block{(number + 1) // 2}", 2 - number % 2
        norm = {key: checkpoint[f"{block}.bn{part}.{key}"] for key in ("weight", "bias", "running_mean", "running_var")}
        gain = norm["weight"] / (norm["running_var"] + NORM_EPSILON).sqrt()
        tensors[f"body.{position}.weight"] = checkpoint[f"{block}.conv{part}.weight"] * gain[:, None, None, None]
        tensors[f"body.{position}.bias"] = norm["bias"] - norm["running_mean"] * gain
        position += 2 if part == 1 else 3  # an activation, and after the second convolution a maximum
    return tensors


def effect_classifiers(checkpoint: Mapping[str, torch.Tensor]) -> Tensors:
    """Return the layers of the three classifiers of UCS categories: "effects.<head>.<layer>.weight" and ".bias"."""
    return {
        f"effects.{head}.{layer}.{kind}": checkpoint[f"fc.{number}.{layer}.{kind}"]
        for head, number in enumerate(UCS_HEADS.values())
        for layer in HEAD_LAYERS
        for kind in ("weight", "bias")
    }
