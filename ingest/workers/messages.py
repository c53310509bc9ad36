"""Messages between a run and its workers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from bindsearch.ingest.inspect.inspect_file import InspectOptions, InspectResult, SourceFile
from bindsearch.ingest.media.options import DecodeOptions
from bindsearch.media import NO_READING, Reading
from bindsearch.types import Modality


@dataclass(frozen=True, slots=True)
class Setup:
    """Options of the jobs that follow."""

    inspect: InspectOptions
    decode: DecodeOptions


@dataclass(frozen=True, slots=True)
class Job:
    """A file to inspect, or, with the result of its inspection, to decode."""

    file: SourceFile
    inspection: InspectResult | None = None


class SegmentFacts(NamedTuple):
    """Description of a segment whose views are sent separately; a tuple, because it is sent often."""

    modality: Modality
    start_s: float | None
    end_s: float | None
    text: str | None


@dataclass(frozen=True, slots=True)
class Ready:
    """The worker has unpacked its encoder."""


@dataclass(frozen=True, slots=True)
class Unusable:
    """The encoder cannot be used in another process."""

    reason: str


@dataclass(frozen=True, slots=True)
class Done:
    """A file is decoded; `reading`: what was found out about it."""

    reading: Reading = NO_READING
