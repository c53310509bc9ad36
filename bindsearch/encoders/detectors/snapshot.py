"""Checks and description of a detector for a pull; see `model_store.snapshot_pull`."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path

from bindsearch.encoders.hf.snapshot import describe, read_config
from bindsearch.encoders.model_store.source import DETECTOR_TYPES
from bindsearch.encoders.package_files import check_extra
from bindsearch.environment import check_libraries as check_modules
from bindsearch.errors import EncoderError

__all__ = ["check_files", "check_libraries", "check_present", "describe"]


check_present = partial(check_extra, "detectors need", "detect", "transformers")
"""Raises InstallationError if the library of detectors is not installed; it is not loaded."""


def check_libraries() -> None:
    """Check that the libraries of detectors can be loaded.

    Raises:
        InstallationError: one is missing, or cannot be loaded.
    """
    check_present()
    check_modules(("torch", "torchvision", "transformers"))


def check_files(name: str, files: Mapping[str, Path]) -> None:
    """Check the type of a model before its weights are downloaded.

    Raises:
        EncoderError: there is no config.json, or the model is not of the type that its name states.
    """
    prefix, _, repository = name.partition(":")
    wanted, found = DETECTOR_TYPES[f"{prefix}:"], read_config(name, files).get("model_type")
    if found == wanted:
        return
    others = [other for other, kind in DETECTOR_TYPES.items() if kind == found]
    way_out = f"pull {others[0]}{repository}" if others else "detectors are " + " and ".join(DETECTOR_TYPES.values())
    raise EncoderError(f"{name} is a model of the type {found!r}, not {wanted!r}: {way_out}")
