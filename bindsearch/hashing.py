"""Content hashes (xxh3-128, which is faster than disk reads)."""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from bindsearch.small_files import open_regular

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

BLOCK_BYTES = 1 << 20


def hash_file(path: Path) -> str:
    """Return the hex digest of a file's bytes.

    Raises:
        OSError: the file cannot be read, or is not a regular file.
    """
    import xxhash

    digest = xxhash.xxh3_128()
    with open_regular(path) as file:
        while block := file.read(BLOCK_BYTES):
            digest.update(block)
    return str(digest.hexdigest())


def hash_bytes(content: ReadableBuffer) -> str:
    """Return the hex digest of bytes in memory."""
    import xxhash

    return str(xxhash.xxh3_128(content).hexdigest())


def fingerprint_of(*parts: str) -> str:
    """Return the hex digest of several strings in order; it depends on each string and on its position."""
    import xxhash

    return str(xxhash.xxh3_128("\0".join(parts).encode()).hexdigest())


class HashingFile:
    """A file open for writing that computes the digest of its content, so that it need not be read again."""

    def __init__(self, file: BinaryIO) -> None:
        """Write to `file`; the caller closes it."""
        import xxhash

        self._file = file
        self._digest = xxhash.xxh3_128()

    @property
    def closed(self) -> bool:
        """Return whether the file is closed."""
        return self._file.closed

    @property
    def hexdigest(self) -> str:
        """The hex digest of all bytes written so far."""
        return str(self._digest.hexdigest())

    def write(self, data: ReadableBuffer) -> int:
        """Write `data` and return the number of bytes written."""
        self._digest.update(data)
        return self._file.write(data)

    def flush(self) -> None:
        """Flush buffered data to the operating system."""
        self._file.flush()


def files_version(paths: Iterable[str]) -> int:
    """Return a number from 0 to 2^63 - 1 that changes with the names, sizes and times of files, in this order."""
    import xxhash

    states = []
    for path in paths:
        with suppress(OSError):  # deleted meanwhile
            status = os.stat(path)  # noqa: PTH116
            states.append((path.rpartition("/")[2], status.st_size, status.st_mtime_ns))
    return int(xxhash.xxh3_64_intdigest(repr(states).encode())) >> 1
