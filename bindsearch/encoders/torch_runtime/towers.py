"""Towers of one model: loaded on first use, memory-mapped from their files, and run in batches."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bindsearch.encoders.torch_runtime.device import BATCHES, Runtime, compute_dtype, resolve_device, run_in_batches
from bindsearch.encoders.torch_runtime.tensor_files import map_tensors
from bindsearch.encoders.torch_runtime.threads import all_threads
from bindsearch.errors import EncoderError

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray
    from torch import nn

ToInput = Callable[["NDArray[Any]", "torch.device"], "torch.Tensor"]
"""Function that converts stacked prepared views (n, ...) to the input of a tower, on its device."""


class Towers:
    """Lazily loaded towers by name; one call at a time runs a tower."""

    def __init__(self, load: Callable[[str, torch.device], nn.Module], runtime: Runtime) -> None:
        """Take a function that returns a tower ready to run on a device, which is called once per name."""
        self._load, self._runtime = load, runtime
        self._loaded: dict[str, nn.Module] = {}
        self._batches: dict[str, int] = {}
        self._lock = threading.Lock()

    @property
    def loaded(self) -> frozenset[str]:
        """Names of the towers in memory."""
        return frozenset(self._loaded)

    def run(
        self, name: str, views: Sequence[NDArray[Any]], to_input: ToInput, method: str = "__call__"
    ) -> NDArray[np.float32]:
        """Run views through a tower in batches that fit the device.

        Args:
            name: Name of the tower.
            views: n prepared views of the same shape.
            to_input: Converts stacked views to the input of the tower.
            method: Name of the method of the tower; only the default one is compiled.

        Returns:
            What the method gives, such as features: float32 (n, d).

        Raises:
            EncoderError: there are no views, the file of the tower is missing or damaged, or memory is not sufficient
                for a single view.
        """
        import torch

        if not views:
            raise EncoderError(f"no views for the {name} tower: give at least one")
        with self._lock, all_threads(), torch.inference_mode():
            device = resolve_device(self._runtime.device)
            if name not in self._loaded:
                self._loaded[name] = self._load(name, device)
                if self._runtime.compile:
                    self._loaded[name].compile()
            tower = self._loaded[name]
            batch = self._batches.get(name) or self._runtime.batch or BATCHES[device.type]

            def run(start: int, stop: int) -> torch.Tensor:
                features: torch.Tensor = getattr(tower, method)(to_input(np.stack(views[start:stop]), device))
                return features.float()  # asynchronous: a GPU computes while the next views are assembled

            parts, self._batches[name] = run_in_batches(run, len(views), batch)
            whole: NDArray[np.float32] = torch.cat(parts).cpu().numpy()
            return whole


def on_device(array: NDArray[Any], device: torch.device) -> torch.Tensor:
    """Return an array as a tensor on a device; on the CPU the memory is shared."""
    import torch

    tensor = torch.from_numpy(array)
    if device.type == "cpu":
        return tensor
    return tensor.pin_memory().to(device, non_blocking=True)  # copies from pinned memory are asynchronous


def run_texts(
    towers: Towers, tokens: Sequence[NDArray[np.int64]], pad: int = 0, *, tower: str = "text", with_masks: bool = False
) -> NDArray[np.float32]:
    """Run n passages through a text tower.

    Passages of similar length share a batch, which is trimmed to the longest one; this does not change the result of a
    tower that is causal, or that leaves out padding.

    Args:
        towers: Towers of the model.
        tokens: Token ids of each passage, int64 (length,), not padded.
        pad: Id of the padding.
        tower: Name of the text tower.
        with_masks: The tower takes ids and attention masks, int64 (n, 2, length), instead of ids, int64 (n, length).

    Returns:
        Features, float32 (n, d).
    """

    def to_input(padded: NDArray[np.int64], device: torch.device) -> torch.Tensor:
        trimmed = padded[..., : padded[:, 1].sum(axis=1).max()]
        return on_device(np.ascontiguousarray(trimmed if with_masks else trimmed[:, 0]), device)

    order = np.argsort([len(ids) for ids in tokens], kind="stable")
    padded = np.zeros((len(tokens), 2, max(map(len, tokens), default=0)), np.int64)
    padded[:, 0] = pad
    for row, number in zip(padded, order, strict=True):
        row[0, : len(tokens[number])] = tokens[number]
        row[1, : len(tokens[number])] = 1
    in_order = towers.run(tower, list(padded), to_input)
    features = np.empty_like(in_order)
    features[order] = in_order
    return features


def mean_of_views(features: NDArray[np.float32], prepared: Sequence[NDArray[Any]]) -> NDArray[np.float32]:
    """Average the features of all views, float32 (total, d), for each of n media with its views: float32 (n, d).

    The mean is not normalised again, like in ImageBind's published model, which averages scaled features.
    """
    if len(features) == len(prepared):
        return features
    counts = np.array([len(views) for views in prepared])
    starts = np.cumsum([0, *counts[:-1]])
    return np.asarray(np.add.reduceat(features, starts, axis=0) / counts[:, None], np.float32)


def load_tower(build: Callable[[], nn.Module], path: Path, device: torch.device) -> nn.Module:
    """Build a tower without memory on the meta device, and fill it with the tensors mapped from a file, in eval mode.

    Tensors in the main format of the file are converted to a format that the device computes quickly in. On the CPU it
    is usually the same, and nothing is copied. Other tensors, such as norms stored in fp32, are not converted. Tables
    that the file does not hold are computed, see `fill_tables`.

    Raises:
        EncoderError: the file is damaged, or its tensors are not those of the tower.
    """
    import torch

    with torch.device("meta"):
        tower = build()
    tensors = map_tensors(path)
    stored: Counter[torch.dtype] = Counter()
    for tensor in tensors.values():
        stored[tensor.dtype] += tensor.numel()
    main = stored.most_common(1)[0][0]
    formats = {**{dtype: dtype for dtype in stored}, main: compute_dtype(main, device)}
    converted = {name: tensor.to(device, formats[tensor.dtype]) for name, tensor in tensors.items()}
    try:
        tower.load_state_dict(converted, assign=True)
    except RuntimeError as error:
        line = " ".join(str(error).split())
        raise EncoderError(f"{path} does not fit the tower ({line[:300]}): pull the model again") from error
    fill_tables(tower, build, device)
    return tower.eval().requires_grad_(False)


def fill_tables(tower: nn.Module, build: Callable[[], nn.Module], device: torch.device) -> None:
    """Compute the tables of a tower that was built without memory.

    They are taken from a second tower without weights. A table of floats that the format of the weights holds exactly
    is converted to it, and timm's tables of rotations stay in fp32. If there is another one, the tower runs in fp32,
    whatever the format of its file: rounded to 16 bits, positions would shift.
    """
    missing = [name for name, buffer in tower.named_buffers() if buffer.is_meta]
    if not missing:
        return
    import torch
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
    import torch
    from torch import nn
    from torch.nn.modules.module import register_module_parameter_registration_hook

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
