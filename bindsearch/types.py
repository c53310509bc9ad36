"""Core types: modalities, items, segments, metadata and hits."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from types import MappingProxyType
from typing import Any

_FACTS = "rate_hz depth_median_m temperature_min_c temperature_mean_c temperature_max_c"
FACT_COLUMNS: Mapping[str, str] = MappingProxyType(dict.fromkeys(_FACTS.split(), "float64"))
"""Metadata columns that decoders measure, and their Arrow types; the user's own values take precedence in filters."""

METADATA_COLUMNS: Mapping[str, str] = MappingProxyType(
    {
        "taken": "timestamp[us]",
        "latitude": "float64",
        "longitude": "float64",
        "camera": "large_string",
        "title": "large_string",
        "artist": "large_string",
        "length_s": "float64",
        "width_px": "int64",
        "height_px": "int64",
        **FACT_COLUMNS,
    }
)
"""Columns of an item that hold its metadata, the fields of `Metadata`, and their Arrow types."""

MEASURED_COLUMNS = (*FACT_COLUMNS, "length_s", "width_px", "height_px")
"""Metadata columns that decoders may measure: those of FACT_COLUMNS, and others whose values in headers are wrong."""

_SEGMENT_COLUMNS = (
    "path name folder extension modality item_modality collection size_bytes modified start_s end_s duration_s text "
    "item_id"
)
DOCUMENTED_COLUMNS = (*_SEGMENT_COLUMNS.split(), *METADATA_COLUMNS)
"""Columns of a segment that a filter expression may use; user columns cannot have these names."""

PathLike = str | os.PathLike[str]


class Modality(StrEnum):
    """The seven modalities of the embedding space, in display order."""

    TEXT = "text"
    IMAGE = "image"
    VIDEO = "video"
    AUDIO = "audio"
    DEPTH = "depth"
    THERMAL = "thermal"
    IMU = "imu"


class DecodeIn(StrEnum):
    """Place where media files are decoded: worker processes or threads of this process."""

    PROCESS = "process"
    THREAD = "thread"


@dataclass(frozen=True, slots=True)
class Span:
    """A span of a recording, in seconds from its start."""

    start_s: float
    end_s: float


def clock(seconds: float) -> str:
    """Return a time as minutes and seconds, such as 1:05 or 1:05.5."""
    minutes, rest = divmod(round(seconds, 1), 60.0)
    return f"{int(minutes)}:{rest:04.1f}".removesuffix(".0")


def clock_span(start_s: float | None, end_s: float | None) -> str:
    """Return a span after a space, such as " 1:05-1:10.5"; nothing for what has no start or end."""
    return "" if start_s is None or end_s is None else f" {clock(start_s)}-{clock(end_s)}"


@dataclass(frozen=True, slots=True)
class Metadata:
    """Metadata embedded in a file (EXIF, ID3, container tags), declared beside it, or measured; None if unknown.

    Attributes:
        taken: Time of recording, without time zone: the camera's local time if the file has no time zone, else UTC.
        latitude: Degrees, WGS 84.
        longitude: Degrees, WGS 84.
        camera: Make and model.
        title: Title.
        artist: Artist.
        length_s: Duration of the whole recording in seconds.
        width_px: Width of the image in pixels, upright.
        height_px: Height of the image in pixels, upright.
        rate_hz: Sampling rate of the motion recording, as measured.
        depth_median_m: Median of the depth map in metres.
        temperature_min_c: Lowest temperature of the thermal picture in degrees Celsius.
        temperature_mean_c: Mean temperature in degrees Celsius.
        temperature_max_c: Highest temperature in degrees Celsius.
    """

    taken: datetime | None = None
    latitude: float | None = None
    longitude: float | None = None
    camera: str | None = None
    title: str | None = None
    artist: str | None = None
    length_s: float | None = None
    width_px: int | None = None
    height_px: int | None = None
    rate_hz: float | None = None
    depth_median_m: float | None = None
    temperature_min_c: float | None = None
    temperature_mean_c: float | None = None
    temperature_max_c: float | None = None

    def merge_over(self, other: Metadata) -> Metadata:
        """Return these metadata, with unknown fields taken from `other`."""
        if self == _NO_METADATA:
            return other
        if other == _NO_METADATA:
            return self
        known = {entry.name: getattr(self, entry.name) for entry in fields(self)}
        return replace(other, **{name: value for name, value in known.items() if value is not None})


_NO_METADATA = Metadata()


def facts_of(values: Mapping[str, Any]) -> Metadata:
    """Return metadata with the values of FACT_COLUMNS alone, None where they are missing."""
    return Metadata(**{name: values.get(name) for name in FACT_COLUMNS})


def measured_metadata(values: Mapping[str, float]) -> Metadata:
    """Return metadata with the values of MEASURED_COLUMNS alone, None where they are missing."""
    known: dict[str, Any] = {name: values[name] for name in MEASURED_COLUMNS if name in values}
    whole = {name: round(value) for name, value in known.items() if METADATA_COLUMNS[name] == "int64"}
    return Metadata(**known | whole)


@dataclass(frozen=True, slots=True)
class Item:
    """One source file of a collection."""

    item_id: int
    collection: Path
    rel_path: str
    modality: Modality
    size_bytes: int
    mtime_ns: int
    content_hash: str

    @property
    def path(self) -> Path:
        """The absolute path of the file."""
        return self.collection / self.rel_path


@dataclass(frozen=True, slots=True)
class Segment:
    """The unit that is embedded: a span of sound, video or motion, a passage of text, else the whole item.

    Its modality may differ from the item's: the sound track of a video gives audio segments.

    Attributes:
        segment_id: Id of the segment.
        item_id: Id of its item.
        modality: Modality of the segment.
        vector_id: Id of its vector; segments may share one.
        start_s: Start in seconds from the start of the recording; None if the segment is not a span of time.
        end_s: End in seconds, likewise.
        text: The passage; None for other modalities.
    """

    segment_id: int
    item_id: int
    modality: Modality
    vector_id: int
    start_s: float | None = None
    end_s: float | None = None
    text: str | None = None


class FoundBy(StrEnum):
    """Way that a hit was found."""

    VECTOR = "vector"
    WORDS = "words"
    BOTH = "both"


class Match(StrEnum):
    """A probability in words, best first; LEAST_PROBABILITY has the thresholds."""

    EXACT = "exact"
    STRONG = "strong"
    LIKELY = "likely"
    WEAK = "weak"


LEAST_PROBABILITY = {Match.EXACT: 1.0, Match.STRONG: 0.7, Match.LIKELY: 0.3, Match.WEAK: 0.0}
"""Least probability of a match that has each word."""

STANDS_OUT = 0.03
"""Least probability of a hit that stands out from what chance finds.

With `mini`, the best hits of 3% of 250 made-up words and of 97% of 749 names of things in a folder reach it."""


def match_of(probability: float) -> Match:
    """Return the word for a probability."""
    return next(word for word, least in LEAST_PROBABILITY.items() if probability >= least)


@dataclass(frozen=True, slots=True)
class Hit:
    """One result: the best segment of an item.

    Attributes:
        rank: Position in the list, from 1.
        path: Absolute path of the file.
        modality: Modality of the segment.
        score: Value that the list is ranked by; higher is closer.
        cosine: Raw similarity.
        item_id: Id of the item.
        collection: Root folder of the item's collection.
        start_s: Start of the segment in seconds; None if it is not a span of time.
        end_s: End of the segment in seconds, likewise.
        text: The passage of a text segment; None for other modalities.
        contributions: Each query term's share of the cosine, in the order of the terms.
        probability: Probability that the item is what the query means, 0..1; see docs/ranking.md.
        copies: Paths of its copies among the best candidates, nearest first: files of the same bytes, and pictures that
            look the same.
        z: Standard deviations of the cosine above the mean of the query's cosines with the segments of this modality.
        found_by: Whether its vector, the words of its name, metadata, caption or passage, or both were found.
    """

    rank: int
    path: Path
    modality: Modality
    score: float
    cosine: float
    item_id: int
    collection: Path
    start_s: float | None = None
    end_s: float | None = None
    text: str | None = None
    contributions: tuple[float, ...] = ()
    probability: float = 0.0
    z: float = 0.0
    copies: tuple[Path, ...] = ()
    found_by: FoundBy = FoundBy.VECTOR

    @property
    def match(self) -> Match:
        """The probability in words."""
        return match_of(self.probability)


def _made_when_read(slot: Any) -> Any:
    """Return the descriptor of a slot for a Path; one given as text becomes a Path when it is first read.

    A Path takes 5 us to make, which is a tenth of a search for ten hits.
    """

    def read(_: object, hit: Hit | None, _kind: type | None = None) -> Any:
        path = slot if hit is None else slot.__get__(hit)
        if isinstance(path, str):
            path = Path(path)
            slot.__set__(hit, path)
        return path

    return type("path", (), {"__get__": read, "__set__": slot.__set__, "__delete__": slot.__delete__})()


setattr(Hit, "path", _made_when_read(Hit.__dict__["path"]))  # noqa: B010  (a field, for readers of the class)
