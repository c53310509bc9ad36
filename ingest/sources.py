"""Which files lie under a root: a plain walk that reads no file."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bindsearch.catalog import FileState

SIDECAR_SUFFIX = ".json"


@dataclass(frozen=True, slots=True)
class FoundFile:
    """A regular file: `rel_path` is relative to its collection's root, with forward slashes."""

    path: Path
    rel_path: str
    state: FileState


@dataclass(frozen=True)
class Scan:
    """What a walk found, the relative paths of folders and files it could not look at, and names it cannot store."""

    files: tuple[FoundFile, ...]
    unreadable: tuple[str, ...] = ()
    not_utf8: tuple[bytes, ...] = ()


def scan(root: Path, prefix: str, skipped_folders: frozenset[Path]) -> Scan:
    """Walk what lies at or under `root / prefix`, in the order of names.

    Hidden files and folders, symbolic links to folders, special files, `skipped_folders` and the sidecars of other
    files are left out. A sidecar's time is part of its file's state.
    """
    files: list[FoundFile] = []
    unreadable: list[str] = []
    not_utf8: list[bytes] = []
    start = root / prefix if prefix else root
    if start.is_file():
        siblings = {start.name, *([_sidecar(start.name)] if start.with_name(_sidecar(start.name)).is_file() else [])}
        files.extend(_found(start.stat(), start, root, siblings))
        return Scan(tuple(files))
    if not os.path.lexists(start):
        return Scan(())
    pending = [start]
    while pending:
        folder = pending.pop()
        try:
            with os.scandir(folder) as entries:
                visible = sorted((entry for entry in entries if not entry.name.startswith(".")), key=lambda e: e.name)
        except OSError:
            unreadable.append(folder.relative_to(root).as_posix() if folder != root else "")
            continue
        names = {entry.name for entry in visible}
        subfolders = []
        for entry in visible:
            if not _is_utf8(entry.name):
                not_utf8.append(os.fsencode(entry.path))
                continue
            try:
                if entry.is_dir(follow_symlinks=False):
                    subfolders.append(Path(entry.path))
                else:
                    files.extend(_found(entry.stat(), Path(entry.path), root, names))
            except FileNotFoundError:
                # Gone since; but a link to nowhere may point to a disk that is not mounted now.
                if entry.is_symlink():
                    unreadable.append(Path(entry.path).relative_to(root).as_posix())
            except OSError:
                unreadable.append(Path(entry.path).relative_to(root).as_posix())
        pending.extend(path for path in reversed(subfolders) if path not in skipped_folders)
    return Scan(tuple(files), tuple(unreadable), tuple(not_utf8))


def _is_utf8(name: str) -> bool:
    """Whether a name can be stored and printed: Linux allows any bytes, which Python keeps as lone surrogates."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _found(facts: os.stat_result, path: Path, root: Path, siblings: set[str]) -> Iterator[FoundFile]:
    is_sidecar = path.name.endswith(SIDECAR_SUFFIX) and path.name[: -len(SIDECAR_SUFFIX)] in siblings
    if not stat.S_ISREG(facts.st_mode) or is_sidecar:
        return
    sidecar = path.with_name(_sidecar(path.name))
    facts_stamp = sidecar.stat().st_mtime_ns if sidecar.name in siblings and sidecar.is_file() else 0
    state = FileState(facts.st_size, facts.st_mtime_ns, facts_stamp, facts.st_ino)
    yield FoundFile(path, path.relative_to(root).as_posix(), state)


def _sidecar(name: str) -> str:
    return name + SIDECAR_SUFFIX
