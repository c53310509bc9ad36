"""Base of adapters, what differs between types of models, and the adapter of a folder by its `model_type`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar

from bindsearch.encoders.model_store.snapshot_files import read_json
from bindsearch.errors import EncoderError
from bindsearch.media import DecodeHints, Media
from bindsearch.types import Modality

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray
    from torch import nn

    from bindsearch.encoders.hf.texts import HubTokenizer
    from bindsearch.encoders.preprocessing.clip_tokenizer import ClipTokenizer

Options = Mapping[str, str | int | float | bool]

CONFIG_FILE = "config.json"
PREPROCESSOR_FILE = "preprocessor_config.json"
PROCESSOR_FILE = "processor_config.json"

MODEL_TYPES: Mapping[str, str] = MappingProxyType(
    {
        "clap": "bindsearch.encoders.hf.clap",
        "owlv2": "bindsearch.encoders.hf.owl",
        "owlvit": "bindsearch.encoders.hf.owl",
        "pe_audio_video": "bindsearch.encoders.hf.pe_audio_video",
        **{
            f"LanguageBind{part}": "bindsearch.encoders.hf.languagebind"
            for part in ("Image", "Video", "Audio", "Depth", "Thermal")
        },
    }
)
"""Module with the class `Adapter` of each `model_type` of config.json."""


class ModelAdapter(ABC):
    """Preprocessing and towers of one type of model; created without loading torch.

    Prepared texts are token ids, int64 (1, length); the tower of texts takes ids and attention masks, int64
    (n, 2, length), padded with `tokenizer.pad`. Other towers take stacked views as `prepare` returns them.

    Attributes:
        dim: Dimension d of the embedding space.
        modalities: Modalities that the model embeds.
        libraries: Modules that each modality needs.
        options: Options that determine the vectors, with those of the model's own files.
        settable: Names of the options that can be set.
        other_digests: Digests of the files of further models, whose towers it uses too.
        wants: Sizes and rates that decoders should deliver media in.
        tokenizer: Tokenizer of texts.
    """

    dim: int
    modalities: frozenset[Modality]
    libraries: Mapping[Modality, tuple[str, ...]]
    options: Options = MappingProxyType({})
    settable: ClassVar[tuple[str, ...]] = ()
    other_digests: tuple[str, ...] = ()
    wants: DecodeHints
    tokenizer: HubTokenizer | ClipTokenizer

    @abstractmethod
    def prepare(self, media: Media) -> NDArray[Any]:
        """Preprocess one medium of a modality that the model embeds: array (views, ...); thread-safe.

        Raises:
            MediaError: the medium has no content to encode.
        """

    @abstractmethod
    def temperatures(self, target: Modality | None) -> Mapping[Modality, float]:
        """Return the logit scale of each modality, from the tensors of the model; for `target` see `tower_of`."""

    def tower_of(self, modality: Modality, target: Modality | None) -> str:  # noqa: ARG002  (of some models)
        """Return the name of the tower that embeds a modality.

        Args:
            modality: Modality of what is embedded.
            target: Modality that a query searches; None: several, or it is no query.
        """
        return modality.value

    def most_views(self, tower: str) -> int | None:  # noqa: ARG002  (of some models)
        """Return the most views in a batch of a tower; None: that of the device."""
        return None

    @abstractmethod
    def load(self, tower: str, device: torch.device, dtype: torch.dtype) -> nn.Module:
        """Return a tower in eval mode: a module that maps its input to vectors (n, d).

        Raises:
            EncoderError: the files of the model lack tensors, or are damaged.
        """


def check_model_type(config: Mapping[str, Any], name: str) -> str:
    """Return the type of a model, one of MODEL_TYPES.

    Raises:
        EncoderError: no adapter runs that type.
    """
    found = config.get("model_type")
    if not isinstance(found, str) or found not in MODEL_TYPES:
        raise EncoderError(
            f"{name} is a model of the type {found!r}, which does not run: the types are {', '.join(MODEL_TYPES)}"
        )
    return found


def find_adapter(folder: Path, name: str, options: Options) -> ModelAdapter:
    """Return the adapter of the model in a folder; it reads the options that can be set, and ignores others.

    Raises:
        EncoderError: as `check_model_type`, or a file of the model is missing or damaged.
        UsageError: the value of an option is invalid.
    """
    module = import_module(MODEL_TYPES[check_model_type(read_json(folder / CONFIG_FILE), name)])
    adapter: ModelAdapter = module.Adapter(folder, name, options)
    return adapter
