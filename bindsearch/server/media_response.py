"""Indexed files as answers: whole or a range, as long as they are what was indexed."""

from __future__ import annotations

import os
import re
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import BinaryIO
from urllib.parse import quote

from starlette.responses import Response, StreamingResponse

from bindsearch.server.limits import Lane, Refusal
from bindsearch.server.media_types import DOWNLOAD, playable_type
from bindsearch.small_files import open_regular
from bindsearch.types import Item

CHUNK_BYTES = 1 << 18
_RANGE = re.compile(r"bytes=([0-9]{0,18})-([0-9]{0,18})")


@dataclass(frozen=True)
class OpenFile:
    """An open file and its size in bytes."""

    file: BinaryIO
    size: int


def open_item(item: Item) -> OpenFile:
    """Open the file of an item.

    A file that has changed since it was indexed is refused: it is not what was found, and something else may have been
    put in its place.

    Raises:
        Refusal: it is gone, cannot be read, or has changed.
    """
    try:
        file = open_regular(item.path)
    except (FileNotFoundError, NotADirectoryError):
        raise Refusal(410, f"{item.rel_path} is no longer there, or is part of an archive") from None
    except OSError as error:
        raise Refusal(403, f"{item.rel_path} cannot be read: {error.strerror or 'not a file'}") from None
    status = os.fstat(file.fileno())
    if (status.st_size, status.st_mtime_ns) != (item.size_bytes, item.mtime_ns):
        file.close()
        raise Refusal(409, f"{item.rel_path} has changed since it was indexed: run `bindsearch index` on its folder")
    return OpenFile(file, status.st_size)


def media_response(item: Item, opened: OpenFile, headers: Mapping[str, str], *, head: bool, files: Lane) -> Response:
    """Return a file, the range of it that was asked for, or that the client has it.

    Conditions and ranges are those of RFC 9110, 13 and 14; a request for several ranges gets the whole file.

    Args:
        item: The item.
        opened: Its file, which is closed at the end.
        headers: Headers of the request.
        head: Whether only the headers are wanted.
        files: Threads that read files.
    """
    tag = f'"{item.content_hash}"'
    content_type = playable_type(item.rel_path) or DOWNLOAD
    disposition = "attachment" if content_type == DOWNLOAD else "inline"
    name = quote(os.fsencode(item.rel_path.rpartition("/")[2]), safe="")
    sent = {
        "ETag": tag,
        "Accept-Ranges": "bytes",
        "Cache-Control": "private, no-cache",
        "Content-Disposition": f"{disposition}; filename*=UTF-8''{name}",
        "Content-Security-Policy": "default-src 'none'; sandbox",
    }
    if tag in (headers.get("if-none-match") or "").replace("W/", "").split(", "):
        opened.file.close()
        return Response(status_code=304, headers=sent)
    start, end = 0, opened.size
    asked = headers.get("range")
    is_same = headers.get("if-range") in (None, tag)
    status = 200
    if asked is not None and is_same and (match := _RANGE.fullmatch(asked.strip())) and any(match.groups()):
        first, last = match.groups()
        start = int(first) if first else max(0, opened.size - int(last))
        end = min(opened.size, int(last) + 1) if first and last else opened.size
        if start >= opened.size or start >= end:
            opened.file.close()
            sent["Content-Range"] = f"bytes */{opened.size}"
            raise Refusal(416, f"{item.rel_path} has {opened.size} bytes: ask for a part of them", sent)
        sent["Content-Range"] = f"bytes {start}-{end - 1}/{opened.size}"
        status = 206
    sent["Content-Length"] = str(end - start)
    if head:
        opened.file.close()
        return Response(status_code=status, headers=sent, media_type=content_type)
    return StreamingResponse(_chunks(opened.file, start, end, files), status, sent, media_type=content_type)


async def _chunks(file: BinaryIO, start: int, end: int, files: Lane) -> AsyncIterator[bytes]:
    with file:
        while start < end:
            offset, size = start, min(CHUNK_BYTES, end - start)
            chunk = await files.run(lambda offset=offset, size=size: os.pread(file.fileno(), size, offset))  # type: ignore[misc]
            if not chunk:  # the file was cut meanwhile: the connection ends early, which the client notices
                return
            start += len(chunk)
            yield chunk
