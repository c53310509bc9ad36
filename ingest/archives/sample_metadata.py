"""Metadata in an archive: sidecars, and the texts, `.json` and `.cls` of a WebDataset's sample."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import PurePosixPath

from bindsearch.errors import MediaError
from bindsearch.ingest.media.sidecar import MAX_COLUMNS, Scalar, Sidecar, parse_columns
from bindsearch.ingest.media.sidecar_file import parse_sidecar
from bindsearch.ingest.media.text_fields import parse_user_object
from bindsearch.ingest.media.texts.encoding import decode_text
from bindsearch.types import Metadata

CAPTIONS = (".txt", ".text", ".caption", ".cap")
"""Extensions of captions in a sample."""

_CAPTION_KEYS = ("caption", "captions", "text")


def member_sidecar(sidecar: str, raw: bytes, name: str) -> Sidecar:
    """Return the content of a sidecar, by its name, of the member with a name; raise MediaError if it is damaged."""
    try:
        return parse_sidecar(raw, PurePosixPath(name).name)
    except MediaError as error:
        raise MediaError(f"sidecar {PurePosixPath(sidecar).name}: {error}") from error


def shared_metadata(members: Mapping[str, bytes], *, captioned: bool) -> tuple[Sidecar, Mapping[str, str]]:
    """Return the metadata for all media of a sample, and why some of its members cannot be read, by their names.

    `members`: content of its texts, `.json` and `.cls` by name; `captioned`: its texts are captions.
    """
    captions: list[str] = []
    entries: dict[str, object] = {}
    problems = {}
    suffixes = {name: PurePosixPath(name).suffix.lower() for name in members}
    for name in sorted(members, key=lambda name: suffixes[name] == ".json"):  # text files come first
        raw = members[name]
        try:
            if suffixes[name] == ".json":
                record = parse_user_object(raw)
                own = [text for key in _CAPTION_KEYS for text in _texts(record.pop(key, None))]
                captions = captions or own
                entries = {**record, **entries}
            elif suffixes[name] == ".cls":
                text = decode_text(raw).strip()
                entries["cls"] = int(text) if re.fullmatch(r"[+-]?[0-9]{1,18}", text) else text
            elif captioned:
                captions += _texts(decode_text(raw))
        except MediaError as error:
            problems[name] = str(error)
    columns, metadata = _readable(entries)
    caption_texts = tuple(dict.fromkeys(captions)) if captioned else ()
    return Sidecar(captions=caption_texts, columns=columns, metadata=metadata), problems


def _texts(value: object) -> list[str]:
    """Return a text, or the texts in a list, without blank ones."""
    texts = value if isinstance(value, list) else [value]
    stripped = [text.strip() for text in texts if isinstance(text, str)]
    return [text.encode(errors="replace").decode() for text in stripped if text]


def _readable(entries: Mapping[str, object]) -> tuple[dict[str, Scalar], Metadata]:
    """Return the entries that can be columns; the JSON of datasets contains many that cannot."""
    columns: dict[str, Scalar] = {}
    metadata = Metadata()
    for name, value in entries.items():
        if value is None or len(columns) == MAX_COLUMNS:
            continue
        try:
            column, parsed_metadata = parse_columns({name: value})
        except MediaError:
            continue
        columns = {**column, **columns}
        metadata = metadata.merge_over(parsed_metadata)
    return columns, metadata
