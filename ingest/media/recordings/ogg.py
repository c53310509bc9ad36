"""Pages of Ogg (RFC 3533): where the recordings of a file begin that holds several, one behind the other."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

_MOST_RECORDINGS = 10_000
_BEGINS = 2
"""Flag of the first page of a stream."""
_BLOCK_BYTES = 1 << 16


def recording_edges(path: Path) -> list[int]:
    """Return the offsets in bytes at which the recordings ("links") of an Ogg file begin, and its size.

    A recording begins with the first pages of all its streams; only headers of pages are read.
    """
    edges: list[int] = []
    was_beginning = False
    size_bytes = path.stat().st_size
    with path.open("rb") as file:
        place = searched = _next_page(file, 0)
        while place is not None and searched is not None:
            file.seek(place)
            header = file.read(27 + 255)
            if header[:4] != b"OggS" or len(header) < 27:  # the page before is cut off: others begin inside its size
                place = searched = _next_page(file, searched + 1)
                continue
            searched = place
            is_beginning = bool(header[5] & _BEGINS)
            if is_beginning and not was_beginning:
                edges.append(place)
                if len(edges) > _MOST_RECORDINGS:
                    break
            was_beginning = is_beginning
            place += 27 + header[26] + sum(header[27 : 27 + header[26]])
    return [*(edges[:_MOST_RECORDINGS] or [0]), size_bytes]


def is_chained(path: Path) -> bool:
    """Return whether the last page of a file is of another recording than the first ones, by their serial numbers."""
    with path.open("rb") as file:
        first = file.read(_BLOCK_BYTES)
        file.seek(max(0, path.stat().st_size - _BLOCK_BYTES))
        last = file.read()
    serials = {first[place + 14 : place + 18] for place in _first_pages(first)}
    place = last.rfind(b"OggS")
    return place >= 0 and last[place + 14 : place + 18] not in serials


def _first_pages(head: bytes) -> Iterator[int]:
    """Yield the offsets of the pages in the first bytes of a file that begin the streams of the first recording."""
    place = head.find(b"OggS")
    while place >= 0 and len(head) > place + 27 and head[place + 5] & _BEGINS:
        yield place
        place += 27 + head[place + 26] + sum(head[place + 27 : place + 27 + head[place + 26]])


def _next_page(file: BinaryIO, start: int) -> int | None:
    """Return the offset of the first page at or behind `start`; None if there is none."""
    file.seek(start)
    held = b""
    while block := file.read(_BLOCK_BYTES):
        held = held[-3:] + block
        if (found := held.find(b"OggS")) >= 0:
            return file.tell() - len(held) + found
    return None
