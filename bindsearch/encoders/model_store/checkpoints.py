"""Published checkpoints, read one tensor at a time in little memory; code in them is never run."""

from __future__ import annotations

import json
import math
import pickle
import zipfile
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bindsearch.atomic import atomic_write
from bindsearch.encoders.model_store.snapshot_files import PICKLED_INDEXES
from bindsearch.encoders.torch_runtime.device import torch_dtype
from bindsearch.encoders.torch_runtime.tensor_files import TensorSpec
from bindsearch.errors import EncoderError

if TYPE_CHECKING:
    import torch
    from torch import nn

MAX_TEMPERATURE = 100.0
"""Upper bound of learned logit scales (CLIP, arXiv 2103.00020, section 2.5)."""

MAPPED_BYTES = 256 << 20
"""Bytes read after which the file is mapped again; until then, pages that were read count as memory."""

_ZIP_MAGIC = b"PK\x03\x04"
_PICKLE_MAGIC = b"\x80\x02"
_TRAINING_STATE = "state_dict"


class MappedCheckpoint:
    """Memory-mapped checkpoint of torch.save; `state` has its tensors, which are read on use."""

    def __init__(self, path: Path) -> None:
        """Map a checkpoint.

        Raises:
            EncoderError: the file does not exist.
            BadCheckpointError: it is not a checkpoint, is damaged, has the format used before PyTorch 1.6, or holds
                more than plain tensors.
        """
        self._path = path
        self._read_bytes = 0
        self.state = _open(path)

    def read(self, key: str) -> torch.Tensor:
        """Read one tensor.

        If it is released before the next one is read, memory stays within a tensor and MAPPED_BYTES.
        """
        if self._read_bytes > MAPPED_BYTES:
            self.state = {}  # unmapped before it is mapped again
            self.state = _open(self._path)
            self._read_bytes = 0
        tensor: torch.Tensor = self.state[key]
        self._read_bytes += tensor.nbytes
        return tensor


class BadCheckpointError(EncoderError):
    """Error for a file that is not the expected checkpoint; retrying does not help."""


def _open(path: Path) -> Mapping[str, Any]:
    import torch

    try:
        state = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except FileNotFoundError:
        raise EncoderError(f"checkpoint {path} does not exist: check the path") from None
    except Exception as error:  # a damaged pickle can raise any exception
        with path.open("rb") as file:
            start = file.read(16)
        fault = "it is truncated or damaged; download it again"
        if start[8:9] == b"{":
            fault = "it is a safetensors file, expected one of torch.save (.pth)"
        elif not start.startswith(b"PK"):
            fault = "it is not a file of torch.save (.pth)"
        elif isinstance(error, pickle.UnpicklingError):
            fault = "it holds more than tensors, or is damaged; code in it is never run"
        raise BadCheckpointError(f"checkpoint {path} cannot be read: {fault}") from error
    if not isinstance(state, dict):
        raise BadCheckpointError(f"checkpoint {path} holds a {type(state).__name__}, expected a state dict of tensors")
    return state


def check_tensor(tensor: object, key: str) -> torch.Tensor:
    """Return a value of a checkpoint if it can be weights: a dense tensor of 16, 32 or 64-bit floats, all finite.

    Raises:
        BadCheckpointError: the value is anything else; the message names the key.
    """
    import torch

    floats = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
    if not isinstance(tensor, torch.Tensor) or tensor.dtype not in floats:
        kind = str(tensor.dtype) if isinstance(tensor, torch.Tensor) else type(tensor).__name__
        raise BadCheckpointError(f"{key} is {kind}, expected a tensor of floats")
    if tensor.layout != torch.strided or tensor.is_meta:
        raise BadCheckpointError(f"{key} is a sparse or empty tensor, expected a dense one")
    if not torch.isfinite(tensor).all():
        raise BadCheckpointError(f"{key} holds NaN or infinity: the checkpoint is damaged, download it again")
    return tensor


def cast_checked(tensor: torch.Tensor, key: str, dtype: str) -> torch.Tensor:
    """Convert a tensor to "fp32", "bf16" or "fp16".

    Raises:
        EncoderError: its values are too large for the format; the message names the key.
    """
    import torch

    converted = tensor.to(torch_dtype(dtype))
    if not torch.isfinite(converted).all():
        raise EncoderError(f"{key} holds numbers too large for {dtype}: convert with --dtype bf16 or fp32")
    return converted


def read_as(dtype: str, name: str, read: Callable[[], torch.Tensor]) -> torch.Tensor:
    """Read a tensor, check that it can be weights, and convert it to "fp32", "bf16" or "fp16".

    Raises:
        EncoderError: as `check_tensor` and `cast_checked`.
    """
    if name.endswith(".num_batches_tracked"):  # number of training steps of a batch norm, not used
        return read().float()
    return cast_checked(check_tensor(read(), name), name, dtype)


def temperature_of(log_scale: float, largest: float = MAX_TEMPERATURE) -> float:
    """Return a learned logit scale from its logarithm, clipped, at 100 as for CLIP (arXiv 2103.00020, section 2.5)."""
    return min(math.exp(min(log_scale, 10.0)), largest)  # e^10 is far above the bound and does not overflow


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """Tensor of a checkpoint, which is read on use."""

    shape: tuple[int, ...]
    read: Callable[[], torch.Tensor]


def open_checkpoint(source: Path) -> dict[str, StoredTensor]:
    """Return the tensors of a file of torch.save or of safetensors by name; the format is detected by the first bytes.

    Raises:
        BadCheckpointError: the file cannot be read, or is neither.
    """
    try:
        with source.open("rb") as file:
            magic = file.read(4)
    except OSError as error:
        fault = f"cannot be read ({error.strerror or error})"
        raise BadCheckpointError(f"checkpoint {source} {fault}: check the path") from error
    if magic == _ZIP_MAGIC or magic.startswith(_PICKLE_MAGIC):
        return _open_torch_file(source)
    return _open_safetensors(source)


def _open_torch_file(source: Path) -> dict[str, StoredTensor]:
    """Return the tensors of a file of torch.save."""
    import torch

    try:
        with zipfile.ZipFile(source) as archive:
            is_torchscript = any(Path(name).name == "constants.pkl" for name in archive.namelist())
    except (OSError, zipfile.BadZipFile):  # damaged, or from before PyTorch 1.6: loading it raises an error
        is_torchscript = False
    if is_torchscript:
        raise BadCheckpointError(
            f"checkpoint {source} is a TorchScript program, as OpenAI publishes them, not a file of tensors: "
            "`bindsearch model pull` downloads the same model as tensors"
        )
    checkpoint = MappedCheckpoint(source)
    read: Callable[[str], torch.Tensor] = checkpoint.read
    state = checkpoint.state
    if isinstance(state.get(_TRAINING_STATE), Mapping):  # as open_clip's training saves it
        state = state[_TRAINING_STATE]
        read = state.__getitem__
    non_tensors = [str(name) for name, value in state.items() if not isinstance(value, torch.Tensor)]
    if non_tensors:
        raise BadCheckpointError(
            f"checkpoint {source} holds {', '.join(non_tensors[:5])}, which are not tensors: "
            "save the model's state_dict()"
        )
    return {str(name): StoredTensor(tuple(tensor.shape), partial(read, name)) for name, tensor in state.items()}


def _open_safetensors(source: Path) -> dict[str, StoredTensor]:
    from safetensors import SafetensorError, safe_open

    def read(name: str) -> torch.Tensor:
        with safe_open(source, framework="pt") as file:  # pages once read count as memory until it is unmapped
            tensor: torch.Tensor = file.get_tensor(name)
            return tensor

    try:
        with safe_open(source, framework="pt") as file:
            shapes = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise BadCheckpointError(
            f"checkpoint {source} cannot be read ({error}): it is damaged, or neither a safetensors nor a torch file"
        ) from error
    return {name: StoredTensor(shape, partial(read, name)) for name, shape in shapes.items()}


def without_module(stored: Mapping[str, StoredTensor]) -> dict[str, StoredTensor]:
    """Remove the prefix `module.` of distributed training from names, if all have it."""
    prefix = "module." if all(name.startswith("module.") for name in stored) else ""
    return {name.removeprefix(prefix): tensor for name, tensor in stored.items()}


def check_stored(
    stored: Mapping[str, StoredTensor],
    shapes: Mapping[str, tuple[int, ...]],
    prefix: str,
    *,
    unused: Collection[str] = (),
    way_out: str = "",
) -> None:
    """Check that the tensors of a checkpoint are those of a model.

    Args:
        stored: Tensors of the checkpoint by name.
        shapes: Shape of each tensor of the model.
        prefix: Start of messages.
        unused: Further names that the checkpoint may have, or with a dot at the end the starts of such names.
        way_out: End of messages.

    Raises:
        BadCheckpointError: a tensor is missing, unknown or has another shape.
    """
    for name, shape in shapes.items():
        if name not in stored:
            raise BadCheckpointError(f"{prefix}: the tensor {name} is missing{way_out}")
        if stored[name].shape != shape:
            raise BadCheckpointError(f"{prefix}: {name} has the shape {stored[name].shape} instead of {shape}")
    starts = tuple(name for name in unused if name.endswith("."))
    if unknown := sorted(name for name in stored.keys() - shapes.keys() - {*unused} if not name.startswith(starts)):
        raise BadCheckpointError(
            f"{prefix}: it holds the unknown tensor {unknown[0]}, {len(unknown)} unknown in total{way_out}"
        )


def names_in_fp32(tower: nn.Module, norms: tuple[type[nn.Module], ...]) -> frozenset[str]:
    """Return the names of the tensors of norms, which stay in fp32 regardless of the tower's number format."""
    modules = ((place, module) for place, module in tower.named_modules() if isinstance(module, norms))
    return frozenset(f"{place}.{name}" for place, module in modules for name in module.state_dict())


def tower_specs(
    tower: nn.Module,
    stored: Mapping[str, StoredTensor],
    dtype: str,
    norms: tuple[type[nn.Module], ...],
    prefix: str = "",
) -> list[TensorSpec]:
    """Return the specifications of the tensors of a tower, which are stored by their names without a prefix.

    Only `norms` stay in fp32; `dtype` is that of all others, "fp32", "bf16" or "fp16".
    """
    fp32_names, specs = names_in_fp32(tower, norms), []
    for name in tower.state_dict():
        short, stored_dtype = name.removeprefix(prefix), "fp32" if name in fp32_names else dtype
        read = partial(read_as, stored_dtype, short, stored[short].read)
        specs.append(TensorSpec(name, stored[short].shape, stored_dtype, read))
    return specs


def write_as_safetensors(source: Path, target: Path) -> None:
    """Convert a file of weights, or the index of several, of torch.save to safetensors under the usual names.

    The tensors of one file are in memory meanwhile. Tensors that share memory, such as tied embeddings, are written
    twice; loaders tie them again.

    Args:
        source: File to read.
        target: Path that it has in the repository, in an existing folder; it is written beside it, with the name of
            safetensors.

    Raises:
        BadCheckpointError: the file holds anything but tensors, or is damaged.
    """
    if target.name in PICKLED_INDEXES:
        try:
            index = json.loads(source.read_text(encoding="utf-8"))
            index["weight_map"] = {str(key): _safe_name(str(name)) for key, name in index["weight_map"].items()}
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise BadCheckpointError(f"{source} is not an index of weights ({error}): download it again") from error
        name = _safe_name(target.name.removesuffix(".index.json")) + ".index.json"
        content = json.dumps(index, indent=2).encode()
    else:
        from safetensors.torch import save

        tensors = {name: stored.read().contiguous().clone() for name, stored in open_checkpoint(source).items()}
        name = _safe_name(target.name)
        content = save(tensors, metadata={"format": "pt"})  # without it, transformers refuses the file
    with atomic_write(target.with_name(name)) as file:
        file.write(content)


def _safe_name(name: str) -> str:
    """Return model.safetensors for pytorch_model.bin, and likewise for its parts; diffusers changes the end alone."""
    stem = name.removesuffix(".bin")
    return (stem if stem.startswith("diffusion_") else stem.replace("pytorch_model", "model", 1)) + ".safetensors"
