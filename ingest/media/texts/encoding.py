"""Decoding of the characters of a text: by its mark, as UTF-8, as declared, else as detected.

UTF-8 with isolated invalid bytes stays UTF-8. Of other encodings the most likely one is taken if no other one is about
as likely (detection.py); a note tells it, and what is unclear is refused.
"""

from __future__ import annotations

import codecs
import os
import re
import unicodedata
from pathlib import Path

from bindsearch.errors import MediaError
from bindsearch.ingest.media.options import DecodeOptions, check_limit
from bindsearch.media import Note, drop_note
from bindsearch.small_files import read_small_file

WAY_OUT = "say encoding in the sidecar <file>.json or in .bindsearch.toml, or convert the file to UTF-8"

_BOMS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),  # before UTF-16, whose mark is a prefix of this one
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_CONTROL = re.compile(r"[\x00-\x08\x0e-\x1a\x1c-\x1f\x7f]")
_ESCAPE = re.compile(rb"\x1b\$[@B]|\x1b\$\)[A-Z]")
"""Change to two bytes a character in ISO 2022 (RFC 1468 for Japanese, RFC 1557 for Korean), all of it ASCII."""

_SAMPLE_BYTES = 1 << 16
_MIN_PLAIN = 0.95
"""Least share of letters, digits, punctuation and spaces in a text of UTF-16 or UTF-32 without a mark."""


def decode_text(raw: bytes, encoding: str | None = None, note: Note = drop_note) -> str:
    """Decode the characters of a text, without a byte order mark.

    Args:
        raw: its bytes.
        encoding: declared encoding; a byte order mark takes precedence. None: it is found out.
        note: takes notes on a detected encoding, and on bytes that are not valid.

    Raises:
        MediaError: the bytes are not a text, not one in the declared encoding, or one in an unclear encoding.
    """
    text = _decode_marked(raw, note)
    if text is None:
        text = _decode_unmarked(raw, note) if encoding is None else _decode_declared(raw, encoding, note)
    check_controls(text)
    return text


def decode_table(raw: bytes) -> str:
    """Decode a table of numbers by its mark, as UTF-8, else as Windows-1252, in which old programs write units.

    Raises:
        MediaError: the bytes are not a text.
    """
    text = _decode_marked(raw, drop_note)
    if text is None:
        text = _decode_western(raw)
    check_controls(text)
    return text


def check_controls(text: str) -> None:
    """Check that characters are a text's.

    Raises:
        MediaError: many of them are control characters.
    """
    controls = len(_CONTROL.findall(text))
    if controls > max(1, len(text) // 200):
        raise MediaError(f"not a text: {controls} of {len(text)} characters are control characters")


def _decode_marked(raw: bytes, note: Note) -> str | None:
    """Decode bytes that begin with a byte order mark; None without one."""
    for mark, encoding in _BOMS:
        if raw.startswith(mark):
            return _decode_declared(raw[len(mark) :], encoding, note)
    return None


def _decode_western(raw: bytes) -> str:
    _refuse_zeros(raw)
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


def _decode_declared(raw: bytes, encoding: str, note: Note) -> str:
    """Decode bytes in the encoding that is declared for them."""
    text = raw.decode(encoding, errors="replace")
    _note_replaced(text, raw, encoding, note, valid=len(text))
    return text


def _decode_unmarked(raw: bytes, note: Note) -> str:
    """Decode bytes without a byte order mark."""
    if b"\x00" in raw:
        wide = _wide_encoding(raw)
        if wide is None:
            _refuse_zeros(raw)
        note(f"encoding {wide} (by its zero bytes, without a byte order mark)")
        return raw.decode(str(wide))
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError:
        text = raw.decode("utf-8", errors="replace")
        invalid = text.count("\ufffd") - raw.count(b"\xef\xbf\xbd")
        valid = len(text) - len(text.encode("ascii", "ignore")) - invalid
        if valid >= invalid:
            note(f"{invalid} bytes are not UTF-8, as the rest is: each is replaced by a sign")
            return text
        return _decode_guessed(raw, note)
    return _decode_guessed(raw, note) if _ESCAPE.search(raw) else text


def _decode_guessed(raw: bytes, note: Note) -> str:
    """Decode bytes in the encoding that they are most likely in."""
    from bindsearch.ingest.media.texts.detection import guess_encoding, shown_name

    if _CONTROL.search(raw.decode("latin-1")):
        raise MediaError(f"not a text: invalid UTF-8, and control characters; if it is UTF-16, {WAY_OUT}")
    guess = guess_encoding(_telling_lines(raw))
    if not isinstance(guess, str):
        one_of = f" ({' or '.join(map(shown_name, guess))})" if guess else ""
        raise MediaError(f"encoding unclear{one_of}: {WAY_OUT}")
    text = raw.decode(guess, errors="replace")
    note(f"encoding {shown_name(guess)} (detected): convert the file to UTF-8, or say encoding, to be sure")
    _note_replaced(text, raw, guess, note, valid=len(text) - len(text.encode("ascii", "ignore")))
    return text


def _telling_lines(raw: bytes) -> bytes:
    """Return the lines with other bytes than ASCII, up to 64 kB: they decide the encoding."""
    if len(raw) <= _SAMPLE_BYTES or _ESCAPE.search(raw):
        return raw[:_SAMPLE_BYTES]
    lines = []
    size = 0
    for line in raw.splitlines(keepends=True):
        if not line.isascii():
            lines.append(line[: _SAMPLE_BYTES - size])
            size += len(lines[-1])
            if size >= _SAMPLE_BYTES:
                break
    return b"".join(lines)


def _note_replaced(text: str, raw: bytes, encoding: str, note: Note, *, valid: int) -> None:
    """Note the bytes that are not valid in an encoding; MediaError: too many are not for the encoding to be right."""
    sign = "\ufffd".encode(encoding, "ignore")
    invalid = text.count("\ufffd") - (raw.count(sign) if sign else 0)
    if invalid <= 0:
        return
    from bindsearch.ingest.media.texts.detection import shown_name

    if invalid > valid // 10:
        raise MediaError(f"the text is not in {shown_name(encoding)}: {invalid} of its bytes are not valid: {WAY_OUT}")
    note(f"{invalid} bytes are not valid in {shown_name(encoding)}: each is replaced by a sign")


def _wide_encoding(raw: bytes) -> str | None:
    """Return the encoding of UTF-16 or UTF-32 without a mark, if its zero bytes and its characters make it clear."""
    import chardet

    sample = raw[:_SAMPLE_BYTES]
    name = chardet.detect(sample)["encoding"]
    if name is None or not name.lower().startswith(("utf-16", "utf-32")):
        return None
    try:
        is_clear = _is_plain(sample[: len(sample) // 4 * 4].decode(name))
        raw.decode(name)
    except UnicodeDecodeError:
        return None
    return name.lower() if is_clear else None


def _is_plain(text: str) -> bool:
    """Return whether characters are those of a text, nearly all of them."""
    sample = text[:4096]
    plain = sum(unicodedata.category(letter)[0] in "LMNPZS" or letter in "\t\r\n" for letter in sample)
    return plain >= _MIN_PLAIN * len(sample)


def _refuse_zeros(raw: bytes) -> None:
    if b"\x00" in raw:
        raise MediaError("not a text: it contains zero bytes (UTF-16 without a byte order mark: say encoding)")


def read_text(path: Path, options: DecodeOptions, encoding: str | None = None, note: Note = drop_note) -> str:
    """Read the text at `path`; see `decode_text` for its encoding.

    Raises:
        MediaError: not a text (binary, empty, only white space), in an unclear encoding, or larger than
            `options.max_text_bytes`.
    """
    with path.open("rb") as file:
        raw = file.read(options.max_text_bytes + 1)
        size = max(len(raw), os.fstat(file.fileno()).st_size)
    check_limit(size, options.max_text_bytes, f"the text has {size} bytes", "text")
    text = decode_text(raw, encoding, note)
    if not text.strip():
        raise MediaError("the file contains no text" if raw else "the file is empty")
    return text


def line_of_passage(path: Path, passage: str, encoding: str | None = None) -> int | None:
    """Return the line of a text file that a passage starts in, from 1.

    The store has no positions of passages, so the file is read again, at most 32 MB of it.

    Args:
        path: The file, as a hit names it.
        passage: The text of the hit.
        encoding: Its declared encoding; None: it is found out, as it was when the file was indexed.

    Returns:
        The line; None if the file is not a text, cannot be read, or does not contain the passage: it has changed since
        it was indexed, or the passage is a caption from elsewhere. Of several occurrences, the first.
    """
    try:
        text = decode_text(read_small_file(path, DecodeOptions().max_text_bytes), encoding)
    except (OSError, ValueError, MediaError):
        return None
    found = re.search(rf"(?<!\S){re.escape(passage)}(?!\S)", text)  # between spaces: "a cat" is not in "a cathedral"
    start = found.start() if found else text.find(passage)
    return text.count("\n", 0, start) + 1 if passage.strip() and start >= 0 else None
