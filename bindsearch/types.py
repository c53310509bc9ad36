"""The words of the domain: modalities, items, segments and hits."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from types import MappingProxyType

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
    }
)
"""Columns of an item that hold its metadata, the fields of `Metadata`, and their Arrow types."""

DOCUMENTED_COLUMNS = (
    "path",
    "name",
    "folder",
    "extension",
    "modality",
    "item_modality",
    "collection",
    "size_bytes",
    "modified",
    "start_s",
    "end_s",
    "duration_s",
    "text",
    "item_id",
    *METADATA_COLUMNS,
)
"""Columns of a segment that a filter's expression may name; no column of the user's own takes one of these names."""

PathLike = str | os.PathLike[str]


class Modality(StrEnum):
    """The seven modalities of one embedding space, in the order they are listed everywhere."""

    TEXT = "text"
    IMAGE = "image"
    VIDEO = "video"
    AUDIO = "audio"
    DEPTH = "depth"
    THERMAL = "thermal"
    IMU = "imu"


class DecodeIn(StrEnum):
    """Place where media files are decoded: worker processes, or threads of this process."""

    PROCESS = "process"
    THREAD = "thread"


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of a recording in seconds from its start."""

    start_s: float
    end_s: float


@dataclass(frozen=True, slots=True)
class Metadata:
    """Metadata that a file says of itself (EXIF, ID3, container tags) or is said of it; what is not known is None.

    `taken`: when it was recorded, without a time zone: the local time of the camera where the file names no zone, else
    UTC. `latitude`, `longitude`: degrees, WGS 84. `camera`: make and model. `length_s`: of the whole recording.
    `width_px`, `height_px`: of the picture as it is seen, upright.
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

    def merge_over(self, other: Metadata) -> Metadata:
        """Return what is known here, and of the rest what `other` knows."""
        known = {entry.name: getattr(self, entry.name) for entry in fields(self)}
        return replace(other, **{name: value for name, value in known.items() if value is not None})


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
    """Segment, the unit that is embedded: a span of sound, video or motion, a passage of text, else the whole item.

    Its modality may differ from its item's: the sound track of a video gives audio segments.
    """

    segment_id: int
    item_id: int
    modality: Modality
    vector_id: int
    start_s: float | None = None
    end_s: float | None = None
    text: str | None = None


@dataclass(frozen=True, slots=True)
class Hit:
    """One result: the best segment of an item.

    `score` is what the list is ranked by (higher is closer), `cosine` the raw similarity;
    `contributions` holds each query term's share of the cosine, in the order of the terms.
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
