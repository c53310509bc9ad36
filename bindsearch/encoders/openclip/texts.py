"""Tokenizers of open_clip models, and the configuration of text towers of the transformers library."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from bindsearch.encoders.openclip.text_settings import cleaning_of, context_tokens
from bindsearch.encoders.preprocessing.clip_tokenizer import clip_tokenizer, open_clip_tokenizers
from bindsearch.encoders.preprocessing.hub_tokenizer import HubTokenizer, TokenizerFiles
from bindsearch.errors import EncoderError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


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
        clean=partial(_clean, cleaning_of(text)),
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


def _clean(how: str, text: str) -> str:
    """Clean a text with the functions of open_clip, which are loaded on first use."""
    cleaned: str = open_clip_tokenizers().get_clean_fn(how)(text)
    return cleaned
