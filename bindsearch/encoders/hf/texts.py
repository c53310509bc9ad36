"""Texts as token ids, by the tokenizer files of a model, and batches of them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bindsearch.encoders.hf.adapter import read_json
from bindsearch.encoders.hf.library import library_errors
from bindsearch.encoders.torch_runtime.towers import Towers, on_device
from bindsearch.errors import EncoderError, MediaError

if TYPE_CHECKING:
    import torch
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
    def pad_token(self) -> int:
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
        """The tokenizer as the library loads it."""
        with library_errors(self._folder):
            from transformers import AutoTokenizer

            return AutoTokenizer.from_pretrained(self._folder, local_files_only=True, trust_remote_code=False)

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


class TokenizedTexts:
    """Members of an adapter whose texts are read by the tokenizer of its repository."""

    _tokenizer: HubTokenizer

    @property
    def max_tokens(self) -> int:
        """Maximum number of tokens: those of the text tower, or less if the tokenizer takes less."""
        return self._tokenizer.max_tokens

    @property
    def pad_token(self) -> int:
        """Id of the token that texts are padded with."""
        return self._tokenizer.pad_token

    def count_tokens(self, text: str) -> int:
        """Return the number of tokens of a text, including special tokens."""
        return self._tokenizer.count_tokens(text)


def run_texts(towers: Towers, tower: str, tokens: Sequence[NDArray[np.int64]], pad_token: int) -> NDArray[np.float32]:
    """Run n texts through a text tower that takes ids and attention masks.

    Texts of similar length share a batch, which is padded to the longest one.

    Args:
        towers: Towers of the model.
        tower: Name of the text tower.
        tokens: Token ids of each text, int64 (length,).
        pad_token: Id of the token to pad with.

    Returns:
        Features, float32 (n, d).
    """
    order = np.argsort([len(ids) for ids in tokens], kind="stable")
    padded = np.zeros((len(tokens), 2, max(map(len, tokens), default=0)), np.int64)
    padded[:, 0] = pad_token
    for row, number in zip(padded, order, strict=True):
        row[0, : len(tokens[number])] = tokens[number]
        row[1, : len(tokens[number])] = 1
    in_order = towers.run(tower, list(padded), _trim)
    features = np.empty_like(in_order)
    features[order] = in_order
    return features


def _trim(padded: NDArray[np.int64], device: torch.device) -> torch.Tensor:
    """Return ids and masks, int64 (n, 2, length), without the columns after the longest text."""
    return on_device(np.ascontiguousarray(padded[..., : padded[:, 1].sum(axis=1).max()]), device)
