"""Zip archives member by member, in the order of names, without trust in the central directory.

The directory is read here rather than by `zipfile`, which decodes all names or none, has no limit for their number, and
in some versions reads members that overlap, with which a few megabytes expand to petabytes (David Fifield, "A better
zip bomb", WOOT 2019). Format: PKWARE APPNOTE 6.3.10.
"""

from __future__ import annotations

import stat
import struct
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import BinaryIO

from bindsearch.errors import MediaError
from bindsearch.ingest.archives.limits import (
    BLOCK_BYTES,
    DECOMPRESSION_ERRORS,
    ArchiveLimits,
    Budget,
    Entry,
    MemberError,
    new_bzip2,
    new_deflate,
    sample_key,
    time_ns,
    unpacked,
)
from bindsearch.ingest.archives.names import STANDARD, likely_encoding
from bindsearch.media import Note, drop_note
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
_WINDOWS = (0, 10, 14)
"""Systems that made a zip (APPNOTE 4.4.2.2): 0 MS-DOS, 3 Unix, 10 Windows NTFS, 14 VFAT."""
_UNICODE_PATH = 0x7075


@dataclass(frozen=True, slots=True)
class _Record:
    """A member as the central directory describes it; `name` is "" until the names of all members are decoded."""

    raw_name: bytes
    unicode_name: str | None
    made_by: int
    flags: int
    method: int
    crc: int
    packed_bytes: int
    size_bytes: int
    offset: int
    mtime_ns: int
    is_link: bool
    name: str = ""

    @property
    def end(self) -> int:
        """Earliest possible end of the member, as an offset."""
        return self.offset + _LOCAL.size + len(self.raw_name) + self.packed_bytes

    @property
    def has_code_page(self) -> bool:
        """Return whether nothing says the encoding of its name."""
        return self.unicode_name is None and not self.flags & _UTF8 and not self.raw_name.isascii()


def is_zip(head: bytes) -> bool:
    """Return whether `head` begins a zip."""
    return head.startswith((b"PK\x03\x04", b"PK\x05\x06"))


def read_zip(path: Path, budget: Budget, encoding: str | None = None, note: Note = drop_note) -> Iterator[Entry]:
    """Yield the members of the zip at `path` without folders, those of one sample key together.

    Reading the content of an entry raises MemberError if it is damaged or contradicts the directory.

    Args:
        path: the archive.
        budget: counts what comes out of it.
        encoding: code page of names that do not say theirs; None: it follows from the names.
        note: takes a note of the code page.

    Raises:
        MediaError: damaged, truncated, entries that overlap, or past a limit; the members before are valid.
        OSError: it cannot be opened.
    """
    with open_regular(path) as file:
        try:
            records = list(_directory(file, budget))
        except (struct.error, OSError) as error:
            raise MediaError(f"the archive is damaged: its central directory cannot be read ({error})") from error
        records = _with_names(records, encoding, note)
        records.sort(key=lambda record: record.offset)
        if any(first.end > second.offset for first, second in pairwise(records)):
            raise MediaError("the archive is damaged: its members overlap, as in a zip bomb")
        records.sort(key=lambda record: (sample_key(record.name), record.name))
        for record in records:
            if not record.name.endswith("/"):
                content = _content(file, record, budget)
                yield Entry(record.name, record.size_bytes, record.mtime_ns, _refusal(record), content)


def name_notes(path: Path, encoding: str | None) -> str:
    """Return how the names in a zip are read, as `read_zip` would note it; "" for other files and usual names.

    Raises:
        MediaError: as for `read_zip`.
    """
    notes: list[str] = []
    with open_regular(path) as file:
        if is_zip(file.read(4)):
            budget = Budget(ArchiveLimits(), path.stat().st_size)
            _with_names([*_directory(file, budget)], encoding, notes.append)
    return "; ".join(notes)


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
    unicode_name = None
    position = 0
    while position + 4 <= len(extra):
        kind, length = struct.unpack_from("<2H", extra, position)
        data = extra[position + 4 : position + 4 + length]
        position += 4 + length
        if kind == 0x0001:
            values64 = iter(struct.unpack(f"<{len(data) // 8}Q", data[: len(data) // 8 * 8]))
            size, packed, offset = (next(values64, n) if n == _IN_ZIP64 else n for n in (size, packed, offset))
        elif kind == 0x5455 and len(data) >= 5 and data[0] & 1:
            mtime_ns = time_ns(int.from_bytes(data[1:5], "little"))
        elif kind == _UNICODE_PATH:
            unicode_name = _unicode_name(data, raw_name)
    is_link = made_by >> 8 == _UNIX and stat.S_ISLNK(mode)
    place = packed, size, offset + shift
    return _Record(raw_name, unicode_name, made_by >> 8, flags, method, crc, *place, mtime_ns, is_link)


def _unicode_name(data: bytes, raw_name: bytes) -> str | None:
    """Return the name in a Unicode Path field (APPNOTE 4.6.9); None if it was written for another name."""
    if len(data) < 5 or data[0] != 1 or int.from_bytes(data[1:5], "little") != zlib.crc32(raw_name):
        return None
    try:
        return data[5:].decode()
    except UnicodeDecodeError:
        return None


def _with_names(records: Sequence[_Record], encoding: str | None, note: Note) -> list[_Record]:
    """Return records with their names decoded, with slashes also where Windows wrote backslashes."""
    unknown = [record.raw_name for record in records if record.has_code_page and not _is_utf8(record.raw_name)]
    code_page, why = encoding, "as set"
    if code_page is None and unknown:
        code_page = likely_encoding(unknown)
        why = "by its names; [zip_names] in .bindsearch.toml sets another"
        if code_page is None:
            why = "by the standard, as their code page is not sure: set it with [zip_names] in .bindsearch.toml"
    named = [replace(record, name=_decode_name(record, encoding, code_page or STANDARD)) for record in records]
    if unknown:
        example = next(record.name for record in named if record.raw_name == unknown[0])
        note(f"names of the zip in {code_page or STANDARD} {why}: {example}")
    if all(record.made_by in _WINDOWS and b"/" not in record.raw_name for record in records):
        # .NET before 4.6.1, and so PowerShell 5, against the standard (APPNOTE 4.4.17.1)
        named = [replace(record, name=record.name.replace("\\", "/")) for record in named]
    return named


def _decode_name(record: _Record, encoding: str | None, code_page: str) -> str:
    """Decode a name as UTF-8, without the flag too (macOS omits it) unless `encoding` is set; else in a code page."""
    if record.unicode_name is not None:
        return record.unicode_name
    raw_name = record.raw_name
    if record.has_code_page and (encoding is not None or not _is_utf8(raw_name)):
        try:
            return raw_name.decode(code_page)
        except UnicodeDecodeError:
            return raw_name.decode(STANDARD)
    return raw_name.decode("utf-8", "surrogateescape")


def _is_utf8(raw_name: bytes) -> bool:
    try:
        raw_name.decode()
    except UnicodeDecodeError:
        return False
    return True


def _dos_time_ns(date: int, time: int) -> int:
    """Return nanoseconds since 1970 of a DOS time; its time zone is unknown, UTC is assumed."""
    day, hours = ((date >> 9) + 1980, date >> 5 & 15, date & 31), (time >> 11, time >> 5 & 63, (time & 31) * 2)
    try:
        return time_ns(datetime(*day, *hours, tzinfo=UTC).timestamp())
    except ValueError:
        return 0


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
    if file.read(name_bytes) != record.raw_name:
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
