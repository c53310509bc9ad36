"""Conversion of an open_clip checkpoint to one tensor file per tower, in little memory."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bindsearch.encoders.model_store.checkpoints import (
    BadCheckpointError,
    StoredTensor,
    check_tensor,
    open_checkpoint,
    read_as,
    temperature_of,
)
from bindsearch.encoders.torch_runtime.tensor_files import OnProgress, TensorSpec, write_towers

if TYPE_CHECKING:
    from torch import nn

_TEMPERATURE = "logit_scale"
_UNUSED = frozenset({"logit_bias"})  # SigLIP's: added to every logit, it changes no direction


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
    stored = _without_wrappers(open_checkpoint(source))
    _check(stored, towers, f"{source} is not a checkpoint of {architecture['model']}")
    specs = {name: _specs(tower, stored, dtype) for name, tower in towers.items()}
    write_towers(folder, specs, on_progress)
    temperature = temperature_of(float(check_tensor(stored[_TEMPERATURE].read(), _TEMPERATURE)))
    return {"text": temperature, "image": 1.0, "video": 1.0}


def _without_wrappers(stored: Mapping[str, StoredTensor]) -> dict[str, StoredTensor]:
    """Remove the prefixes `module.` (distributed training) and `text.` (separate text towers) from names."""
    if all(name.startswith("module.") for name in stored):
        stored = {name.removeprefix("module."): tensor for name, tensor in stored.items()}
    return {name.removeprefix("text."): tensor for name, tensor in stored.items()}


def _check(stored: Mapping[str, StoredTensor], towers: Mapping[str, nn.Module], prefix: str) -> None:
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


def _specs(tower: nn.Module, stored: Mapping[str, StoredTensor], dtype: str) -> list[TensorSpec]:
    """Return the specifications of the tensors of a tower."""
    from bindsearch.encoders.openclip.networks import names_in_fp32

    fp32_names = names_in_fp32(tower)
    formats = {name: "fp32" if name in fp32_names else dtype for name in tower.state_dict()}
    return [
        TensorSpec(name, stored[name].shape, stored_dtype, partial(read_as, stored_dtype, name, stored[name].read))
        for name, stored_dtype in formats.items()
    ]
