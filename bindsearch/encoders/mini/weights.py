"""A digest over everything that decides what a vector of `mini` means."""

from __future__ import annotations

from pathlib import Path

from bindsearch.encoders.mini.image import ImageTower
from bindsearch.encoders.mini.text import TextTower
from bindsearch.hashing import fingerprint_of, hash_file

RECIPE = 1
"""Raised when code, not weights, changes what a vector means: preprocessing, a network, a formula."""


def digest_weights(exclude_classes: frozenset[int]) -> str:
    """xxh3-128, hex, over the weight files of all towers, the recipe's number and the classes left out of the bank.

    Raises:
        EncoderError: a file is missing.
    """
    return fingerprint_of(str(RECIPE), repr(sorted(exclude_classes)), *map(hash_file, weight_files()))


def weight_files() -> list[Path]:
    """Return the weight files of all towers, by name.

    Raises:
        EncoderError: a file is missing.
    """
    shipped = sorted(Path(__file__).parent.glob("*.safetensors"))
    return sorted({*ImageTower().files, *TextTower().files, *shipped}, key=lambda file: file.name)
