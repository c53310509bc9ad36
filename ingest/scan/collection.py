"""Work to do in a collection: what was found, what was known, and what lies in between."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bindsearch.ingest.archives.samples import TAR_NAMES, ZIP_NAMES, ArchiveLimits, archive_kind
from bindsearch.ingest.inspect.classify import Rule, is_ignored_extension, rule_for
from bindsearch.ingest.inspect.inspect_file import SourceFile
from bindsearch.ingest.manifests.rows import LIST_NAMES
from bindsearch.ingest.media.options import DecodeOptions
from bindsearch.ingest.scan.archive_members import Archive, Members
from bindsearch.ingest.scan.diff import RecheckRules, compare, reclassified_by_rule
from bindsearch.ingest.scan.ignore import PathFilter
from bindsearch.ingest.scan.manifests import read_lists
from bindsearch.ingest.scan.walk import scan
from bindsearch.reports import FailedFile, IndexReport
from bindsearch.storage.batch import StagedBatch
from bindsearch.storage.catalog import Failure, SourceContainer
from bindsearch.storage.file_state import UNKNOWN_STATE, FileState, IndexedFiles

if TYPE_CHECKING:
    from numpy.typing import NDArray

WHOLE_COLLECTION = ("",)
"""The place that holds all of a collection."""


@dataclass(frozen=True)
class ScanTarget:
    """Files to index: all at or under `paths`, relative paths of files and folders, but `skipped_folders` (other
    collections, the store). `deletions_confirmed`: what is not there has gone for certain, since it was seen to go.
    `only_listed`: no other file is looked at, whatever lists say of it. `lists`: those that are read besides, also from
    outside of the root."""

    collection_id: int
    root: Path
    skipped_folders: frozenset[Path]
    paths: tuple[str, ...] = WHOLE_COLLECTION
    deletions_confirmed: bool = False
    only_listed: bool = False
    lists: tuple[str, ...] = ()

    def is_named(self, rel_path: str) -> bool:
        """Return whether the user has named this very file."""
        return not (self.deletions_confirmed or self.only_listed) and rel_path in self.paths

    @property
    def start(self) -> Path:
        """The one place, or the root where there are several."""
        return self.root / self.paths[0] if len(self.paths) == 1 else self.root


@dataclass(frozen=True)
class IndexOptions:
    """Options of indexing: classification rules (first match wins), decoder options, whether to try failed files again,
    what the run is narrowed to, whether to believe that everything has gone at once (`prune`), and caps on archives."""

    rules: Sequence[Rule]
    decode: DecodeOptions
    retry_failed: bool = False
    narrowing: PathFilter = PathFilter()  # noqa: RUF009  (frozen)
    prune: bool = False
    archives: ArchiveLimits = ArchiveLimits()  # noqa: RUF009  (frozen)


class CollectionScan:
    """One pass over a collection: the files that are settled, those to be looked at, and those that are gone."""

    def __init__(
        self,
        target: ScanTarget,
        options: IndexOptions,
        known: IndexedFiles,
        containers: Mapping[str, FileState],
        report: IndexReport,
    ) -> None:
        """Walk the collection and hold it against what is known of it, and its archives and lists against
        `containers`. Nothing is reported yet.

        Raises:
            UsageError: an ignore file is damaged.
        """
        self.target = target
        self.known = known
        self._containers = containers
        self._report = report
        self._narrows = options.narrowing.is_active
        only = None if target.paths == WHOLE_COLLECTION else frozenset(target.paths)
        self._options = replace(options, narrowing=replace(options.narrowing, only=only))
        found = scan(target.root, target.paths, target.skipped_folders)
        self.list_entries = read_lists(found, containers, known, target.lists)
        self._found = found.with_stamps({path: listed.stamp for path, listed in self.list_entries.entries.items()})
        archives = self._archives = self._find_archives()
        self._failed_paths: set[str] = set()
        self._believes = True
        retry = options.retry_failed or options.decode.imu_rate_hz is not None
        compared = compare(self._found, known, self._options.narrowing, RecheckRules(options.rules, retry))
        failed_as_they_are = {known.rel_path(row) for row in compared.settled.tolist() if known.item_ids[row] < 0}
        self.archives = [
            (path, state)
            for path, state in archives.items()
            if (containers.get(path) != state and path not in failed_as_they_are)
            or self._is_retried(path)
            or (
                options.rules and any(reclassified_by_rule(known, row, options.rules) for row in known.rows_below(path))
            )
        ]
        """Archives to be read: path and state."""
        to_read = {path for path, _ in self.archives}
        kept = [row for path in archives if path not in to_read for row in known.rows_below(path)]
        inside = [row for path in archives for row in known.rows_below(path)]
        wanted = [self._is_work(self._found.rel_paths[row], archives) for row in compared.work.tolist()]
        self._work = compared.work[np.array(wanted, np.bool_)]
        self._settled = np.union1d(compared.settled, np.array(kept, np.int64))
        self._gone = np.setdiff1d(compared.gone, np.array(inside, np.int64))

    def _is_retried(self, archive: str) -> bool:
        """Return whether members of an archive have failed that are to be tried again."""
        rows = [*self.known.rows_below(archive)]
        again = self.known.failed if self._options.retry_failed else self.known.failed_by_installation
        return bool(again[rows].any())

    def _find_archives(self) -> dict[str, FileState]:
        archives: dict[str, FileState] = {}
        for row, path in enumerate(self._found.rel_paths):
            if path.lower().endswith((*TAR_NAMES, *ZIP_NAMES)):
                state = self._found.state(row)
                try:
                    if self._containers.get(path) == state or archive_kind(self.target.root / path) is not None:
                        archives[path] = state
                except OSError:  # told when it is read, and its members stay
                    archives[path] = state
        return archives

    def _is_work(self, rel_path: str, archives: Mapping[str, FileState]) -> bool:
        """Return whether a new or changed file has to be opened: not where its name alone says that it is left out."""
        if rel_path in archives or rel_path in self.list_entries.lists:
            return False
        listed = self.list_entries.entries.get(rel_path)
        named = self.target.is_named(rel_path)  # then it is told why it is left out
        wanted = named or rule_for(rel_path, self._options.rules) is not None or not is_ignored_extension(rel_path)
        said = listed is not None and listed.modality is not None
        return wanted or said or self.known.file_at(rel_path) is not None

    @property
    def has_work(self) -> bool:
        """Whether anything is to be looked at."""
        return bool(len(self._work) or self.archives)

    @property
    def total(self) -> int:
        """Files to look at, members of archives not counted."""
        return len(self._work)

    def files(self, members: Members) -> Iterator[SourceFile | None]:
        """Yield what is to be looked at."""
        for row in map(int, self._work):
            rel_path = self._found.rel_paths[row]
            listed = self.list_entries.entries.get(rel_path)
            yield SourceFile(self.target.root / rel_path, rel_path, self._found.state(row), listed=listed)
        yield from members.files(self.archives)

    def report_settled(self) -> None:
        """Report files that need no look: unchanged ones, and those that failed as they are."""
        self._report.unchanged += int((self.known.item_ids[self._settled] >= 0).sum())
        for row in self._settled[self.known.failed[self._settled]].tolist():
            file = self.known.file(row)
            assert file.reason is not None
            self._report.failures.append(FailedFile(self.target.root / file.rel_path, file.reason))
        self._report.notices.extend(self.list_entries.problems)
        if self.target.only_listed:
            for place in sorted({*self.target.paths} - {*self._found.rel_paths}):
                reason = "a list names it, and it is not there"
                self._report.failures.append(FailedFile(self.target.root / place, reason))

    def gone(self) -> dict[int, int]:
        """Return what is to be swept: item_id, or -1 - row where a file had only failed, and its row in the known
        files.

        Nothing below a folder that could not be read, nor, but with `prune`, all of it at once: a disk that is not
        mounted looks like an empty folder.
        """
        rows = self._gone
        for place in self._found.unreadable:
            inside = np.isin(rows, self._at_or_below(place))
            self._report.notices.append(
                f"cannot read {self.target.root / place}: what is indexed there stays ({int(inside.sum())} files); "
                "check its permissions"
            )
            rows = rows[~inside]
        rows = self._without_sudden(rows)
        ids = self.known.item_ids[rows]
        return dict(zip(np.where(ids < 0, -1 - rows, ids).tolist(), rows.tolist(), strict=True))

    def _without_sudden(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Rows without those in folders that have lost all at once."""
        if self._options.prune or self.target.deletions_confirmed or not len(rows):
            return rows
        start, root = self.target.start, self.target.root
        nothing_left = not any(path not in self.list_entries.lists for path in self._found.rel_paths)
        if nothing_left and (start.is_dir() or start == root or not root.is_dir()):
            self._doubt(start if root.is_dir() else root, len(rows))
            self._believes = False
            return rows[:0]
        for place in self._found.empty:
            inside = np.isin(rows, self._at_or_below(place))
            if inside.any():
                self._doubt(root / place, int(inside.sum()))
                rows = rows[~inside]
        return rows

    def _doubt(self, place: Path, n: int) -> None:
        self._report.notices.append(
            f"{place} is suddenly {'empty' if place.is_dir() else 'gone'}: what is indexed there stays ({n} files); "
            "if it is really gone, say so with --prune"
        )

    def _at_or_below(self, rel_path: str) -> list[int]:
        if not rel_path:
            return list(range(self.known.n))
        return [*self.known.rows_of([rel_path]).tolist(), *self.known.rows_below(rel_path)]

    def stage_found(self, batch: StagedBatch) -> None:
        """Record what the walk alone tells: names that cannot be stored. Archives that are read count as unknown until
        they are through: what is taken in of them is no longer what they were."""
        collection_id = self.target.collection_id
        batch.forgotten_containers += [(collection_id, path) for path, _ in self.archives if path in self._containers]
        for name in self._found.not_utf8:
            shown = Path(name.decode(errors="backslashreplace"))
            rel_path = shown.relative_to(self.target.root).as_posix()
            self._fail(rel_path, UNKNOWN_STATE, "its name is not UTF-8: rename it", batch)

    def stage_archive(self, archive: Archive, gone: dict[int, int], batch: StagedBatch) -> None:
        """Record an archive whose members are all through: its container, what is gone from it, what it failed of."""
        for skipped in archive.skipped:
            if skipped.is_repeated:  # its place is that of the member taken
                self._report.notices.append(f"{self.target.root / archive.rel_path}: {skipped.name}: {skipped.reason}")
                continue
            rel_path = f"{archive.rel_path}/{skipped.name}"
            self._fail(rel_path, archive.state, skipped.reason, batch)
            before = self.known.file_at(rel_path)
            if before is not None and before.item_id is not None:
                batch.removed.append(before.item_id)
        if archive.error is not None:
            self._fail(archive.rel_path, UNKNOWN_STATE if archive.is_transient else archive.state, archive.error, batch)
            return
        if self.known.file_at(archive.rel_path) is not None:
            batch.forgotten_failures.append((self.target.collection_id, archive.rel_path))
        for row in archive.missing_rows:
            item_id = int(self.known.item_ids[row])
            gone[item_id if item_id >= 0 else -1 - row] = row
        if not (self._narrows or archive.is_transient):
            batch.containers.append(SourceContainer(self.target.collection_id, archive.rel_path, archive.state))

    def _fail(self, rel_path: str, state: FileState, reason: str, batch: StagedBatch) -> None:
        self._failed_paths.add(rel_path)
        batch.failures.append(Failure(self.target.collection_id, rel_path, state, reason))
        self._report.failures.append(FailedFile(self.target.root / rel_path, reason))

    def sweep(self, gone: Mapping[int, int], batch: StagedBatch) -> None:
        """Remove what is gone, and record lists that have come, changed or gone, now that all files know of it."""
        for key, row in gone.items():
            file = self.known.file(row)
            if key >= 0:
                batch.removed.append(key)
                self._report.removed += 1
            if file.reason is not None and file.rel_path not in self._failed_paths:
                batch.forgotten_failures.append((self.target.collection_id, file.rel_path))
        for path, state in self.list_entries.lists.items():
            if self._containers.get(path) != state and not self._narrows:
                batch.containers.append(SourceContainer(self.target.collection_id, path, state))
        for path in self._containers.keys() - self.list_entries.lists.keys() - self._archives.keys():
            if self._stands_no_more(path):
                batch.forgotten_containers.append((self.target.collection_id, path))

    def _stands_no_more(self, path: str) -> bool:
        """Return whether a recorded archive or list that was not met is one no more, as far as this pass can tell."""
        hidden = any(path == place or not place or path.startswith(f"{place}/") for place in self._found.unreadable)
        is_list = path.lower().endswith(LIST_NAMES)  # lists are looked for wherever they lie
        only = self._options.narrowing.only
        return self._believes and not hidden and (is_list or only is None or PathFilter(only=only).includes(path))
