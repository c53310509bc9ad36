"""Texts: a file's characters, and the passages an encoder can take whole."""

from __future__ import annotations

import codecs
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path

from bindsearch.errors import MediaError
from bindsearch.ingest.media.options import DecodeOptions

CountTokens = Callable[[str], int]

_BOMS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),  # before UTF-16: its mark begins with that one
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
"""Never goes back over a run of marks, nor begins inside one: a megabyte of dots would take hours."""

_WORD = re.compile(r"\S+\s*")
_CHARS_A_TOKEN = 100
"""No tokenizer's token is longer on average: a sentence beyond that many characters a token is not even counted."""


def read_text(path: Path, options: DecodeOptions) -> str:
    """The text at `path`: UTF-8, UTF-16 or UTF-32 by byte order mark, else UTF-8, else Windows-1252.

    Raises:
        MediaError: no text (binary, empty, only white space), or larger than `options.max_text_bytes`.
    """
    with path.open("rb") as file:
        raw = file.read(options.max_text_bytes + 1)
        size = max(len(raw), os.fstat(file.fileno()).st_size)
    if size > options.max_text_bytes:
        raise MediaError(f"the text has {size} bytes: more than {options.max_text_bytes} are not read (--limit text=N)")
    text = decode_text(raw)
    if not text.strip():
        raise MediaError("the file holds no text" if raw else "the file is empty")
    return text


def decode_text(raw: bytes) -> str:
    """The characters of `raw`, without a byte order mark.

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
    for mark, encoding in _BOMS:
        if raw.startswith(mark):
            try:
                return raw[len(mark) :].decode(encoding)
            except UnicodeDecodeError as error:
                raise MediaError(f"not a text: invalid {encoding.upper()} at byte {error.start}") from error
    return None


def _decode_unmarked(raw: bytes) -> str:
    if b"\x00" in raw:
        raise MediaError("not a text: it holds zero bytes (UTF-16 needs a byte order mark)")
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        invalid = error.start
    try:
        text = raw.decode("cp1252")
    except UnicodeDecodeError:
        text = raw.decode("latin-1")  # has the five bytes that Windows-1252 leaves undefined
    if _CONTROL.search(text):
        raise MediaError(f"not a text: invalid UTF-8 at byte {invalid}, and control characters")
    return text


def passages(text: str, count_tokens: CountTokens, max_tokens: int) -> Iterator[str]:
    """`text` in passages of at most `max_tokens` as `count_tokens` counts them (special tokens included).

    Cut at sentence ends; a sentence too long at words, a word too long at characters. Nothing but white space
    between passages is left out.

    Raises:
        MediaError: not even one character fits.
    """
    special = count_tokens("")
    gathered: list[str] = []
    tokens = special
    for unit in _units(text, count_tokens, max_tokens):
        cost = count_tokens(unit) - special
        if gathered and tokens + cost > max_tokens:
            yield from _checked(gathered, count_tokens, max_tokens)
            gathered, tokens = [], special
        gathered.append(unit)
        tokens += cost
    yield from _checked(gathered, count_tokens, max_tokens)


def _checked(units: list[str], count_tokens: CountTokens, max_tokens: int) -> Iterator[str]:
    """Units as one passage; as two where a tokenizer makes more tokens of the whole than of its parts."""
    passage = "".join(units).strip()
    if not passage:
        return
    if len(units) > 1 and count_tokens(passage) > max_tokens:
        half = len(units) // 2
        yield from _checked(units[:half], count_tokens, max_tokens)
        yield from _checked(units[half:], count_tokens, max_tokens)
    else:
        yield passage


def _units(text: str, count_tokens: CountTokens, max_tokens: int) -> Iterator[str]:
    """Pieces of `text` that fit, as large as a sentence where they can be; together they are the text."""

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
    start = 0
    for end in _SENTENCE_END.finditer(text):
        yield text[start : end.end()]
        start = end.end()
    if start < len(text):
        yield text[start:]


def _characters(word: str, fits: Callable[[str], bool]) -> Iterator[str]:
    """`word` in the longest pieces that fit, found by doubling and halving: few counts, also for a huge word."""
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
