"""Texts of an open_clip model by its text configuration: tokenizer, padding and their files; no torch is loaded."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from bindsearch.encoders.preprocessing.clip_tokenizer import clip_tokenizer, open_clip_tokenizers
from bindsearch.encoders.preprocessing.hub_tokenizer import HubTokenizer, TokenizerFiles
from bindsearch.errors import EncoderError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

CONTEXT_TOKENS = 77
"""Positions of a text tower whose configuration states none, in open_clip."""

TOKENIZER_FILE = "tokenizer.json"
TOKENIZER_SETTINGS_FILE = "tokenizer_config.json"
TOWER_CONFIG_FILE = "text_config.json"
"""Configuration of a text tower of the transformers library; `config.json` in its repository."""

CLEANINGS = ("lower", "whitespace", "canonicalize")
"""Ways to clean a text before it is tokenized, in open_clip's terms."""

TOWER_FAMILIES = ("bert", "m2m_100", "mt5", "roberta", "xlm-roberta")
"""Types of text towers of the transformers library that open_clip can use."""

_TOKENIZER_OPTIONS = frozenset({"clean", "strip_sep_token", "language"})


class Tokenizer(Protocol):
    """Tokenizer of a model, that of CLIP or a published one; thread-safe."""

    max_tokens: int

    @property
    def pad(self) -> int:
        """Id of the padding."""

    def count_tokens(self, text: str) -> int:
        """Return the number of tokens of a text, including special tokens."""

    def tokenize(self, text: str) -> NDArray[np.int64]:
        """Return token ids, int64 (1, length), not padded."""


def make_tokenizer(text: Mapping[str, Any], files: Callable[[], TokenizerFiles]) -> Tokenizer:
    """Return the tokenizer of a model; nothing is read yet.

    Args:
        text: Text configuration of the model.
        files: Returns the files of a published tokenizer.
    """
    if not text.get("hf_tokenizer_name"):
        return clip_tokenizer(context_tokens(text), cleaning_of(text))
    options = text.get("tokenizer_kwargs") or {}
    return HubTokenizer(
        files,
        context_tokens(text),
        clean=lambda given: str(open_clip_tokenizers().get_clean_fn(cleaning_of(text))(given)),
        language=options.get("language"),
        stripped_separator=bool(options.get("strip_sep_token", False)),
    )


def read_tower_config(path: Path) -> Mapping[str, Any]:
    """Read the configuration of a text tower of the transformers library.

    Raises:
        EncoderError: the file is damaged.
    """
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise EncoderError(f"cannot read {path} ({error}): pull the model again") from error
    if not isinstance(config, dict):
        raise EncoderError(f"{path} holds no configuration of a model: pull the model again")
    return config


def context_tokens(text: Mapping[str, Any]) -> int:
    """Return the maximum number of tokens of a text."""
    return int(text.get("context_length", CONTEXT_TOKENS))


def reads_padding(text: Mapping[str, Any]) -> bool:
    """Return whether the padding of a text changes its vector: it must then be as long as in training."""
    if text.get("hf_model_name"):
        return False  # masked
    after_padding = text.get("embed_cls") or text.get("pool_type", "argmax") == "last"
    return bool(text.get("no_causal_mask") or after_padding)


def cleaning_of(text: Mapping[str, Any]) -> str:
    """Return how a text is cleaned: as configured, or the default of open_clip's tokenizer."""
    default = "whitespace" if text.get("hf_tokenizer_name") else "lower"
    return str((text.get("tokenizer_kwargs") or {}).get("clean", default))


def text_obstacle(text: Mapping[str, Any]) -> str | None:
    """Return why texts cannot be tokenized or embedded; None if they can."""
    options = text.get("tokenizer_kwargs") or {}
    if mode := text.get("tokenizer_mode"):
        return f"its text is tokenized in the mode {mode!r}"
    if unknown := sorted(options.keys() - _TOKENIZER_OPTIONS):
        return f"its tokenizer has the option {unknown[0]!r}"
    if cleaning_of(text) not in CLEANINGS:
        return f"its text is cleaned by {cleaning_of(text)!r}"
    if text.get("hf_model_name") and not text.get("hf_tokenizer_name"):
        return "its text tower has no tokenizer"
    return None
