"""Adapter protocol: what differs between types of models, and the adapter of a folder by its `model_type`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Protocol

from bindsearch.errors import EncoderError
from bindsearch.media import DecodeHints, Media
from bindsearch.types import Modality

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray
    from torch import nn

Options = Mapping[str, str | int | float | bool]

CONFIG_FILE = "config.json"
PREPROCESSOR_FILE = "preprocessor_config.json"
PROCESSOR_FILE = "processor_config.json"
MAX_CONFIG_BYTES = 4 << 20
"""Largest JSON file of a model that is read whole."""

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


class Adapter(Protocol):
    """Preprocessing and towers of one type of model; created without loading torch.

    Prepared texts are token ids, int64 (1, length); the tower of texts takes ids and attention masks, int64
    (n, 2, length), padded with `pad_token`. Other towers take stacked views as `prepare` returns them.
    """

    @property
    def dim(self) -> int:
        """Dimension d of the embedding space."""

    @property
    def modalities(self) -> frozenset[Modality]:
        """Modalities that the model embeds."""

    @property
    def libraries(self) -> Mapping[Modality, tuple[str, ...]]:
        """Modules that each modality needs."""

    @property
    def options(self) -> Options:
        """Options that determine the vectors, with those of the model's own files."""

    @property
    def settable(self) -> tuple[str, ...]:
        """Names of the options that can be set."""

    @property
    def other_digests(self) -> tuple[str, ...]:
        """Digests of the files of further models, whose towers it uses too."""

    @property
    def wants(self) -> DecodeHints:
        """Sizes and rates that decoders should deliver media in."""

    @property
    def max_tokens(self) -> int:
        """Maximum length of a passage of text, in tokens."""

    @property
    def pad_token(self) -> int:
        """Id of the token that texts are padded with."""

    def count_tokens(self, text: str) -> int:
        """Return the number of tokens of a text, including special tokens."""

    def prepare(self, media: Media) -> NDArray[Any]:
        """Preprocess one medium of a modality that the model embeds: array (views, ...); thread-safe.

        Raises:
            MediaError: the medium has no content to encode.
        """

    def temperatures(self, target: Modality | None) -> Mapping[Modality, float]:
        """Return the logit scale of each modality, from the tensors of the model; for `target` see `tower_of`."""

    def tower_of(self, modality: Modality, target: Modality | None) -> str:
        """Return the name of the tower that embeds a modality.

        Args:
            modality: Modality of what is embedded.
            target: Modality that a query searches; None: several, or it is no query.
        """

    def most_views(self, tower: str) -> int | None:
        """Return the most views in a batch of a tower; None: that of the device."""

    def load(self, tower: str, device: torch.device, dtype: torch.dtype) -> nn.Module:
        """Return a tower in eval mode: a module that maps its input to vectors (n, d).

        Raises:
            EncoderError: the files of the model lack tensors, or are damaged.
        """


def read_json(path: Path) -> dict[str, Any]:
    """Return the object of a JSON file of a model.

    Raises:
        EncoderError: the file is missing, too large or damaged.
    """
    try:
        if (size := path.stat().st_size) > MAX_CONFIG_BYTES:
            raise EncoderError(f"{path} has {size} bytes: a configuration has at most {MAX_CONFIG_BYTES}")
        data = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise EncoderError(f"{path} cannot be read ({error.strerror}): pull the model again") from error
    except (ValueError, RecursionError) as error:
        raise EncoderError(f"{path} is not JSON ({error}): pull the model again") from error
    if not isinstance(data, dict):
        raise EncoderError(f"{path} is not a JSON object: pull the model again")
    return data


def check_model_type(config: Mapping[str, Any], name: str) -> str:
    """Return the type of a model, one of MODEL_TYPES.

    Args:
        config: Contents of config.json.
        name: Name of the model, for messages.

    Raises:
        EncoderError: no adapter runs that type.
    """
    found = config.get("model_type")
    if not isinstance(found, str) or found not in MODEL_TYPES:
        raise EncoderError(
            f"{name} is a model of the type {found!r}, which does not run: the types are {', '.join(MODEL_TYPES)}"
        )
    return found


def find_adapter(folder: Path, name: str, options: Options) -> Adapter:
    """Return the adapter of the model in a folder.

    Args:
        folder: Folder with the files of the model.
        name: Name of the model, for messages.
        options: Options by name; an adapter reads those that can be set, and ignores others.

    Raises:
        EncoderError: as `check_model_type`, or a file of the model is missing or damaged.
        UsageError: the value of an option is invalid.
    """
    module = import_module(MODEL_TYPES[check_model_type(read_json(folder / CONFIG_FILE), name)])
    adapter: Adapter = module.Adapter(folder, name, options)
    return adapter
