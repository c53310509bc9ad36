"""Names of subtitle files: which recording beside them they belong to. Nothing is read.

Players take "film.srt", "film.mp4.srt" and, with tags such as a language between dots, "film.en.srt",
"film.pt-BR.forced.srt" (Plex and Jellyfin: "Local subtitles", "External files"; yt-dlp: "film.en-orig.vtt").
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from bindsearch.hashing import files_version
from bindsearch.ingest.media.kinds import SOUND_EXTENSIONS, VIDEO_EXTENSIONS, extensions_of

SUBTITLES = extensions_of("subtitles")
"""Extensions of subtitle files."""

MAX_FILES = 16
"""Most subtitle files of a recording that are read: sites offer a hundred machine translations."""

LEFT_OUT = "subtitles of "
"""Beginning of the reason why a subtitle file is no item of its own; the name of the recording follows."""

_RECORDINGS = SOUND_EXTENSIONS | VIDEO_EXTENSIONS | {".ts", ".m2t"}
_PAIRED = _RECORDINGS.union(SUBTITLES)
_MAX_TAGS = 3
_TAG = re.compile(r"(?=.{2,32}$)[^\W\d_]{2,}+(?:[-_ ()\[\]+]++[^\W_]*+)*+", re.DOTALL)
"""A language or another word between dots; not "s01e02", which is a part of another recording's name."""


class SubtitleNames(NamedTuple):
    """Recordings and subtitle files of a folder that belong together."""

    of_recording: Mapping[str, list[str]]  # names of the subtitle files by that of the recording, without tags first
    recordings: Mapping[str, list[str]]  # names of the recordings by that of the subtitle file


NO_SUBTITLES = SubtitleNames({}, {})


def has_pairs(name: str) -> bool:
    """Return whether a name is that of a subtitle file, or of a recording, which may have some beside it."""
    return _suffix(name) in _PAIRED


def pair_subtitles(names: Iterable[str]) -> SubtitleNames:
    """Return which of the names (or paths) of files belong together.

    A subtitle file belongs to the recordings that share most of its name: "film.en.srt" to "film.en.mp4" rather than
    to "film.mp4". Upper and lower case, and composed and decomposed letters, are the same.
    """
    names = list(names)
    subtitles = [name for name in names if name.lower().endswith(SUBTITLES)]  # first: most folders have none
    if not subtitles:
        return NO_SUBTITLES
    by_stem: dict[str, list[str]] = {}
    for name in names:
        suffix = _suffix(name)
        for stem in (name, name[: -len(suffix)]) if suffix in _RECORDINGS else ():
            by_stem.setdefault(_normal(stem), []).append(name)
    recordings: dict[str, list[str]] = {}
    of_recording: dict[str, list[tuple[int, str]]] = {}
    for subtitle in subtitles:
        tags, found = _recordings_of(subtitle, by_stem)
        if found:
            recordings[subtitle] = found
        for name in found:
            of_recording.setdefault(name, []).append((tags, subtitle))
    sorted_names = {name: [subtitle for _, subtitle in sorted(found)] for name, found in of_recording.items()}
    return SubtitleNames(sorted_names, recordings)


def subtitles_beside(path: Path) -> tuple[Path, ...]:
    """Return the subtitle files beside a recording, by listing its folder; none if it cannot be read."""
    if not has_pairs(path.name):
        return ()
    try:
        names = [entry.name for entry in path.parent.iterdir() if entry.name.lower().endswith(SUBTITLES)]
    except OSError:
        return ()
    found = pair_subtitles({*names, path.name}).of_recording.get(path.name, [])
    return tuple(path.with_name(name) for name in found if path.with_name(name).is_file())


def subtitles_version(folder: str, names: Sequence[str]) -> int:
    """Return a number from 0 to 2^63 - 1 that changes with the names, sizes and times of subtitle files in a folder."""
    return files_version(f"{folder}/{name}" for name in names)


def _recordings_of(subtitle: str, by_stem: Mapping[str, list[str]]) -> tuple[int, list[str]]:
    """Return the number of tags in the name of a subtitle file, and its recordings."""
    stem = subtitle[: -len(_suffix(subtitle))]
    for tags in range(_MAX_TAGS + 1):
        if (found := by_stem.get(_normal(stem))) is not None:
            return tags, found
        stem, dot, tag = stem.rpartition(".")
        if not dot or _TAG.fullmatch(tag) is None:
            break
    return 0, []


def _suffix(name: str) -> str:
    """Return the extension of a name in lower case, with its dot; empty for none and for hidden files."""
    stem, dot, suffix = name.rpartition("/")[2].rpartition(".")
    return f".{suffix.lower()}" if dot and stem else ""


def _normal(name: str) -> str:
    return name.lower() if name.isascii() else unicodedata.normalize("NFC", name).casefold()
