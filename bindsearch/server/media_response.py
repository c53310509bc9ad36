"""Indexed files as answers: whole or a range, as long as they are what was indexed."""

from __future__ import annotations

import os
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import ExitStack
from functools import partial
from pathlib import PurePath
from types import MappingProxyType
from typing import Any, BinaryIO
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from bindsearch.server.limits import Lane, Refusal
from bindsearch.small_files import open_regular
from bindsearch.types import Item

CHUNK_BYTES = 1 << 18
_RANGE = re.compile(r"bytes=([0-9]{0,18})-([0-9]{0,18})")

_EXTENSIONS = {
    "image/jpeg": "jpg jpeg jpe jfif",
    "image/png": "png apng",
    "image/gif": "gif",
    "image/webp": "webp",
    "image/avif": "avif",
    "image/bmp": "bmp",
    "audio/wav": "wav wave",
    "audio/mpeg": "mp3 mpga",
    "audio/flac": "flac",
    "audio/ogg": "ogg oga opus",
    "audio/mp4": "m4a m4b",
    "audio/aac": "aac",
    "audio/webm": "weba",
    "video/mp4": "mp4 m4v",
    "video/quicktime": "mov",
    "video/webm": "webm",
    "video/x-matroska": "mkv",
    "video/ogg": "ogv",
}
PLAYABLE: Mapping[str, str] = MappingProxyType(
    {extension: kind for kind, extensions in _EXTENSIONS.items() for extension in extensions.split()}
)
"""Types by extension of files that browsers show or play (those of WHATWG MIME Sniffing, and of their containers)."""

TEXTS = frozenset(("txt", "md", "csv", "tsv", "json", "jsonl", "srt", "vtt", "rst", "log", "html", "htm", "svg", "xml"))
"""Extensions of files that are shown as plain texts, also those that a browser would run."""

PLAIN_TEXT = "text/plain; charset=utf-8"
DOWNLOAD = "application/octet-stream"


def playable_type(name: str) -> str | None:
    """Return the content type of a file that browsers show, by its name; None for others."""
    extension = PurePath(name).suffix.lower().removeprefix(".")
    return PLAYABLE.get(extension, PLAIN_TEXT if extension in TEXTS else None)


def open_item(item: Item) -> BinaryIO:
    """Open the file of an item, whose size is still `item.size_bytes`.

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
    return file


class HeldResponse(StreamingResponse):
    """A stream that gives back what it holds at its end, also if the client has left before it began."""

    def __init__(self, content: AsyncIterator[Any], held: ExitStack, **options: Any) -> None:
        super().__init__(content, **options)
        self._held = held

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Send the stream."""
        with self._held:
            await super().__call__(scope, receive, send)


def media_response(item: Item, file: BinaryIO, request: Request, *, files: Lane, held: ExitStack) -> Response:
    """Return a file, the range of it that was asked for, or that the client has it.

    Conditions and ranges are those of RFC 9110, 13 and 14; a request for several ranges gets the whole file.

    Args:
        item: The item.
        file: Its open file.
        request: The request; HEAD wants the headers alone.
        files: Threads that read files.
        held: What a stream gives back at its end; the file is one of it.
    """
    headers, size = request.headers, item.size_bytes
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
        return Response(status_code=304, headers=sent)
    start, end = 0, size
    asked = headers.get("range", "") if headers.get("if-range") in (None, tag) else ""
    status = 200
    if (match := _RANGE.fullmatch(asked.strip())) and any(match.groups()):
        first, last = match.groups()
        start = int(first) if first else max(0, size - int(last))
        end = min(size, int(last) + 1) if first and last else size
        if start >= size or start >= end:
            sent["Content-Range"] = f"bytes */{size}"
            raise Refusal(416, f"{item.rel_path} has {size} bytes: ask for a part of them", sent)
        sent["Content-Range"] = f"bytes {start}-{end - 1}/{size}"
        status = 206
    sent["Content-Length"] = str(end - start)
    if request.method == "HEAD":
        return Response(status_code=status, headers=sent, media_type=content_type)
    chunks = _chunks(file, start, end, files)
    return HeldResponse(chunks, held, status_code=status, headers=sent, media_type=content_type)


async def _chunks(file: BinaryIO, start: int, end: int, files: Lane) -> AsyncIterator[bytes]:
    while start < end:
        chunk = await files.run(partial(_read, file, start, min(CHUNK_BYTES, end - start)))
        if not chunk:  # the file was cut meanwhile: the connection ends early, which the client notices
            return
        start += len(chunk)
        yield chunk


def _read(file: BinaryIO, start: int, size: int) -> bytes:
    file.seek(start)
    return file.read(size)
