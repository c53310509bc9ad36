"""Texts as token ids, by the tokenizer files of a model."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bindsearch.encoders.hf.library import from_folder
from bindsearch.encoders.model_store.snapshot_files import read_json
from bindsearch.errors import EncoderError, MediaError

if TYPE_CHECKING:
    from numpy.typing import NDArray


TOKENIZER_FILE = "tokenizer_config.json"

_TWO_TEXTS = ("a bell 钟 звон जल", "a road 路 море फल")
"""Texts that have equal tokens only if a tokenizer knows no words at all."""


class HubTokenizer:
    """Tokenizer of a model, loaded on first use; its encoding changes no state, so that threads may share it."""

    def __init__(self, folder: Path, max_tokens: int) -> None:
        """Prepare for loading.

        Args:
            folder: Folder with the files of the tokenizer.
            max_tokens: Number of tokens that the text tower takes; the tokenizer's own limit applies if it is lower.
        """
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
