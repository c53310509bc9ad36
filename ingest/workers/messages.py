"""Messages between a run and its workers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from bindsearch.ingest.inspect.inspect_file import InspectOptions, InspectResult, SourceFile
from bindsearch.ingest.media.options import DecodeOptions
from bindsearch.types import Modality


@dataclass(frozen=True, slots=True)
class Setup:
    """Setup of the jobs that follow."""

    look: InspectOptions
    decode: DecodeOptions


@dataclass(frozen=True, slots=True)
class Job:
    """A file to look at, or, where a look at it is given, to decode."""

    file: SourceFile
    look: InspectResult | None = None


class SegmentFacts(NamedTuple):
    """Facts of a segment whose views travel beside it; a tuple, since it is sent so often."""

    modality: Modality
    start_s: float | None
    end_s: float | None
    text: str | None


@dataclass(frozen=True, slots=True)
class Ready:
    """The worker has its encoder."""


@dataclass(frozen=True, slots=True)
class Unusable:
    """The encoder cannot be used in another process."""

    reason: str


@dataclass(frozen=True, slots=True)
class Done:
    """A file is decoded."""
