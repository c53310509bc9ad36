"""Content types of files as a server sends them: nothing that a browser would run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePath
from types import MappingProxyType

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
