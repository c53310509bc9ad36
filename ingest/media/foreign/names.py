"""Names of the JSON files that other programs write beside a media file.

Google Takeout: `NAME.supplemental-metadata.json`, before 2025 `NAME.json`, with at most 46 characters before `.json`;
the number of a copy moves behind them, so that `photo(1).jpg` has `photo.jpg(1).json`
(github.com/ente/ente/pull/4956, github.com/TheLastGimbus/GooglePhotosTakeoutHelper/pull/449). yt-dlp:
`STEM.info.json` (option --write-info-json). exiftool, osxphotos and gallery-dl: `NAME.json`, which is the name of a
sidecar of BindSearch too.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from pathlib import PurePosixPath

OWN_SUFFIX = ".json"
INFO_SUFFIX = ".info.json"
TAKEOUT_SUFFIX = ".supplemental-metadata"
TAKEOUT_CHARACTERS = 46
RECORDINGS = (".mp4", ".mkv", ".webm", ".mov", ".m4v", ".flv", ".3gp", ".m4a", ".mp3", ".opus", ".ogg", ".flac", ".wav")
"""Extensions of what yt-dlp saves; its thumbnails have the same stem."""

_FOREIGN = re.compile(r".*(?:\.info|\.s[a-z]{0,11}(?:-[a-z]{0,8})?|\.|\(\d{1,4}\))\.json", re.DOTALL)
_COPY = re.compile(r"(?P<stem>.+)(?P<number>\(\d{1,4}\))(?P<suffix>\.[^.]+)")


def foreign_names(name: str) -> list[str]:
    """Return the names that other programs' JSON beside a file may have, besides `name`.json.

    Args:
        name: the file's name, or its path with forward slashes: then these are paths too.
    """
    folder, slash, name = name.rpartition("/")
    copy = _COPY.fullmatch(name) if ")." in name else None
    bare, number = (copy["stem"] + copy["suffix"], copy["number"]) if copy else (name, "")
    names = [f"{base[:TAKEOUT_CHARACTERS]}{number}{OWN_SUFFIX}" for base in (bare + TAKEOUT_SUFFIX, bare)]
    stem, dot, extension = name.rpartition(".")
    if f"{dot}{extension.lower()}" in RECORDINGS:
        names.append(stem + INFO_SUFFIX)
    return [folder + slash + other for other in dict.fromkeys(names) if other != name + OWN_SUFFIX]


def may_be_foreign(name: str) -> bool:
    """Return whether a name is one of another program's JSON beside a file, other than that file's name and .json."""
    return len(name) >= TAKEOUT_CHARACTERS + len(OWN_SUFFIX) or _FOREIGN.fullmatch(name) is not None


def find_sidecars(names: Collection[str]) -> Mapping[str, list[str]]:
    """Return the sidecars among the names (or paths) of files, by that of their file; BindSearch's own come first."""
    documents = {name for name in names if name.endswith(OWN_SUFFIX)}
    if not documents:
        return {}
    found = {
        name: [other for other in (name + OWN_SUFFIX, *foreign_names(name)) if other in documents]
        for name in names
        if name not in documents or name + OWN_SUFFIX in documents
    }
    return {name: sidecars for name, sidecars in found.items() if sidecars}


def is_takeout_of(title: str, name: str) -> bool:
    """Return whether the JSON of Google Takeout for a file called `title` can be that of the file `name`.

    Names are cut, so that those of other files may look the same; Google also replaces some characters in names.
    """
    copy = _COPY.fullmatch(name)
    bare = copy["stem"] + copy["suffix"] if copy else name
    if len(bare) <= TAKEOUT_CHARACTERS:
        return True
    one, other = (re.sub(r"[\W_]+", "_", PurePosixPath(text).stem.casefold()) for text in (title, bare))
    return one.startswith(other) or other.startswith(one)
