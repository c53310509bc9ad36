"""Content hashes (xxh3-128, which is faster than disk reads)."""

from __future__ import annotations

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
