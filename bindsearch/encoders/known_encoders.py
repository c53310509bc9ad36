"""Encoders that can be chosen, with the facts that are known before anything is loaded or downloaded.

What stands here was read on the cards and in the documentation of the models; a value of None is not known for sure.
"""

from __future__ import annotations

from dataclasses import dataclass

from bindsearch.encoders.model_store.source import is_free_license
from bindsearch.types import Modality

_TEXT_AND_PICTURES = (Modality.TEXT, Modality.IMAGE, Modality.VIDEO)
_SOUND = (Modality.TEXT, Modality.AUDIO)
_FOUR = (*_TEXT_AND_PICTURES, Modality.AUDIO)

MANY_LANGUAGES = "many"
"""Languages of a model that was trained on many."""


@dataclass(frozen=True, slots=True)
class KnownEncoder:
    """Facts of an encoder.

    Attributes:
        name: Name that it is loaded by.
        modalities: Modalities that it embeds.
        dim: Dimension d of its space; None: not known here.
        parameters_m: Number of parameters in millions; None: not known here.
        license: Licence of the weights, as the hub writes it.
        good_for: What to choose it for, one line.
        languages: "en", several, "many", or "" for an encoder without text.
        needs: What it should run on: "cpu", or "gpu" where a CPU takes seconds for one medium.
    """

    name: str
    modalities: tuple[Modality, ...]
    dim: int | None
    parameters_m: int | None
    license: str
    good_for: str
    languages: str = "en"
    needs: str = "cpu"

    @property
    def is_free(self) -> bool:
        """Return whether the licence allows any use, also commercial."""
        return is_free_license(self.license)


_GPU = {"needs": "gpu"}
_MANY = {"languages": MANY_LANGUAGES}

KNOWN = (
    KnownEncoder(
        "imagebind-huge", tuple(Modality), 1024, 1200, "cc-by-nc-sa-4.0",
        "all seven modalities in one space, for research", **_GPU,
    ),
    KnownEncoder(
        "st:google/embeddinggemma-2", _FOUR, 768, 740, "apache-2.0",
        "text, pictures, videos and sounds in one space, free; pictures with captions; 512, 256, 128 dimensions",
        **_MANY, **_GPU,
    ),
    KnownEncoder(
        "st:Qwen/Qwen3-VL-Embedding-2B", _TEXT_AND_PICTURES, 2048, 2000, "apache-2.0",
        "text in pictures, screenshots, documents; instructions", **_MANY, **_GPU,
    ),
    KnownEncoder(
        "hf:facebook/pe-av-small", (*_SOUND, Modality.VIDEO), None, None, "apache-2.0",
        "videos together with their sound", **_GPU,
    ),
    KnownEncoder("hf:laion/clap-htsat-unfused", _SOUND, 512, 154, "apache-2.0", "sounds of any kind by words"),
    KnownEncoder(
        "openclip:ViT-B-16-SigLIP2/webli", _TEXT_AND_PICTURES, 768, 375, "apache-2.0",
        "photos by words in many languages", **_MANY,
    ),
    KnownEncoder(
        "openclip:xlm-roberta-base-ViT-B-32/laion5b_s13b_b90k", _TEXT_AND_PICTURES, 512, 366, "mit",
        "photos by words in many languages, fast", **_MANY,
    ),
    KnownEncoder(
        "openclip:PE-Core-B-16/meta", _TEXT_AND_PICTURES, 1024, 448, "apache-2.0", "photos and videos by words"
    ),
    KnownEncoder(
        "openclip:ViT-B-32/laion2b_s34b_b79k", _TEXT_AND_PICTURES, 512, 151, "mit", "photos by words, small and fast"
    ),
)  # fmt: skip
"""Models that are known to run, the larger number of modalities first."""
