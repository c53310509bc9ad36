"""Memory that a decoder needs, estimated before it is loaded, and memory that is free."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from bindsearch.encoders.unclip.folder import PipelineShape
from bindsearch.errors import EncoderError
from bindsearch.generation.models import DecoderFiles, count_parameters

if TYPE_CHECKING:
    import torch

VALUE_BYTES: Mapping[str, int] = MappingProxyType({"fp32": 4, "bf16": 2, "fp16": 2})
"""Bytes of a value by number format."""

LIVE_MAPS = 4
"""Feature maps of the size of the picture that are in memory together while the last block of the VAE runs: its input,
the output of the first convolution, that of the second and the residual."""


def memory_notes(decoder: DecoderFiles, size: tuple[int, int], device: torch.device, dtype: str) -> list[str]:
    """Return what to know of the memory that a decoder needs.

    Args:
        decoder: The decoder.
        size: Width and height of a picture in pixels.
        device: Device that it runs on.
        dtype: Number format, of VALUE_BYTES.

    Raises:
        EncoderError: the weights alone need more than is free.
    """
    weights = count_parameters(decoder) * VALUE_BYTES[dtype]
    working = activation_bytes(decoder.shape, *size, VALUE_BYTES[dtype])
    free = free_bytes(device)
    if free is not None and weights > free:
        smaller = ", or --dtype fp16" if dtype == "fp32" else ""
        raise EncoderError(
            f"the weights of {decoder.name} need {_gigabytes(weights)} of memory in {dtype}, and {_gigabytes(free)} "
            f"are free on {device}: close other programs, or use another --device{smaller}"
        )
    known = "" if free is None else f"; {_gigabytes(free)} are free"
    notes = [
        f"memory on {device} in {dtype}: {_gigabytes(weights)} for weights, about {_gigabytes(working)} for a picture "
        f"of {size[0]} x {size[1]}{known}"
    ]
    if free is not None and weights + working > free:
        notes.append("memory may not be sufficient: give a smaller --size, or close other programs")
    return notes


def activation_bytes(shape: PipelineShape, width: int, height: int, value_bytes: int) -> int:
    """Return the estimated memory of the largest step besides weights, that of the last block of the VAE.

    Args:
        shape: Sizes of the pipeline.
        width: Width of the picture in pixels.
        height: Height of the picture in pixels.
        value_bytes: Bytes of a value in the number format.
    """
    return LIVE_MAPS * shape.vae_channels * width * height * value_bytes


def free_bytes(device: torch.device) -> int | None:
    """Return the free memory of a GPU, or of the machine (Linux); None if it is not known."""
    if device.type == "cuda":
        import torch

        return int(torch.cuda.mem_get_info(device)[0])
    found = [_available(), _left_of_container()]
    return min((one for one in found if one is not None), default=None)


def _gigabytes(n: int) -> str:
    return f"{n / 1e9:.2f} GB"


def _available() -> int | None:
    """Return MemAvailable of /proc/meminfo, which counts pages of files that can be dropped (proc(5))."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    except (OSError, ValueError, IndexError, StopIteration):
        return None


def _left_of_container() -> int | None:
    """Return what a container may still use, by control groups of version 2; None without a limit."""
    folder = Path("/sys/fs/cgroup")
    try:
        limit = int((folder / "memory.max").read_text(encoding="ascii"))
        statistics = dict(
            line.split() for line in (folder / "memory.stat").read_text(encoding="ascii").splitlines() if " " in line
        )
        used = int((folder / "memory.current").read_text(encoding="ascii")) - int(statistics["inactive_file"])
    except (OSError, ValueError, KeyError):  # "max": no limit
        return None
    return max(0, limit - used)
