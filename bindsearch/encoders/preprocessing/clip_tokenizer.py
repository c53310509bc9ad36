"""CLIP's byte-pair encoding of text (Radford et al. 2021, section 2.4), around open_clip's SimpleTokenizer.

Importing this module loads neither torch nor open_clip; the vocabulary is read on first use.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator, Sequence
from functools import lru_cache
from importlib.util import module_from_spec, spec_from_file_location
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np

from bindsearch.encoders.package_files import packaged_file
from bindsearch.errors import MediaError

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray

CONTEXT_TOKENS = 77
"""Positions of CLIP's text tower: the maximum length of a text, including start and end token."""

START_TOKEN, END_TOKEN = 49_406, 49_407
"""Ids in CLIP's vocabulary; the tower finds the end of a text by the highest id."""

_SPECIAL_TOKENS = 2
_LONGEST_WORD = CONTEXT_TOKENS * 32
"""Bytes after which a word is split: no token is longer than 32 bytes, so the text has more than 77 tokens anyway."""
_WORDS_KEPT = 50_000
"""Maximum number of cached words, about 10 MB; the cache of SimpleTokenizer itself is unbounded."""

_SPECIAL_IN_TEXT = re.compile(r"<(?=(?:start|end)_of_text>)", re.IGNORECASE)


class ClipTokenizer:
    """Tokenizer of CLIP; thread-safe, the vocabulary loads on first use."""

    pad = 0

    def __init__(self, max_tokens: int = CONTEXT_TOKENS, clean: str = "lower") -> None:
        """Take the positions of the text tower, and how texts are cleaned: "lower", "whitespace" or "canonicalize"."""
        self.max_tokens = max_tokens
        self._clean = clean
        self._lock = threading.Lock()
        self._bpe: Any = None

    def count_tokens(self, text: str) -> int:
        """Return the number of tokens of a text, including start and end token."""
        return len(self.encode(text)) + _SPECIAL_TOKENS

    def tokenize(self, text: str) -> NDArray[np.int64]:
        """Return token ids, int64 (1, length), not padded: start token, text, end token.

        Raises:
            MediaError: the text has no words, or more than `max_tokens` tokens; it is not truncated.
        """
        ids = self.encode(text)
        if not ids:
            raise MediaError(f"text {text[:40]!r} has no words; give at least one")
        if (count := len(ids) + _SPECIAL_TOKENS) > self.max_tokens:
            raise MediaError(f"text has {count} tokens, more than {self.max_tokens}; split it into passages")
        return np.asarray([[START_TOKEN, *ids, END_TOKEN]], dtype=np.int64)

    def encode(self, text: str) -> list[int]:
        """Return the token ids of a text without start and end token.

        They are those of SimpleTokenizer, except that a special token spelled out in the text is tokenized as ordinary
        characters: the tower would treat an end token as the end.
        """
        with self._lock:
            bpe = self._loaded()
            return [bpe.encoder[part] for word in self._words(bpe, text) for part in bpe.bpe(word).split(" ")]

    def _loaded(self) -> Any:
        """Return the SimpleTokenizer, loaded on first use; its cache is kept bounded."""
        if self._bpe is None:
            self._bpe = open_clip_tokenizers().SimpleTokenizer(clean=self._clean)
        if len(self._bpe.cache) > _WORDS_KEPT:
            self._bpe.cache.clear()
        return self._bpe

    @staticmethod
    def _words(bpe: Any, text: str) -> Iterator[str]:
        """Yield lower-case words, with their UTF-8 bytes as characters of the vocabulary."""
        valid = text.encode(errors="replace").decode()  # lone surrogates cannot be encoded
        for word in bpe.pat.findall(_SPECIAL_IN_TEXT.sub("< ", bpe.clean_fn(valid))):
            letters = "".join(bpe.byte_encoder[byte] for byte in word.encode())
            for start in range(0, len(letters), _LONGEST_WORD):
                yield letters[start : start + _LONGEST_WORD]


@lru_cache(maxsize=1)
def open_clip_tokenizers() -> ModuleType:
    """Load the module `tokenizer` of open_clip alone: importing the whole package takes seconds and 200 MB."""
    path = packaged_file("open_clip", "open_clip_torch", "tokenizer.py")
    spec = spec_from_file_location("bindsearch.encoders._open_clip_tokenizer", path)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@lru_cache(maxsize=4)
def clip_tokenizer(max_tokens: int = CONTEXT_TOKENS, clean: str = "lower") -> ClipTokenizer:
    """Return a tokenizer that the process shares; see `ClipTokenizer`. Its vocabulary takes 20 MB."""
    return ClipTokenizer(max_tokens, clean)


def pad_tokens(tokens: Sequence[NDArray[np.int64]], length: int | None = None) -> torch.Tensor:
    """Stack token ids, int64 (1, length) each, padded with zeros after the end token: int64 (n, length or the longest).

    Attention is causal and the embedding is read at the end token, so the padding has no effect.
    """
    import torch

    padded = torch.zeros(len(tokens), length or max(ids.shape[1] for ids in tokens), dtype=torch.int64)
    for row, ids in enumerate(tokens):
        padded[row, : ids.shape[1]] = torch.from_numpy(ids[0])
    return padded


def tokenize(texts: str | Sequence[str]) -> torch.Tensor:
    """Tokenize n texts like the published ImageBind and CLIP code, for parity: int64 (n, 77), padded with zeros.

    A longer text is truncated and its last token replaced by the end token. An empty text has a start and an end token.
    """
    tokenizer = clip_tokenizer()
    rows = []
    for text in [texts] if isinstance(texts, str) else texts:
        ids = tokenizer.encode(text)[: CONTEXT_TOKENS - _SPECIAL_TOKENS]
        rows.append(np.asarray([[START_TOKEN, *ids, END_TOKEN]], dtype=np.int64))
    return pad_tokens(rows, CONTEXT_TOKENS)
