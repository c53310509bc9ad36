"""Texts: decoding of a file's characters, and splitting into passages that fit the encoder."""

from __future__ import annotations

import codecs
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path

from bindsearch.errors import MediaError
from bindsearch.ingest.media.options import DecodeOptions
from bindsearch.media import Note, drop_note
from bindsearch.small_files import read_small_file

CountTokens = Callable[[str], int]

_BOMS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),  # before UTF-16, whose mark is a prefix of this one
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_CONTROL = re.compile(r"[\x00-\x08\x0e-\x1a\x1c-\x1f\x7f]")
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


def read_text(path: Path, options: DecodeOptions, note: Note = drop_note) -> str:
    """Read the text at `path`: UTF-8, UTF-16 or UTF-32 by byte order mark, else UTF-8, else Windows-1252.

    Raises:
        MediaError: not a text (binary, empty, only white space), or larger than `options.max_text_bytes`.
    """
    with path.open("rb") as file:
        raw = file.read(options.max_text_bytes + 1)
        size = max(len(raw), os.fstat(file.fileno()).st_size)
    if size > options.max_text_bytes:
        raise MediaError(f"the text has {size} bytes: more than {options.max_text_bytes} are not read (--limit text=N)")
    text = decode_text(raw)
    if not text.strip():
        raise MediaError("the file contains no text" if raw else "the file is empty")
    return text


def line_of_passage(path: Path, passage: str) -> int | None:
    """Return the line of a text file that a passage starts in, from 1.

    The store has no positions of passages, so the file is read again, at most 32 MB of it.

    Args:
        path: The file, as a hit names it.
        passage: The text of the hit.

    Returns:
        The line; None if the file is not a text, cannot be read, or does not contain the passage: it has changed since
        it was indexed, or the passage is a caption from elsewhere. Of several occurrences, the first.
    """
    try:
        text = decode_text(read_small_file(path, DecodeOptions().max_text_bytes))
    except (OSError, ValueError, MediaError):
        return None
    found = re.search(rf"(?<!\S){re.escape(passage)}(?!\S)", text)  # between spaces: "a cat" is not in "a cathedral"
    start = found.start() if found else text.find(passage)
    return text.count("\n", 0, start) + 1 if passage.strip() and start >= 0 else None


def decode_text(raw: bytes) -> str:
    """Decode the characters of `raw`, without a byte order mark.

    Raises:
        MediaError: the bytes are not a text.
    """
    text = _decode_marked(raw)
    if text is None:
        text = _decode_unmarked(raw)
    controls = len(_CONTROL.findall(text))
    if controls > max(1, len(text) // 200):
        raise MediaError(f"not a text: {controls} of {len(text)} characters are control characters")
    return text


def _decode_marked(raw: bytes) -> str | None:
    """Decode bytes that begin with a byte order mark; None without one."""
    for mark, encoding in _BOMS:
        if raw.startswith(mark):
            try:
                return raw[len(mark) :].decode(encoding)
            except UnicodeDecodeError as error:
                raise MediaError(f"not a text: invalid {encoding.upper()} at byte {error.start}") from error
    return None


def _decode_unmarked(raw: bytes) -> str:
    """Decode bytes without a byte order mark."""
    if b"\x00" in raw:
        raise MediaError("not a text: it contains zero bytes (UTF-16 needs a byte order mark)")
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        invalid = error.start
    try:
        text = raw.decode("cp1252")
    except UnicodeDecodeError:
        text = raw.decode("latin-1")  # defines the five bytes that are undefined in Windows-1252
    if _CONTROL.search(text):
        raise MediaError(f"not a text: invalid UTF-8 at byte {invalid}, and control characters")
    return text


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
