"""Tables of towers that no checkpoint holds, such as those of positions: they depend on the architecture alone."""

from __future__ import annotations

import threading
from collections.abc import Callable

import torch
from torch import nn
from torch.nn.modules.module import register_module_parameter_registration_hook


def fill_tables(tower: nn.Module, build: Callable[[], nn.Module], device: torch.device) -> None:
    """Compute the tables of a tower that was built without memory.

    They are taken from a second tower without weights. A table of floats that the format of the weights holds exactly
    is converted to it, and timm's tables of rotations stay in fp32. If there is another one, the tower runs in fp32,
    whatever the format of its file: rounded to 16 bits, positions would shift.
    """
    missing = [name for name, buffer in tower.named_buffers() if buffer.is_meta]
    if not missing:
        return
    from timm.layers.pos_embed_sincos import RotaryEmbeddingCat  # what it rotates in fp32, timm converts back

    computed = _tables(build, missing)
    weight = max(tower.parameters(), key=lambda parameter: parameter.numel())
    has_others = False
    for name in missing:
        path, _, attribute = name.rpartition(".")
        module, table = tower.get_submodule(path), computed[name]
        if table.is_floating_point() and torch.equal(table.to(weight.dtype).to(table.dtype), table):
            table = table.to(weight.dtype)
        elif table.is_floating_point() and not isinstance(module, RotaryEmbeddingCat):
            has_others = True
        module.register_buffer(attribute, table.to(device), persistent=False)
    if has_others:
        tower.float()


def _tables(build: Callable[[], nn.Module], names: list[str]) -> dict[str, torch.Tensor]:
    """Return tables of a newly built tower by name; its weights lose their memory as soon as it takes them."""
    thread = threading.get_ident()

    def without_memory(_module: nn.Module, _name: str, weight: nn.Parameter | None) -> nn.Parameter | None:
        if weight is None or threading.get_ident() != thread:  # the hook is called for the modules of all threads
            return weight
        return nn.Parameter(weight.to("meta"), weight.requires_grad)

    hook = register_module_parameter_registration_hook(without_memory)  # type: ignore[arg-type]
    try:
        with torch.random.fork_rng(devices=[]):
            computed = dict(build().named_buffers())
    finally:
        hook.remove()
    return {name: computed[name] for name in names}
