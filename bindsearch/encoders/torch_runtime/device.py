"""Running of towers of any family: device, number format, batches that shrink when memory runs out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

from bindsearch.device import check_device_name
from bindsearch.errors import EncoderError, UsageError

if TYPE_CHECKING:
    import torch

DTYPES: Mapping[str, str] = MappingProxyType({"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"})
"""Names of number formats as options spell them, and torch's."""


@dataclass(frozen=True, slots=True)
class Runtime:
    """Options of running towers; they never change what a vector means.

    `device`: "auto" (the first GPU, else the CPU), "cpu", "cuda" or "cuda:1". `compile`: let torch.compile fuse the
    tower, which pays on a GPU after a minute. `batch`: views that go through a tower together; None: what suits the
    device (BATCHES).
    """

    device: str = "auto"
    compile: bool = False
    batch: int | None = None


def torch_dtype(name: str) -> torch.dtype:
    """torch's number format for one of the names in DTYPES."""
    import torch

    dtype: torch.dtype = getattr(torch, DTYPES[name])
    return dtype


def check_device(device: str) -> None:
    """Refuse a device that is none or not here. Loads torch only where a GPU is asked for.

    Raises:
        UsageError: no such device, or none of it here.
    """
    check_device_name(device)
    if device.startswith("cuda"):
        import torch

        number = int(device.partition(":")[2] or 0)
        if number >= (torch.cuda.device_count() if torch.cuda.is_available() else 0):
            raise UsageError(f"device {device!r} is not available: torch sees no such GPU; use --device cpu or auto")


def resolve_device(device: str) -> torch.device:
    """The torch device of that name.

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


def run_in_batches(run: Callable[[int, int], torch.Tensor], n: int, batch: int) -> tuple[list[torch.Tensor], int]:
    """Call `run(start, stop)` over 0..n in steps of `batch`; a step that runs out of memory is tried at half the size.

    Returns what each step gave, and the size of step that memory allowed, to begin with next time.

    Raises:
        EncoderError: memory does not even suffice for one.
    """
    results = []
    start = 0
    while start < n:
        result = _try_step(run, start, min(n, start + batch), last_try=batch == 1)
        if result is None:
            batch //= 2
            _free_memory()  # only here, where no exception holds on to what the step had made
        else:
            results.append(result)
            start += batch
    return results, batch


def _try_step(run: Callable[[int, int], torch.Tensor], start: int, stop: int, *, last_try: bool) -> torch.Tensor | None:
    """Return what the step gives; None where memory ran out."""
    try:
        return run(start, stop)
    except (MemoryError, RuntimeError) as error:
        if not _out_of_memory(error):
            raise
        if last_try:
            raise EncoderError(f"not enough memory to embed even one at a time: {error}") from error
        return None


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
