"""Tokenizers published as tokenizer.json, with the library tokenizers alone: no code of a repository is run."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bindsearch.errors import EncoderError, MediaError

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from tokenizers import Encoding, Tokenizer

_PAD_TOKENS = ("<pad>", "[PAD]")
"""Padding of tokenizers whose settings do not name it: that of RoBERTa and its relatives, and that of BERT."""

_NLLB_LANGUAGE = "eng_Latn"
"""Language of texts unless the settings name one (NllbTokenizer of the transformers library)."""


@dataclass(frozen=True, slots=True)
class TokenizerFiles:
    """Published files of a tokenizer: tokenizer.json, and tokenizer_config.json if there is one."""

    tokenizer: Path
    settings: Path | None


class HubTokenizer:
    """Tokenizer of a published model; thread-safe, the files are read on first use."""

    def __init__(
        self,
        files: Callable[[], TokenizerFiles],
        max_tokens: int,
        *,
        clean: Callable[[str], str],
        language: str | None = None,
        stripped_separator: bool = False,
    ) -> None:
        """Prepare for loading.

        Args:
            files: Returns the files.
            max_tokens: Positions of the text tower.
            clean: Cleans a text before it is tokenized.
            language: Language code that multilingual tokenizers of NLLB begin a text with; None: that of the settings.
            stripped_separator: Replace the separator at the end by token 0, like open_clip's `strip_sep_token`.
        """
        self.max_tokens = max_tokens
        self._files = files
        self._clean = clean
        self._language = language
        self._stripped_separator = stripped_separator
        self._lock = threading.Lock()
        self._loaded: Tokenizer | None = None
        self._pad: int | None = None
        self._separator: int | None = None
        self._special = re.compile(r"(?!)")

    def count_tokens(self, text: str) -> int:
        """Return the number of tokens of a text, including special tokens."""
        return len(self._encode(text).ids)

    def tokenize(self, text: str) -> NDArray[np.int64]:
        """Return token ids, int64 (1, length), not padded, with special tokens.

        Raises:
            MediaError: the text has no words, or more than `max_tokens` tokens; it is not truncated.
            EncoderError: a file of the tokenizer is missing or damaged.
        """
        encoding = self._encode(text)
        if all(encoding.special_tokens_mask):
            raise MediaError(f"text {text[:40]!r} has no words; give at least one")
        if (count := len(encoding.ids)) > self.max_tokens:
            raise MediaError(f"text has {count} tokens, more than {self.max_tokens}; split it into passages")
        ids = np.asarray([encoding.ids], dtype=np.int64)
        return np.where(ids == self._separator, 0, ids) if self._stripped_separator else ids

    @property
    def pad(self) -> int:
        """Id of the padding.

        Raises:
            EncoderError: a file of the tokenizer is missing or damaged, or names no padding.
        """
        with self._lock:
            self._load()
            if self._pad is None:
                raise EncoderError(f"{self._files().tokenizer} has no padding: pull the model again")
            return self._pad

    def _encode(self, text: str) -> Encoding:
        """Return the tokens of a text; special tokens spelled out in it are tokenized as ordinary characters."""
        valid = text.encode(errors="replace").decode()  # lone surrogates cannot be encoded
        with self._lock:
            tokenizer = self._load()
            # In two parts: the vocabulary has no such token, and the tower sees characters.
            spaced = self._special.sub(lambda special: f"{special[0][0]} {special[0][1:]}", self._clean(valid))
            encoding: Encoding = tokenizer.encode(spaced)
        return encoding

    def _load(self) -> Tokenizer:
        """Return the tokenizer, read on first use; the lock is held."""
        if self._loaded is None:
            files = self._files()
            tokenizer = read_tokenizer(files.tokenizer, "pull the model again")
            settings = read_settings(files.settings, "settings of a tokenizer") if files.settings else {}
            _set_special_tokens(tokenizer, settings, self._language)
            self._pad = _id_of(tokenizer, settings.get("pad_token"), _PAD_TOKENS)
            self._separator = _id_of(tokenizer, settings.get("sep_token"), ("[SEP]", "</s>"))
            special = [token.content for token in tokenizer.get_added_tokens_decoder().values() if token.special]
            longest_first = sorted((token for token in special if len(token) > 1), key=len, reverse=True)
            self._special = re.compile("|".join(map(re.escape, longest_first)) or r"(?!)")
            self._loaded = tokenizer
        return self._loaded


def read_tokenizer(path: Path, way_out: str) -> Tokenizer:
    """Read tokenizer.json, without its truncation and padding: no text is truncated silently.

    Raises:
        EncoderError: the file is missing or damaged; the message ends with the way out.
    """
    from tokenizers import Tokenizer

    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # tokenizers raises a plain Exception for all errors
        raise EncoderError(f"cannot read the tokenizer {path} ({error}): {way_out}") from error
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def read_settings(path: Path, what: str) -> Mapping[str, Any]:
    """Return the JSON object in a file of a model, which has `what`; raise EncoderError if it is damaged."""
    try:
        settings = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise EncoderError(f"cannot read {path} ({error}): pull the model again") from error
    if not isinstance(settings, dict):
        raise EncoderError(f"{path} holds no {what}: pull the model again")
    return settings


def _set_special_tokens(tokenizer: Tokenizer, settings: Mapping[str, Any], language: str | None) -> None:
    """Set the tokens around a text as the transformers library does by the class and the settings of a tokenizer."""
    from tokenizers.processors import TemplateProcessing

    kind = str(settings.get("tokenizer_class", "")).removesuffix("Fast")
    end = _text_of(settings.get("eos_token")) or "</s>"
    if kind == "NllbTokenizer":
        code = language or settings.get("src_lang") or _NLLB_LANGUAGE
        parts = ["$A", end, code] if settings.get("legacy_behaviour") else [code, "$A", end]
    elif language is not None:
        raise EncoderError(f"a tokenizer of the class {kind!r} has no languages: {language!r} cannot be set")
    elif kind in ("GemmaTokenizer", "LlamaTokenizer") and {"add_bos_token", "add_eos_token"} & settings.keys():
        start = [_text_of(settings.get("bos_token")) or "<bos>"] if settings.get("add_bos_token", True) else []
        parts = [*start, "$A", *([end] if settings.get("add_eos_token", False) else [])]
    else:
        return
    tokens = [(token, tokenizer.token_to_id(token)) for token in parts if token != "$A"]
    if missing := [token for token, number in tokens if number is None]:
        raise EncoderError(f"the tokenizer has no token {missing[0]!r}, which its settings name: pull the model again")
    tokenizer.post_processor = TemplateProcessing(single=" ".join(parts), special_tokens=tokens)


def _id_of(tokenizer: Tokenizer, named: object, usual: tuple[str, ...]) -> int | None:
    """Return the id of a special token that settings name, or else of a usual one; None: the tokenizer has none."""
    candidates = (token,) if (token := _text_of(named)) else usual
    ids = (tokenizer.token_to_id(candidate) for candidate in candidates)
    return next((number for number in ids if number is not None), None)


def _text_of(token: object) -> str | None:
    """Return a special token of tokenizer_config.json, which is a text or an object with one."""
    content = token.get("content") if isinstance(token, Mapping) else token
    return content if isinstance(content, str) else None
