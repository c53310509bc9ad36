"""Files of the caches beside a store: each followed by its digest, written at once, the oldest deleted first."""

from __future__ import annotations

import os
import re
import time
from contextlib import suppress
from pathlib import Path
from tempfile import NamedTemporaryFile

import xxhash

from bindsearch.small_files import read_small_file

CACHE = "cache"
"""Folder of the caches in a store, which may be deleted at any time."""

TOUCHED_EVERY_S = 3600.0
"""A file that is read counts as used if its time is older than this."""

_DIGEST_BYTES = 16
_OWN_NAME = re.compile(r"[0-9a-f]{32}|\..*\.tmp")
"""Names of files of a cache, and of one being written; others are not its own, such as those of a linked folder."""


def read_kept(path: Path) -> bytes | None:
    """Return the content of a file that was kept; None if there is none, or it is damaged."""
    try:
        raw = read_small_file(path)
    except OSError:
        return None
    content, digest = raw[:-_DIGEST_BYTES], raw[-_DIGEST_BYTES:]
    if xxhash.xxh3_128_digest(content) != digest:
        return None
    with suppress(OSError):
        if path.stat().st_mtime < time.time() - TOUCHED_EVERY_S:
            os.utime(path)
    return content


def keep(path: Path, content: bytes, max_bytes: int) -> None:
    """Keep a file, and delete those used least recently until its folder has at most `max_bytes`.

    Nothing is kept in a store that cannot be written to, and nothing that is larger than that.
    """
    if len(content) + _DIGEST_BYTES > max_bytes:
        return
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        with NamedTemporaryFile(dir=path.parent, prefix=".", suffix=".tmp", delete=False) as file:
            try:
                file.write(content + xxhash.xxh3_128_digest(content))
                file.close()
                Path(file.name).replace(path)
            except BaseException:
                Path(file.name).unlink(missing_ok=True)
                raise
        _shrink(path.parent, max_bytes)


def _shrink(folder: Path, max_bytes: int) -> None:
    """Delete the files of a folder that were used least recently, until the others have at most `max_bytes`."""
    files = []
    for path in folder.iterdir():
        if not _OWN_NAME.fullmatch(path.name):
            continue
        with suppress(FileNotFoundError):  # another process deletes, too
            status = path.stat()
            files.append((status.st_mtime_ns, status.st_size, path))
    left = sum(size for _, size, _ in files)
    for _, size, path in sorted(files):
        if left <= max_bytes:
            return
        path.unlink(missing_ok=True)
        left -= size
