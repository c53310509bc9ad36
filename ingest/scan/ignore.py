"""Files that the user excludes: permanently with `.bindsearchignore` files, or for one run with a path filter.

A `.bindsearchignore` contains patterns as in a .gitignore and applies to everything below its folder. A deeper file
overrides a shallower one, the last matching pattern decides, `!` includes a path again, a trailing "/" matches folders
only, a leading one the file's own folder. Files below an ignored folder cannot be included again.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from bindsearch.arguments import at_and_above
from bindsearch.errors import UsageError
from bindsearch.ingest.inspect.globs import (
    FOLDERS,
    GLOBSTAR,
    MAX_GLOB,
    NAME_CHARACTER,
    STAR,
    GlobAutomaton,
    class_token,
    glob_matches,
    parse_glob,
)
from bindsearch.ingest.left_out import IGNORED
from bindsearch.ingest.scan.default_ignores import default_reason
from bindsearch.small_files import read_small_file

IGNORE_FILE = ".bindsearchignore"
_MAX_BYTES = 1 << 20
_GROUP_TOKENS = 4096
_FOLDERS = re.compile(r"(?<![^/])\*\*+(?:/|\Z)")


def rules_down_to(root: Path, rel_folder: str, *, default_ignore: bool = False) -> IgnoreRules:
    """Return the rules for the contents of the folder `root / rel_folder`, for a scan that does not start at the root.

    If a folder in between is ignored, everything below it is ignored.

    Args:
        root: the root of the collection.
        rel_folder: a folder in it, "" for the root.
        default_ignore: what default_ignores.py lists is ignored unless an ignore file includes it.

    Raises:
        UsageError: an ignore file cannot be read or contains an invalid pattern.
    """
    rules = IgnoreRules(has_defaults=default_ignore).entering(root, "")
    parts = rel_folder.split("/") if rel_folder else []
    for depth in range(1, len(parts) + 1):
        folder = "/".join(parts[:depth])
        if (reason := rules.reason(folder, is_dir=True)) is not None:
            return IgnoreRules(whole=reason)
        rules = rules.entering(root / folder, folder)
    return rules


def make_narrowing(include: Sequence[str], exclude: Sequence[str]) -> PathFilter:
    """Return the path filter of `--include` and `--exclude`.

    Raises:
        UsageError: a glob is empty or invalid.
    """
    return PathFilter(
        tuple(parse_glob(glob, "--include").rstrip("/") for glob in include),
        tuple(parse_glob(glob, "--exclude").rstrip("/") for glob in exclude),
    )


@dataclass(frozen=True, slots=True)
class PathFilter:
    """Path filter of one run; files outside of it are neither inspected nor removed.

    Attributes:
        include: globs (ingest/inspect/globs.py) of files and folders; empty: all.
        exclude: globs of files and folders that are excluded.
        only: files, folders and archives that the run is limited to; None: all.
    """

    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    only: frozenset[str] | None = None

    @property
    def is_active(self) -> bool:
        """Return whether the filter excludes anything."""
        return bool(self.include or self.exclude or self.only is not None)

    def includes(self, rel_path: str) -> bool:
        """Return whether the file at `rel_path` inside its collection is part of the run."""
        if self.only is not None and not any(path in self.only for path in at_and_above(rel_path)):
            return False
        if not (self.include or self.exclude):
            return True
        paths = [*at_and_above(rel_path)]
        if self.include and not any(glob_matches(glob, path) for glob in self.include for path in paths):
            return False
        return not any(glob_matches(glob, path) for glob in self.exclude for path in paths)


@dataclass(frozen=True, slots=True)
class IgnoreRules:
    """The ignore files between a collection's root and one folder, the root's first.

    Attributes:
        has_defaults: what no ignore file decides is ignored if default_ignores.py lists it.
        whole: why everything is ignored; None: it is not.
    """

    _layers: tuple[_Layer, ...] = ()
    has_defaults: bool = False
    whole: str | None = None

    def entering(self, folder: Path, rel_folder: str, *, has_file: bool = True) -> IgnoreRules:
        """Return the rules for the contents of `folder`, at `rel_folder` inside its collection ("" for the root).

        `has_file`: whether the folder contains an IGNORE_FILE, if the caller knows.

        Raises:
            UsageError: the ignore file cannot be read or contains an invalid pattern.
        """
        lines = _read(folder / IGNORE_FILE) if has_file else None
        if lines is None:
            return self
        groups = _grouped(_patterns(lines, str(folder / IGNORE_FILE)))
        if not groups:
            return self
        return replace(self, _layers=(*self._layers, _Layer(f"{rel_folder}/" if rel_folder else "", groups)))

    def reason(self, rel_path: str, is_dir: bool) -> str | None:
        """Return why a path inside the collection is ignored; None if it is not.

        Folders above it are not checked: a walk skips the contents of ignored folders.
        """
        if self.whole is not None:
            return self.whole
        for layer in reversed(self._layers):
            if (verdict := layer.verdict(rel_path, is_dir)) is not None:
                return IGNORED if verdict else None
        return default_reason(rel_path.rpartition("/")[2], is_dir=is_dir) if self.has_defaults else None


@dataclass(frozen=True, slots=True)
class _Pattern:
    """A pattern: its tokens; `folders_only`: it ends with a slash; `includes`: it begins with "!"."""

    tokens: Sequence[str]
    folders_only: bool
    includes: bool


@dataclass(frozen=True, slots=True)
class _PatternGroup:
    """Consecutive patterns of an ignore file, as bits in their order: those of folders only, and those with "!"."""

    automaton: GlobAutomaton
    folders_only: int
    includes: int


@dataclass(frozen=True, slots=True)
class _Layer:
    """One ignore file; `prefix`: its folder in the collection, with a final "/"; `groups`: the last patterns first."""

    prefix: str
    groups: tuple[_PatternGroup, ...]

    def verdict(self, rel_path: str, is_dir: bool) -> bool | None:
        """Return whether the path is ignored; None: no pattern matches it."""
        subject = rel_path[len(self.prefix) :]
        for group in self.groups:
            matching = group.automaton.matches(subject)
            if not is_dir:
                matching &= ~group.folders_only
            if matching:
                return not group.includes >> (matching.bit_length() - 1) & 1
        return None


def _read(path: Path) -> list[str] | None:
    """Return the lines of an ignore file; None if there is none."""
    try:
        raw = read_small_file(path, _MAX_BYTES)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        expected = "expected patterns such as 'folder/' or '*.tmp'"
        raise UsageError(f"cannot read {path}: {error.strerror}: {expected}") from error
    try:
        return raw.decode("utf-8-sig").split("\n")
    except UnicodeDecodeError as error:
        raise UsageError(f"{path} is not UTF-8 (byte {error.start}): save it as UTF-8") from error


def _patterns(lines: Sequence[str], source: str) -> list[_Pattern]:
    """Return the patterns of an ignore file, without comments and empty lines; raise UsageError if one is invalid."""
    patterns = []
    for number, line in enumerate(lines, start=1):
        text = _without_spaces(line.removesuffix("\r"))
        if text.startswith("#") or not text.strip("/"):
            continue
        if len(text) > MAX_GLOB:
            too_long = f"{text[:40]!r}... has {len(text)} characters: expected at most {MAX_GLOB}"
            raise UsageError(f"{source} line {number}: pattern {too_long}")
        try:
            tokens = _gitignore_tokens(text.removeprefix("!").removesuffix("/"))
        except ValueError as error:
            raise UsageError(f"{source} line {number}: pattern {text!r} is invalid ({error})") from None
        if tokens is not None:
            patterns.append(_Pattern(tokens, text.endswith("/"), text.startswith("!")))
    return patterns


def _without_spaces(line: str) -> str:
    """Return a line without the spaces at its end; one after a backslash stays."""
    text = line.rstrip(" ")
    is_escaped = (len(text) - len(text.rstrip("\\"))) % 2 == 1
    return f"{text} " if is_escaped and text != line else text


def _gitignore_tokens(pattern: str) -> list[str] | None:
    """Return the tokens (ingest/inspect/globs.py) of a .gitignore pattern without a final "/"; None: none matches."""
    if pattern in ("", "/"):
        raise ValueError("it is empty")
    pattern = pattern.removeprefix("/") if "/" in pattern else f"**/{pattern}"
    tokens, i = [], 0
    while i < len(pattern):
        if pattern[i] == "[":
            found = class_token(pattern, i, escapes=True)
            if found is None:
                return None
            token, i = found
        elif stars := _FOLDERS.match(pattern, i):
            token, i = FOLDERS if stars[0].endswith("/") else GLOBSTAR, stars.end()
        elif pattern[i] == "*":
            token, i = STAR, i + 1
        elif pattern[i] == "?":
            token, i = NAME_CHARACTER, i + 1
        else:
            i += pattern[i] == "\\"
            if i == len(pattern):
                raise ValueError("nothing follows the last backslash")
            token, i = re.escape(pattern[i]), i + 1
        tokens.append(token)
    return tokens


def _grouped(patterns: Sequence[_Pattern]) -> tuple[_PatternGroup, ...]:
    """Return patterns in groups, the last ones first; a group's automaton has a bounded number of places."""
    groups: list[list[_Pattern]] = []
    room = 0
    for pattern in patterns:
        if len(pattern.tokens) > room:
            groups.append([])
            room = _GROUP_TOKENS
        groups[-1].append(pattern)
        room -= len(pattern.tokens) + 1
    made = []
    for group in reversed(groups):
        folders_only = sum(pattern.folders_only << i for i, pattern in enumerate(group))
        includes = sum(pattern.includes << i for i, pattern in enumerate(group))
        made.append(_PatternGroup(GlobAutomaton([pattern.tokens for pattern in group]), folders_only, includes))
    return tuple(made)
