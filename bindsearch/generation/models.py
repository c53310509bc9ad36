"""Decoders on disk: an installed model, or a folder of the user; and the memory that they need. Nothing is loaded."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from bindsearch.arguments import shown, to_path_text
from bindsearch.encoders.model_store.download import hash_sha256
from bindsearch.encoders.model_store.hub import describe_folder
from bindsearch.encoders.model_store.installed import list_models, read_model, snapshot_folder
from bindsearch.encoders.model_store.snapshot_files import choose_files, digest_of, read_folder
from bindsearch.encoders.unclip.folder import CONFIGS, PipelineShape, folder_files, read_shape, weight_files
from bindsearch.errors import EncoderError, UsageError
from bindsearch.types import PathLike

if TYPE_CHECKING:
    import torch

PREFIX = "unclip:"
HOW_TO_INSTALL = (
    f"`bindsearch model pull {PREFIX}ORG/NAME` installs one, such as {PREFIX}stabilityai/stable-diffusion-2-1-unclip"
)


VALUE_BYTES: Mapping[str, int] = MappingProxyType({"fp32": 4, "bf16": 2, "fp16": 2})
"""Bytes of a value by number format."""

LIVE_MAPS = 4
"""Feature maps of the size of the picture that are in memory together while the last block of the VAE runs: its input,
the output of the first convolution, that of the second and the residual."""


@dataclass(frozen=True, slots=True)
class DecoderFiles:
    """A decoder on disk.

    Attributes:
        name: Name of the model, or path of its folder.
        folder: Folder of the pipeline.
        license: Licence of the weights, "not stated" if it is unknown.
        digest: SHA-256 over the paths and digests of its files, hex: the same in a folder and installed.
        shape: Sizes of the pipeline.
    """

    name: str
    folder: Path
    license: str
    digest: str
    shape: PipelineShape


def find_decoder(model: PathLike | None) -> DecoderFiles:
    """Return a decoder; its configurations are checked.

    Args:
        model: Name of an installed model, "unclip:ORG/NAME", or a folder; None: the one that is installed.

    Raises:
        UsageError: there is no such folder, or it has to be chosen which decoder to use.
        EncoderError: the model is not installed, or it is not an unCLIP pipeline, or it is damaged.
    """
    given = _only_installed() if model is None else to_path_text(model)
    if given.startswith(PREFIX):
        manifest = read_model(given)
        folder = snapshot_folder(manifest)
        shape = read_shape(given, folder_files(folder))
        return DecoderFiles(given, folder, manifest.license, manifest.source_sha256, shape)
    folder = Path(given).expanduser()
    if not folder.is_dir():
        problem = "is not a folder" if folder.exists() else "does not exist"
        raise UsageError(f"the model {shown(given)} {problem}: give {PREFIX}ORG/NAME or the folder of a pipeline")
    for path in CONFIGS.values():  # the digest would not look into a folder that is a link
        if (folder / path).parent.is_symlink():
            raise UsageError(f"{(folder / path).parent} is a link: copy the folder, so that all files are recorded")
    shape = read_shape(str(folder), folder_files(folder))
    try:
        files = choose_files(str(folder), read_folder(str(folder), folder))[0]
        digest = digest_of({file.path: hash_sha256(folder / file.path, lambda _done, _total: None) for file in files})
        stated = describe_folder(folder, ()).license
    except OSError as error:
        raise UsageError(f"the model {shown(given)} cannot be read: {error}") from error
    return DecoderFiles(str(folder), folder, stated or "not stated", digest, shape)


def count_parameters(decoder: DecoderFiles) -> int:
    """Return the number of weights of all components, from the headers of their files.

    Raises:
        EncoderError: a file is damaged.
    """
    from safetensors import SafetensorError, safe_open

    total = 0
    for path in weight_files(decoder.folder):
        try:
            with safe_open(path, framework="np") as file:
                total += sum(math.prod(file.get_slice(name).get_shape()) for name in file.keys())  # noqa: SIM118
        except (OSError, SafetensorError) as error:
            raise EncoderError(f"{path} cannot be read ({error}): install the model again") from error
    return total


def _only_installed() -> str:
    """Return the name of the decoder that is installed; EncoderError: there is none, UsageError: there are several."""
    names = [manifest.name for manifest in list_models() if manifest.name.startswith(PREFIX)]
    if not names:
        raise EncoderError(f"no decoder is installed: {HOW_TO_INSTALL}; or give the folder of one (--model FOLDER)")
    if len(names) > 1:
        raise UsageError(f"several decoders are installed: choose one with --model, of {', '.join(names)}")
    return names[0]


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
