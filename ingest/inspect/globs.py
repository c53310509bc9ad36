"""Globs over paths inside a collection, as rules and narrowings are written with.

Letter case is ignored: `*` and `?` stay within a folder name, `**/` stands for any number of folders, `[abc]` for one
character. A glob without "/" is matched against the file name alone.
"""

from __future__ import annotations

import re
from functools import lru_cache

from bindsearch.errors import UsageError


def glob_matches(glob: str, rel_path: str) -> bool:
    """Return whether the file at `rel_path` inside its collection is meant by a glob that parses."""
    subject = rel_path if "/" in glob else rel_path.rsplit("/", 1)[-1]
    return _pattern(glob).fullmatch(subject) is not None


def parse_glob(text: str, source: str) -> str:
    """A glob as a user wrote it, without spaces around it and a leading "./"; `source` names where it was written.

    Raises:
        UsageError: it is empty or does not parse.
    """
    glob = text.strip().removeprefix("./")
    if not glob:
        raise UsageError(f"{source}: empty glob, expected one such as '*.jpg' or 'folder/**'")
    if glob.startswith("/"):
        raise UsageError(f"{source}: glob {glob!r} begins at the disk's root: begin it at the indexed folder")
    try:
        _pattern(glob)
    except re.error as error:
        raise UsageError(f"{source}: glob {glob!r} does not parse ({error})") from error
    return glob


@lru_cache(maxsize=256)
def _pattern(glob: str) -> re.Pattern[str]:
    """A glob as a regular expression over a whole path."""
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
            inside = glob[i + 1 : end].replace("\\", r"\\").replace("[", r"\[")
            inside = "^" + inside[1:] if inside.startswith("!") else inside
            out, i = out + f"[{inside}]", end + 1
        else:
            out, i = out + re.escape(glob[i]), i + 1
    return re.compile(out, re.IGNORECASE | re.DOTALL)
