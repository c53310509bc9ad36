"""The files of a collection that a run looks at, and the options of the run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bindsearch.ingest.archives.limits import ArchiveLimits
from bindsearch.ingest.inspect.folder_settings import FolderSettings
from bindsearch.ingest.inspect.rules import Rule
from bindsearch.ingest.manifests.rows import ListLimits
from bindsearch.ingest.media.options import DecodeOptions
from bindsearch.ingest.scan.ignore import PathFilter
from bindsearch.storage.batch import Embedded

WHOLE_COLLECTION = ("",)
"""The path of the whole collection."""


@dataclass(frozen=True)
class ScanTarget:
    """Files to index.

    Attributes:
        collection_id: the collection.
        root: its root folder.
        skipped_folders: folders that are not scanned: other collections, the store.
        paths: relative paths of files and folders; all files at or under them are scanned.
        deletions_confirmed: missing files are certainly deleted, since their deletion was observed.
        only_listed: no other file is scanned, whatever manifests list.
        manifests: manifests to read in addition, also from outside of the root.
    """

    collection_id: int
    root: Path
    skipped_folders: frozenset[Path]
    paths: tuple[str, ...] = WHOLE_COLLECTION
    deletions_confirmed: bool = False
    only_listed: bool = False
    manifests: tuple[str, ...] = ()

    def is_named(self, rel_path: str) -> bool:
        """Return whether the user named this file itself."""
        return not (self.deletions_confirmed or self.only_listed) and rel_path in self.paths

    @property
    def start(self) -> Path:
        """The only path, or the root if there are several."""
        return self.root / self.paths[0] if len(self.paths) == 1 else self.root


@dataclass(frozen=True, slots=True)
class FoundVectors:
    """Vectors of a file with the same fingerprint in another store.

    Attributes:
        segments: its segments.
        facts: what decoders measured of it (FACT_COLUMNS).
        is_gone: the file that they were made of is not there any more: it was moved.
    """

    segments: tuple[Embedded, ...]
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


@dataclass(frozen=True)
class IndexOptions:
    """Options of indexing.

    Attributes:
        rules: classification rules, those of the collection's settings included; the first match decides.
        decode: options of decoders.
        settings: settings of the collection.
        retry_failed: process failed files again.
        narrowing: the files that the run is limited to.
        prune: delete items even if a whole folder disappeared.
        archives: limits of archives.
        lists: limits of manifests.
        share: the files that belong to the run; unlike those that `narrowing` leaves out, others are in other stores.
    """

    rules: Sequence[Rule]
    decode: DecodeOptions
    settings: FolderSettings = FolderSettings()  # noqa: RUF009  (frozen)
    retry_failed: bool = False
    narrowing: PathFilter = PathFilter()  # noqa: RUF009  (frozen)
    prune: bool = False
    archives: ArchiveLimits = ArchiveLimits()  # noqa: RUF009  (frozen)
    lists: ListLimits = ListLimits()  # noqa: RUF009  (frozen)
    share: Share = WHOLE

    @property
    def retries_failed(self) -> bool:
        """Return whether failed files are processed again: also with a rate, which some may have failed without."""
        return self.retry_failed or self.decode.imu_rate_hz is not None
