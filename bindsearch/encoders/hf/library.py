"""Calls of the transformers library: models and processors from a folder, its messages, its errors in one line."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from functools import partial
from io import StringIO
from logging import ERROR
from pathlib import Path
from threading import RLock
from typing import TYPE_CHECKING, Any

from bindsearch.encoders.package_files import check_extra
from bindsearch.encoders.torch_runtime.tensor_files import map_tensors
from bindsearch.environment import check_libraries
from bindsearch.errors import BindSearchError, EncoderError

if TYPE_CHECKING:
    import torch
    from torch import nn

WEIGHTS_FILE = "model.safetensors"
INDEX_FILE = "model.safetensors.index.json"

_MAX_SHOWN = 3
_QUIET = RLock()
"""Held while the messages of the library are off, which is a setting of the whole process."""


check_present = partial(check_extra, "models of hf: need", "hf", "transformers")
"""Raises InstallationError if the library is not installed; it is not loaded."""


def check_installed() -> None:
    """Check that the library can be loaded.

    Raises:
        InstallationError: it is missing, or cannot be loaded.
    """
    check_present()
    check_libraries(("torch", "transformers"))


@contextmanager
def library_errors(folder: Path) -> Iterator[None]:
    """Raise an EncoderError of one line for what the library raises about the files of a model.

    Its messages are held back meanwhile. Errors of libraries, and of memory, pass.

    Raises:
        InstallationError: the library is not installed, or cannot be loaded.
    """
    check_installed()
    from transformers.utils import logging

    try:
        with _QUIET, without_messages(logging), redirect_stdout(StringIO()):  # it prints about its own docstrings
            yield
    except (BindSearchError, ImportError, MemoryError):
        raise
    except Exception as error:  # the library and its configurations raise errors of any kind
        line = " ".join(str(error).split())[:300]
        raise EncoderError(
            f"the files in {folder} cannot be loaded ({type(error).__name__}: {line}): pull the model again"
        ) from error


@contextmanager
def without_messages(*loggings: Any, level: int = ERROR) -> Iterator[None]:
    """Hold back the messages and progress bars of libraries.

    Args:
        *loggings: Modules `logging` of libraries of Hugging Face.
        level: Least level of the messages that are shown.
    """
    kept = [(logging, logging.get_verbosity(), logging.is_progress_bar_enabled()) for logging in loggings]
    for logging in loggings:
        logging.set_verbosity(level)
        logging.disable_progress_bar()
    try:
        yield
    finally:
        for logging, verbosity, has_bar in kept:
            logging.set_verbosity(verbosity)
            if has_bar:
                logging.enable_progress_bar()


def from_folder(folder: Path, kind: str, **options: Any) -> Any:
    """Return a processor or tokenizer of the library, of the class `kind`, with its files in a folder.

    Raises:
        EncoderError: as `library_errors`.
    """
    with library_errors(folder):
        import transformers

        return getattr(transformers, kind).from_pretrained(folder, local_files_only=True, **options)


def load_network(
    network: Any, folder: Path, device: torch.device, dtype: torch.dtype, *, config: Any = None
) -> nn.Module:
    """Return a model of the library, of the class `network`, with the weights in a folder; nothing is drawn at random.

    Tensors that the class does not have, such as those of another tower, are not read.

    Raises:
        EncoderError: tensors are missing or have other shapes, or files are damaged.
    """
    with library_errors(folder):
        _files_of(folder)  # raises for a file outside of the folder, which the library would read
        offline = {"local_files_only": True, "use_safetensors": True, "trust_remote_code": False}
        model, found = network.from_pretrained(folder, config=config, dtype=dtype, output_loading_info=True, **offline)
    check_complete(found, folder, "pull the model again")
    loaded: nn.Module = model.eval().requires_grad_(False).to(device)
    return loaded


def check_complete(found: Mapping[str, Any], folder: Path, way_out: str) -> None:
    """Raise EncoderError if the information about a loading has weights that are missing, or have another shape."""
    for what, key in (("lack", "missing_keys"), ("have another shape for", "mismatched_keys")):
        names = sorted(str(name[0] if isinstance(name, tuple) else name) for name in found[key])
        if names:
            more = f" and {len(names) - _MAX_SHOWN} more" if len(names) > _MAX_SHOWN else ""
            raise EncoderError(f"the weights in {folder} {what} {', '.join(names[:_MAX_SHOWN])}{more}: {way_out}")


def read_tensors(folder: Path, names: Sequence[str]) -> dict[str, torch.Tensor]:
    """Return tensors of a model by name, without reading others.

    Raises:
        EncoderError: a file is missing or damaged, or has no such tensor.
    """
    from safetensors import SafetensorError, safe_open

    tensors = {}
    try:
        files = _files_of(folder)
        for name in names:
            with safe_open(folder / files.get(name, WEIGHTS_FILE), framework="pt") as file:
                tensors[name] = file.get_tensor(name)
    except (OSError, SafetensorError, ValueError, KeyError, TypeError) as error:
        raise EncoderError(f"the weights in {folder} cannot be read ({error}): pull the model again") from error
    return tensors


def read_scale(folder: Path, name: str) -> float:
    """Return a logit scale of a model from the tensor of its logarithm; errors as of `read_tensors`."""
    return float(read_tensors(folder, [name])[name].float().exp())


def read_all_tensors(folder: Path) -> dict[str, torch.Tensor]:
    """Return all tensors of a model, mapped from its files: pages are read on use.

    Raises:
        EncoderError: a file is missing or damaged.
    """
    try:
        files = sorted(set(_files_of(folder).values())) or [WEIGHTS_FILE]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise EncoderError(f"{folder / INDEX_FILE} cannot be read ({error}): pull the model again") from error
    return {name: tensor for file in files for name, tensor in map_tensors(folder / file).items()}


def _files_of(folder: Path) -> dict[str, str]:
    """Return the file of each tensor, empty if there is one for all; raise ValueError for one outside of the folder."""
    index = folder / INDEX_FILE
    if not index.is_file():
        return {}
    files = {str(name): str(file) for name, file in json.loads(index.read_text(encoding="utf-8"))["weight_map"].items()}
    if outside := [file for file in files.values() if Path(file).name != file]:
        raise ValueError(f"{INDEX_FILE} names {outside[0][:80]!r}, which is not in the folder")
    return files
