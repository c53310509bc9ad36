"""Share of a run in the files of a collection, whose other files are indexed into other stores."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from bindsearch.storage.batch import StagedSegment


@dataclass(frozen=True, slots=True)
class FoundVectors:
    """Vectors of a file with the same fingerprint in another store.

    Attributes:
        segments: its segments.
        facts: what decoders measured of it (FACT_COLUMNS).
        is_gone: the file that they were made of is not there any more: it was moved.
    """

    segments: tuple[StagedSegment, ...]
    facts: Mapping[str, float | None]
    is_gone: bool


def find_nothing(_fingerprint: str) -> FoundVectors | None:
    """Find no vectors; the default of a share."""
    return None


def belongs_always(_rel_path: str) -> bool:
    """Return True: all files belong to the run."""
    return True


@dataclass(frozen=True)
class Share:
    """Share of a run in the files of its collections.

    Files of other shares are no part of the run: they are neither counted nor recorded. Members of an archive belong to
    the share of the archive.

    Attributes:
        belongs: returns whether a file, by its path relative to its collection, belongs to the share.
        find: returns the vectors of a fingerprint in the stores of other shares; called for new and changed files that
            would be embedded, by one thread at a time.
        keeps_missing: missing files stay in the store, and are counted in `IndexReport.kept_missing`.
    """

    belongs: Callable[[str], bool] = belongs_always
    find: Callable[[str], FoundVectors | None] = find_nothing
    keeps_missing: bool = False


WHOLE = Share()
"""The share of a run on all files."""
