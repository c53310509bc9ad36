"""Progress callbacks and final reports of long operations."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
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


@dataclass(slots=True)
class FileNote:
    """A note of the decoders, such as "accelerometer in g (median 1.02): converted to m/s^2".

    Attributes:
        text: The note on the example; numbers in it may differ for the other files.
        example: The first file it was made on.
        files: Number of files.
    """

    text: str
    example: Path
    files: int = 1


MAX_KINDS_OF_NOTES = 200
"""Kinds of notes that a report tells apart; the others are counted together."""

OTHER_NOTES = "other notes"
OTHER_REASONS = "other reasons"

_NUMBER = re.compile(r"[-+]?[0-9]+(?:[.,][0-9]+)*(?:[eE][-+]?[0-9]+)?")


def count_reasons(reasons: Iterable[str]) -> dict[str, int]:
    """Return the number of files by reason, the most frequent first.

    Reasons that differ in numbers alone are one, under the first of them; of many kinds, the rarest are OTHER_REASONS.
    """
    counts: Counter[str] = Counter()
    first: dict[str, str] = {}
    for reason in reasons:
        kind = _NUMBER.sub("#", reason)
        first.setdefault(kind, reason)
        counts[kind] += 1
    shown = {first[kind]: n for kind, n in counts.most_common(MAX_KINDS_OF_NOTES)}
    rest = counts.total() - sum(shown.values())
    return shown | ({OTHER_REASONS: rest} if rest else {})


@dataclass(frozen=True, slots=True)
class LeftOutFile:
    """A file or folder that was not indexed as it is not media, hidden or ignored, and the reason."""

    path: Path
    reason: str


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
        skipped: Number of files that are not media for this encoder, by reason, such as "not media: .docx", and of
            hidden and ignored files and folders.
        failures: Files that could not be indexed, including those that failed before and have not changed since.
        without_content: Files that have nothing to find: silence, one colour, no words; those seen before, too.
        notices: Messages for the user; the first ones are about losses.
        notes_by_kind: What the decoders inferred, converted or left out of the files that were embedded, by the text
            without numbers.
        losses: Number of parts of the store that were found lost and given up.
        kept_missing: Number of missing files whose items stay until the other shards have taken what was moved to them.
        from_shards: Number of files whose vectors came from another shard of a sharded store.
        moved_between: Number of these that were moved; the others are copies. `moved` counts them, too.
        unused_facts: Lines on patterns of metadata that apply to no file of the store; notices, except in a shard.
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
    notes_by_kind: dict[str, FileNote] = field(default_factory=dict)
    losses: int = 0
    kept_missing: int = 0
    from_shards: int = 0
    moved_between: int = 0
    unused_facts: list[str] = field(default_factory=list)
    took_s: float = 0.0

    def add_failure(self, path: Path, reason: str) -> None:
        """Count a file that has no vectors."""
        file = FailedFile(path, reason)
        (self.without_content if file.is_empty else self.failures).append(file)

    def add_notes(self, path: Path, notes: Iterable[str]) -> None:
        """Count the notes of a decoder on a file."""
        kinds: dict[str, str] = {}
        for text in notes:
            kind = _NUMBER.sub("#", text)
            if kind not in self.notes_by_kind and len(self.notes_by_kind) + len(kinds) >= MAX_KINDS_OF_NOTES:
                kind = text = OTHER_NOTES
            kinds.setdefault(kind, text)
        for kind, text in kinds.items():
            if kind in self.notes_by_kind:
                self.notes_by_kind[kind].files += 1
            else:
                self.notes_by_kind[kind] = FileNote(text, path)

    @property
    def notes(self) -> list[FileNote]:
        """Notes of the decoders, those on most files first."""
        return sorted(self.notes_by_kind.values(), key=lambda note: -note.files)

    @property
    def failures_by_reason(self) -> dict[str, int]:
        """Number of failures by reason, the most frequent first; reasons that differ in numbers alone are one."""
        return count_reasons(failure.reason for failure in self.failures)

    @property
    def failed(self) -> int:
        """Number of files that could not be indexed, including unchanged files that failed before."""
        return len(self.failures)
