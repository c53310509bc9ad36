"""Models that can be brought: where each comes from, under which licence, and what its converter needs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class ModelSource:
    """A model that can be pulled.

    `family`: which code converts and runs it, "imagebind" or "openclip". `urls`: of the checkpoint, tried in order
    where one is not there. `license`: its short name; `license_text`: a paragraph to show; `needs_consent`: whether
    the user is asked. `architecture`: what the converter needs. `expected_bytes`: about the checkpoint's size, where
    known. `sha256`: of the checkpoint, where its publisher states it.
    """

    name: str
    family: str
    urls: tuple[str, ...]
    license: str
    license_text: str
    needs_consent: bool
    architecture: Mapping[str, Any]
    expected_bytes: int | None
    sha256: str = ""


HUGE_NAME = "imagebind-huge"
OPENCLIP_PREFIX = "openclip:"


def can_be_pulled(name: str) -> bool:
    """Return whether `name` is that of a model to pull, by its form; `model_catalog.find_source` knows for sure."""
    return name == HUGE_NAME or name.startswith(OPENCLIP_PREFIX)
