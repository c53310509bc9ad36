"""List of encoders: what is there, what could be pulled, and which of them fit a purpose; no tower is loaded."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path

from bindsearch.arguments import did_you_mean, shown
from bindsearch.encoders.base import Encoder
from bindsearch.encoders.mini.weights import weight_files
from bindsearch.encoders.model_store.installed import BOUND_PREFIX, ModelManifest, list_models
from bindsearch.encoders.model_store.source import is_free_license
from bindsearch.encoders.registry import LISTED, load_encoder, other_use, package_encoders
from bindsearch.errors import BindSearchError, UsageError
from bindsearch.types import Modality

_TEXT_AND_PICTURES = (Modality.TEXT, Modality.IMAGE, Modality.VIDEO)
_SOUND = (Modality.TEXT, Modality.AUDIO)
_FOUR = (*_TEXT_AND_PICTURES, Modality.AUDIO)

MANY_LANGUAGES = "many"
"""Languages of a model that was trained on many."""


class State(StrEnum):
    """Place of an encoder."""

    BUILT_IN = "built in"
    PACKAGE = "package"
    PULLED = "pulled"
    BOUND = "bound"
    TO_PULL = "to pull"


@dataclass(frozen=True, slots=True)
class EncoderEntry:
    """An encoder of the list.

    Attributes:
        name: Name that it is loaded by.
        state: Where it is.
        modalities: Modalities that it embeds, in the order of `Modality`; empty if it cannot be loaded.
        dim: Dimension d of its space; None: not known.
        size_bytes: Bytes of its weights on disk; None: not known.
        parameters_m: Number of parameters in millions; None: not known.
        license: Licence of its weights, "" if it is not known.
        is_free: Whether the licence allows any use; None: not known.
        languages: Languages of its texts: "en", "many", or "" if there are none or they are not known.
        needs: "cpu", "gpu", or "" if it is not known.
        good_for: What it is good for, one line.
        measured: Figures of it by name, measured by this project on data that it was not trained on.
        problem: Why it cannot be used, "" if it can.
    """

    name: str
    state: State
    modalities: tuple[Modality, ...]
    dim: int | None = None
    size_bytes: int | None = None
    parameters_m: int | None = None
    license: str = ""
    is_free: bool | None = None
    languages: str = ""
    needs: str = ""
    good_for: str = ""
    measured: Mapping[str, float] | None = None
    problem: str = ""


def _known(
    name: str,
    modalities: tuple[Modality, ...],
    dim: int | None,
    parameters_m: int | None,
    license_name: str,
    good_for: str,
    languages: str = "en",
    needs: str = "cpu",
) -> EncoderEntry:
    """Return the entry of a model that is not pulled; `needs` is "gpu" where a CPU takes seconds for one medium."""
    known = _sorted(frozenset(modalities))
    is_free = is_free_license(license_name)
    return EncoderEntry(
        name, State.TO_PULL, known, dim, None, parameters_m, license_name, is_free, languages, needs, good_for
    )


def _sorted(modalities: frozenset[Modality]) -> tuple[Modality, ...]:
    return tuple(modality for modality in Modality if modality in modalities)


_GPU = {"needs": "gpu"}
_MANY = {"languages": MANY_LANGUAGES}

KNOWN = (
    _known(
        "imagebind-huge", tuple(Modality), 1024, 1200, "cc-by-nc-sa-4.0",
        "all seven modalities in one space, for research", **_GPU,
    ),
    _known(
        "st:google/embeddinggemma-2", _FOUR, 768, 740, "apache-2.0",
        "text, pictures, videos and sounds in one space, free; pictures with captions; 512, 256, 128 dimensions",
        **_MANY, **_GPU,
    ),
    _known(
        "st:Qwen/Qwen3-VL-Embedding-2B", _TEXT_AND_PICTURES, 2048, 2000, "apache-2.0",
        "text in pictures, screenshots, documents; instructions", **_MANY, **_GPU,
    ),
    _known(
        "hf:facebook/pe-av-small", (*_SOUND, Modality.VIDEO), None, None, "apache-2.0",
        "videos together with their sound", **_GPU,
    ),
    _known("hf:laion/clap-htsat-unfused", _SOUND, 512, 154, "apache-2.0", "sounds of any kind by words"),
    _known(
        "openclip:ViT-B-16-SigLIP2/webli", _TEXT_AND_PICTURES, 768, 375, "apache-2.0",
        "photos by words in many languages", **_MANY,
    ),
    _known(
        "openclip:xlm-roberta-base-ViT-B-32/laion5b_s13b_b90k", _TEXT_AND_PICTURES, 512, 366, "mit",
        "photos by words in many languages, fast", **_MANY,
    ),
    _known(
        "openclip:PE-Core-B-16/meta", _TEXT_AND_PICTURES, 1024, 448, "apache-2.0", "photos and videos by words"
    ),
    _known(
        "openclip:ViT-B-32/laion2b_s34b_b79k", _TEXT_AND_PICTURES, 512, 151, "mit", "photos by words, small and fast"
    ),
)  # fmt: skip
"""Models that are known to run, the larger number of modalities first.

What stands here was read on the cards and in the documentation of the models; a value of None is not known for sure.
"""


def list_encoders() -> list[EncoderEntry]:
    """Return the encoders: built in, of packages, pulled, bound, then known ones that are not pulled."""
    entries = [_built_in(name) for name in LISTED]
    entries += [_loaded(name, State.PACKAGE) for name in package_encoders()]
    models = [model for model in list_models() if other_use(model.name) is None]
    entries += [_installed(model) for model in models]
    there = {model.name for model in models}
    return entries + [known for known in KNOWN if known.name not in there]


def fitting_encoders(entries: Sequence[EncoderEntry], purpose: str) -> list[EncoderEntry]:
    """Return the encoders that fit a purpose, those that are there first, then the smaller ones.

    Args:
        entries: Encoders to choose from.
        purpose: Requirements with commas between them, such as "free licence, all media, CPU"; see REQUIREMENTS.

    Raises:
        UsageError: a requirement is unknown.
    """
    requirements = [_requirement(text.strip().lower()) for text in purpose.split(",") if text.strip()]
    if not requirements:
        raise UsageError(f"the purpose is empty: give requirements, such as {EXAMPLE!r}")
    usable = (entry for entry in entries if not entry.problem)
    fitting = [entry for entry in usable if all(requirement(entry) for requirement in requirements)]
    return sorted(fitting, key=lambda entry: (entry.state is State.TO_PULL, entry.parameters_m or 0))


Requirement = Callable[[EncoderEntry], bool]

EXAMPLE = "free licence, all media, CPU"

_MEDIA = frozenset({Modality.TEXT, Modality.IMAGE, Modality.VIDEO, Modality.AUDIO})
_NAMES = {
    **{modality.value: modality for modality in Modality},
    "photo": Modality.IMAGE,
    "picture": Modality.IMAGE,
    "sound": Modality.AUDIO,
    "motion": Modality.IMU,
}
REQUIREMENTS: Mapping[str, Requirement] = {
    "free licence": lambda entry: entry.is_free is True,
    "all media": lambda entry: set(entry.modalities) >= _MEDIA,
    "all modalities": lambda entry: len(entry.modalities) == len(Modality),
    "cpu": lambda entry: entry.needs == "cpu",
    "no download": lambda entry: entry.state is not State.TO_PULL,
    "many languages": lambda entry: entry.languages == MANY_LANGUAGES,
}
"""Requirements by their words; besides, the names of modalities, in the singular or the plural."""


def _requirement(text: str) -> Requirement:
    """Return the test of a requirement; raise UsageError if it is unknown."""
    text = text.replace("license", "licence")
    if text in REQUIREMENTS:
        return REQUIREMENTS[text]
    modality = _NAMES.get(text, _NAMES.get(text.removesuffix("s")))
    if modality is None:
        known = [*REQUIREMENTS, *_NAMES]
        near = did_you_mean(text, known)
        raise UsageError(f"unknown requirement {shown(text)}: {near}choose from {', '.join(known)}")
    return lambda entry: modality in entry.modalities


def _built_in(name: str) -> EncoderEntry:
    """Return the entry of an encoder whose weights are part of the installation."""
    encoder = load_encoder(name)
    facts = json.loads((Path(__file__).parent / name / "facts.json").read_text(encoding="utf-8"))
    size_bytes = sum(file.stat().st_size for file in weight_files())
    return EncoderEntry(name, State.BUILT_IN, _sorted(encoder.modalities), encoder.dim, size_bytes, **facts)


def _loaded(name: str, state: State) -> EncoderEntry:
    """Return the entry of an encoder by loading it; its problem if it does not load."""
    try:
        encoder: Encoder = load_encoder(name)
        return EncoderEntry(name, state, _sorted(encoder.modalities), encoder.dim)
    except BindSearchError as error:
        return EncoderEntry(name, state, (), problem=str(error))


def _installed(model: ModelManifest) -> EncoderEntry:
    """Return the entry of an installed model."""
    state = State.BOUND if model.name.startswith(BOUND_PREFIX) else State.PULLED
    loaded = _loaded(model.name, state)
    known = next((one for one in KNOWN if one.name == model.name), None)
    if known is None:
        is_free = is_free_license(model.license) or None
        known = EncoderEntry(model.name, state, (), license=model.license, is_free=is_free)
    modalities, dim, problem = loaded.modalities, loaded.dim, loaded.problem
    size = sum(file.size_bytes for file in model.files.values())
    return replace(known, state=state, modalities=modalities, dim=dim, size_bytes=size, problem=problem)
