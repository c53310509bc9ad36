"""CLIP's byte-pair encoding of text (Radford et al. 2021, section 2.4), around open_clip's SimpleTokenizer.

Importing this module loads neither torch nor open_clip; the vocabulary is read at the first text.
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
"""Positions of CLIP's text tower: the longest text, its start and end token included."""

_SPECIAL_TOKENS = 2
_LONGEST_WORD = CONTEXT_TOKENS * 32
"""Bytes; no token is longer than 32, so what is longer fits nowhere: cut here, its count still is above 77."""
_WORDS_KEPT = 50_000
"""Words whose tokens are remembered, about 10 MB; SimpleTokenizer by itself would remember all it ever saw."""

_SPECIAL_IN_TEXT = re.compile(r"<(?=(?:start|end)_of_text>)", re.IGNORECASE)


class ClipTokenizer:
    """Counts and makes tokens. Thread-safe; the vocabulary loads on first use."""

    max_tokens = CONTEXT_TOKENS

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._bpe: Any = None

    def count_tokens(self, text: str) -> int:
        """Tokens of `text`, the start and the end token included."""
        return len(self.encode(text)) + _SPECIAL_TOKENS

    def tokenize(self, text: str) -> NDArray[np.int64]:
        """Token ids int64 (1, length), not padded: start token, text, end token.

        Raises:
            MediaError: there is no word in the text, or it has more than `max_tokens` tokens; nothing is cut unseen.
        """
        ids = self.encode(text)
        if not ids:
            raise MediaError(f"text {text[:40]!r} has no words; give at least one")
        if len(ids) + _SPECIAL_TOKENS > self.max_tokens:
            raise MediaError(
                f"text has {len(ids) + _SPECIAL_TOKENS} tokens, more than {self.max_tokens}; cut it into passages"
            )
        return np.asarray([[self.start_token, *ids, self.end_token]], dtype=np.int64)

    def encode(self, text: str) -> list[int]:
        """Token ids of `text` without start and end token.

        As SimpleTokenizer does it, except that a text which spells out a special token gets the letters' tokens: the
        tower would take an end token for the end.
        """
        with self._lock:
            bpe = self._loaded()
            return [bpe.encoder[part] for word in self._words(bpe, text) for part in bpe.bpe(word).split(" ")]

    @property
    def start_token(self) -> int:
        """49406."""
        with self._lock:
            return int(self._loaded().sot_token_id)

    @property
    def end_token(self) -> int:
        """49407, the highest id: the tower finds the end by it."""
        with self._lock:
            return int(self._loaded().eot_token_id)

    def _loaded(self) -> Any:
        if self._bpe is None:
            self._bpe = _open_clip_tokenizer().SimpleTokenizer(context_length=CONTEXT_TOKENS)
        if len(self._bpe.cache) > _WORDS_KEPT:
            self._bpe.cache.clear()
        return self._bpe

    @staticmethod
    def _words(bpe: Any, text: str) -> Iterator[str]:
        """Lower-case words, each with its UTF-8 bytes as letters of the vocabulary."""
        whole = text.encode(errors="replace").decode()  # halves of letters have no bytes
        for word in bpe.pat.findall(_SPECIAL_IN_TEXT.sub("< ", bpe.clean_fn(whole))):
            letters = "".join(bpe.byte_encoder[byte] for byte in word.encode())
            for start in range(0, len(letters), _LONGEST_WORD):
                yield letters[start : start + _LONGEST_WORD]


def _open_clip_tokenizer() -> ModuleType:
    """open_clip's module `tokenizer`, run by itself: importing its package would take seconds and 200 MB."""
    path = packaged_file("open_clip", "open_clip_torch", "tokenizer.py")
    spec = spec_from_file_location("bindsearch.encoders._open_clip_tokenizer", path)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@lru_cache(maxsize=1)
def clip_tokenizer() -> ClipTokenizer:
    """The one tokenizer that everything in the process shares: its vocabulary takes 20 MB."""
    return ClipTokenizer()


def pad_tokens(tokens: Sequence[NDArray[np.int64]], length: int | None = None) -> torch.Tensor:
    """n arrays of token ids int64 (1, length) each as int64 (n, longest), or (n, length): zeros behind the end token.

    Attention is causal and the embedding is read at the end token, so what stands behind it does not matter.
    """
    import torch

    padded = torch.zeros(len(tokens), length or max(ids.shape[1] for ids in tokens), dtype=torch.int64)
    for row, ids in enumerate(tokens):
        padded[row, : ids.shape[1]] = torch.from_numpy(ids[0])
    return padded


def tokenize(texts: str | Sequence[str]) -> torch.Tensor:
    """Texts as the published ImageBind and CLIP code tokenizes them, for parity: int64 (n, 77), padded with zeros.

    A longer text is cut and its last token replaced by the end token. An empty one is a start and an end token.
    """
    tokenizer = clip_tokenizer()
    rows = []
    for text in [texts] if isinstance(texts, str) else texts:
        kept = tokenizer.encode(text)[: CONTEXT_TOKENS - _SPECIAL_TOKENS]
        rows.append(np.asarray([[tokenizer.start_token, *kept, tokenizer.end_token]], dtype=np.int64))
    return pad_tokens(rows, CONTEXT_TOKENS)
