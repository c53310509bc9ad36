"""Calls of a function for each shard, here or in other processes, and the sums of what shards report."""

from __future__ import annotations

import re
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from typing import Any, TypeVar

from bindsearch.errors import BindSearchError, UsageError
from bindsearch.reports import MAX_KINDS_OF_NOTES, OTHER_NOTES, FileNote, IndexReport, OnProgress, Progress
from bindsearch.shards.layout import ShardMap

Result = TypeVar("Result")
_NUMBER = re.compile(r"[0-9]+")

RunEach = Callable[[Callable[[int], Result], Sequence[int]], Mapping[int, "Result | BindSearchError"]]
"""Function that calls another one for the numbers of shards, and returns its result or its error for each.

The function that is called, and what it returns, can be sent to another process.
"""


def run_each_here(call: Callable[[int], Result], numbers: Sequence[int]) -> dict[int, Result | BindSearchError]:
    """Call a function for shards in this process, one after the other; the error of one does not end the others."""
    outcomes: dict[int, Result | BindSearchError] = {}
    for number in numbers:
        try:
            outcomes[number] = call(number)
        except BindSearchError as error:
            outcomes[number] = error
    return outcomes


def results_of(outcomes: Mapping[int, Result | BindSearchError], shards: ShardMap) -> dict[int, Result]:
    """Return the results of shards, in the order of their numbers.

    Raises:
        BindSearchError: shards have failed; it is the error of the first, with the names of the others.
    """
    errors = {number: outcome for number, outcome in outcomes.items() if isinstance(outcome, BindSearchError)}
    if not errors:
        return {number: outcomes[number] for number in sorted(outcomes)}  # type: ignore[misc]
    first = errors[min(errors)]
    if isinstance(first, UsageError) or not is_plain(first):  # an unknown option and the like is the same for all
        raise first
    if len(errors) == shards.n:
        raise type(first)(f"all {shards.n} shards failed: {first}" if shards.n > 1 else str(first))
    names = ", ".join(shards.folders[number] for number in sorted(errors)[:3]) + (", ..." if len(errors) > 3 else "")
    raise type(first)(f"{len(errors)} of {shards.n} shards failed ({names}), the others are done: {first}")


def is_plain(error: BindSearchError) -> bool:
    """Return whether an error is made of its message alone, so that it can be sent to another process."""
    return type(error).__init__ is BindSearchError.__init__


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


def counted(parts: Iterable[object], name: str) -> Counter[Any]:
    """Return the sum of a field with numbers by key over parts."""
    total: Counter[Any] = Counter()
    for part in parts:
        total.update(getattr(part, name))
    return total


def sum_progress(parts: Iterable[Progress]) -> Progress:
    """Return the sum of progress; the file is the one that any shard has worked on for the longest time."""
    parts = [*parts]
    slowest = max(parts, key=lambda part: part.file_s)
    sums = totals(parts, "done", "total", "failed", "segments")
    return Progress(**sums, items=dict(counted(parts, "items")), file=slowest.file, file_s=slowest.file_s)


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
    firsts = [(next(iter(kind)), len(kind) - 1) for kind in kinds.values()]
    return [f"{first} (and {more} like it, of other shards)" if more else first for first, more in firsts]
