"""Towers of one model: each is loaded when it is first needed, mapped from its file, and run in batches."""

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
"""Stacked prepared views (n, ...) to what the tower takes, on its device."""


class Towers:
    """Lazily loaded towers by name. One call at a time runs a tower; loading one leaves the others alone.

    `load` gives a tower ready to run on a device; it is called once a name.
    """

    def __init__(self, load: Callable[[str, torch.device], nn.Module], runtime: Runtime) -> None:
        self._load = load
        self._runtime = runtime
        self._loaded: dict[str, nn.Module] = {}
        self._batches: dict[str, int] = {}
        self._lock = threading.Lock()

    @property
    def loaded(self) -> frozenset[str]:
        """Names of the towers in memory."""
        return frozenset(self._loaded)

    def run(self, name: str, views: Sequence[NDArray[Any]], to_input: ToInput) -> NDArray[np.float32]:
        """Run n views, all of one shape, through a tower in batches that fit the device: float32 (n, d).

        Raises:
            EncoderError: the tower's file is missing or damaged, or memory does not suffice for a single view.
        """
        import torch

        if not views:
            raise EncoderError(f"nothing to run through the {name} tower")
        with self._lock, all_threads(), torch.inference_mode():
            device = resolve_device(self._runtime.device)
            tower = self._tower(name, device)
            batch = self._batches.get(name) or self._runtime.batch or BATCHES[device.type]

            def run(start: int, stop: int) -> torch.Tensor:
                features: torch.Tensor = tower(to_input(np.stack(views[start:stop]), device))
                return features.float()  # not waited for: a GPU is at it while the next views are put together

            parts, self._batches[name] = run_in_batches(run, len(views), batch)
            whole: NDArray[np.float32] = torch.cat(parts).cpu().numpy()
            return whole

    def _tower(self, name: str, device: torch.device) -> nn.Module:
        if name not in self._loaded:
            tower = self._load(name, device)
            if self._runtime.compile:
                tower.compile()
            self._loaded[name] = tower
        return self._loaded[name]


def on_device(array: NDArray[Any], device: torch.device) -> torch.Tensor:
    """An array as a tensor there; on the CPU it shares the memory."""
    import torch

    tensor = torch.from_numpy(array)
    if device.type == "cpu":
        return tensor
    return tensor.pin_memory().to(device, non_blocking=True)  # from pinned memory, so that nothing has to wait


def run_texts(towers: Towers, tokens: Sequence[NDArray[np.int64]]) -> NDArray[np.float32]:
    """Run n passages of token ids (length,), the end token the highest, through the text tower: float32 (n, d).

    Passages of like length share a batch, which is cut after its longest: a causal tower cannot tell.
    """
    order = np.argsort([len(ids) for ids in tokens], kind="stable")
    padded = np.zeros((len(tokens), max(map(len, tokens), default=0)), np.int64)
    for row, number in enumerate(order):
        padded[row, : len(tokens[number])] = tokens[number]
    in_order = towers.run("text", list(padded), _trimmed)
    features = np.empty_like(in_order)
    features[order] = in_order
    return features


def _trimmed(tokens: NDArray[np.int64], device: torch.device) -> torch.Tensor:
    """Tokens (n, length) without the columns behind the last end token."""
    return on_device(tokens[:, : tokens.argmax(axis=1).max() + 1], device)


def load_tower(build: Callable[[], nn.Module], path: Path, device: torch.device) -> nn.Module:
    """A tower built without memory of its own and filled with the tensors mapped from `path`, in eval mode.

    Tensors of the file's main format are brought to what the device multiplies quickly (on the CPU usually the same:
    then nothing is copied); others, such as norms kept in fp32, stay as they are.

    Raises:
        EncoderError: the file is damaged, or holds other tensors than the tower has.
    """
    import torch

    with torch.device("meta"):
        tower = build()
    tensors = map_tensors(path)
    stored: Counter[torch.dtype] = Counter()
    for tensor in tensors.values():
        stored[tensor.dtype] += tensor.numel()
    main = stored.most_common(1)[0][0]
    wanted = compute_dtype(main, device)
    placed = {
        name: tensor.to(device=device, dtype=wanted if tensor.dtype == main else tensor.dtype)
        for name, tensor in tensors.items()
    }
    try:
        tower.load_state_dict(placed, assign=True)
    except RuntimeError as error:
        line = " ".join(str(error).split())
        raise EncoderError(f"{path} does not fit the tower ({line[:300]}): pull the model again") from error
    return tower.eval().requires_grad_(False)
