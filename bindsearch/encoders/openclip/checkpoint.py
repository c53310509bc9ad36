"""Conversion of an open_clip checkpoint to one tensor file per tower, in little memory."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bindsearch.encoders.model_store.checkpoints import (
    BadCheckpointError,
    MappedCheckpoint,
    cast_checked,
    check_tensor,
    temperature_of,
)
from bindsearch.encoders.torch_runtime.tensor_files import OnProgress, TensorSpec, write_towers

if TYPE_CHECKING:
    import torch
    from torch import nn

_ZIP_MAGIC = b"PK\x03\x04"
_PICKLE_MAGIC = b"\x80\x02"
_TRAINING_STATE = "state_dict"
_TEMPERATURE = "logit_scale"
_UNUSED = frozenset({"logit_bias"})  # SigLIP's: added to every logit, it changes no direction


@dataclass(frozen=True, slots=True)
class _Stored:
    """Tensor of a checkpoint.

    Attributes:
        shape: Shape of the tensor.
        read: Reads the tensor.
    """

    shape: tuple[int, ...]
    read: Callable[[], torch.Tensor]


def convert(
    source: Path, folder: Path, architecture: Mapping[str, Any], dtype: str, on_progress: OnProgress
) -> Mapping[str, float]:
    """Write image.safetensors and text.safetensors into a folder.

    The checkpoint is memory-mapped and read tensor by tensor.

    Args:
        source: Checkpoint of open_clip.
        folder: Existing folder for the files.
        architecture: Settings from `find_openclip_source`.
        dtype: Number format of the matrices, "fp32", "bf16" or "fp16"; norms stay in fp32 if their module supports it.
        on_progress: Called with the number of bytes written so far and the total.

    Returns:
        Temperatures by modality.

    Raises:
        EncoderError: the checkpoint cannot be read, or a tensor is missing, unknown or has another shape than the
            model's.
    """
    import torch

    from bindsearch.encoders.openclip.networks import ImageTower, TextTower

    with torch.device("meta"):
        towers = {"image": ImageTower(architecture["config"]), "text": TextTower(architecture["config"])}
    stored = _without_wrappers(_open_checkpoint(source))
    _check(stored, towers, f"{source} is not a checkpoint of {architecture['model']}")
    specs = {name: _specs(tower, stored, dtype) for name, tower in towers.items()}
    write_towers(folder, specs, on_progress)
    temperature = temperature_of(float(check_tensor(stored[_TEMPERATURE].read(), _TEMPERATURE)))
    return {"text": temperature, "image": 1.0, "video": 1.0}


def _open_checkpoint(source: Path) -> dict[str, _Stored]:
    """Return the tensors of a checkpoint by name; the format is detected by the first bytes."""
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


def _open_torch_file(source: Path) -> dict[str, _Stored]:
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
    return {str(name): _Stored(tuple(tensor.shape), partial(read, name)) for name, tensor in state.items()}


def _is_torchscript(source: Path) -> bool:
    """Return whether a file is a TorchScript program."""
    try:
        with zipfile.ZipFile(source) as archive:
            return any(Path(name).name == "constants.pkl" for name in archive.namelist())
    except (OSError, zipfile.BadZipFile):  # damaged, or from before PyTorch 1.6: loading it raises an error
        return False


def _open_safetensors(source: Path) -> dict[str, _Stored]:
    """Return the tensors of a safetensors file."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(source, framework="pt") as file:
            shapes = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise BadCheckpointError(
            f"checkpoint {source} cannot be read ({error}): it is damaged, or neither a safetensors nor a torch file"
        ) from error
    return {name: _Stored(shape, partial(_read_safetensor, source, name)) for name, shape in shapes.items()}


def _read_safetensor(source: Path, name: str) -> torch.Tensor:
    """Read one tensor; the file is mapped each time, since pages once read count as memory until it is unmapped."""
    from safetensors import safe_open

    with safe_open(source, framework="pt") as file:
        tensor: torch.Tensor = file.get_tensor(name)
        return tensor


def _without_wrappers(stored: Mapping[str, _Stored]) -> dict[str, _Stored]:
    """Remove the prefixes `module.` (distributed training) and `text.` (separate text towers) from names."""
    if all(name.startswith("module.") for name in stored):
        stored = {name.removeprefix("module."): tensor for name, tensor in stored.items()}
    return {name.removeprefix("text."): tensor for name, tensor in stored.items()}


def _check(stored: Mapping[str, _Stored], towers: Mapping[str, nn.Module], prefix: str) -> None:
    """Raise BadCheckpointError if the tensors are not those of the towers."""
    expected = {name: tuple(tensor.shape) for tower in towers.values() for name, tensor in tower.state_dict().items()}
    for name, shape in {**expected, _TEMPERATURE: ()}.items():
        if name not in stored:
            raise BadCheckpointError(f"{prefix}: the tensor {name} is missing")
        shape_found = stored[name].shape
        if shape_found != shape and not (name == _TEMPERATURE and shape_found == (1,)):
            raise BadCheckpointError(f"{prefix}: {name} has the shape {shape_found} instead of {shape}")
    if unknown := sorted(stored.keys() - expected.keys() - {_TEMPERATURE} - _UNUSED):
        raise BadCheckpointError(f"{prefix}: it holds the unknown tensor {unknown[0]}, {len(unknown)} unknown in total")


def _specs(tower: nn.Module, stored: Mapping[str, _Stored], dtype: str) -> list[TensorSpec]:
    """Return the specifications of the tensors of a tower."""
    from bindsearch.encoders.openclip.networks import names_in_fp32

    fp32_names = names_in_fp32(tower)
    formats = {name: "fp32" if name in fp32_names else dtype for name in tower.state_dict()}
    return [
        TensorSpec(name, stored[name].shape, stored_dtype, partial(_read_as, stored_dtype, name, stored[name].read))
        for name, stored_dtype in formats.items()
    ]


def _read_as(dtype: str, name: str, read: Callable[[], torch.Tensor]) -> torch.Tensor:
    """Read a tensor, check that it can be weights, and convert it."""
    if name.endswith(".num_batches_tracked"):  # number of training steps of a batch norm, not used
        return read().float()
    return cast_checked(check_tensor(read(), name), name, dtype)
