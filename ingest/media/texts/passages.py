"""Splitting of texts into passages that fit the encoder."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from bindsearch.errors import MediaError

CountTokens = Callable[[str], int]

_SENTENCE_END = re.compile(
    r"""(?<![.!?…])[.!?…]++["')\]»”’]*+\s+  # closing quotes and the space after the mark belong to the sentence
      | [。！？]++["')\]»”’」』]*+\s*        # these need no space
      | \n[ \t\r]*\n\s*                     # a blank line
      | \n(?=[ \t]*(?:[#>|*+-]|\d+[.)]))    # the line before a heading or a list entry
    """,
    re.VERBOSE,
)
"""Does not backtrack over a run of marks, nor begin inside one: a megabyte of dots would take hours."""

_WORD = re.compile(r"\S+\s*")
_CHARS_A_TOKEN = 100
"""Maximum average characters per token of any tokenizer: longer sentences do not fit and are not counted."""


def passages(text: str, count_tokens: CountTokens, max_tokens: int) -> Iterator[str]:
    """Split `text` into passages of at most `max_tokens` tokens.

    It is split at the ends of sentences; a sentence that is too long at words, a word that is too long at characters.
    Only white space between passages is dropped.

    Args:
        text: the text.
        count_tokens: returns the number of tokens of a text, special tokens included.
        max_tokens: maximum tokens of a passage.

    Raises:
        MediaError: a single character does not fit.
    """
    special = count_tokens("")
    units: list[str] = []
    tokens = special
    for unit in _units(text, count_tokens, max_tokens):
        cost = count_tokens(unit) - special
        if units and tokens + cost > max_tokens:
            yield from _fitting_passages(units, count_tokens, max_tokens)
            units, tokens = [], special
        units.append(unit)
        tokens += cost
    yield from _fitting_passages(units, count_tokens, max_tokens)


def _fitting_passages(units: list[str], count_tokens: CountTokens, max_tokens: int) -> Iterator[str]:
    """Yield units as one passage; as several if the tokenizer makes more tokens of the whole than of its parts."""
    passage = "".join(units).strip()
    if not passage:
        return
    if len(units) > 1 and count_tokens(passage) > max_tokens:
        half = len(units) // 2
        yield from _fitting_passages(units[:half], count_tokens, max_tokens)
        yield from _fitting_passages(units[half:], count_tokens, max_tokens)
    else:
        yield passage


def _units(text: str, count_tokens: CountTokens, max_tokens: int) -> Iterator[str]:
    """Yield pieces of `text` that fit, as large as a sentence if possible; concatenated they are the text."""

    def fits(piece: str) -> bool:
        return len(piece) <= _CHARS_A_TOKEN * max_tokens and count_tokens(piece) <= max_tokens

    for sentence in _sentences(text):
        if fits(sentence):
            yield sentence
            continue
        for word in _WORD.findall(sentence):
            if fits(word):
                yield word
            else:
                yield from _characters(word, fits)


def _sentences(text: str) -> Iterator[str]:
    """Yield the sentences of `text`."""
    start = 0
    for end in _SENTENCE_END.finditer(text):
        yield text[start : end.end()]
        start = end.end()
    if start < len(text):
        yield text[start:]


def _characters(word: str, fits: Callable[[str], bool]) -> Iterator[str]:
    """Yield the longest pieces of `word` that fit, found by doubling and bisection: few counts also for a huge word."""
    start, length = 0, 1
    while start < len(word):
        while start + length < len(word) and fits(word[start : start + 2 * length]):
            length *= 2
        low, high = 1, 2 * length
        while low < high:
            middle = (low + high + 1) // 2
            low, high = (middle, high) if fits(word[start : start + middle]) else (low, middle - 1)
        if not fits(word[start : start + low]):
            raise MediaError(f"the encoder's window is too short for the character {word[start]!r}")
        yield word[start : start + low]
        start, length = start + low, max(1, low // 2)
