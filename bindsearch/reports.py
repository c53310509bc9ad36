"""Progress callbacks and final reports of long operations."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from bindsearch.media import NO_CONTENT
from bindsearch.types import Modality


@dataclass(frozen=True, slots=True)
class Progress:
    """Progress of an indexing run.

    Attributes:
        done: Files processed so far.
        total: Files to process.
        failed: Files that could not be indexed.
        segments: Segments embedded so far, also those of files that are not complete.
        items: Number of new or changed items by modality.
        file: File that has been worked on for the longest time, if any.
        file_s: Seconds since the work on it began.
    """

    done: int
    total: int
    failed: int
    segments: int
    items: Mapping[Modality, int] = field(default_factory=dict)
    file: Path | None = None
    file_s: float = 0.0


OnProgress = Callable[[Progress], None]


def ignore_progress(_progress: Progress) -> None:
    """Ignore progress; the default callback."""


OnStage = Callable[[str], None]
"""Callback that receives the name of the current stage."""


def ignore_stage(_stage: str) -> None:
    """Ignore the stage; the default callback."""


OnRows = Callable[[int, int], None]
"""Callback that receives the number of rows done and the total."""


def ignore_rows(_done: int, _total: int) -> None:
    """Ignore progress in rows; the default callback."""


@dataclass(frozen=True, slots=True)
class FailedFile:
    """A file that could not be indexed, and the reason."""

    path: Path
    reason: str

    @property
    def is_empty(self) -> bool:
        """True for a file that can be read, but has no content."""
        return self.reason.startswith(NO_CONTENT)


@dataclass(frozen=True, slots=True)
class PlannedFile:
    """Result of `--dry-run` for a file.

    Attributes:
        path: The file.
        modality: Detected modality; None if the file would be skipped.
        why: Reason for the modality or for skipping the file.
        note: Assumptions about the file; may be empty.
    """

    path: Path
    modality: Modality | None
    why: str
    note: str = ""


@dataclass(slots=True)
class IndexReport:
    """Counts of files after an indexing run.

    Attributes:
        added: New files.
        unchanged: Files that were not opened because they have not changed.
        changed: Files that were embedded again.
        moved: Files found at another path, which keep their vectors.
        removed: Items removed from the store.
        items: Added, changed and moved items by modality.
        segments: Number of segments that were embedded.
        skipped: Number of files that are not media for this encoder, by reason, such as "not media: .docx".
        failures: Files that could not be indexed, including those that failed before and have not changed since.
        without_content: Files that have nothing to find: silence, one colour, no words; those seen before, too.
        notices: Messages for the user; the first ones are about losses.
        losses: Number of parts of the store that were found lost and given up.
        took_s: Duration of the run in seconds.
    """

    added: int = 0
    unchanged: int = 0
    changed: int = 0
    moved: int = 0
    removed: int = 0
    items: Counter[Modality] = field(default_factory=Counter)
    segments: int = 0
    skipped: Counter[str] = field(default_factory=Counter)
    failures: list[FailedFile] = field(default_factory=list)
    without_content: list[FailedFile] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)
    losses: int = 0
    took_s: float = 0.0

    def add_failure(self, path: Path, reason: str) -> None:
        """Count a file that has no vectors."""
        file = FailedFile(path, reason)
        (self.without_content if file.is_empty else self.failures).append(file)

    @property
    def failed(self) -> int:
        """Number of files that could not be indexed, including unchanged files that failed before."""
        return len(self.failures)
