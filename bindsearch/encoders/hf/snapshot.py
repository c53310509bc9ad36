"""Checks and description of a model of the transformers library for a pull; see `model_store.snapshot_pull`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bindsearch.encoders.hf.adapter import CONFIG_FILE, check_model_type, find_adapter
from bindsearch.encoders.hf.library import check_installed as check_libraries
from bindsearch.encoders.model_store.snapshot_files import read_json
from bindsearch.encoders.torch_runtime.device import torch_dtype
from bindsearch.errors import EncoderError

__all__ = ["check_files", "check_libraries", "describe"]


def check_files(name: str, files: Mapping[str, Path]) -> None:
    """Check the type of a model before its weights are downloaded.

    Raises:
        EncoderError: there is no config.json, or no adapter runs models of its type.
    """
    check_model_type(read_config(name, files), name)


def read_config(name: str, files: Mapping[str, Path]) -> dict[str, Any]:
    """Return the contents of config.json; raise EncoderError if there is none."""
    if CONFIG_FILE not in files:
        raise EncoderError(f"{name} has no {CONFIG_FILE}: it is not a model of the transformers library")
    return read_json(files[CONFIG_FILE])


def describe(name: str, folder: Path, dtype: str) -> tuple[Mapping[str, Any], Mapping[str, float]]:
    """Load all towers once, so that a model that does not fit is refused; return its type and its logit scales.

    Raises:
        EncoderError: a file is missing or damaged, or the weights are those of another model.
    """
    import torch

    adapter = find_adapter(folder, name, {})
    adapter.tokenizer.count_tokens("a bell")  # loads and checks the tokenizer
    for modality in sorted(adapter.modalities):
        adapter.load(adapter.tower_of(modality, None), torch.device("cpu"), torch_dtype(dtype))
    model_type = read_json(folder / CONFIG_FILE)["model_type"]
    scales = {str(modality): scale for modality, scale in adapter.temperatures(None).items()}
    return {"model_type": model_type, "dim": adapter.dim}, scales
