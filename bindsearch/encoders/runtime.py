"""How towers run, whatever their family: device, number format, batches that shrink when memory runs out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

from bindsearch.errors import EncoderError, UsageError

if TYPE_CHECKING:
    import torch

DTYPES: Mapping[str, str] = MappingProxyType({"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"})
"""Names of number formats as options spell them, and torch's."""


@dataclass(frozen=True, slots=True)
class Runtime:
    """How to run towers; never changes what a vector means.

    `device`: "auto" (the first GPU, else the CPU), "cpu", "cuda" or "cuda:1". `compile`: let torch.compile fuse the
    tower, which pays on a GPU after a minute.
    """

    device: str = "auto"
    compile: bool = False


def resolve_device(device: str) -> torch.device:
    """The torch device of that name.

    Raises:
        UsageError: no such device, or none of it here.
    """
    import torch

    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    kind, _, number = device.partition(":")
    if kind not in ("cpu", "cuda") or (number and not number.isdecimal()):
        raise UsageError(f"device {device!r} is not known: choose auto, cpu, cuda or cuda:N")
    if kind == "cuda" and int(number or 0) >= (torch.cuda.device_count() if torch.cuda.is_available() else 0):
        raise UsageError(f"device {device!r} is not here: torch sees no such GPU; use --device cpu or auto")
    return torch.device(device)


def has_fast_bf16() -> bool:
    """Whether this CPU multiplies bfloat16 in hardware (AMX or AVX512-BF16)."""
    import torch

    capabilities = torch.cpu.get_capabilities()
    return bool(capabilities.get("amx_bf16") or capabilities.get("avx512_bf16"))


def default_dtype() -> str:
    """The number format that this machine runs fastest: "fp16" on a GPU, "bf16" or "fp32" on a CPU."""
    import torch

    if torch.cuda.is_available():
        return "fp16"
    return "bf16" if has_fast_bf16() else "fp32"


def compute_dtype(stored: torch.dtype, device: torch.device) -> torch.dtype:
    """The format to multiply in where weights are kept as `stored`: theirs, where the device is quick at it.

    A CPU is three times slower in fp16 than in fp32, and without bf16 instructions no better in bf16.
    """
    import torch

    if device.type == "cuda" or stored == torch.float32:
        return stored
    return torch.bfloat16 if has_fast_bf16() else torch.float32


BATCHES: Mapping[str, int] = MappingProxyType({"cpu": 16, "cuda": 128})
"""Views that go through a tower together, by kind of device: past it nothing gets faster."""


def run_in_batches(run: Callable[[int, int], torch.Tensor], n: int, batch: int) -> list[torch.Tensor]:
    """Call `run(start, stop)` over 0..n in steps of `batch`; a step that runs out of memory is tried at half the size.

    Raises:
        EncoderError: memory does not even suffice for one.
    """
    results = []
    start = 0
    while start < n:
        try:
            results.append(run(start, min(n, start + batch)))
        except (MemoryError, RuntimeError) as error:
            if not _out_of_memory(error):
                raise
            if batch == 1:
                raise EncoderError(f"not enough memory to embed even one at a time: {error}") from error
            batch //= 2
            _free_memory()
            continue
        start += batch
    return results


def _out_of_memory(error: Exception) -> bool:
    import torch

    # The CPU's allocator has no exception of its own.
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or "can't allocate memory" in str(error)


def _free_memory() -> None:
    import gc

    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
