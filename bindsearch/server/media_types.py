"""Content types of files as a server sends them: nothing that a browser would run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePath
from types import MappingProxyType

PLAYABLE: Mapping[str, str] = MappingProxyType(
    {
        "jpg": "image/jpeg",
        "jpeg": "image/jpeg",
        "jpe": "image/jpeg",
        "jfif": "image/jpeg",
        "png": "image/png",
        "apng": "image/png",
        "gif": "image/gif",
        "webp": "image/webp",
        "avif": "image/avif",
        "bmp": "image/bmp",
        "wav": "audio/wav",
        "wave": "audio/wav",
        "mp3": "audio/mpeg",
        "mpga": "audio/mpeg",
        "flac": "audio/flac",
        "ogg": "audio/ogg",
        "oga": "audio/ogg",
        "opus": "audio/ogg",
        "m4a": "audio/mp4",
        "m4b": "audio/mp4",
        "aac": "audio/aac",
        "weba": "audio/webm",
        "mp4": "video/mp4",
        "m4v": "video/mp4",
        "mov": "video/quicktime",
        "webm": "video/webm",
        "mkv": "video/x-matroska",
        "ogv": "video/ogg",
    }
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
