"""Sources of models: URLs, licence, and what the converter needs."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from types import MappingProxyType
from typing import Any


@dataclass(frozen=True, slots=True)
class ExtraFile:
    """File that a model needs besides its checkpoint, such as that of its tokenizer; it is kept as it is.

    Attributes:
        name: Name in the folder of the model.
        url: URL of the file.
        local_name: Name beside a local checkpoint.
        required: Whether the model cannot run without it.
    """

    name: str
    url: str
    local_name: str
    required: bool = True


@dataclass(frozen=True, slots=True)
class ModelSource:
    """Source of a model that can be pulled.

    Attributes:
        name: Name of the model.
        family: Code that converts and runs it, such as "imagebind" or "openclip".
        urls: URLs of the checkpoint; the next one is tried if a file does not exist.
        license: Short name of the licence.
        license_text: Paragraph about the licence to show to the user.
        needs_consent: Whether the user must accept the licence.
        architecture: Settings for the converter.
        expected_bytes: Approximate size of the checkpoint; None: unknown.
        sha256: SHA-256 of the checkpoint as stated by its publisher, "" if it is not stated.
        extra_files: Files besides the checkpoint.
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
    extra_files: tuple[ExtraFile, ...] = ()


HUGE_NAME = "imagebind-huge"
OPENCLIP_PREFIX = "openclip:"
TIMM_PREFIX = "timm:"

DETECTOR_TYPES: Mapping[str, str] = MappingProxyType({"owlv2:": "owlv2", "owlvit:": "owlvit"})
"""Types of detectors, `model_type` of config.json, by prefix of the name; a detector is not an encoder."""

SNAPSHOT_FAMILIES: Mapping[str, str] = MappingProxyType(
    {"st:": "st", "hf:": "hf", "unclip:": "unclip", **dict.fromkeys(DETECTOR_TYPES, "detectors")}
)
"""Families whose models are repositories of the Hugging Face hub, kept as a folder of files, by prefix of the name."""


_FREE_LICENSES = re.compile(
    r"apache-2\.0|mit|0bsd|isc|zlib|unlicense|bsl-1\.0|bsd(-[23]-clause(-clear)?)?|mpl-2\.0|ncsa|postgresql|wtfpl"
    r"|cc0-1\.0|cc-by(-sa)?-[234]\.[05]|cdla-permissive-[12]\.0|afl-3\.0|artistic-2\.0"
)
"""Licences that allow any use, also commercial, as the hub writes them
(https://huggingface.co/docs/hub/repositories-licenses)."""


def is_free_license(name: str) -> bool:
    """Return whether a licence, as the hub writes it, is known to allow any use."""
    return _FREE_LICENSES.fullmatch(name.lower()) is not None


def can_be_pulled(name: str) -> bool:
    """Return whether a name has the form of a model's name; `model_catalog.find_model_source` checks that it exists."""
    return name == HUGE_NAME or name.startswith((OPENCLIP_PREFIX, TIMM_PREFIX, *SNAPSHOT_FAMILIES))


def is_detector(name: str) -> bool:
    """Return whether a name has the form of a detector's name."""
    return name.startswith(tuple(DETECTOR_TYPES))


def snapshot_family(name: str) -> str | None:
    """Return the family of a model that is kept as a folder of files; None for other models."""
    return next((family for prefix, family in SNAPSHOT_FAMILIES.items() if name.startswith(prefix)), None)


def unknown_model(name: str, prefix: str, known: Sequence[str], otherwise: str) -> str:
    """Return the message for an unknown model: `known` names without the prefix that are similar, or `otherwise`."""
    similar = get_close_matches(name.removeprefix(prefix), known, n=5, cutoff=0.5)
    hint = f"similar names are {', '.join(prefix + one for one in similar)}" if similar else f"names are {otherwise}"
    return f"unknown model {name!r}: {hint}"
