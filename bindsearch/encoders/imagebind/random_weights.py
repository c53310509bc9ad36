"""Random weights of the published shapes, to measure towers and to test the conversion without the checkpoint."""

from __future__ import annotations

import math

import torch
from torch import nn

from bindsearch.encoders.imagebind.config import ModelConfig
from bindsearch.encoders.imagebind.published_weights import MASK_KEY, published_shapes
from bindsearch.encoders.imagebind.towers import TEMPERATURES, Tower, build_tower, keep_fp32

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
