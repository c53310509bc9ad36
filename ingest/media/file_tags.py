"""Metadata in media files: EXIF, XMP, IPTC and PNG texts of images, tags of containers; only headers are read."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta, timezone
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

from bindsearch.environment import raise_installation_fault
from bindsearch.ingest.media.kinds import PICTURES, SOUNDS, VIDEOS
from bindsearch.ingest.media.options import DecodeOptions
from bindsearch.ingest.media.pictures.exif import (
    Described,
    Exif,
    exif_of,
    orientation_of,
    read_exif,
    read_iptc,
    read_xmp,
    xmp_of,
)
from bindsearch.ingest.media.recordings.av_container import header_length_s, open_container, recording_kind
from bindsearch.ingest.media.recordings.sound_track import is_guessed
from bindsearch.ingest.media.recordings.video.display import header_size, picture_stream
from bindsearch.ingest.media.text_fields import normalize_text, valid_place, without_zone
from bindsearch.types import Metadata, Modality

Facts = Iterator[tuple[str, Any]]
"""Names and values of `Metadata`; a later value of a name replaces an earlier one, None is ignored."""

_MAKE, _MODEL, _DESCRIPTION, _ARTIST = 0x010F, 0x0110, 0x010E, 0x013B
_XP_TITLE, _XP_AUTHOR = 0x9C9B, 0x9C9D
_LATITUDE_REF, _LATITUDE, _LONGITUDE_REF, _LONGITUDE = 1, 2, 3, 4
"""Tags of Exif 2.32, and Windows' own (XP), which are UTF-16."""
_EXIF_TIMES = ((0x9003, 0x9291, 0x9011), (0x9004, 0x9292, 0x9012), (0x0132, 0x9290, 0x9010))
"""Time, fraction of a second and offset from UTC: original, digitized, last change."""
_NO_TITLE = re.compile(r"[<{].*|OLYMPUS DIGITAL CAMERA|SONY DSC|DCIM.*|Exif_JPEG_PICTURE|default", re.IGNORECASE)
"""Descriptions written by cameras, and XML or JSON written by programs."""

_TIME = re.compile(
    r"(\d{4})[:/.-](\d\d?)[:/.-](\d\d?)"
    r"(?:[T ]\s*(\d\d?)[:-](\d\d)(?:[:-](\d\d)(?:[.,](\d+))?)?\s*(?:(Z)|([+-])(\d\d):?(\d\d))?)?",
    re.ASCII,
)
_ZONE = re.compile(r"Z|[+-]\d\d:?\d\d", re.ASCII)
_CLOCK = re.compile(r"\d\d?[:-]\d\d[:-]\d\d", re.ASCII)
_CLOCK_ZEROS = (datetime(1970, 1, 1), datetime(1904, 1, 1))
"""Placeholder times, written by programs without a clock."""
_ISO_6709 = re.compile(r"([+-])(\d+)(\.\d+)?([+-])(\d+)(\.\d+)?", re.ASCII)
"""Latitude and longitude such as "+48.8577+002.295/": degrees, with minutes, or with seconds (ISO 6709)."""

_PCM_PROBE_BYTES = 4096
"""The headers of uncompressed sound are complete; FFmpeg would decode five seconds to verify them, in 20 ms."""

_TAGS = {
    "title": ("title", "com.apple.quicktime.title"),
    "artist": ("artist", "com.apple.quicktime.artist", "author", "com.apple.quicktime.author"),
}
_TAKEN_TAGS = ("com.apple.quicktime.creationdate", "creation_time", "date")
_PLACE_TAGS = ("com.apple.quicktime.location.iso6709", "location")
_CAMERA_TAGS = (
    ("com.apple.quicktime.make", "com.apple.quicktime.model"),
    ("com.android.manufacturer", "com.android.model"),
    ("make", "model"),
)


def read_metadata(path: Path, modality: Modality) -> Metadata:
    """Read the metadata in the file at `path`; none for text and motion.

    Of a damaged file, whatever can be read is returned. No pixel and no sample is decoded.
    """
    if modality in (Modality.TEXT, Modality.IMU):
        return Metadata()
    values: dict[str, Any] = {}
    try:
        values.update((name, value) for name, value in _read_values(path) if value is not None)
    except Exception as error:  # unreadable metadata must not fail the file
        raise_installation_fault(error)
    return Metadata(**values)


def _read_values(path: Path) -> Facts:
    """Yield the metadata of a file, by its kind."""
    kind = recording_kind(path)
    if kind == "raw":
        # most are TIFF with another signature, else the preview may have EXIF
        with path.open("rb") as file:
            exif = read_exif(file)
        yield from _exif_values(exif) if exif.picture else _image_values(path)
        import rawpy

        with rawpy.imread(str(path)) as raw:
            sizes = raw.sizes
            yield from _size(sizes.width, sizes.height, is_turned=sizes.flip in (5, 6))
    elif kind in PICTURES:
        yield from _image_values(path)
    elif kind in SOUNDS or kind in VIDEOS:
        yield from _recording_values(path, kind)


def _image_values(path: Path) -> Facts:
    """Yield the metadata of an image file."""
    from bindsearch.ingest.media.pictures.pillow import open_picture

    with open_picture(path, max_pixels=DecodeOptions().max_pixels) as picture:
        yield from _size(*picture.size)
        if picture.format == "PNG":
            # texts (PNG specification, 11.3.4.2), if they precede the pixels
            yield "title", _text(picture.info.get("Title"))
            yield "artist", _text(picture.info.get("Author"))
            yield "taken", _to_time(_text(picture.info.get("Creation Time")))
        if (iptc := picture.info.get("photoshop")) is not None:
            yield from _described_values(read_iptc(iptc))
        if xmp := xmp_of(picture.info):
            yield from _described_values(read_xmp(xmp))
        exif = exif_of(picture)
        yield from _size(*picture.size, is_turned=orientation_of(picture) in (5, 6, 7, 8))
    yield from _exif_values(exif)


def _described_values(described: Described) -> Facts:
    """Yield the metadata in XMP or IPTC; EXIF replaces them."""
    title = _text(described.title)
    yield "title", None if title is None or _NO_TITLE.fullmatch(title) else title
    yield "artist", _text(described.creator)
    yield "taken", _to_time(described.date)
    yield from _coordinates(described.latitude, described.longitude)


def _size(width: int, height: int, *, is_turned: bool = False) -> Facts:
    yield from zip(("height_px", "width_px") if is_turned else ("width_px", "height_px"), (width, height), strict=True)


def _exif_values(exif: Exif) -> Facts:
    """Yield the metadata in EXIF tags."""
    picture, photo, gps = exif.picture, exif.photo, exif.gps
    yield "camera", _camera(_text(picture.get(_MAKE)), _text(picture.get(_MODEL)))
    titles = (_wide_text(picture.get(_XP_TITLE)), _text(picture.get(_DESCRIPTION)))
    yield "title", next((title for title in titles if title and not _NO_TITLE.fullmatch(title)), None)
    yield "artist", _text(picture.get(_ARTIST)) or _wide_text(picture.get(_XP_AUTHOR))
    times = ([_text(photo.get(tag) or picture.get(tag)) for tag in tags] for tags in _EXIF_TIMES)
    yield "taken", next(filter(None, (_exif_time(*parts) for parts in times)), None)
    yield from _coordinates(
        _degrees(gps.get(_LATITUDE), _text(gps.get(_LATITUDE_REF)), "NS"),
        _degrees(gps.get(_LONGITUDE), _text(gps.get(_LONGITUDE_REF)), "EW"),
    )


def _text(value: object) -> str | None:
    """Return a text of EXIF or of a tag up to its first NUL; decoded as UTF-8, else as Latin-1."""
    if isinstance(value, bytes):
        value = value.split(b"\0", 1)[0].decode("latin-1")
    if not isinstance(value, str):
        return None
    text = value.split("\0", 1)[0]
    if not text.isascii():
        with suppress(UnicodeError):
            text = text.encode("latin-1").decode()
    return normalize_text(text)


def _wide_text(value: object) -> str | None:
    """Return a text of UTF-16 bytes up to its first NUL."""
    return normalize_text(value.decode("utf-16-le", "replace").split("\0", 1)[0]) if isinstance(value, bytes) else None


def _camera(make: str | None, model: str | None) -> str | None:
    """Return make and model, without a make that the model begins with ("NIKON CORPORATION", "NIKON D90")."""
    if not make or not model:
        return make or model
    repeated = model.split()[0].casefold() == make.split()[0].casefold()
    return model if repeated else normalize_text(f"{make} {model}")


def _exif_time(text: str | None, fraction: str | None, zone: str | None) -> datetime | None:
    """Return a time from the EXIF fields of time, fraction of a second and offset."""
    if text is None:
        return None
    after_second = f".{fraction}" if fraction and fraction.isdigit() else ""
    offset = zone if zone and _ZONE.fullmatch(zone) else ""
    return _to_time(f"{text}{after_second}{offset}") or _to_time(text)


def _to_time(text: str | None) -> datetime | None:
    """Return a time in the form of EXIF, ISO 8601 or RFC 2822, in UTC if it has a time zone; None for a year alone."""
    with suppress(ValueError, TypeError, IndexError, OverflowError):
        parts = _TIME.fullmatch(text or "")
        taken = without_zone(_to_datetime(parts) if parts else parsedate_to_datetime(text or ""))
        return None if taken in _CLOCK_ZEROS else taken
    return None


def _to_datetime(parts: re.Match[str]) -> datetime:
    *numbers, fraction, utc, sign, hours, minutes = parts.groups()
    year, month, day, hour, minute, second = (int(number or 0) for number in numbers)
    zone = UTC if utc else None
    if sign:
        offset = timedelta(hours=int(hours), minutes=int(minutes))
        zone = timezone(offset if sign == "+" else -offset)
    microsecond = int((fraction or "0")[:6].ljust(6, "0"))
    if (hour, minute, second, microsecond) == (24, 0, 0, 0):  # the end of the day (ISO 8601-1, 5.3.1.1)
        return datetime(year, month, day, tzinfo=zone) + timedelta(days=1)
    return datetime(year, month, day, hour, minute, second, microsecond, zone)


def _degrees(value: object, reference: str | None, signs: str) -> float | None:
    """Return degrees, minutes and seconds of EXIF as degrees; None without a hemisphere, or if one is not a number."""
    if not isinstance(value, tuple) or len(value) > 3 or not reference or reference[0].upper() not in signs:
        return None
    if not all(number >= 0 for number in value):  # False for NaN
        return None
    degrees = math.fsum(number / 60**power for power, number in enumerate(value))
    return -degrees if reference[0].upper() == signs[1] else degrees


def _coordinates(latitude: float | None, longitude: float | None) -> Facts:
    yield from zip(("latitude", "longitude"), valid_place(latitude, longitude) or (), strict=False)


def _recording_values(path: Path, kind: str) -> Facts:
    """Yield the metadata in the container of a video or sound."""
    probe_bytes = _PCM_PROBE_BYTES if kind in ("wav", "aiff", "caf", "au") else None
    with open_container(path, kind, probe_bytes=probe_bytes) as container:
        if (length_s := header_length_s(container, kind)) and not is_guessed(path, kind):
            yield "length_s", length_s
        dictionaries = [container.metadata, *(stream.metadata for stream in container.streams if kind == "ogg")]
        values = ((key.casefold(), _text(value)) for found in reversed(dictionaries) for key, value in found.items())
        tags = {key: value for key, value in values if value is not None}
        for name, keys in _TAGS.items():
            yield name, next((tags[key] for key in keys if key in tags), None)
        times = [tags.get(key) for key in _TAKEN_TAGS]
        if "date" in tags and _CLOCK.fullmatch(tags.get("creation_time", "")):  # of field recorders (EBU Tech 3285)
            times.insert(0, f"{tags['date']} {tags['creation_time']}")
        yield "taken", next(filter(None, map(_to_time, times)), None)
        cameras = (_camera(tags.get(make), tags.get(model)) for make, model in _CAMERA_TAGS)
        yield "camera", next(filter(None, cameras), None)
        location = _ISO_6709.match(next((tags[key] for key in _PLACE_TAGS if key in tags), ""))
        if location is not None:
            sign, digits, rest, sign_2, digits_2, rest_2 = location.groups("")
            latitude, longitude = _packed_degrees(sign, digits, rest, 2), _packed_degrees(sign_2, digits_2, rest_2, 3)
            yield from _coordinates(latitude, longitude)
        stream = picture_stream(container)
        size = (0, 0) if stream is None else header_size(path, kind, stream)
        if min(size) > 0:
            yield from _size(*size)


def _packed_degrees(sign: str, digits: str, rest: str, width: int) -> float | None:
    """Return the degrees of DD.d, DDMM.m or DDMMSS.s, with `width` digits of degrees."""
    pairs = [digits[i : i + 2] for i in range(width, len(digits), 2)]
    if len(pairs) > 2 or any(len(pair) == 1 for pair in pairs):
        return None
    *whole, last = [digits[:width], *pairs]
    numbers = [*map(float, whole), float(last + rest)]
    degrees = math.fsum(number / 60**power for power, number in enumerate(numbers))
    return -degrees if sign == "-" else degrees
