"""Conversion of a timm checkpoint to the tensor file of its tower, in little memory."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bindsearch.encoders.model_store.checkpoints import check_stored, open_checkpoint, tower_specs, without_module
from bindsearch.encoders.torch_runtime.tensor_files import OnProgress, write_towers


def convert(
    source: Path, folder: Path, architecture: Mapping[str, Any], dtype: str, on_progress: OnProgress
) -> Mapping[str, float]:
    """Write image.safetensors into a folder: all but the classifier; arguments as of `openclip.checkpoint.convert`.

    Returns:
        Temperatures by modality.

    Raises:
        EncoderError: the checkpoint cannot be read, or a tensor is missing, unknown or has another shape than the
            model's.
    """
    import torch

    from bindsearch.encoders.timm.networks import NORMS_IN_FP32, ImageTower, classifier_names

    config = architecture["config"]
    with torch.device("meta"):
        tower = ImageTower(config)
    stored = without_module(open_checkpoint(source))
    shapes = {name.removeprefix("visual."): tuple(tensor.shape) for name, tensor in tower.state_dict().items()}
    prefix = f"{source} is not a checkpoint of {architecture['model']}"
    way_out = "; save the state_dict() of timm's model of this name"
    check_stored(stored, shapes, prefix, unused=classifier_names(config), way_out=way_out)
    write_towers(folder, {"image": tower_specs(tower, stored, dtype, NORMS_IN_FP32, "visual.")}, on_progress)
    return {"image": 1.0, "video": 1.0}
