"""From an open_clip checkpoint to one tensor file a tower, in little memory."""

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
    """A tensor of a checkpoint: its shape, and how to read it."""

    shape: tuple[int, ...]
    read: Callable[[], torch.Tensor]


def convert(
    source: Path, folder: Path, architecture: Mapping[str, Any], dtype: str, on_progress: OnProgress
) -> Mapping[str, float]:
    """Write image.safetensors and text.safetensors into `folder`; the temperatures by modality.

    `architecture`: as `find_openclip_source` gives it. `dtype`: "fp32", "bf16" or "fp16", for the matrices; norms that
    can stay fp32 do. The checkpoint is mapped and read tensor by tensor.

    Raises:
        EncoderError: it cannot be read, or a tensor is missing, unknown or of another shape than the model's.
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
    """The tensors of a checkpoint under their own names; what it is shows its first bytes, not its file's name."""
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
    import torch

    if _is_program(source):
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
    others = [str(name) for name, value in state.items() if not isinstance(value, torch.Tensor)]
    if others:
        raise BadCheckpointError(
            f"checkpoint {source} holds {', '.join(others[:5])}, which are no tensors: save the model's state_dict()"
        )
    return {str(name): _Stored(tuple(tensor.shape), partial(read, name)) for name, tensor in state.items()}


def _is_program(source: Path) -> bool:
    try:
        with zipfile.ZipFile(source) as archive:
            return any(Path(name).name == "constants.pkl" for name in archive.namelist())
    except (OSError, zipfile.BadZipFile):  # damaged, or of before PyTorch 1.6: loading it says so
        return False


def _open_safetensors(source: Path) -> dict[str, _Stored]:
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
    """One tensor; the file is mapped for it alone, since pages once touched count as memory until it is unmapped."""
    from safetensors import safe_open

    with safe_open(source, framework="pt") as file:
        tensor: torch.Tensor = file.get_tensor(name)
        return tensor


def _without_wrappers(stored: Mapping[str, _Stored]) -> dict[str, _Stored]:
    """Names without `module.`, of distributed training, and `text.`, of models whose text tower stands apart."""
    if all(name.startswith("module.") for name in stored):
        stored = {name.removeprefix("module."): tensor for name, tensor in stored.items()}
    return {name.removeprefix("text."): tensor for name, tensor in stored.items()}


def _check(stored: Mapping[str, _Stored], towers: Mapping[str, nn.Module], complaint: str) -> None:
    expected = {name: tuple(tensor.shape) for tower in towers.values() for name, tensor in tower.state_dict().items()}
    for name, shape in {**expected, _TEMPERATURE: ()}.items():
        if name not in stored:
            raise BadCheckpointError(f"{complaint}: the tensor {name} is missing")
        found = stored[name].shape
        if found != shape and not (name == _TEMPERATURE and found == (1,)):
            raise BadCheckpointError(f"{complaint}: {name} has the shape {found} instead of {shape}")
    if unknown := sorted(stored.keys() - expected.keys() - {_TEMPERATURE} - _UNUSED):
        raise BadCheckpointError(
            f"{complaint}: it holds the unknown tensor {unknown[0]}, {len(unknown)} unknown in all"
        )


def _specs(tower: nn.Module, stored: Mapping[str, _Stored], dtype: str) -> list[TensorSpec]:
    from bindsearch.encoders.openclip.networks import names_in_fp32

    exact = names_in_fp32(tower)
    formats = {name: "fp32" if name in exact else dtype for name in tower.state_dict()}
    return [
        TensorSpec(name, stored[name].shape, kept, partial(_read_as, kept, name, stored[name].read))
        for name, kept in formats.items()
    ]


def _read_as(dtype: str, name: str, read: Callable[[], torch.Tensor]) -> torch.Tensor:
    """A tensor that can be weights, in the format it is kept in."""
    if name.endswith(".num_batches_tracked"):  # a batch norm's count of training steps, of no use here
        return read().float()
    return cast_checked(check_tensor(read(), name), name, dtype)
