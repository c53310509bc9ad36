"""Common parts of the tar and zip readers: limits, budgets, entries, decompression."""

from __future__ import annotations

import bz2
import lzma
import math
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

from bindsearch.errors import MediaError
from bindsearch.ingest.media.imu.partners import recording_key

BLOCK_BYTES = 1 << 20
"""Maximum number of bytes that are read, or come out of a decompressor, at a time."""

DECOMPRESSION_ERRORS = (EOFError, OSError, lzma.LZMAError, zlib.error)
"""Errors that decompressors raise for damaged data."""

RATIO_COUNTS_FROM_BYTES = 64 << 20
"""Smaller archives never count as a bomb: a small file of zeros compresses a thousandfold."""

_MAX_DICTIONARY_BYTES = 512 << 20
"""Maximum memory of an xz decompressor; `xz -9` needs 65 MiB."""


@dataclass(frozen=True, slots=True)
class ArchiveLimits:
    """Limits beyond which an archive counts as a decompression bomb.

    Attributes:
        max_members: more members end reading.
        max_ratio: maximum of uncompressed over compressed size, of a member and of the archive; checked once more than
            64 MiB came out.
        max_member_bytes: a larger member is skipped.
        max_total_bytes: maximum of all bytes that come out of the decompressor; more end reading.
    """

    max_members: int = 1_000_000
    max_ratio: float = 200.0
    max_member_bytes: int = 1 << 30
    max_total_bytes: int = 1 << 40

    def check_ratio(self, unpacked_bytes: int, packed_bytes: int) -> None:
        """Check the compression ratio; raise MediaError if the data expands more than allowed."""
        if unpacked_bytes > RATIO_COUNTS_FROM_BYTES and unpacked_bytes > self.max_ratio * packed_bytes:
            raise MediaError(
                f"the archive expands to more than {self.max_ratio:g} times its size, like a decompression bomb: "
                "give a larger --limit ratio=N if you trust it"
            )


class Budget:
    """Count of members and bytes that came out of an archive of `packed_bytes` so far."""

    def __init__(self, limits: ArchiveLimits, packed_bytes: int) -> None:
        self.limits = limits
        self._packed_bytes = packed_bytes
        self._bytes = 0
        self._members = 0

    def add_member(self) -> None:
        """Count a member of any kind; raise MediaError if there are too many."""
        self._members += 1
        if self._members > self.limits.max_members:
            advice = "give a larger --limit members=N to read on"
            raise MediaError(f"the archive has more than {self.limits.max_members} members: {advice}")

    def add_bytes(self, count: int) -> None:
        """Count bytes that came out of the decompressor; raise MediaError if they are too many, or for its size."""
        self._bytes += count
        if self._bytes > self.limits.max_total_bytes:
            raise MediaError(f"the archive contains more than {self.limits.max_total_bytes} bytes: unpack it yourself")
        self.limits.check_ratio(self._bytes, self._packed_bytes)


class MemberError(MediaError):
    """One member cannot be read, but those after it can; passed to the caller of `read_members`, never raised there."""


@dataclass(slots=True)
class Entry:
    """A member as stored in the archive.

    Attributes:
        name: unchecked; bytes that are not UTF-8 are lone surrogates.
        size_bytes: uncompressed size.
        mtime_ns: time of the last change, nanoseconds since 1970.
        refusal: why the content is not read; None: it is read.
        content: its bytes in blocks, valid until the next entry is requested.
        repeats: name of a member before it whose content it has, as a hard link; None: it has its own.
    """

    name: str
    size_bytes: int
    mtime_ns: int
    refusal: str | None
    content: Iterator[bytes]
    repeats: str | None = None


def sample_key(name: str) -> str:
    """Return the common part of the names of a WebDataset sample: the path up to the first dot of the file name.

    Files that are one recording of motion, one sensor a file, are one sample too.
    """
    if (recording := recording_key(name)) is not None:
        return recording
    folder, slash, base = name.rpartition("/")
    return folder + slash + base.partition(".")[0]


def unpacked(read: Callable[[int], bytes], start_stream: Callable[[], Any]) -> Iterator[bytes]:
    """Yield decompressed blocks of the bytes from `read`; concatenated streams count as one.

    Args:
        read: returns up to as many compressed bytes as its argument says, b"" at the end.
        start_stream: creates a decompressor object of zlib, bz2 or lzma.

    Raises:
        EOFError: the data is truncated. Damaged data raises the errors in DECOMPRESSION_ERRORS.
    """
    packed = read(BLOCK_BYTES)
    while packed:
        stream = start_stream()
        while not stream.eof:
            block = stream.decompress(packed, BLOCK_BYTES)
            packed = getattr(stream, "unconsumed_tail", b"")  # zlib's attribute; the others buffer it themselves
            if block:
                yield block
            elif not stream.eof:
                packed = read(BLOCK_BYTES)
                if not packed:
                    raise EOFError("the compressed data is truncated")
        packed = (stream.unused_data or read(BLOCK_BYTES)).lstrip(b"\0")  # padding


new_gzip: Callable[[], Any] = partial(zlib.decompressobj, 16 + zlib.MAX_WBITS)  # checks the checksum
new_deflate: Callable[[], Any] = partial(zlib.decompressobj, -zlib.MAX_WBITS)
new_bzip2: Callable[[], Any] = bz2.BZ2Decompressor
new_xz: Callable[[], Any] = partial(lzma.LZMADecompressor, memlimit=_MAX_DICTIONARY_BYTES)


def time_ns(seconds: float) -> int:
    """Return nanoseconds since 1970; 0 for a time that is out of range."""
    return int(seconds * 1e9) if math.isfinite(seconds) and 0 <= seconds < 1 << 33 else 0
