"""Captions, times and places in JSON that other programs write beside a media file, and names of such files.

Layouts, by their keys:
- exiftool -json and osxphotos: a list of objects with `SourceFile`, tags with or without their group, "XMP:Title"
  (exiftool.org/TagNames, osxphotos/exifwriter.py). The value of an EXIF coordinate has no sign, its `...Ref` has.
- Google Takeout: `photoTakenTime.timestamp` in seconds since 1970, UTC; `geoData`, 0 without a place.
- yt-dlp: `extractor`, `webpage_url`, `upload_date` (yt_dlp/extractor/common.py).
- gallery-dl and the like: `caption`, `description` or `content`, `title`, `tags`, `date` (gallerydl/metadata post
  processor).
Everything in them is optional, and may be of any type: what does not fit is none.

Google Takeout: `NAME.supplemental-metadata.json`, before 2025 `NAME.json`, with at most 46 characters before `.json`;
the number of a copy moves behind them, so that `photo(1).jpg` has `photo.jpg(1).json`
(github.com/ente/ente/pull/4956, github.com/TheLastGimbus/GooglePhotosTakeoutHelper/pull/449). yt-dlp:
`STEM.info.json` (option --write-info-json). exiftool, osxphotos and gallery-dl: `NAME.json`, which is the name of a
sidecar of BindSearch too.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta, timezone
from pathlib import PurePosixPath
from typing import NamedTuple

from bindsearch.ingest.media.text_fields import normalize_text, valid_place, without_zone
from bindsearch.types import Metadata

OWN_SUFFIX = ".json"
INFO_SUFFIX = ".info.json"
TAKEOUT_SUFFIX = ".supplemental-metadata"
TAKEOUT_CHARACTERS = 46
RECORDINGS = (".mp4", ".mkv", ".webm", ".mov", ".m4v", ".flv", ".3gp", ".m4a", ".mp3", ".opus", ".ogg", ".flac", ".wav")
"""Extensions of what yt-dlp saves; its thumbnails have the same stem."""

_FOREIGN = re.compile(r".*(?:\.info|\.s[a-z]{0,11}(?:-[a-z]{0,8})?|\.|\(\d{1,4}\))\.json", re.DOTALL)
_COPY = re.compile(r"(?P<stem>.+)(?P<number>\(\d{1,4}\))(?P<suffix>\.[^.]+)")


def foreign_names(name: str) -> list[str]:
    """Return the names that other programs' JSON beside a file may have, besides `name`.json.

    `name`: the file's name, or its path with forward slashes: then these are paths too.
    """
    folder, slash, name = name.rpartition("/")
    copy = _COPY.fullmatch(name) if ")." in name else None
    bare, number = (copy["stem"] + copy["suffix"], copy["number"]) if copy else (name, "")
    names = [f"{base[:TAKEOUT_CHARACTERS]}{number}{OWN_SUFFIX}" for base in (bare + TAKEOUT_SUFFIX, bare)]
    stem, dot, extension = name.rpartition(".")
    if f"{dot}{extension.lower()}" in RECORDINGS:
        names.append(stem + INFO_SUFFIX)
    return [folder + slash + other for other in dict.fromkeys(names) if other != name + OWN_SUFFIX]


def may_be_foreign(name: str) -> bool:
    """Return whether a name is one of another program's JSON beside a file, other than that file's name and .json."""
    return len(name) >= TAKEOUT_CHARACTERS + len(OWN_SUFFIX) or _FOREIGN.fullmatch(name) is not None


def find_sidecars(names: Collection[str]) -> Mapping[str, list[str]]:
    """Return the sidecars among the names (or paths) of files, by that of their file; BindSearch's own come first."""
    documents = {name for name in names if name.endswith(OWN_SUFFIX)}
    if not documents:
        return {}
    found = {
        name: [other for other in (name + OWN_SUFFIX, *foreign_names(name)) if other in documents]
        for name in names
        if name not in documents or name + OWN_SUFFIX in documents
    }
    return {name: sidecars for name, sidecars in found.items() if sidecars}


def is_takeout_of(title: str, name: str) -> bool:
    """Return whether the JSON of Google Takeout for a file called `title` can be that of the file `name`.

    Names are cut, so that those of other files may look the same; Google also replaces some characters in names.
    """
    copy = _COPY.fullmatch(name)
    bare = copy["stem"] + copy["suffix"] if copy else name
    if len(bare) <= TAKEOUT_CHARACTERS:
        return True
    one, other = (re.sub(r"[\W_]+", "_", PurePosixPath(text).stem.casefold()) for text in (title, bare))
    return one.startswith(other) or other.startswith(one)


MAX_CAPTION = 2000
"""Maximum characters of a caption: descriptions of videos go on with links and advertisements."""

MAX_TAGS = 32
_DATE = re.compile(
    r"(\d{4})[:-](\d\d)[:-](\d\d)(?:[ T](\d\d):(\d\d)(?::(\d\d)(\.\d{1,9})?)?)?\s*(Z|UTC|[+-]\d\d:?\d\d)?", re.ASCII
)
_DAY = re.compile(r"(\d{4})(\d\d)(\d\d)", re.ASCII)
_COORDINATE = re.compile(
    r"\s*([+-]?\d{1,3}(?:\.\d+)?)(?:\s*(?:deg|°|,)\s*(\d{1,2}(?:\.\d+)?)'?(?:\s*(\d{1,2}(?:\.\d+)?)\")?)?\s*([NSEW]?)",
    re.ASCII,
)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

Record = Mapping[str, object]


class Foreign(NamedTuple):
    """Content of another program's JSON about a file."""

    program: str  # or the kind of program
    captions: tuple[str, ...]
    metadata: Metadata  # title, artist, time and place


def read_foreign(data: object, name: str) -> Foreign | None:
    """Return what a JSON value says about the file `name`; None if its layout is unknown, or it is of another file."""
    if isinstance(data, list):
        return _exiftool(data, name)
    if not isinstance(data, dict):
        return None
    if "SourceFile" in data:
        return _exiftool([data], name)
    if isinstance(data.get("photoTakenTime"), dict) or isinstance(data.get("geoData"), dict):
        title = data.get("title")
        is_other = isinstance(title, str) and bool(name) and not is_takeout_of(title, name)
        return None if is_other else _takeout(data)
    if isinstance(data.get("extractor"), str) and "webpage_url" in data:
        return _download(data, "yt-dlp")
    is_gallery = isinstance(data.get("category"), str)
    is_described = any(isinstance(data.get(key), str) for key in ("caption", "description", "content"))
    if is_described or (is_gallery and isinstance(data.get("title"), str)):
        return _download(data, "gallery-dl" if is_gallery else "another program")
    return None


def _exiftool(entries: list[object], name: str) -> Foreign | None:
    """Return the entry of the file; the only one counts whatever it is called, since files are renamed."""
    records = [entry for entry in entries[:10_000] if isinstance(entry, dict) and "SourceFile" in entry]
    same = [entry for entry in records if PurePosixPath(str(entry["SourceFile"]).replace("\\", "/")).name == name]
    record = next(iter(same or (records if len(records) == 1 == len(entries) else [])), None)
    if record is None:
        return None
    tags: dict[str, object] = {}
    for key, value in record.items():
        tags.setdefault(key.rpartition(":")[2], value)
    title = _first_text(tags, "Title", "ObjectName", "Headline")
    description = _first_text(tags, "Description", "Caption-Abstract", "ImageDescription", "UserComment")
    keywords = next(filter(None, (_tags(tags.get(key)) for key in ("Keywords", "Subject", "TagsList"))), [])
    taken = _time(tags.get("DateTimeOriginal"), tags.get("OffsetTimeOriginal")) or _time(tags.get("CreateDate"), None)
    place = valid_place(_composite(record, tags, "Latitude", "S"), _composite(record, tags, "Longitude", "W"))
    artist = _first_text(tags, "Artist", "Creator", "By-line")
    return Foreign("exiftool", _captions(title, description, keywords), _metadata(title, artist, taken, place))


def _composite(record: Record, tags: Record, axis: str, negative: str) -> float | None:
    """Return a coordinate, signed by its reference where the tag has no sign of its own."""
    composite = _degrees(record.get(f"Composite:GPS{axis}"))
    if composite is not None:
        return composite
    degrees = _degrees(tags.get(f"GPS{axis}"))
    reference = str(tags.get(f"GPS{axis}Ref", "")).strip()[:1].upper()
    return -degrees if degrees is not None and degrees > 0 and reference == negative else degrees


def _takeout(data: Record) -> Foreign:
    taken_time = data.get("photoTakenTime")
    taken = _seconds(taken_time.get("timestamp")) if isinstance(taken_time, dict) else None
    records = (data.get(key) for key in ("geoData", "geoDataExif"))
    place = next(filter(None, (_place(record) for record in records if isinstance(record, dict))), None)
    captions = _captions(None, _first_text(data, "description"), [])  # `title` is the file's name
    return Foreign("Google Takeout", captions, _metadata(None, None, taken, place))


def _download(data: Record, program: str) -> Foreign:
    """Return what a downloader says; the time is that of the post."""
    title = _first_text(data, "title")
    description = _first_text(data, "caption", "description", "content")
    taken = _seconds(data.get("timestamp")) or _time(data.get("date"), None) or _time(data.get("upload_date"), None)
    artist = _first_text(data, "artist", "creator", "uploader", "author", "username")
    captions = _captions(title, description, _tags(data.get("tags")))
    return Foreign(program, captions, _metadata(title, artist, taken, _place(data)))


def _place(record: Record) -> tuple[float, float] | None:
    return valid_place(_degrees(record.get("latitude")), _degrees(record.get("longitude")))


def _metadata(
    title: str | None, artist: str | None, taken: datetime | None, place: tuple[float, float] | None
) -> Metadata:
    latitude, longitude = place or (None, None)
    title, artist = normalize_text(title or ""), normalize_text(artist or "")
    return Metadata(taken=taken, latitude=latitude, longitude=longitude, title=title, artist=artist)


def _captions(title: str | None, description: str | None, keywords: list[str]) -> tuple[str, ...]:
    """Return texts about a file; a title that the description begins with says nothing more."""
    is_repeated = bool(title and description) and str(description).casefold().startswith(str(title).casefold())
    texts = (None if is_repeated else title, description, ", ".join(keywords))
    return tuple(dict.fromkeys(text[:MAX_CAPTION].strip() for text in texts if text and text.strip()))


def _first_text(record: Record, *keys: str) -> str | None:
    """Return the first text among values, storable; exiftool prints a number for a text that looks like one."""
    for key in keys:
        value = record.get(key)
        if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 10**15:
            value = str(value)
        if isinstance(value, list):
            value = ", ".join(_tags(value))
        if isinstance(value, str) and value.strip():
            return value[: 2 * MAX_CAPTION].encode(errors="replace").decode().strip()
    return None


def _tags(value: object) -> list[str]:
    """Return tags: a text, a list of texts, or of objects with a name."""
    values: Iterator[object] = iter(value if isinstance(value, list) else [value])
    names = (tag.get("name") if isinstance(tag, dict) else tag for tag, _ in zip(values, range(MAX_TAGS), strict=False))
    texts = (normalize_text(str(tag)) for tag in names if isinstance(tag, str))
    return [*dict.fromkeys(text for text in texts if text)]


def _time(value: object, zone: object) -> datetime | None:
    """Return a time "2024:05:01 12:30:00", "2024-05-01T12:30:00+02:00" or "20240501"; None if it is none."""
    if not isinstance(value, str):
        return None
    text = value.strip()
    parts = _DATE.fullmatch(text) or _DAY.fullmatch(text)
    if parts is None:
        return None
    year, month, day, hour, minute, second, fraction, offset = (*parts.groups(), *[None] * 8)[:8]
    if offset is None and isinstance(zone, str) and re.fullmatch(r"Z|[+-]\d\d:\d\d", zone.strip(), re.ASCII):
        offset = zone.strip()
    clock = timedelta(hours=int(hour or 0), minutes=int(minute or 0), seconds=int(second or 0) + float(fraction or 0))
    with suppress(ValueError, OverflowError):
        tzinfo = UTC if offset else None
        if offset and offset not in ("Z", "UTC"):
            minutes = int(offset[1:3]) * 60 + int(offset[-2:])
            tzinfo = timezone(timedelta(minutes=-minutes if offset[0] == "-" else minutes))
        return without_zone(datetime(int(year or 0), int(month or 0), int(day or 0), tzinfo=tzinfo) + clock)
    return None


def _seconds(value: object) -> datetime | None:
    """Return the time of seconds since 1970, in UTC; None if it is none, or 0."""
    if isinstance(value, int | float | str) and not isinstance(value, bool):
        with suppress(ValueError, OverflowError):
            seconds = float(value)
            return without_zone(_EPOCH + timedelta(seconds=seconds)) if seconds else None
    return None


def _degrees(value: object) -> float | None:
    """Return a coordinate: a number, "48.85", or as exiftool prints it, 48 deg 51' 24.00" N."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int | float):
        return float(value) if abs(value) <= 180 else None  # False for NaN
    parts = _COORDINATE.fullmatch(value[:80]) if isinstance(value, str) else None
    if parts is None:
        return None
    degrees, minutes, seconds, side = parts.groups()
    size = math.fsum(abs(float(number or 0)) / 60**power for power, number in enumerate((degrees, minutes, seconds)))
    is_negative = degrees.startswith("-") or side in ("S", "W")
    return -size if is_negative else size
