"""Common parts of reading tars and zips: limits and the count kept against them, entries, decompression."""

from __future__ import annotations

import bz2
import lzma
import math
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from bindsearch.errors import MediaError

BLOCK_BYTES = 1 << 20
"""Bytes that are read, and that at most come out of a decompressor, at a time."""

DECOMPRESSION_ERRORS = (EOFError, OSError, lzma.LZMAError, zlib.error)
"""Errors that decompressors raise over damaged data."""

RATIO_COUNTS_FROM_BYTES = 64 << 20
"""Less than this never counts as a bomb: a small file of zeros shrinks a thousand times."""

_MAX_DICTIONARY_BYTES = 512 << 20
"""Memory that an xz stream may ask for; `xz -9` asks for 65 MiB."""


@dataclass(frozen=True, slots=True)
class ArchiveLimits:
    """Limits beyond which an archive counts as a bomb.

    `max_ratio`: uncompressed over compressed size, of a member and of the whole, judged where more than 64 MiB came
    out. A member of more than `max_member_bytes` is left out; beyond the others the archive is not read on.
    `max_total_bytes` counts all that comes out of the decompressor.
    """

    max_members: int = 1_000_000
    max_ratio: float = 200.0
    max_member_bytes: int = 1 << 30
    max_total_bytes: int = 1 << 40

    def check_ratio(self, unpacked_bytes: int, packed_bytes: int) -> None:
        """Refuse what grows more than allowed.

        Raises:
            MediaError: it does.
        """
        if unpacked_bytes > RATIO_COUNTS_FROM_BYTES and unpacked_bytes > self.max_ratio * packed_bytes:
            raise MediaError(
                f"the archive grows more than {self.max_ratio:g} times when it is unpacked, as a bomb does: "
                "give a larger --limit ratio=N if you trust it"
            )


class Budget:
    """Count of what has come out of an archive of `packed_bytes` so far."""

    def __init__(self, limits: ArchiveLimits, packed_bytes: int) -> None:
        self.limits = limits
        self._packed_bytes = packed_bytes
        self._bytes = 0
        self._members = 0

    def add_member(self) -> None:
        """Count a member, whatever it is.

        Raises:
            MediaError: it is one too many.
        """
        self._members += 1
        if self._members > self.limits.max_members:
            raise MediaError(
                f"the archive has more than {self.limits.max_members} members: "
                "give a larger --limit members=N to read on"
            )

    def add_bytes(self, count: int) -> None:
        """Count what came out of the decompressor.

        Raises:
            MediaError: it is too much in all, or for the size of the archive.
        """
        self._bytes += count
        if self._bytes > self.limits.max_total_bytes:
            raise MediaError(f"the archive holds more than {self.limits.max_total_bytes} bytes: unpack it yourself")
        self.limits.check_ratio(self._bytes, self._packed_bytes)


class MemberError(MediaError):
    """One member cannot be read back; those behind it can. Told to the caller of `read_members`, never raised there."""


@dataclass(slots=True)
class Entry:
    """A member as the archive has it: nothing about its name is checked, bytes that are no UTF-8 are lone surrogates.

    `refusal`: why its content is not read. `content`: its bytes in blocks, good until the next entry is asked for.
    """

    name: str
    size_bytes: int
    mtime_ns: int
    refusal: str | None
    content: Iterator[bytes]


def sample_key(name: str) -> str:
    """Return what the members of a WebDataset sample have in common: the path up to the first dot of the file name."""
    folder, slash, base = name.rpartition("/")
    return folder + slash + base.partition(".")[0]


def unpacked(read: Callable[[int], bytes], start_stream: Callable[[], Any]) -> Iterator[bytes]:
    """Yield what the compressed bytes from `read` hold, in blocks; streams one after another count as one.

    `start_stream` makes a decompressor object of zlib, bz2 or lzma. Raises what is in DAMAGE.
    """
    packed = read(BLOCK_BYTES)
    while packed:
        stream = start_stream()
        while not stream.eof:
            block = stream.decompress(packed, BLOCK_BYTES)
            packed = getattr(stream, "unconsumed_tail", b"")  # of zlib; the others keep it themselves
            if block:
                yield block
            elif not stream.eof:
                packed = read(BLOCK_BYTES)
                if not packed:
                    raise EOFError("the compressed data is cut off")
        packed = (stream.unused_data or read(BLOCK_BYTES)).lstrip(b"\0")  # padding


def new_gzip() -> Any:
    """A decompressor of gzip streams that checks their checksum."""
    return zlib.decompressobj(16 + zlib.MAX_WBITS)


def new_deflate() -> Any:
    """A decompressor of bare deflate streams."""
    return zlib.decompressobj(-zlib.MAX_WBITS)


def new_bzip2() -> Any:
    """A decompressor of bzip2 streams."""
    return bz2.BZ2Decompressor()


def new_xz() -> Any:
    """A decompressor of xz streams."""
    return lzma.LZMADecompressor(memlimit=_MAX_DICTIONARY_BYTES)


def time_ns(seconds: float) -> int:
    """Nanoseconds since 1970; 0 for a time that no file has."""
    return int(seconds * 1e9) if math.isfinite(seconds) and 0 <= seconds < 1 << 33 else 0
