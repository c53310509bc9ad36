"""Texts of an open_clip model by its text configuration: tokenizer, padding and their files; no torch is loaded."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from bindsearch.encoders.preprocessing.clip_tokenizer import ClipTokenizer, clip_tokenizer, open_clip_tokenizers
from bindsearch.encoders.preprocessing.hub_tokenizer import HubTokenizer, TokenizerFiles

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


def make_tokenizer(text: Mapping[str, Any], files: Callable[[], TokenizerFiles]) -> ClipTokenizer | HubTokenizer:
    """Return the tokenizer of a model; nothing is read yet."""
    max_tokens = int(text.get("context_length", CONTEXT_TOKENS))
    if not text.get("hf_tokenizer_name"):
        return clip_tokenizer(max_tokens, cleaning_of(text))
    options = text.get("tokenizer_kwargs") or {}
    return HubTokenizer(
        files,
        max_tokens,
        clean=lambda given: str(open_clip_tokenizers().get_clean_fn(cleaning_of(text))(given)),
        language=options.get("language"),
        stripped_separator=bool(options.get("strip_sep_token", False)),
    )


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
