"""Files that the user wants left out: `.bindsearchignore` files, for good, and the narrowing of one run.

A `.bindsearchignore` holds patterns as a .gitignore does and counts for what lies below its folder: a deeper file
overrides a shallower one, the last pattern that matches decides, `!` takes a path in again, a trailing "/" means
folders only, a leading one the file's own folder. What lies below an ignored folder cannot be taken in again.
"""

from __future__ import annotations

import os
import re
import stat
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bindsearch.errors import UsageError
from bindsearch.ingest.inspect.globs import glob_matches, parse_glob

if TYPE_CHECKING:
    from pathspec.patterns.gitignore.spec import GitIgnoreSpecPattern

IGNORE_FILE = ".bindsearchignore"
_MAX_BYTES = 1 << 20


def rules_down_to(root: Path, rel_folder: str) -> IgnoreRules:
    """The rules for what lies in the folder `root / rel_folder`, for a run that does not start at the root.

    A folder on the way that is ignored leaves out all below it.

    Raises:
        UsageError: an ignore file cannot be read or holds a pattern that does not parse.
    """
    rules = IgnoreRules.none().entering(root, "")
    parts = rel_folder.split("/") if rel_folder else []
    for depth in range(1, len(parts) + 1):
        folder = "/".join(parts[:depth])
        if rules.ignores(folder, is_dir=True):
            return IgnoreRules((_Layer(folder + "/", _patterns(["*"], folder)),))
        rules = rules.entering(root / folder, folder)
    return rules


def make_narrowing(include: Sequence[str], exclude: Sequence[str]) -> PathFilter:
    """The narrowing that `--include` and `--exclude` ask for.

    Raises:
        UsageError: a glob is empty or does not parse.
    """
    return PathFilter(
        tuple(parse_glob(glob, "--include").rstrip("/") for glob in include),
        tuple(parse_glob(glob, "--exclude").rstrip("/") for glob in exclude),
    )


@dataclass(frozen=True, slots=True)
class PathFilter:
    """Globs (ingest/inspect/globs.py) of files and folders that narrow one run, and the files and archives it is `only`
    about (None: all): those outside are neither looked at nor removed."""

    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    only: frozenset[str] | None = None

    @property
    def is_active(self) -> bool:
        """Whether anything is left out at all."""
        return bool(self.include or self.exclude or self.only is not None)

    def includes(self, rel_path: str) -> bool:
        """Return whether the file at `rel_path` inside its collection is part of the run."""
        if self.only is not None and not any(place in self.only for place in _at_and_above(rel_path)):
            return False
        if not (self.include or self.exclude):
            return True
        places = [*_at_and_above(rel_path)]
        if self.include and not any(glob_matches(glob, place) for glob in self.include for place in places):
            return False
        return not any(glob_matches(glob, place) for glob in self.exclude for place in places)


def _at_and_above(rel_path: str) -> Iterator[str]:
    """A path, then those of the folders and archives it lies in."""
    while rel_path:
        yield rel_path
        rel_path = rel_path.rpartition("/")[0]


@dataclass(frozen=True, slots=True)
class IgnoreRules:
    """The ignore files met on the way from a collection's root to one folder, the root's first."""

    _layers: tuple[_Layer, ...] = ()

    @classmethod
    def none(cls) -> IgnoreRules:
        """No rules: nothing is ignored."""
        return cls()

    def entering(self, folder: Path, rel_folder: str, *, has_file: bool = True) -> IgnoreRules:
        """The rules for what lies in `folder`, at `rel_folder` inside its collection ("" for the root).

        `has_file`: whether an entry named IGNORE_FILE was seen there, where the caller knows.

        Raises:
            UsageError: the ignore file cannot be read or holds a pattern that does not parse.
        """
        lines = _read(folder / IGNORE_FILE) if has_file else None
        if lines is None:
            return self
        patterns = _patterns(lines, str(folder / IGNORE_FILE))
        if not patterns:
            return self
        return IgnoreRules((*self._layers, _Layer(f"{rel_folder}/" if rel_folder else "", patterns)))

    def ignores(self, rel_path: str, is_dir: bool) -> bool:
        """Return whether a path inside the collection is left out. Folders above it are not asked: a walk skips
        those."""
        if not self._layers:
            return False
        for layer in reversed(self._layers):
            if (verdict := layer.verdict(rel_path, is_dir)) is not None:
                return verdict
        return False


@dataclass(frozen=True, slots=True)
class _Pattern:
    spec: GitIgnoreSpecPattern
    folders_only: bool

    def matches(self, subject: str) -> bool:
        """Return whether it means this path itself: GitIgnoreSpecPattern, made for lists of files, also matches all
        below a folder, and captures the "/" there."""
        found = self.spec.match_file(subject)
        return found is not None and found.match.lastindex is None


@dataclass(frozen=True, slots=True)
class _Layer:
    """One ignore file; `prefix`: its folder inside the collection, "/" at the end; `patterns`: the last one first."""

    prefix: str
    patterns: tuple[_Pattern, ...]

    def verdict(self, rel_path: str, is_dir: bool) -> bool | None:
        """Return whether the path is left out; None: no pattern matches it."""
        subject = rel_path[len(self.prefix) :]
        for pattern in self.patterns:
            if (is_dir or not pattern.folders_only) and pattern.matches(subject):
                return pattern.spec.include
        return None


def _read(path: Path) -> list[str] | None:
    """The lines of an ignore file; None where there is none."""
    try:
        # Opening a pipe the plain way waits for someone who writes to it.
        with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise UsageError(f"{path} is not a regular file: move it away, or make it a list of patterns")
            raw = file.read(_MAX_BYTES + 1)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from error
    if len(raw) > _MAX_BYTES:
        raise UsageError(f"{path} is larger than 1 MiB: patterns such as 'folder/' or '*.tmp' say it in fewer lines")
    try:
        return raw.decode("utf-8-sig").split("\n")
    except UnicodeDecodeError as error:
        raise UsageError(f"{path} is not UTF-8 (byte {error.start}): save it as UTF-8") from error


def _patterns(lines: Sequence[str], source: str) -> tuple[_Pattern, ...]:
    """The patterns of an ignore file, the last one first; comments and empty lines are left out."""
    from pathspec.patterns.gitignore.spec import GitIgnoreSpecPattern

    patterns = []
    for number, line in enumerate(lines, start=1):
        text = line.rstrip("\r")
        text = text if text.endswith("\\ ") else text.rstrip(" ")
        folders_only = text.endswith("/")
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error", FutureWarning)  # [[:alpha:]], which would match something else
                spec = GitIgnoreSpecPattern(text.removesuffix("/"))
        except (ValueError, re.error, FutureWarning):
            raise UsageError(f"{source} line {number}: pattern {text!r} does not parse") from None
        if spec.include is not None:
            patterns.append(_Pattern(spec, folders_only))
    return tuple(reversed(patterns))
