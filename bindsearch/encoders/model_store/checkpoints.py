"""Published checkpoints, read one tensor at a time in little memory; code in them is never run."""

from __future__ import annotations

import math
import pickle
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bindsearch.encoders.torch_runtime.device import torch_dtype
from bindsearch.errors import EncoderError

if TYPE_CHECKING:
    import torch

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
    """Map a checkpoint, and return its state dict."""
    import torch

    try:
        state = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except FileNotFoundError:
        raise EncoderError(f"checkpoint {path} does not exist: check the path") from None
    except Exception as error:  # a damaged pickle can raise any exception
        raise BadCheckpointError(f"checkpoint {path} cannot be read: {_fault(path, error)}") from error
    if not isinstance(state, dict):
        raise BadCheckpointError(f"checkpoint {path} holds a {type(state).__name__}, expected a state dict of tensors")
    return state


def _fault(path: Path, error: Exception) -> str:
    """Return the fault of a file, judged by its first bytes and the exception of the reader."""
    with path.open("rb") as file:
        start = file.read(16)
    if start[8:9] == b"{":
        return "it is a safetensors file, expected one of torch.save (.pth)"
    if not start.startswith(b"PK"):
        return "it is not a file of torch.save (.pth)"
    if isinstance(error, pickle.UnpicklingError):
        return "it holds more than tensors, or is damaged; code in it is never run"
    return "it is truncated or damaged; download it again"


def check_tensor(tensor: object, key: str) -> torch.Tensor:
    """Check that a value of a checkpoint can be weights: a dense tensor of 16, 32 or 64-bit floats, all finite.

    Args:
        tensor: Value to check.
        key: Key in the checkpoint, for messages.

    Returns:
        The tensor.

    Raises:
        BadCheckpointError: the value is anything else; the message names the key.
    """
    import torch

    if not isinstance(tensor, torch.Tensor) or tensor.dtype not in (
        torch.float16,
        torch.bfloat16,
        torch.float32,
        torch.float64,
    ):
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
    """Tensor of a checkpoint.

    Attributes:
        shape: Shape of the tensor.
        read: Reads the tensor.
    """

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
        raise BadCheckpointError(
            f"checkpoint {source} cannot be read ({error.strerror or error}): check the path"
        ) from error
    if magic == _ZIP_MAGIC or magic.startswith(_PICKLE_MAGIC):
        return _open_torch_file(source)
    return _open_safetensors(source)


def _open_torch_file(source: Path) -> dict[str, StoredTensor]:
    """Return the tensors of a file of torch.save."""
    import torch

    if _is_torchscript(source):
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


def _is_torchscript(source: Path) -> bool:
    """Return whether a file is a TorchScript program."""
    try:
        with zipfile.ZipFile(source) as archive:
            return any(Path(name).name == "constants.pkl" for name in archive.namelist())
    except (OSError, zipfile.BadZipFile):  # damaged, or from before PyTorch 1.6: loading it raises an error
        return False


def _open_safetensors(source: Path) -> dict[str, StoredTensor]:
    """Return the tensors of a safetensors file."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(source, framework="pt") as file:
            shapes = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise BadCheckpointError(
            f"checkpoint {source} cannot be read ({error}): it is damaged, or neither a safetensors nor a torch file"
        ) from error
    return {name: StoredTensor(shape, partial(_read_safetensor, source, name)) for name, shape in shapes.items()}


def _read_safetensor(source: Path, name: str) -> torch.Tensor:
    """Read one tensor; the file is mapped each time, since pages once read count as memory until it is unmapped."""
    from safetensors import safe_open

    with safe_open(source, framework="pt") as file:
        tensor: torch.Tensor = file.get_tensor(name)
        return tensor
