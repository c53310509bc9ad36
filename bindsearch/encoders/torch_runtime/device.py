"""Execution of towers of any family: device, number format, and batches that shrink when memory runs out."""

from __future__ import annotations

import gc
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

from bindsearch.device import check_device_name
from bindsearch.errors import EncoderError, UsageError

if TYPE_CHECKING:
    import torch

DTYPES: Mapping[str, str] = MappingProxyType({"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"})
"""Torch's names of number formats, by their names in options."""


@dataclass(frozen=True, slots=True)
class Runtime:
    """Device and settings that towers run with; they do not affect what a vector means.

    Attributes:
        device: "auto" (the first GPU, else the CPU), "cpu", "cuda" or "cuda:1".
        compile: Use torch.compile; on a GPU it is worth it for runs of more than a minute.
        batch: Number of views in a batch; None: the default of the device (BATCHES).
    """

    device: str = "auto"
    compile: bool = False
    batch: int | None = None


DEFAULT_RUNTIME = Runtime()


def torch_dtype(name: str) -> torch.dtype:
    """Return torch's number format for a name in DTYPES."""
    import torch

    dtype: torch.dtype = getattr(torch, DTYPES[name])
    return dtype


def check_device(device: str) -> None:
    """Check that a device exists; torch is loaded only if a GPU is requested.

    Raises:
        UsageError: the name is unknown, or this machine has no such device.
    """
    check_device_name(device)
    if device.startswith("cuda"):
        import torch

        number = int(device.partition(":")[2] or 0)
        if number >= (torch.cuda.device_count() if torch.cuda.is_available() else 0):
            raise UsageError(f"device {device!r} is not available: torch sees no such GPU; use --device cpu or auto")


def resolve_device(device: str) -> torch.device:
    """Return the torch device of a name.

    Raises:
        UsageError: as `check_device`.
    """
    import torch

    check_device(device)
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return torch.device(device)


def has_fast_bf16() -> bool:
    """Return whether this CPU multiplies bfloat16 in hardware (AMX or AVX512-BF16)."""
    import torch

    capabilities = torch.cpu.get_capabilities()
    return bool(capabilities.get("amx_bf16") or capabilities.get("avx512_bf16"))


def default_dtype() -> str:
    """Return the fastest number format on this machine: "fp16" on a GPU, "bf16" or "fp32" on a CPU."""
    import torch

    if torch.cuda.is_available():
        return "fp16"
    return "bf16" if has_fast_bf16() else "fp32"


def compute_dtype(stored: torch.dtype, device: torch.device) -> torch.dtype:
    """Return the format to multiply in for weights stored as `stored`: the same one if the device is fast in it.

    A CPU is three times slower in fp16 than in fp32, and without bf16 instructions it is not faster in bf16.
    """
    import torch

    if device.type == "cuda" or stored == torch.float32:
        return stored
    return torch.bfloat16 if has_fast_bf16() else torch.float32


BATCHES: Mapping[str, int] = MappingProxyType({"cpu": 16, "cuda": 128})
"""Default number of views in a batch, by kind of device; larger batches are not faster."""


def run_in_batches(run: Callable[[int, int], torch.Tensor], n: int, batch: int) -> tuple[list[torch.Tensor], int]:
    """Call `run(start, stop)` over 0..n in steps of `batch`; a step that runs out of memory is halved and retried.

    Args:
        run: Computes the rows from `start` to `stop`, exclusive.
        n: Number of rows.
        batch: Number of rows of the first step.

    Returns:
        Results of all steps, and the step size that fitted into memory, to start with next time.

    Raises:
        EncoderError: memory is not sufficient for a single row.
    """
    import torch

    results, start = [], 0
    while start < n:
        try:
            results.append(run(start, min(n, start + batch)))
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            if batch == 1:
                raise EncoderError(f"not enough memory to embed even one at a time: {error}") from error
            batch //= 2
        else:
            start += batch
            continue
        gc.collect()  # only here: no exception keeps the tensors of the failed step alive
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
    return results, batch


def is_out_of_memory(error: Exception) -> bool:
    """Return whether an exception means that memory ran out."""
    import torch

    # The allocator of the CPU raises a plain RuntimeError.
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or "can't allocate memory" in str(error)
