"""Base of adapters, what differs between types of models, and the adapter of a folder by its `model_type`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from functools import cached_property
from importlib import import_module
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from bindsearch.encoders.hf.library import from_folder
from bindsearch.encoders.model_store.snapshot_files import read_json
from bindsearch.errors import EncoderError, MediaError
from bindsearch.media import DecodeHints, Media
from bindsearch.types import Modality

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray
    from torch import nn

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


TOKENIZER_FILE = "tokenizer_config.json"

_TWO_TEXTS = ("a bell 钟 звон जल", "a road 路 море फल")
"""Texts that have equal tokens only if a tokenizer knows no words at all."""


class HubTokenizer:
    """Tokenizer of a model, loaded on first use; its encoding changes no state, so that threads may share it."""

    def __init__(self, folder: Path, max_tokens: int) -> None:
        """Take the folder of its files, and the limit of the text tower; its own limit applies if it is lower."""
        self._folder = folder
        self._tower_tokens = max_tokens

    @cached_property
    def max_tokens(self) -> int:
        """Maximum number of tokens of a text, including special tokens."""
        path = self._folder / TOKENIZER_FILE
        stated = read_json(path).get("model_max_length") if path.is_file() else None
        return int(min(stated, self._tower_tokens)) if isinstance(stated, int | float) else self._tower_tokens

    @property
    def pad(self) -> int:
        """Id of the token that texts are padded with."""
        return int(self._loaded.pad_token_id or 0)

    def count_tokens(self, text: str) -> int:
        """Return the number of tokens of a text, including special tokens."""
        return len(self._backend.encode(text).ids)

    def tokenize(self, text: str) -> NDArray[np.int64]:
        """Return the token ids of a text with its special tokens, int64 (1, length).

        Raises:
            MediaError: the text is blank or too long.
        """
        if not text.strip():
            raise MediaError("the text is empty: give at least one word")
        ids = self._backend.encode(text).ids
        if len(ids) > self.max_tokens:
            raise MediaError(f"the text has {len(ids)} tokens: the text tower takes at most {self.max_tokens}")
        return np.array([ids], np.int64)

    @cached_property
    def _loaded(self) -> Any:
        return from_folder(self._folder, "AutoTokenizer", trust_remote_code=False)

    @cached_property
    def _backend(self) -> Any:
        """The tokenizer without padding and truncation, which the library switches on and off at each call."""
        backend = self._loaded.backend_tokenizer
        backend.no_padding()
        backend.no_truncation()
        first, second = (backend.encode(text).ids for text in _TWO_TEXTS)
        if first == second:  # without its files, the library makes a tokenizer without words
            raise EncoderError(
                f"the tokenizer in {self._folder} gives different texts the same tokens, so its files are missing or "
                "damaged: pull the model again, from a folder with tokenizer.json"
            )
        return backend


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
