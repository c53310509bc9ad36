"""What a store answers with: hits and the query as it was understood, and what it holds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from bindsearch.ingest.report import FailedFile
from bindsearch.items import Hit, Modality


@dataclass(frozen=True, slots=True)
class AnsweredTerm:
    """A term as it was understood: its modality, its source and the weight used."""

    modality: Modality
    source: str
    weight: float


@dataclass(frozen=True)
class Answer:
    """Hits, best first, with the query as it was understood and the time it took."""

    terms: tuple[AnsweredTerm, ...]
    to: tuple[Modality, ...]
    k: int
    took_ms: float
    hits: tuple[Hit, ...]


@dataclass(frozen=True)
class Status:
    """What a store holds: counts by modality, and the files that failed."""

    path: Path
    encoder: str
    weights_digest: str
    encoder_options: Mapping[str, str | int | float | bool]
    dim: int
    generation: int
    collections: tuple[Path, ...]
    items: Mapping[Modality, int]
    segments: Mapping[Modality, int]
    failures: tuple[FailedFile, ...]
    size_bytes: int
