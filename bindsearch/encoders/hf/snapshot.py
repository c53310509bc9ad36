"""Checks and description of a model of the transformers library for a pull; see `model_store.snapshot_pull`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bindsearch.encoders.hf.adapter import CONFIG_FILE, check_model_type, find_adapter, read_json
from bindsearch.encoders.hf.library import check_installed
from bindsearch.encoders.torch_runtime.device import torch_dtype
from bindsearch.errors import EncoderError


def check_libraries() -> None:
    """Check that the library of these models can be loaded.

    Raises:
        InstallationError: it is missing, or cannot be loaded; the message names the extra.
    """
    check_installed()


def check_files(name: str, files: Mapping[str, Path]) -> None:
    """Check the type of a model before its weights are downloaded.

    Args:
        name: Name of the model.
        files: Files that are not weights, by their path in the repository.

    Raises:
        EncoderError: there is no config.json, or no adapter runs models of its type.
    """
    if CONFIG_FILE not in files:
        raise EncoderError(f"{name} has no {CONFIG_FILE}: it is not a model of the transformers library")
    check_model_type(read_json(files[CONFIG_FILE]), name)


def describe(name: str, folder: Path, dtype: str) -> tuple[Mapping[str, Any], Mapping[str, float]]:
    """Load all towers once, so that a model that does not fit is refused; return its type and its logit scales.

    Args:
        name: Name of the model.
        folder: Folder with all files of the model.
        dtype: Number format to load the weights in, "fp32", "bf16" or "fp16".

    Raises:
        EncoderError: a file is missing or damaged, or the weights are those of another model.
    """
    import torch

    adapter = find_adapter(folder, name, {})
    adapter.count_tokens("a bell")  # loads and checks the tokenizer
    for modality in sorted(adapter.modalities):
        adapter.load(adapter.tower_of(modality, None), torch.device("cpu"), torch_dtype(dtype))
    model_type = read_json(folder / CONFIG_FILE)["model_type"]
    return {"model_type": model_type, "dim": adapter.dim}, {
        str(modality): scale for modality, scale in adapter.temperatures(None).items()
    }
