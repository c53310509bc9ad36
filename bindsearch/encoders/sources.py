"""Models that can be brought: where each comes from, under which licence, and what its converter needs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from bindsearch.errors import EncoderError


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


def find_source(name: str) -> ModelSource:
    """Where the model of that name comes from.

    Raises:
        EncoderError: no such model.
    """
    from bindsearch.encoders.imagebind.sources import IMAGEBIND_HUGE
    from bindsearch.encoders.openclip import sources as openclip

    if name == IMAGEBIND_HUGE.name:
        return IMAGEBIND_HUGE
    if name.startswith(openclip.PREFIX):
        return openclip.find_openclip_source(name)
    if name == "mini":
        raise EncoderError("mini comes with BindSearch: there is nothing to pull")
    raise EncoderError(
        f"unknown model {name!r}: those to pull are {IMAGEBIND_HUGE.name} and openclip:MODEL/PRETRAINED, "
        f"such as {openclip.EXAMPLE}"
    )
