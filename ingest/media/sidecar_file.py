"""Files beside a media file that tell about it: BindSearch's sidecar `<file>.json`, and JSON of other programs."""

from __future__ import annotations

import errno
import json
import re
from itertools import islice
from pathlib import Path
from typing import Any

from bindsearch.errors import MediaError
from bindsearch.ingest.media.foreign.layouts import OWN_SUFFIX, foreign_names, read_foreign
from bindsearch.ingest.media.sidecar import (
    COMMON_WORDS,
    KEYS,
    MAX_SIDECAR_BYTES,
    Sidecar,
    merge_sidecars,
    parse_record,
    short_value,
)
from bindsearch.ingest.media.text_fields import normalize_text
from bindsearch.small_files import read_small_file
from bindsearch.types import Metadata

MAX_FOREIGN_BYTES = 8 << 20
"""yt-dlp writes the addresses of all formats, megabytes for some videos."""

DISTINCT_KEYS = ("depth_unit", "fx", "baseline_m", "temperature_unit", "sample_rate_hz", "axes")
"""Keys that other programs hardly use: they make a sidecar of BindSearch also of a document that is damaged."""

_DISTINCT = re.compile("|".join(f'"{key}"' for key in DISTINCT_KEYS).encode())
_SENSOR_UNITS = re.compile(r"\bg\b|m/s|(?:rad|deg|dps)\b", re.IGNORECASE)
_SHOWN_KEYS = 3


def sidecar_path(path: Path) -> Path:
    """Return the path of the sidecar of `path`: the full name plus ".json"."""
    return path.with_name(path.name + OWN_SUFFIX)


def read_sidecar(path: Path) -> Sidecar:
    """Read what files beside the media file `path` say about it; an empty sidecar if there are none.

    Raises:
        MediaError: BindSearch's own sidecar is damaged, or has an unknown key or a value of the wrong type; or a file
            cannot be read.
    """
    own = _read(sidecar_path(path), path.name)
    others = [_read(path.with_name(name), path.name, is_own_name=False) for name in foreign_names(path.name)]
    return merge_sidecars(own, *others) if any(other != Sidecar() for other in others) else own


def _read(file: Path, name: str, *, is_own_name: bool = True) -> Sidecar:
    """Read one file that may tell about the file `name`."""
    try:
        raw = read_small_file(file, MAX_FOREIGN_BYTES)
    except FileNotFoundError:
        return Sidecar()
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG or isinstance(error, IsADirectoryError):
            return Sidecar()
        if error.errno == errno.EFBIG:
            return Sidecar(notes=(f"JSON beside it is not read: {error.strerror}",))
        raise MediaError(f"cannot read sidecar {file.name}: {error.strerror}") from error
    try:
        return parse_sidecar(raw, name) if is_own_name else _parse_foreign(_load(raw), raw, name)
    except MediaError as error:
        raise MediaError(f"sidecar {file.name}: {error}") from error


def parse_sidecar(raw: bytes, name: str = "") -> Sidecar:
    """Return the sidecar of a JSON text beside the file `name`.

    An object is BindSearch's if most of its keys are, or half of them with one that other programs hardly use.
    Everything else is another program's: what its layout is known to say is used, and a note tells it.

    Raises:
        MediaError: BindSearch's own sidecar has an unknown key, a value of the wrong type, or is damaged or larger than
            MAX_SIDECAR_BYTES.
    """
    data = _load(raw)
    if not isinstance(data, dict) or not _is_ours(data):
        return _parse_foreign(data, raw, name)
    if len(raw) > MAX_SIDECAR_BYTES:
        raise MediaError(f"larger than {MAX_SIDECAR_BYTES} bytes")
    for key in data:
        if key not in KEYS:
            raise MediaError(f"unknown key {short_value(key)!r}: expected {', '.join(KEYS)}")
    return parse_record(data)


def _load(raw: bytes) -> Any:
    """Return the value of a JSON text in UTF-8, UTF-16 or UTF-32; None if it is none.

    Raises:
        MediaError: it is none, but has keys of BindSearch.
    """
    try:
        return json.loads(raw.decode(json.detect_encoding(raw)))
    except (ValueError, RecursionError) as error:
        if _DISTINCT.search(raw):
            raise MediaError(f"no JSON object: {normalize_text(str(error))}") from error
        return None


def _is_ours(data: dict[str, Any]) -> bool:
    """Return whether an object is a sidecar of BindSearch."""
    own = {key for key in data if key in KEYS}
    if isinstance(units := data.get("units"), str) and not _SENSOR_UNITS.search(units):
        own.remove("units")
    others = len(data) - len(own)
    given = {key for key in own if data[key] is not None}
    if not others or given <= COMMON_WORDS:
        return not others and bool(own)
    return len(given) > others or (len(given) == others and not given.isdisjoint(DISTINCT_KEYS))


def _parse_foreign(data: Any, raw: bytes, name: str) -> Sidecar:
    """Return what another program's JSON says, with a note."""
    if data == {}:
        return Sidecar()
    if data is None:
        what = "is empty" if not raw.strip() else "is not JSON"
        return Sidecar(notes=(f"JSON beside it {what}: not used",))
    found = read_foreign(data, name)
    if found is None or not (found.captions or found.metadata != Metadata()):
        keys = ""
        if isinstance(data, dict):
            shown = ", ".join(map(short_value, islice(data, _SHOWN_KEYS)))
            keys = f" (keys {shown}{', ...' * (len(data) > _SHOWN_KEYS)})"
        return Sidecar(notes=(f"JSON beside it is another program's{keys}: not used",))
    said = [f"{len(found.captions)} caption{'s' * (len(found.captions) > 1)}"] if found.captions else []
    columns = ("taken", "title", "artist", "latitude", "longitude")
    said += [key for key in columns if getattr(found.metadata, key) is not None]
    notes = (f"JSON of {found.program} beside it: {', '.join(said)} used",)
    return Sidecar(found_captions=found.captions, found=found.metadata, notes=notes)
