"""Tar archives as a stream, member by member (POSIX ustar and pax, GNU long names), plain or compressed.

The blocks are read here rather than by `tarfile`, which keeps all members in memory, takes a damaged header for the end
of the archive (of three members with a damaged second header it yields the first, without an error), and trusts every
size that a header states.
"""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, BinaryIO

from bindsearch.errors import MediaError
from bindsearch.ingest.archives.limits import (
    BLOCK_BYTES,
    DECOMPRESSION_ERRORS,
    Budget,
    Entry,
    new_bzip2,
    new_gzip,
    new_xz,
    time_ns,
    unpacked,
)
from bindsearch.ingest.archives.names import likely_encoding
from bindsearch.media import Note, drop_note
from bindsearch.small_files import open_regular

_COMPRESSED = ((b"\x1f\x8b\x08", new_gzip), (b"BZh", new_bzip2), (b"\xfd7zXZ\0", new_xz))
_ZSTD = b"\x28\xb5\x2f\xfd"
_MAGIC_BYTES = 6
_MAX_HEADER_BYTES = 1 << 20
_MAX_HEADERS = 16
"""Maximum number of extension headers before one member."""

_LONG_NAME, _LONG_LINK = tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK
_PAX, _GLOBAL_PAX = (tarfile.XHDTYPE, tarfile.SOLARIS_XHDTYPE), tarfile.XGLTYPE
_LINKS = (tarfile.LNKTYPE, tarfile.SYMTYPE)
_DEVICES = (tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE)


def is_tar(head: bytes) -> bool:
    """Return whether the first 512 bytes of a file or more begin a tar, or a compressed stream that may contain one."""
    if head.startswith((*(magic for magic, _ in _COMPRESSED), _ZSTD)):
        return True
    try:
        tarfile.TarInfo.frombuf(head[: tarfile.BLOCKSIZE], "utf-8", "surrogateescape")
    except (tarfile.HeaderError, ValueError):
        return head[: tarfile.BLOCKSIZE] == bytes(tarfile.BLOCKSIZE)
    return True


def read_tar(path: Path, budget: Budget, note: Note = drop_note) -> Iterator[Entry]:
    """Yield the members of the tar at `path` in their order, without folders; tars one after the other count as one.

    Args:
        path: the archive.
        budget: counts what comes out of it.
        note: takes a note of what is unusual about it.

    Raises:
        MediaError: damaged, truncated, or past a limit; the members before are valid.
        OSError: it cannot be opened.
    """
    with open_regular(path) as file:
        stream = _Stream(_blocks(file, budget))
        seen: set[int] = set()
        tars = 1
        while True:
            if (header := _next_header(stream)) is None:
                if not _finds_another(stream):  # the compressed stream ends with a checksum
                    break
                tars += 1
                continue
            info, refusal = header
            budget.add_member()
            name = _name(info.name, note)
            content = stream.pieces(_content_bytes(info))
            if not info.isdir():
                first = _name(info.linkname, drop_note) if info.type == tarfile.LNKTYPE else None
                repeats = first if first is not None and hash(first) in seen else None
                seen.add(hash(name))  # the names themselves would take too much memory
                yield Entry(name, info.size, time_ns(info.mtime), refusal, content, repeats)
            for _ in content:  # the caller may not have read all of it
                pass
            stream.take(-_content_bytes(info) % tarfile.BLOCKSIZE)
        if tars > 1:
            note(f"{tars} tar archives one after the other: all are read")


def _name(name: str, note: Note) -> str:
    """Return a name; one that is not UTF-8 is decoded if its encoding is sure."""
    if name.isascii():
        return name
    raw = name.encode("utf-8", "surrogateescape")
    try:
        return raw.decode()
    except UnicodeDecodeError:
        encoding = likely_encoding([raw])
    if encoding is None:
        return name
    note(f"names of the tar in {encoding}, by the names: {raw.decode(encoding)}")
    return raw.decode(encoding)


def _finds_another(stream: _Stream) -> bool:
    """Return whether another tar follows the end of one (`cat a.tar b.tar`), and go to its first block."""
    zeros = bytes(tarfile.BLOCKSIZE)
    while len(block := stream.peek(tarfile.BLOCKSIZE)) == tarfile.BLOCKSIZE:
        if block != zeros:
            try:
                tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
            except (tarfile.HeaderError, ValueError):
                break  # what is there is no tar
            return True
        stream.take(tarfile.BLOCKSIZE)
    for _ in stream.blocks:  # the rest
        pass
    return False


def _blocks(file: BinaryIO, budget: Budget) -> Iterator[bytes]:
    """Yield the whole file, decompressed."""
    head = file.read(_MAGIC_BYTES)
    file.seek(0)
    new = next((new for magic, new in _COMPRESSED if head.startswith(magic)), None)
    try:
        with ExitStack() as held:
            read = file.read
            if head.startswith(_ZSTD):
                import pyarrow as pa

                read = held.enter_context(pa.CompressedInputStream(pa.PythonFile(file, "r"), "zstd")).read
            for block in unpacked(read, new) if new else iter(lambda: read(BLOCK_BYTES), b""):
                budget.add_bytes(len(block))
                yield block
    except DECOMPRESSION_ERRORS as error:
        raise MediaError(f"the archive is damaged or truncated: {error}") from error


class _Stream:
    """Reads exact numbers of bytes from blocks of any size."""

    def __init__(self, blocks: Iterator[bytes]) -> None:
        self.blocks = blocks
        self._block = b""
        self._offset = 0
        self.position = 0

    def pieces(self, count: int) -> Iterator[bytes]:
        """Yield the next `count` bytes in pieces."""
        while count:
            if self._offset == len(self._block):
                self._block, self._offset = next(self.blocks, b""), 0
                if not self._block:
                    raise MediaError("the archive is truncated")
            piece = self._block[self._offset : self._offset + count]
            self._offset += len(piece)
            self.position += len(piece)
            count -= len(piece)
            yield piece

    def take(self, count: int) -> bytes:
        """Return the next `count` bytes."""
        return b"".join(self.pieces(count))

    def peek(self, count: int) -> bytes:
        """Return the next `count` bytes, fewer at the end, and leave them there."""
        while len(self._block) - self._offset < count and (block := next(self.blocks, b"")):
            self._block, self._offset = self._block[self._offset :] + block, 0
        return self._block[self._offset : self._offset + count]


def _next_header(stream: _Stream) -> tuple[tarfile.TarInfo, str | None] | None:
    """Return the next member, extension headers applied, and why it is refused or None; None at the end."""
    extensions: dict[str, str] = {}
    for _ in range(_MAX_HEADERS):
        position = stream.position
        raw = stream.take(tarfile.BLOCKSIZE)
        if raw == bytes(tarfile.BLOCKSIZE):
            return None
        try:
            info = tarfile.TarInfo.frombuf(raw, "utf-8", "surrogateescape")
            if info.size < 0:
                raise ValueError("a negative size")
            if info.type not in (_LONG_NAME, _LONG_LINK, *_PAX, _GLOBAL_PAX):
                _apply(extensions, info)
                more = raw[482] if info.type == tarfile.GNUTYPE_SPARSE else 0
                while more:  # blocks that continue an old GNU header
                    more = stream.take(tarfile.BLOCKSIZE)[504]
                return info, _refusal(info, extensions)
            _read_extension(stream, info, extensions)
        except (tarfile.HeaderError, ValueError) as error:
            raise MediaError(f"the archive is damaged: invalid header at byte {position} ({error})") from error
    raise MediaError(f"the archive is damaged: more than {_MAX_HEADERS} headers in a row at byte {stream.position}")


def _read_extension(stream: _Stream, info: tarfile.TarInfo, extensions: dict[str, str]) -> None:
    """Add the fields of an extension header to `extensions`, which are for the next member only."""
    if info.size > _MAX_HEADER_BYTES:
        raise ValueError(f"{info.size} bytes of metadata for one member")
    raw = stream.take(info.size)
    stream.take(-info.size % tarfile.BLOCKSIZE)
    if info.type in (_LONG_NAME, _LONG_LINK):
        key = "path" if info.type == _LONG_NAME else "linkpath"
        extensions[key] = raw.partition(b"\0")[0].decode("utf-8", "surrogateescape")
    elif info.type in _PAX:
        extensions.update(_pax(raw))


def _pax(raw: bytes) -> dict[str, str]:
    """Return the records "LENGTH KEY=VALUE\\n" of a pax header; LENGTH counts the whole record."""
    records = {}
    position = 0
    while position < len(raw) and raw[position]:
        space = raw.index(b" ", position, position + 20)
        end = position + int(raw[position:space])
        if not space < end <= len(raw) or raw[end - 1] != ord("\n"):
            raise ValueError("a pax record of the wrong length")
        key, _, value = raw[space + 1 : end - 1].partition(b"=")
        records[key.decode("utf-8", "surrogateescape")] = value.decode("utf-8", "surrogateescape")
        position = end
    return records


def _apply(extensions: dict[str, str], info: Any) -> None:
    """Apply the extension headers of a member to its header."""
    info.name = extensions.get("GNU.sparse.name", extensions.get("path", info.name))
    info.linkname = extensions.get("linkpath", info.linkname)
    info.size = int(extensions.get("size", info.size))
    info.mtime = float(extensions.get("mtime", info.mtime))
    if info.size < 0:
        raise ValueError("a negative size")


def _refusal(info: tarfile.TarInfo, extensions: dict[str, str]) -> str | None:
    """Return why a member is not read; None if it is."""
    if info.type in _LINKS:
        return "a link"
    if info.type in _DEVICES:
        return "a device"
    if info.type == tarfile.GNUTYPE_SPARSE or any(key.startswith("GNU.sparse.") for key in extensions):
        return "a sparse file: pack it without --sparse"
    return None if info.isreg() or info.isdir() else f"a member of unknown kind {info.type!r}"


def _content_bytes(info: tarfile.TarInfo) -> int:
    """Return how many bytes follow the header: none for links, devices and folders, whatever size they state."""
    return 0 if info.type in (*_LINKS, *_DEVICES, tarfile.DIRTYPE) else info.size
