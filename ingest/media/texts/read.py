"""Reading of text files."""

from __future__ import annotations

import os
import re
from pathlib import Path

from bindsearch.errors import MediaError
from bindsearch.ingest.media.options import DecodeOptions
from bindsearch.ingest.media.texts.encoding import decode_text
from bindsearch.media import Note, drop_note
from bindsearch.small_files import read_small_file


def read_text(path: Path, options: DecodeOptions, encoding: str | None = None, note: Note = drop_note) -> str:
    """Read the text at `path`; see `decode_text` for its encoding.

    Raises:
        MediaError: not a text (binary, empty, only white space), in an unclear encoding, or larger than
            `options.max_text_bytes`.
    """
    with path.open("rb") as file:
        raw = file.read(options.max_text_bytes + 1)
        size = max(len(raw), os.fstat(file.fileno()).st_size)
    if size > options.max_text_bytes:
        raise MediaError(f"the text has {size} bytes: more than {options.max_text_bytes} are not read (--limit text=N)")
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
