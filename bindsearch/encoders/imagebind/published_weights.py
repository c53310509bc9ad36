"""Names and shapes of the published checkpoint, and the conversion of its tensors to those of the towers.

Random weights of the same shapes serve to measure towers, and to test the conversion without the checkpoint.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import nn

from bindsearch.encoders.imagebind.config import CONTEXT_TOKENS, ModelConfig
from bindsearch.encoders.imagebind.towers import TEMPERATURES, TOWERS, Tower, build_tower, keep_fp32
from bindsearch.encoders.model_store.checkpoints import BadCheckpointError, cast_checked, check_tensor

MASK_KEY = "modality_preprocessors.text.mask"
"""Key of the causal mask of the text tower, which the checkpoint contains too; it is not used."""

_STEMS = {"audio": "rgbt_stem", "depth": "depth_stem", "thermal": "rgbt_stem", "imu": "imu_stem"}
_BLOCK = re.compile(r"trunk\.resblocks\.(\d+)\.(\w+)\.(.+)")
_BLOCK_PARTS = {"ln_1": "norm_1", "ln_2": "norm_2", "attn": "attn", "mlp": "mlp"}


@dataclass(frozen=True, slots=True)
class PublishedTensor:
    """Origin of a parameter of a tower: a published tensor by its key, and its conversion."""

    parameter: str
    shape: tuple[int, ...]
    key: str
    published_shape: tuple[int, ...]
    convert: Callable[[torch.Tensor], torch.Tensor]


def published_tensors(tower: str, config: ModelConfig) -> Iterator[PublishedTensor]:
    """Yield the origin of every parameter of a tower."""
    with torch.device("meta"):
        parameters = dict(build_tower(tower, config).named_parameters())
    kernel = (config.vision_embed_dim, 3, *config.kernel_size)
    for name, parameter in parameters.items():
        key, shape = _published_key(tower, name), tuple(parameter.shape)
        if tower == "image" and name == "stem.weight":  # over equal frames
            yield PublishedTensor(name, shape, key, kernel, lambda tensor: tensor.float().sum(dim=2))
        elif tower == "image" and name == "video_stem.weight":  # frames as channels
            yield PublishedTensor(name, shape, key, kernel, lambda tensor: tensor.flatten(1, 2))
        else:
            yield PublishedTensor(name, shape, key, shape, lambda tensor: tensor)


def published_shapes(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    """Return the shapes of all tensors of a published checkpoint of this configuration, by key."""
    tensors = (tensor for tower in TOWERS for tensor in published_tensors(tower, config))
    return {MASK_KEY: (CONTEXT_TOKENS, CONTEXT_TOKENS)} | {tensor.key: tensor.published_shape for tensor in tensors}


def check_published(state: Mapping[str, object], config: ModelConfig) -> None:
    """Check that a state dict has exactly the tensors of a published checkpoint.

    Raises:
        BadCheckpointError: a key is missing or unknown, or a value is not a tensor or has another shape; the message
            names the first key and the number of further faults.
    """
    faults = list(_faults(state, published_shapes(config)))
    if faults:
        others = len(faults) - 1
        more = f" (and {others} fault{'s' if others > 1 else ''} more)" if others else ""
        raise BadCheckpointError(f"not an ImageBind checkpoint of this size: {faults[0]}{more}")


def convert_tensor(published: object, tensor: PublishedTensor, dtype: str) -> torch.Tensor:
    """Convert a published tensor to the parameter of a tower.

    Raises:
        EncoderError: the value is not a dense tensor of finite floats, or its values are too large for the format; the
            message names the key.
    """
    return cast_checked(tensor.convert(check_tensor(published, tensor.key)), tensor.key, dtype)


def _faults(state: Mapping[str, object], expected: Mapping[str, tuple[int, ...]]) -> Iterator[str]:
    """Yield the differences between a state dict and the expected shapes."""
    for key, shape in expected.items():
        if key not in state:
            yield f"the key {key} is missing"
            continue
        shape_found = getattr(state[key], "shape", None)
        if shape_found is None:
            yield f"{key} is {type(state[key]).__name__}, expected a tensor of floats"
        elif tuple(shape_found) != shape:
            yield f"{key} has the shape {tuple(shape_found)}, expected {shape}"
    for key in state:
        if key not in expected:
            yield f"the key {str(key)[:100]} is unknown"


def _published_key(tower: str, name: str) -> str:
    """Return the published key of a tower's parameter."""
    modality = "vision" if tower == "image" else tower
    preprocessor = f"modality_preprocessors.{modality}"
    if block := _BLOCK.fullmatch(name):
        number, part, rest = block.groups()
        rest = rest.replace("c_fc", "fc1").replace("c_proj", "fc2")
        return f"modality_trunks.{modality}.blocks.{number}.{_BLOCK_PARTS[part]}.{rest}"
    module, _, rest = name.rpartition(".")
    head = f"modality_heads.{modality}" + (".proj" if tower == "text" else "")
    projection = {"text": 1, "imu": 3}.get(tower, 2)
    helper = "" if tower in ("text", "imu") else "pos_embedding_helper."
    published_modules = {
        "norm_pre": f"modality_trunks.{modality}.pre_transformer_layer.0",
        "norm": f"{head}.0",
        "projection": f"{head}.{projection}",
        "token_embedding": f"{preprocessor}.token_embedding",
        "stem": f"{preprocessor}.rgbt_stem.proj.1" if tower == "image" else f"{preprocessor}.{_STEMS.get(tower)}.proj",
        "video_stem": f"{preprocessor}.rgbt_stem.proj.1",
        "stem_norm": f"{preprocessor}.{_STEMS.get(tower)}.norm_layer",
    }
    if module:
        return f"{published_modules[module]}.{rest}"
    return {
        "class_token": f"{preprocessor}.cls_token",
        "position": f"{preprocessor}.{helper}pos_embed",
        "log_logit_scale": f"modality_postprocessors.{modality}.1.log_logit_scale",
    }[name]


GAIN = 0.8
"""Gain of matrices: their standard deviation is GAIN / sqrt(inputs).

For the published widths this is about the initial 0.02 of the training. With a much larger gain, attention becomes so
sharp that rounding determines the vectors; with a much smaller one, all media have the same vector.
"""

SMALL_DEVIATION = 0.02
"""Standard deviation of biases, class tokens and position embeddings."""

NORM_DEVIATION = 0.1
"""Standard deviation of the weights of norms, whose mean is 1."""


@torch.no_grad()
def fill_randomly(module: nn.Module, generator: torch.Generator | None = None) -> None:
    """Fill every parameter of a tower or model except the temperatures with random values."""
    for key, parameter in module.named_parameters():
        if parameter.ndim:
            parameter.copy_(_random(key, tuple(parameter.shape), parameter.device, generator))


def random_tower(name: str, config: ModelConfig, dtype: torch.dtype, device: torch.device, *, seed: int) -> Tower:
    """Build a tower with random weights, in eval mode; only matrices have the format, as in a converted checkpoint."""
    with torch.device("meta"):
        tower = build_tower(name, config)
    generator = torch.Generator(device).manual_seed(seed)
    state = {}
    for key, parameter in tower.named_parameters():
        values = _random(key, tuple(parameter.shape), device, generator)
        state[key] = values if keep_fp32(key) else values.to(dtype)
    tower.load_state_dict(state, assign=True)
    return tower.eval().requires_grad_(False)


def random_checkpoint(config: ModelConfig, *, seed: int) -> dict[str, torch.Tensor]:
    """Return a random state dict with the published keys, in fp32."""
    generator = torch.Generator().manual_seed(seed)
    cpu = torch.device("cpu")
    state = {key: _random(key, shape, cpu, generator) for key, shape in sorted(published_shapes(config).items())}
    state[MASK_KEY] = torch.full(state[MASK_KEY].shape, -math.inf).triu(1)
    for tower, temperature in TEMPERATURES.items():
        state[f"modality_postprocessors.{tower}.1.log_logit_scale"] = torch.tensor(math.log(temperature))
    return state


def _random(key: str, shape: tuple[int, ...], device: torch.device, generator: torch.Generator | None) -> torch.Tensor:
    """Return random values for a parameter."""
    if not shape:
        return torch.tensor(math.log(10.0), device=device)
    values = torch.empty(shape, device=device).normal_(generator=generator)
    if len(shape) == 1 and key.endswith("weight"):  # weight of a norm
        return values.mul_(NORM_DEVIATION).add_(1)
    is_matrix = len(shape) > 1 and shape[0] > 1
    return values.mul_(GAIN / math.sqrt(math.prod(shape[1:])) if is_matrix else SMALL_DEVIATION)
