"""Sums of what shards report: progress and reports of indexing."""

from __future__ import annotations

import re
import threading
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace
from itertools import chain
from typing import Any

from bindsearch.reports import MAX_KINDS_OF_NOTES, OTHER_NOTES, FileNote, IndexReport, OnProgress, Progress
from bindsearch.types import Modality

_NUMBER = re.compile(r"[0-9]+")


class ProgressSum:
    """Sum of the progress of shards; thread-safe."""

    def __init__(self, on_progress: OnProgress) -> None:
        """Report the sum to `on_progress`."""
        self._on_progress = on_progress
        self._latest: dict[int, Progress] = {}
        self._lock = threading.Lock()

    def of(self, number: int) -> OnProgress:
        """Return the callback for the progress of a shard; a shard has several runs if it has several collections."""

        def update(progress: Progress) -> None:
            with self._lock:
                self._latest[number] = progress
                self._on_progress(sum_progress(self._latest.values()))

        return update


def totals(parts: Iterable[object], *names: str) -> dict[str, Any]:
    """Return the sums of fields over parts, by name."""
    parts = [*parts]
    return {name: sum(getattr(part, name) for part in parts) for name in names}


def joined(parts: Iterable[object], *names: str) -> dict[str, Any]:
    """Return the entries of fields of parts one after the other, by name."""
    parts = [*parts]
    return {name: tuple(one for part in parts for one in getattr(part, name)) for name in names}


def sum_progress(parts: Iterable[Progress]) -> Progress:
    """Return the sum of progress; the file is the one that any shard has worked on for the longest time."""
    parts = [*parts]
    items: Counter[Modality] = Counter()
    for part in parts:
        items.update(part.items)
    slowest = max(parts, key=lambda part: part.file_s)
    sums = totals(parts, "done", "total", "failed", "segments")
    return Progress(**sums, items=dict(items), file=slowest.file, file_s=slowest.file_s)


def sum_reports(reports: Mapping[int, IndexReport], swept: Mapping[int, IndexReport]) -> IndexReport:
    """Return the sum of the reports of shards.

    Args:
        reports: Report of each shard.
        swept: Reports of second runs, which removed missing files; what was new to them counts as well.
    """
    total = IndexReport()
    for report in (*reports.values(), *swept.values()):
        for name in ("added", "changed", "moved", "removed", "segments", "losses", "from_shards", "moved_between"):
            setattr(total, name, getattr(total, name) + getattr(report, name))
        total.items.update(report.items)
        _add_notes(total, report)
    for report in reports.values():
        total.unchanged += report.unchanged
        total.skipped.update(report.skipped)
        total.failures += report.failures
        total.without_content += report.without_content
    total.removed = max(0, total.removed - total.moved_between)
    total.notices = joined_notices(report.notices for report in (*reports.values(), *swept.values()))
    unused = Counter(line for report in reports.values() for line in dict.fromkeys(report.unused_facts))
    total.notices += [line for line, n in unused.items() if n == len(reports)]
    return total


def _add_notes(total: IndexReport, report: IndexReport) -> None:
    for kind, note in report.notes_by_kind.items():
        key, text = kind, note.text
        if key not in total.notes_by_kind and len(total.notes_by_kind) >= MAX_KINDS_OF_NOTES:
            key = text = OTHER_NOTES
        known = total.notes_by_kind.get(key, FileNote(text, note.example, 0))
        total.notes_by_kind[key] = replace(known, files=known.files + note.files)


def joined_notices(lists: Iterable[Iterable[str]]) -> list[str]:
    """Return the notices of shards, equal ones once; of those that differ in numbers alone, the first with a count."""
    kinds: dict[str, dict[str, None]] = {}
    for notice in chain.from_iterable(lists):
        kinds.setdefault(_NUMBER.sub("#", notice), {})[notice] = None
    counted = [(next(iter(kind)), len(kind) - 1) for kind in kinds.values()]
    return [f"{first} (and {more} like it, of other shards)" if more else first for first, more in counted]
