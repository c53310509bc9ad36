"""Zip archives member by member, in the order of names, without trust in the central directory.

The directory is read here rather than by `zipfile`, which decodes all names or none, has no limit for their number, and
in some versions reads members that overlap, with which a few megabytes expand to petabytes (David Fifield, "A better
zip bomb", WOOT 2019). Format: PKWARE APPNOTE 6.3.10.
"""

from __future__ import annotations

import stat
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import BinaryIO

from bindsearch.errors import MediaError
from bindsearch.ingest.archives.limits import (
    BLOCK_BYTES,
    DECOMPRESSION_ERRORS,
    Budget,
    Entry,
    MemberError,
    new_bzip2,
    new_deflate,
    sample_key,
    time_ns,
    unpacked,
)
from bindsearch.small_files import open_regular

_END = struct.Struct("<4s4H2LH")
_END64 = struct.Struct("<4sQ2H2L4Q")
_LOCATOR64 = struct.Struct("<4sLQL")
_CENTRAL = struct.Struct("<4s6H3L5H2L")
_LOCAL = struct.Struct("<4s5H3L2H")
_IN_ZIP64 = 0xFFFFFFFF
_STORED, _DEFLATED, _BZIP2 = 0, 8, 12
_ENCRYPTED, _UTF8 = 1 << 0, 1 << 11
_UNIX = 3


@dataclass(frozen=True, slots=True)
class _Record:
    """A member as the central directory describes it; `offset` from the beginning of the file."""

    name: str
    flags: int
    method: int
    crc: int
    packed_bytes: int
    size_bytes: int
    offset: int
    mtime_ns: int
    is_link: bool

    @property
    def end(self) -> int:
        """Earliest possible end of the member, as an offset."""
        return self.offset + _LOCAL.size + len(self.name) + self.packed_bytes


def is_zip(head: bytes) -> bool:
    """Return whether `head` begins a zip."""
    return head.startswith((b"PK\x03\x04", b"PK\x05\x06"))


def read_zip(path: Path, budget: Budget) -> Iterator[Entry]:
    """Yield the members of the zip at `path` without folders, those of one sample key together.

    Reading the content of an entry raises MemberError if it is damaged or contradicts the directory.

    Raises:
        MediaError: damaged, truncated, entries that overlap, or past a limit; the members before are valid.
        OSError: it cannot be opened.
    """
    with open_regular(path) as file:
        try:
            records = list(_directory(file, budget))
        except (struct.error, OSError) as error:
            raise MediaError(f"the archive is damaged: its central directory cannot be read ({error})") from error
        records.sort(key=lambda record: record.offset)
        if any(first.end > second.offset for first, second in pairwise(records)):
            raise MediaError("the archive is damaged: its members overlap, as in a zip bomb")
        records.sort(key=lambda record: (sample_key(record.name), record.name))
        for record in records:
            if not record.name.endswith("/"):
                content = _content(file, record, budget)
                yield Entry(record.name, record.size_bytes, record.mtime_ns, _refusal(record), content)


def _directory(file: BinaryIO, budget: Budget) -> Iterator[_Record]:
    """Yield the records of the central directory."""
    start, size, shift = _find_directory(file)
    file.seek(start)
    remaining = size
    while remaining > 0:
        fields = _CENTRAL.unpack(file.read(_CENTRAL.size))
        if fields[0] != b"PK\x01\x02":
            raise MediaError("the archive is damaged: its central directory contains an invalid entry")
        budget.add_member()
        name_bytes, extra_bytes, comment_bytes = fields[10:13]
        raw_name, extra = file.read(name_bytes), file.read(extra_bytes)
        file.seek(comment_bytes, 1)
        record = _record(fields, raw_name, extra, shift)
        if record.end > start:
            raise MediaError("the archive is damaged: a member overlaps the central directory")
        yield record
        remaining -= _CENTRAL.size + name_bytes + extra_bytes + comment_bytes


def _find_directory(file: BinaryIO) -> tuple[int, int, int]:
    """Return offset and size of the central directory, and the number of bytes that precede the zip in the file."""
    file_bytes = file.seek(0, 2)
    tail_at = max(0, file_bytes - (1 << 16) - _END.size - _LOCATOR64.size - _END64.size)
    file.seek(tail_at)
    tail = file.read()
    end = tail.rfind(b"PK\x05\x06")
    if end < 0 or end + _END.size > len(tail):
        raise MediaError("the archive is damaged or truncated: its central directory is missing")
    size, offset = _END.unpack_from(tail, end)[5:7]
    locator = end - _LOCATOR64.size
    if locator >= _END64.size and tail[locator : locator + 4] == b"PK\x06\x07":
        end = locator - _END64.size
        magic, *_, size, offset = _END64.unpack_from(tail, end)
        if magic != b"PK\x06\x06":
            raise MediaError("the archive is damaged: the end record of its central directory is missing")
    start = tail_at + end - size
    if start < offset:
        raise MediaError("the archive is damaged: the offset of its central directory is wrong")
    return start, size, start - offset


def _record(fields: tuple[int, ...], raw_name: bytes, extra: bytes, shift: int) -> _Record:
    """Return the record of a directory entry, with its zip64 and time stamp fields."""
    _, made_by, _, flags, method, time, date, crc, packed, size, *_ = fields
    mode, offset = fields[-2] >> 16, fields[-1]
    mtime_ns = _dos_time_ns(date, time)
    for kind, data in _extras(extra):
        if kind == 0x0001:
            values64 = iter(struct.unpack(f"<{len(data) // 8}Q", data[: len(data) // 8 * 8]))
            size, packed, offset = (next(values64, n) if n == _IN_ZIP64 else n for n in (size, packed, offset))
        elif kind == 0x5455 and len(data) >= 5 and data[0] & 1:
            mtime_ns = time_ns(int.from_bytes(data[1:5], "little"))
    is_link = made_by >> 8 == _UNIX and stat.S_ISLNK(mode)
    return _Record(_decode_name(raw_name, flags), flags, method, crc, packed, size, offset + shift, mtime_ns, is_link)


def _extras(extra: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield kind and data of the extra fields."""
    position = 0
    while position + 4 <= len(extra):
        kind, length = struct.unpack_from("<2H", extra, position)
        yield kind, extra[position + 4 : position + 4 + length]
        position += 4 + length


def _decode_name(raw_name: bytes, flags: int) -> str:
    """Decode a name as UTF-8, also without the flag, since macOS omits it; else with the code page of the format."""
    try:
        return raw_name.decode("utf-8")
    except UnicodeDecodeError:
        return raw_name.decode("utf-8", "surrogateescape") if flags & _UTF8 else raw_name.decode("cp437")


def _dos_time_ns(date: int, time: int) -> int:
    """Return nanoseconds since 1970 of a DOS time; its time zone is unknown, UTC is assumed."""
    try:
        moment = datetime(
            (date >> 9) + 1980, date >> 5 & 15, date & 31, time >> 11, time >> 5 & 63, (time & 31) * 2, tzinfo=UTC
        )
    except ValueError:
        return 0
    return time_ns(moment.timestamp())


def _refusal(record: _Record) -> str | None:
    """Return why a member is not read; None if it is."""
    if record.is_link:
        return "a link"
    if record.flags & _ENCRYPTED:
        return "encrypted: unpack it with its password"
    if record.method not in (_STORED, _DEFLATED, _BZIP2):
        return f"compressed by method {record.method}, which is not read: pack it with deflate"
    return None


def _content(file: BinaryIO, record: _Record, budget: Budget) -> Iterator[bytes]:
    """Yield the content of a member in blocks, checked against the directory."""
    budget.limits.check_ratio(record.size_bytes, record.packed_bytes)
    count = crc = 0
    try:
        for block in _blocks(file, record):
            count += len(block)
            budget.add_bytes(len(block))
            if count > record.size_bytes:
                raise MemberError(f"damaged: more than the {record.size_bytes} bytes stated in the central directory")
            crc = zlib.crc32(block, crc)
            yield block
    except DECOMPRESSION_ERRORS as error:
        raise MemberError(f"damaged: {error}") from error
    if count < record.size_bytes:
        raise MemberError(f"damaged: {count} of the {record.size_bytes} bytes stated in the central directory")
    if crc != record.crc:
        raise MemberError("damaged: its checksum differs from the central directory")


def _blocks(file: BinaryIO, record: _Record) -> Iterator[bytes]:
    """Yield the decompressed blocks of a member."""
    file.seek(record.offset)
    header = file.read(_LOCAL.size)
    if len(header) < _LOCAL.size or header[:4] != b"PK\x03\x04":
        raise MemberError("damaged: not at the offset stated in the central directory")
    name_bytes, extra_bytes = _LOCAL.unpack(header)[-2:]
    if _decode_name(file.read(name_bytes), record.flags) != record.name:
        raise MemberError("damaged: its name differs from the central directory")
    file.seek(extra_bytes, 1)
    remaining = record.packed_bytes

    def read(count: int) -> bytes:
        nonlocal remaining
        block = file.read(min(count, remaining))
        remaining -= len(block)
        return block

    if record.method == _STORED:
        return iter(lambda: read(BLOCK_BYTES), b"")
    return unpacked(read, new_bzip2 if record.method == _BZIP2 else new_deflate)
