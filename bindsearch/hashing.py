"""Content hashes: xxh3-128, which runs faster than a disk reads."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

BLOCK_BYTES = 1 << 20


def hash_file(path: Path) -> str:
    """Hex digest of a file's bytes.

    Raises:
        OSError: it cannot be read.
    """
    import xxhash

    digest = xxhash.xxh3_128()
    with path.open("rb") as file:
        while block := file.read(BLOCK_BYTES):
            digest.update(block)
    return str(digest.hexdigest())


def fingerprint_of(*parts: str) -> str:
    """Hex digest of several texts, in order: equal only where all of them are."""
    import xxhash

    return str(xxhash.xxh3_128("\0".join(parts).encode()).hexdigest())


class HashingFile:
    """A file open for writing that digests what passes through, so that it need not be read again."""

    def __init__(self, file: BinaryIO) -> None:
        """Write to `file`, which its opener closes."""
        import xxhash

        self._file = file
        self._digest = xxhash.xxh3_128()

    @property
    def closed(self) -> bool:
        """Whether the file is closed."""
        return self._file.closed

    @property
    def hexdigest(self) -> str:
        """Of all that has been written."""
        return str(self._digest.hexdigest())

    def write(self, data: ReadableBuffer) -> int:
        """Write all of it."""
        self._digest.update(data)
        return self._file.write(data)

    def flush(self) -> None:
        """Hand what is buffered to the system."""
        self._file.flush()
