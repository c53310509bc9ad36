"""Reading of the subtitles of a recording: of the files beside it, else of the text tracks in it."""

from __future__ import annotations

import errno
from collections.abc import Sequence
from pathlib import Path

from bindsearch.errors import MediaError
from bindsearch.hashing import hash_file
from bindsearch.ingest.media.subtitles.cues import Counts, Cue, parse_cues
from bindsearch.ingest.media.subtitles.names import MAX_FILES
from bindsearch.ingest.media.texts.encoding import decode_text
from bindsearch.media import Note
from bindsearch.small_files import is_not_regular, read_small_file

MAX_BYTES = 8 << 20
"""Largest subtitle file: a film's has 100 kB, one with fonts and effects a few megabytes."""


def hash_subtitles(paths: Sequence[Path]) -> str:
    """Return the hashes of the subtitle files that are read, in their order: equal for equal contents."""
    return " ".join(_hash(path) for path in paths[:MAX_FILES])


def read_subtitles(paths: Sequence[Path], encoding: str | None, note: Note) -> list[list[Cue]]:
    """Return the cues of each subtitle file that can be read; of the others a note says why.

    Args:
        paths: the files.
        encoding: their declared encoding; None: it is found out.
        note: takes notes.
    """
    counts = Counts()
    found = []
    for path in paths[:MAX_FILES]:
        try:
            raw = read_small_file(path, MAX_BYTES)
            text = decode_text(raw, encoding, lambda said, name=path.name: note(f"subtitles {name}: {said}"))  # type: ignore[misc]
            if not (cues := parse_cues(text, counts)):
                raise MediaError("no cue with a time and a text")
            found.append(cues)
        except MediaError as error:
            note(f"subtitles {path.name} are not used: {error}")
        except OSError as error:
            if error.errno == errno.ENOENT:
                raise  # deleted meanwhile: the next run sees it
            note(f"subtitles {path.name} are not used: {error.strerror}")
    if len(paths) > MAX_FILES:
        note(f"{len(paths)} subtitle files beside it: the first {MAX_FILES} are used")
    note_cues(found, counts, f"{len(found)} subtitle file{'s' * (len(found) > 1)} beside it", note)
    return found


def note_cues(found: Sequence[Sequence[Cue]], counts: Counts, source: str, note: Note) -> None:
    """Note the number of cues that are read, and of those that are skipped."""
    if found:
        note(f"{source}: texts with times, {sum(map(len, found))} cues")
    if counts.skipped:
        note(f"{counts.skipped} of {counts.total} cues of subtitles have damaged times, or are too many: skipped")


def inside(cues: Sequence[Cue], length_s: float) -> list[Cue]:
    """Return the cues that begin inside a recording of some length in seconds, cut at its end."""
    return [Cue(cue.start_s, min(cue.end_s, length_s), cue.text) for cue in cues if cue.start_s < length_s]


def _hash(path: Path) -> str:
    """Return the hash of a file, or why it cannot be read.

    Raises:
        OSError: it was deleted meanwhile.
    """
    try:
        return hash_file(path) if path.stat().st_size <= MAX_BYTES else "too large"
    except OSError as error:
        if error.errno == errno.ENOENT:
            raise
        return "not a file" if is_not_regular(error) else str(error.errno)
