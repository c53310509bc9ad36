"""Checks and description of a detector for a pull; see `model_store.snapshot_pull`."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from bindsearch.encoders.hf import snapshot as hf
from bindsearch.encoders.hf.adapter import CONFIG_FILE, read_json
from bindsearch.encoders.model_store.source import DETECTOR_TYPES
from bindsearch.environment import check_libraries as check_modules
from bindsearch.errors import EncoderError, InstallationError


def check_present() -> None:
    """Check that the library of detectors is installed, without loading it.

    Raises:
        InstallationError: it is not; the message names the extra.
    """
    if find_spec("transformers") is None:
        raise InstallationError("detectors need the extra [detect]", "pip install 'bindsearch[detect]'")


def check_libraries() -> None:
    """Check that the libraries of detectors can be loaded.

    Raises:
        InstallationError: one is missing, or cannot be loaded.
    """
    check_present()
    check_modules(("torch", "torchvision", "transformers"))


def check_files(name: str, files: Mapping[str, Path]) -> None:
    """Check the type of a model before its weights are downloaded.

    Args:
        name: Name of the model.
        files: Files that are not weights, by their path in the repository.

    Raises:
        EncoderError: there is no config.json, or the model is not of the type that its name states.
    """
    if CONFIG_FILE not in files:
        raise EncoderError(f"{name} has no {CONFIG_FILE}: it is not a model of the transformers library")
    prefix, _, repository = name.partition(":")
    wanted, found = DETECTOR_TYPES[f"{prefix}:"], read_json(files[CONFIG_FILE]).get("model_type")
    if found == wanted:
        return
    others = [other for other, kind in DETECTOR_TYPES.items() if kind == found]
    way_out = f"pull {others[0]}{repository}" if others else "detectors are " + " and ".join(DETECTOR_TYPES.values())
    raise EncoderError(f"{name} is a model of the type {found!r}, not {wanted!r}: {way_out}")


def describe(name: str, folder: Path, dtype: str) -> tuple[Mapping[str, Any], Mapping[str, float]]:
    """Load all towers once, so that a model that does not fit is refused; return its type and its logit scales.

    Args:
        name: Name of the model.
        folder: Folder with all files of the model.
        dtype: Number format to load the weights in, "fp32", "bf16" or "fp16".

    Raises:
        EncoderError: a file is missing or damaged, or the weights are those of another model.
    """
    return hf.describe(name, folder, dtype)
