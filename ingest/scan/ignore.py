"""Files that the user excludes: permanently with `.bindsearchignore` files, or for one run with a path filter.

A `.bindsearchignore` contains patterns as in a .gitignore and applies to everything below its folder. A deeper file
overrides a shallower one, the last matching pattern decides, `!` includes a path again, a trailing "/" matches folders
only, a leading one the file's own folder. Files below an ignored folder cannot be included again.
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
    """Return the rules for the contents of the folder `root / rel_folder`, for a scan that does not start at the root.

    If a folder in between is ignored, everything below it is ignored.

    Raises:
        UsageError: an ignore file cannot be read or contains an invalid pattern.
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
        if self.only is not None and not any(path in self.only for path in _at_and_above(rel_path)):
            return False
        if not (self.include or self.exclude):
            return True
        paths = [*_at_and_above(rel_path)]
        if self.include and not any(glob_matches(glob, path) for glob in self.include for path in paths):
            return False
        return not any(glob_matches(glob, path) for glob in self.exclude for path in paths)


def _at_and_above(rel_path: str) -> Iterator[str]:
    """Yield a path, then those of the folders and archives that contain it."""
    while rel_path:
        yield rel_path
        rel_path = rel_path.rpartition("/")[0]


@dataclass(frozen=True, slots=True)
class IgnoreRules:
    """The ignore files between a collection's root and one folder, the root's first."""

    _layers: tuple[_Layer, ...] = ()

    @classmethod
    def none(cls) -> IgnoreRules:
        """Return no rules: nothing is ignored."""
        return cls()

    def entering(self, folder: Path, rel_folder: str, *, has_file: bool = True) -> IgnoreRules:
        """Return the rules for the contents of `folder`, at `rel_folder` inside its collection ("" for the root).

        `has_file`: whether the folder contains an IGNORE_FILE, if the caller knows.

        Raises:
            UsageError: the ignore file cannot be read or contains an invalid pattern.
        """
        lines = _read(folder / IGNORE_FILE) if has_file else None
        if lines is None:
            return self
        patterns = _patterns(lines, str(folder / IGNORE_FILE))
        if not patterns:
            return self
        return IgnoreRules((*self._layers, _Layer(f"{rel_folder}/" if rel_folder else "", patterns)))

    def ignores(self, rel_path: str, is_dir: bool) -> bool:
        """Return whether a path inside the collection is ignored.

        Folders above it are not checked: a walk skips the contents of ignored folders.
        """
        if not self._layers:
            return False
        for layer in reversed(self._layers):
            if (verdict := layer.verdict(rel_path, is_dir)) is not None:
                return verdict
        return False


@dataclass(frozen=True, slots=True)
class _Pattern:
    """A compiled pattern; `folders_only`: it ends with a slash."""

    spec: GitIgnoreSpecPattern
    folders_only: bool

    def matches(self, subject: str) -> bool:
        """Return whether it matches this path itself.

        GitIgnoreSpecPattern also matches everything below a folder, and then captures the "/".
        """
        match = self.spec.match_file(subject)
        return match is not None and match.match.lastindex is None


@dataclass(frozen=True, slots=True)
class _Layer:
    """One ignore file; `prefix`: its folder in the collection, with a final "/"; `patterns`: the last one first."""

    prefix: str
    patterns: tuple[_Pattern, ...]

    def verdict(self, rel_path: str, is_dir: bool) -> bool | None:
        """Return whether the path is ignored; None: no pattern matches it."""
        subject = rel_path[len(self.prefix) :]
        for pattern in self.patterns:
            if (is_dir or not pattern.folders_only) and pattern.matches(subject):
                return pattern.spec.include
        return None


def _read(path: Path) -> list[str] | None:
    """Return the lines of an ignore file; None if there is none."""
    try:
        # Without O_NONBLOCK, opening a pipe would wait for a writer.
        with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise UsageError(f"{path} is not a regular file: move it, or replace it with a list of patterns")
            raw = file.read(_MAX_BYTES + 1)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from error
    if len(raw) > _MAX_BYTES:
        raise UsageError(f"{path} is larger than 1 MiB: use patterns such as 'folder/' or '*.tmp'")
    try:
        return raw.decode("utf-8-sig").split("\n")
    except UnicodeDecodeError as error:
        raise UsageError(f"{path} is not UTF-8 (byte {error.start}): save it as UTF-8") from error


def _patterns(lines: Sequence[str], source: str) -> tuple[_Pattern, ...]:
    """Return the patterns of an ignore file, the last one first; comments and empty lines are skipped."""
    from pathspec.patterns.gitignore.spec import GitIgnoreSpecPattern

    patterns = []
    for number, line in enumerate(lines, start=1):
        text = line.rstrip("\r")
        text = text if text.endswith("\\ ") else text.rstrip(" ")
        folders_only = text.endswith("/")
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error", FutureWarning)  # raised for [[:alpha:]], which is not supported
                spec = GitIgnoreSpecPattern(text.removesuffix("/"))
        except (ValueError, re.error, FutureWarning):
            raise UsageError(f"{source} line {number}: pattern {text!r} is invalid") from None
        if spec.include is not None:
            patterns.append(_Pattern(spec, folders_only))
    return tuple(reversed(patterns))
