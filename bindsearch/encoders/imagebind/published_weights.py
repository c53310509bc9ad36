"""Names and shapes of the published checkpoint, and how its tensors become those of the towers."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import torch

from bindsearch.encoders.imagebind.config import CONTEXT_TOKENS, ModelConfig
from bindsearch.encoders.imagebind.towers import TOWERS, build_tower
from bindsearch.encoders.model_store.checkpoints import BadCheckpointError, cast_checked, check_tensor

MASK_KEY = "modality_preprocessors.text.mask"
"""The text tower's causal mask is stored in the checkpoint too; it is made anew."""

_STEMS = {"audio": "rgbt_stem", "depth": "depth_stem", "thermal": "rgbt_stem", "imu": "imu_stem"}
_BLOCK = re.compile(r"trunk\.resblocks\.(\d+)\.(\w+)\.(.+)")
_BLOCK_PARTS = {"ln_1": "norm_1", "ln_2": "norm_2", "attn": "attn", "mlp": "mlp"}


@dataclass(frozen=True, slots=True)
class PublishedTensor:
    """Origin of a parameter of a tower: the published key with its shape, and what is made of that tensor."""

    parameter: str
    shape: tuple[int, ...]
    key: str
    published_shape: tuple[int, ...]
    convert: Callable[[torch.Tensor], torch.Tensor]


def published_tensors(tower: str, config: ModelConfig) -> Iterator[PublishedTensor]:
    """Every parameter of a tower, and the published tensor it is made of."""
    with torch.device("meta"):
        parameters = dict(build_tower(tower, config).named_parameters())
    kernel = (config.vision_embed_dim, 3, *config.kernel_size)
    for name, parameter in parameters.items():
        key, shape = _published_key(tower, name), tuple(parameter.shape)
        if tower == "image" and name == "stem.weight":
            yield PublishedTensor(name, shape, key, kernel, _sum_over_time)
        elif tower == "image" and name == "video_stem.weight":
            yield PublishedTensor(name, shape, key, kernel, _frames_as_channels)
        else:
            yield PublishedTensor(name, shape, key, shape, _as_it_is)


def published_shapes(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    """All keys of a published checkpoint of this configuration, with their shapes."""
    tensors = (tensor for tower in TOWERS for tensor in published_tensors(tower, config))
    return {MASK_KEY: (CONTEXT_TOKENS, CONTEXT_TOKENS)} | {tensor.key: tensor.published_shape for tensor in tensors}


def check_published(state: Mapping[str, object], config: ModelConfig) -> None:
    """Refuse a state dict that does not hold exactly the tensors of a published checkpoint.

    Raises:
        BadCheckpointError: names the first key that is missing, unknown, no tensor or of another shape, and how
            many more there are.
    """
    faults = list(_faults(state, published_shapes(config)))
    if faults:
        others = len(faults) - 1
        more = f" (and {others} fault{'s' if others > 1 else ''} more)" if others else ""
        raise BadCheckpointError(f"not an ImageBind checkpoint of this size: {faults[0]}{more}")


def convert_tensor(published: object, tensor: PublishedTensor, dtype: str) -> torch.Tensor:
    """A published tensor as the tower's parameter in the given format ("fp32", "bf16", "fp16").

    Raises:
        EncoderError: it is no plain tensor of finite floats, or its numbers are too large; names the key.
    """
    return cast_checked(tensor.convert(check_tensor(published, tensor.key)), tensor.key, dtype)


def _faults(state: Mapping[str, object], expected: Mapping[str, tuple[int, ...]]) -> Iterator[str]:
    for key, shape in expected.items():
        if key not in state:
            yield f"the key {key} is missing"
            continue
        found = getattr(state[key], "shape", None)
        if found is None:
            yield f"{key} is {type(state[key]).__name__}, expected a tensor of floats"
        elif tuple(found) != shape:
            yield f"{key} has the shape {tuple(found)}, expected {shape}"
    for key in state:
        if key not in expected:
            yield f"the key {str(key)[:100]} is unknown"


def _published_key(tower: str, name: str) -> str:
    """The published key of a tower's parameter."""
    modality = "vision" if tower == "image" else tower
    before = f"modality_preprocessors.{modality}"
    if block := _BLOCK.fullmatch(name):
        number, part, rest = block.groups()
        rest = rest.replace("c_fc", "fc1").replace("c_proj", "fc2")
        return f"modality_trunks.{modality}.blocks.{number}.{_BLOCK_PARTS[part]}.{rest}"
    place, _, rest = name.rpartition(".")
    head = f"modality_heads.{modality}" + (".proj" if tower == "text" else "")
    projection = {"text": 1, "imu": 3}.get(tower, 2)
    helper = "" if tower in ("text", "imu") else "pos_embedding_helper."
    places = {
        "norm_pre": f"modality_trunks.{modality}.pre_transformer_layer.0",
        "norm": f"{head}.0",
        "projection": f"{head}.{projection}",
        "token_embedding": f"{before}.token_embedding",
        "stem": f"{before}.rgbt_stem.proj.1" if tower == "image" else f"{before}.{_STEMS.get(tower)}.proj",
        "video_stem": f"{before}.rgbt_stem.proj.1",
        "stem_norm": f"{before}.{_STEMS.get(tower)}.norm_layer",
    }
    if place:
        return f"{places[place]}.{rest}"
    return {
        "class_token": f"{before}.cls_token",
        "position": f"{before}.{helper}pos_embed",
        "log_logit_scale": f"modality_postprocessors.{modality}.1.log_logit_scale",
    }[name]


def _as_it_is(tensor: torch.Tensor) -> torch.Tensor:
    return tensor


def _sum_over_time(kernel: torch.Tensor) -> torch.Tensor:
    """(width, 3, frames, side, side) to (width, 3, side, side): frames that are alike meet the sum of the kernel."""
    return kernel.float().sum(dim=2)


def _frames_as_channels(kernel: torch.Tensor) -> torch.Tensor:
    """(width, 3, frames, side, side) to (width, 3 * frames, side, side): one convolution over all frames at once."""
    return kernel.flatten(1, 2)
