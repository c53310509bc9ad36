"""Captions, times and places in JSON that other programs write beside a media file.

Layouts, by their keys:
- exiftool -json and osxphotos: a list of objects with `SourceFile`, tags with or without their group, "XMP:Title"
  (exiftool.org/TagNames, osxphotos/exifwriter.py). The value of an EXIF coordinate has no sign, its `...Ref` has.
- Google Takeout: `photoTakenTime.timestamp` in seconds since 1970, UTC; `geoData`, 0 without a place.
- yt-dlp: `extractor`, `webpage_url`, `upload_date` (yt_dlp/extractor/common.py).
- gallery-dl and the like: `caption`, `description` or `content`, `title`, `tags`, `date` (gallerydl/metadata post
  processor).
Everything in them is optional, and may be of any type: what does not fit is none.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from pathlib import PurePosixPath

from bindsearch.ingest.media.foreign.names import is_takeout_of
from bindsearch.ingest.media.text_fields import normalize_text, without_zone
from bindsearch.types import Metadata

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


@dataclass(frozen=True, slots=True)
class Foreign:
    """Content of another program's JSON about a file.

    Attributes:
        program: the program, or the kind of program.
        captions: texts about the file.
        metadata: title, artist, time and place.
    """

    program: str
    captions: tuple[str, ...] = ()
    metadata: Metadata = Metadata()  # noqa: RUF009  (frozen)


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
    if any(isinstance(data.get(key), str) for key in ("caption", "description", "content")) or (
        isinstance(data.get("title"), str) and isinstance(data.get("category"), str)
    ):
        is_gallery = isinstance(data.get("category"), str)
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
    place = _place(_composite(record, tags, "Latitude", "S"), _composite(record, tags, "Longitude", "W"))
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
    places = (data.get(key) for key in ("geoData", "geoDataExif"))
    coordinates = (
        _place(_degrees(place.get("latitude")), _degrees(place.get("longitude")))
        for place in places
        if isinstance(place, dict)
    )
    place = next(filter(None, coordinates), None)
    return Foreign(
        "Google Takeout",
        _captions(None, _first_text(data, "description"), []),  # `title` is the file's name
        _metadata(None, None, taken, place),
    )


def _download(data: Record, program: str) -> Foreign:
    """Return what a downloader says; the time is that of the post."""
    title = _first_text(data, "title")
    description = _first_text(data, "caption", "description", "content")
    taken = _seconds(data.get("timestamp")) or _time(data.get("date"), None) or _time(data.get("upload_date"), None)
    artist = _first_text(data, "artist", "creator", "uploader", "author", "username")
    return Foreign(
        program,
        _captions(title, description, _tags(data.get("tags"))),
        _metadata(title, artist, taken, _place(_degrees(data.get("latitude")), _degrees(data.get("longitude")))),
    )


def _metadata(
    title: str | None, artist: str | None, taken: datetime | None, place: tuple[float, float] | None
) -> Metadata:
    latitude, longitude = place or (None, None)
    return Metadata(
        taken=taken,
        latitude=latitude,
        longitude=longitude,
        title=normalize_text(title or ""),
        artist=normalize_text(artist or ""),
    )


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
    try:
        return without_zone(datetime(int(year or 0), int(month or 0), int(day or 0), tzinfo=_zone(offset)) + clock)
    except (ValueError, OverflowError):
        return None


def _zone(offset: str | None) -> timezone | None:
    if offset is None or offset in ("Z", "UTC"):
        return UTC if offset else None
    minutes = int(offset[1:3]) * 60 + int(offset[-2:])
    return timezone(timedelta(minutes=-minutes if offset[0] == "-" else minutes))


def _seconds(value: object) -> datetime | None:
    """Return the time of seconds since 1970, in UTC; None if it is none, or 0."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        seconds = float(value)
        return without_zone(_EPOCH + timedelta(seconds=seconds)) if seconds else None
    except (ValueError, OverflowError):
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


def _place(latitude: float | None, longitude: float | None) -> tuple[float, float] | None:
    """Return both coordinates to 1 cm; None if they are out of range, or 0, 0, which stands for no place."""
    if latitude is None or longitude is None or not (abs(latitude) <= 90 and abs(longitude) <= 180):
        return None
    return (round(latitude, 7), round(longitude, 7)) if latitude or longitude else None
