"""Checks and description of an unCLIP pipeline for a pull; see `model_store.snapshot_pull`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bindsearch.encoders.torch_runtime.device import torch_dtype
from bindsearch.encoders.unclip.folder import folder_files, read_shape
from bindsearch.encoders.unclip.library import check_installed as check_libraries
from bindsearch.encoders.unclip.library import load_pipeline

__all__ = ["check_files", "check_libraries", "describe"]


def check_files(name: str, files: Mapping[str, Path]) -> None:
    """Check the configurations of a pipeline before its weights are downloaded.

    Raises:
        EncoderError: it is not an unCLIP pipeline, or it is not complete.
    """
    read_shape(name, files)


def describe(name: str, folder: Path, dtype: str) -> tuple[Mapping[str, Any], Mapping[str, float]]:
    """Load a pipeline once, so that one that is not complete is refused; return its sizes, and no temperatures.

    Raises:
        EncoderError: a file is missing or damaged, or weights are missing or of another shape.
    """
    import torch

    shape = read_shape(name, folder_files(folder))
    load_pipeline(folder, torch_dtype(dtype), torch.device("cpu"))
    return asdict(shape), {}
