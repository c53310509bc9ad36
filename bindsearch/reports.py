"""Reports to callers of long operations: progress while it runs, a report when it is done."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from bindsearch.types import Modality


@dataclass(frozen=True, slots=True)
class Progress:
    """Files dealt with so far, of those that had to be looked at; `items` of them by modality, new or changed."""

    done: int
    total: int
    failed: int
    segments: int
    items: Mapping[Modality, int] = field(default_factory=dict)


OnProgress = Callable[[Progress], None]


def ignore_progress(_progress: Progress) -> None:
    """Shows nothing."""


OnStage = Callable[[str], None]
"""Called with what is being done."""


def ignore_stage(_stage: str) -> None:
    """Shows nothing."""


OnRows = Callable[[int, int], None]
"""Called with the number of rows that are done, and of all."""


def ignore_rows(_done: int, _total: int) -> None:
    """Shows nothing."""


@dataclass(frozen=True, slots=True)
class FailedFile:
    """A file that could not be indexed, and why."""

    path: Path
    reason: str


@dataclass(frozen=True, slots=True)
class PlannedFile:
    """Plan of `--dry-run` for a file: its modality (None: left out), why, and what is assumed about it."""

    path: Path
    modality: Modality | None
    why: str
    note: str = ""


@dataclass(slots=True)
class IndexReport:
    """Counts of files after a run; `failed` includes files that failed before and have not changed since.

    `moved`: found at another place, with the vectors they had. `items`: added, changed and moved ones by modality.
    """

    added: int = 0
    unchanged: int = 0
    changed: int = 0
    moved: int = 0
    removed: int = 0
    items: Counter[Modality] = field(default_factory=Counter)
    failures: list[FailedFile] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)
    took_s: float = 0.0

    @property
    def failed(self) -> int:
        """Number of files that could not be indexed."""
        return len(self.failures)
