"""Conversion of the published checkpoint to one tensor file per tower, in little memory."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bindsearch.encoders.model_store.checkpoints import MappedCheckpoint, check_tensor, temperature_of
from bindsearch.encoders.torch_runtime.tensor_files import OnProgress, TensorSpec, write_towers

if TYPE_CHECKING:
    import torch

    from bindsearch.encoders.imagebind.published_weights import PublishedTensor


def convert(
    source: Path, folder: Path, architecture: Mapping[str, Any], dtype: str, on_progress: OnProgress
) -> Mapping[str, float]:
    """Write `<tower>.safetensors` of every tower into a folder; arguments as of `openclip.checkpoint.convert`.

    The checkpoint is memory-mapped and read tensor by tensor.

    Returns:
        Temperatures by modality.

    Raises:
        EncoderError: the checkpoint is damaged or has another architecture; the message names the fault.
    """
    from bindsearch.encoders.imagebind.config import make_config
    from bindsearch.encoders.imagebind.published_weights import check_published, convert_tensor, published_tensors
    from bindsearch.encoders.imagebind.towers import TEMPERATURES, TOWERS, keep_fp32

    config = make_config(**architecture)
    checkpoint = MappedCheckpoint(source)
    check_published(checkpoint.state, config)

    def spec(tensor: PublishedTensor) -> TensorSpec:
        stored_dtype = "fp32" if keep_fp32(tensor.parameter) else dtype

        def read() -> torch.Tensor:
            return convert_tensor(checkpoint.read(tensor.key), tensor, stored_dtype)

        return TensorSpec(tensor.parameter, tensor.shape, stored_dtype, read)

    towers = {tower: list(map(spec, published_tensors(tower, config))) for tower in TOWERS}
    write_towers(folder, towers, on_progress)
    keys = {tower: f"modality_postprocessors.{tower}.1.log_logit_scale" for tower in TEMPERATURES}
    scales = {tower: temperature_of(float(check_tensor(checkpoint.read(key), key))) for tower, key in keys.items()}
    return {"image": 1.0, "video": 1.0, **scales}
