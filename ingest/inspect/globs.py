"""Globs over paths inside a collection, for rules and path filters.

Letter case is ignored: `*` and `?` match within a folder name, `**/` any number of folders, `[abc]` one character. A
glob without "/" is matched against the file name alone.
"""

from __future__ import annotations

import re
from functools import lru_cache

from bindsearch.errors import UsageError


def glob_matches(glob: str, rel_path: str) -> bool:
    """Return whether a valid glob matches the file at `rel_path` inside its collection."""
    subject = rel_path if "/" in glob else rel_path.rsplit("/", 1)[-1]
    return _pattern(glob).fullmatch(subject) is not None


def parse_glob(text: str, source: str) -> str:
    """Return a user's glob without surrounding spaces and a leading "./"; `source` names its origin in errors.

    Raises:
        UsageError: it is empty or invalid.
    """
    glob = text.strip().removeprefix("./")
    if not glob:
        raise UsageError(f"{source}: empty glob, expected one such as '*.jpg' or 'folder/**'")
    if glob.startswith("/"):
        raise UsageError(f"{source}: glob {glob!r} is absolute: make it relative to the indexed folder")
    try:
        _pattern(glob)
    except re.error as error:
        raise UsageError(f"{source}: glob {glob!r} is invalid ({error})") from error
    return glob


@lru_cache(maxsize=256)
def _pattern(glob: str) -> re.Pattern[str]:
    """Return the regular expression of a glob, for whole paths."""
    out, i = "", 0
    while i < len(glob):
        if glob.startswith("**/", i):
            out, i = out + r"(?:.*/)?", i + 3
        elif glob.startswith("**", i):
            out, i = out + ".*", i + 2
        elif glob[i] == "*":
            out, i = out + "[^/]*", i + 1
        elif glob[i] == "?":
            out, i = out + "[^/]", i + 1
        elif glob[i] == "[" and (end := glob.find("]", i + 2)) > 0:
            characters = glob[i + 1 : end].replace("\\", r"\\").replace("[", r"\[")
            characters = "^" + characters[1:] if characters.startswith("!") else characters
            out, i = out + f"[{characters}]", end + 1
        else:
            out, i = out + re.escape(glob[i]), i + 1
    return re.compile(out, re.IGNORECASE | re.DOTALL)
