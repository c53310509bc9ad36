"""Conversion of a timm checkpoint to the tensor file of its tower, in little memory."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from bindsearch.encoders.model_store.checkpoints import BadCheckpointError, StoredTensor, open_checkpoint, read_as
from bindsearch.encoders.torch_runtime.tensor_files import OnProgress, TensorSpec, write_towers


def convert(
    source: Path, folder: Path, architecture: Mapping[str, Any], dtype: str, on_progress: OnProgress
) -> Mapping[str, float]:
    """Write image.safetensors into a folder: the tensors of a model without those of its classifier.

    Args:
        source: Checkpoint with the names of timm's own state_dict(), a file of safetensors or torch.save.
        folder: Existing folder for the file.
        architecture: Settings from `find_timm_source`.
        dtype: Number format of the matrices, "fp32", "bf16" or "fp16"; batch norms stay in fp32.
        on_progress: Called with the number of bytes written so far and the total.

    Returns:
        Temperatures by modality.

    Raises:
        EncoderError: the checkpoint cannot be read, or a tensor is missing, unknown or has another shape than the
            model's.
    """
    import torch

    from bindsearch.encoders.timm.networks import ImageTower, classifier_names, names_in_fp32

    config = architecture["config"]
    with torch.device("meta"):
        tower = ImageTower(config)
    stored = open_checkpoint(source)
    if all(name.startswith("module.") for name in stored):  # of distributed training
        stored = {name.removeprefix("module."): tensor for name, tensor in stored.items()}
    shapes = {name.removeprefix("visual."): tuple(tensor.shape) for name, tensor in tower.state_dict().items()}
    _check(stored, shapes, classifier_names(config), f"{source} is not a checkpoint of {architecture['model']}")
    fp32_names = names_in_fp32(tower)
    specs = []
    for name, shape in shapes.items():
        stored_dtype = "fp32" if f"visual.{name}" in fp32_names else dtype
        read = partial(read_as, stored_dtype, name, stored[name].read)
        specs.append(TensorSpec(f"visual.{name}", shape, stored_dtype, read))
    write_towers(folder, {"image": specs}, on_progress)
    return {"image": 1.0, "video": 1.0}


def _check(
    stored: Mapping[str, StoredTensor], shapes: Mapping[str, tuple[int, ...]], classifier: frozenset[str], prefix: str
) -> None:
    """Raise BadCheckpointError if the tensors are not those of the model, with or without its classifier."""
    way_out = "save the state_dict() of timm's model of this name"
    for name, shape in shapes.items():
        if name not in stored:
            raise BadCheckpointError(f"{prefix}: the tensor {name} is missing; {way_out}")
        if stored[name].shape != shape:
            raise BadCheckpointError(f"{prefix}: {name} has the shape {stored[name].shape} instead of {shape}")
    if unknown := sorted(stored.keys() - shapes.keys() - classifier):
        raise BadCheckpointError(
            f"{prefix}: it holds the unknown tensor {unknown[0]}, {len(unknown)} unknown in total; {way_out}"
        )
