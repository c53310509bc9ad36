"""Scan of a collection: the files found, compared with the indexed ones, and the work that follows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Set
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np

from bindsearch.arguments import is_at_or_below
from bindsearch.ingest.archives.samples import TAR_NAMES, ZIP_NAMES, archive_kind
from bindsearch.ingest.inspect.extensions import is_ignored, modality_by_name, reason_of_ignored
from bindsearch.ingest.inspect.inspect_file import SourceFile
from bindsearch.ingest.inspect.rules import rule_for
from bindsearch.ingest.left_out import at_or_below, counts_by_reason, write_left_out
from bindsearch.ingest.manifests.rows import MANIFEST_NAMES
from bindsearch.ingest.scan.archive_members import Archive, Members
from bindsearch.ingest.scan.diff import compare, find_gone, reclassified_by_rule
from bindsearch.ingest.scan.ignore import PathFilter
from bindsearch.ingest.scan.listed_files import Declarations, read_manifests
from bindsearch.ingest.scan.target import WHOLE_COLLECTION, IndexOptions, ScanTarget
from bindsearch.ingest.scan.walk import scan
from bindsearch.reports import IndexReport
from bindsearch.small_files import NOT_REGULAR
from bindsearch.storage.batch import StagedBatch
from bindsearch.storage.catalog import Failure, SourceContainer
from bindsearch.storage.file_state import UNKNOWN_STATE, FileState, IndexedFiles
from bindsearch.types import Modality

if TYPE_CHECKING:
    import pyarrow as pa

MAX_MISSING = 1000
"""Maximum number of listed files that are missing and reported one by one."""

LONG_TEXT_BYTES = 256 << 10
"""A text above this size takes about half a minute on 2 cores; such texts are processed one after the other."""

_NS_PER_BYTE: Mapping[Modality | None, int] = MappingProxyType({Modality.IMAGE: 5, Modality.TEXT: 100_000})
_OTHER_NS_PER_BYTE = 100
"""Time to decode and embed a byte with `mini` on 2 cores, to a power of ten."""


def estimated_ns(modality: Modality | None, size_bytes: int) -> int:
    """Estimate the time that a file takes, in nanoseconds; `modality`: what its name says, None if nothing."""
    return size_bytes * _NS_PER_BYTE.get(modality, _OTHER_NS_PER_BYTE)


class CollectionScan:
    """One scan of a collection: the files that are up to date, those to inspect, and those that are missing."""

    def __init__(
        self,
        target: ScanTarget,
        options: IndexOptions,
        known: IndexedFiles,
        containers: Mapping[str, FileState],
        report: IndexReport,
    ) -> None:
        """Walk the collection and compare it with the catalog; nothing is reported yet.

        Args:
            target: the files to scan.
            options: options of indexing.
            known: the indexed files of the collection.
            containers: recorded archives and manifests, by path.
            report: receives counts and notices.

        Raises:
            UsageError: an ignore file is invalid.
        """
        self.target = target
        self.known = known
        self.one_at_a_time = False
        self._read_archives: list[SourceContainer] = []
        self._containers = containers
        self._report = report
        self._narrows = options.narrowing.is_active
        only = None if target.paths == WHOLE_COLLECTION else frozenset(target.paths)
        self.options = replace(options, narrowing=replace(options.narrowing, only=only))
        default_ignore, belongs = options.settings.default_ignore, options.share.belongs
        walked = scan(target.root, target.paths, target.skipped_folders, default_ignore=default_ignore, belongs=belongs)
        is_whole = only is None and not self._narrows
        self.manifests = read_manifests(
            walked, containers, known, target.manifests, limits=options.lists, is_whole=is_whole
        )
        self.declarations = Declarations(self.manifests.entries, options.settings)
        self._found = bool(walked.elsewhere) or not self.manifests.states.keys() >= {*walked.rel_paths}
        self._scan = walked.of_share()
        self._scan.combine_stamps(self.declarations.stamps(self._scan.rel_paths))
        archives = self._archives = self._find_archives()
        self.left_out = {
            path: why
            for path, why in self._scan.left_out.items()
            if self.options.narrowing.includes(path.rstrip("/")) and options.share.belongs(path.rstrip("/"))
        }
        """Reason by path of the files that are left out; the collector adds those that are inspected."""
        self._failed_paths: set[str] = set()
        self._confirms_deletions = True
        work, settled, missing = compare(self._scan, known, self.options)
        unchanged_failed = {known.rel_path(row) for row in settled.tolist() if known.item_ids[row] < 0}
        retried = known.failed if options.retry_failed else known.failed_by_installation

        def is_to_read(path: str, state: FileState) -> bool:
            members = known.rows_below(path)
            is_new = containers.get(path) != state and path not in unchanged_failed
            is_reclassified = options.rules and any(reclassified_by_rule(known, row, options.rules) for row in members)
            return bool(is_new or retried[[*members]].any() or is_reclassified)

        self.archives = [(path, state) for path, state in archives.items() if is_to_read(path, state)]
        """Archives to be read: path and state."""
        to_read = {path for path, _ in self.archives}
        unread_rows = [row for path in archives if path not in to_read for row in known.rows_below(path)]
        member_rows = [row for path in archives for row in known.rows_below(path)]
        paths = [self._scan.rel_paths[row] for row in work.tolist()]
        is_work = np.array([self._is_work(path, archives) for path in paths], np.bool_)
        self._work, self._ignored = work[is_work], work[~is_work]
        self._settled = np.union1d(settled, np.array(unread_rows, np.int64))
        self._missing = np.setdiff1d(missing, np.array(member_rows, np.int64))

    def _find_archives(self) -> dict[str, FileState]:
        """Return the archives in the scan, by path."""
        archives: dict[str, FileState] = {}
        for row, path in enumerate(self._scan.rel_paths):
            if path.lower().endswith((*TAR_NAMES, *ZIP_NAMES)):
                state = self._scan.state(row)
                try:
                    if self._containers.get(path) == state or archive_kind(self.target.root / path) is not None:
                        archives[path] = state
                except Exception:  # reported when it is read; its members stay
                    archives[path] = state
        return archives

    def _is_work(self, rel_path: str, archives: Mapping[str, FileState]) -> bool:
        """Return whether a new or changed file has to be inspected: not if extension and first bytes exclude it."""
        if rel_path in archives or rel_path in self.manifests.states:
            return False
        listed = self.manifests.entries.get(rel_path)
        named = self.target.is_named(rel_path)  # then a notice says why it is skipped
        by_name = named or rule_for(rel_path, self.options.rules) is not None
        by_manifest = listed is not None and listed.modality is not None
        is_kept = by_name or by_manifest or self.known.file_at(rel_path) is not None
        return is_kept or not is_ignored(self.target.root / rel_path, rel_path)

    @property
    def sees_all(self) -> bool:
        """Return whether the run is not limited to some files of the collection."""
        return self.target.paths == WHOLE_COLLECTION and not (self._narrows or self.target.only_listed)

    @property
    def total(self) -> int:
        """Number of files to inspect, without members of archives."""
        return len(self._work)

    def files(self, members: Members) -> Iterator[SourceFile | None]:
        """Yield the files to inspect: the quickest ones first, then members of archives, then long texts.

        `one_at_a_time` is true before the first long text, so that each is decoded after all files before it.
        """
        quick: list[tuple[int, int]] = []
        long_texts: list[tuple[int, int]] = []
        for row in self._work.tolist():
            rel_path, size_bytes = self._scan.rel_paths[row], int(self._scan.states[row, 0])
            rule, listed = rule_for(rel_path, self.options.rules), self.manifests.entries.get(rel_path)
            by_list = None if listed is None else listed.modality
            modality = (by_list or modality_by_name(rel_path)) if rule is None else rule.modality
            files = long_texts if modality is Modality.TEXT and size_bytes > LONG_TEXT_BYTES else quick
            files.append((estimated_ns(modality, size_bytes), row))
        for _, row in sorted(quick):
            yield self._source(row)
        yield from members.files(self.archives)
        self.one_at_a_time = bool(long_texts)
        for _, row in sorted(long_texts):
            yield None
            yield self._source(row)

    def _source(self, row: int) -> SourceFile:
        rel_path = self._scan.rel_paths[row]
        path, state, listed = self.target.root / rel_path, self._scan.state(row), self.manifests.entries.get(rel_path)
        return SourceFile(path, rel_path, state, listed=listed, subtitles=self._scan.subtitles_of(rel_path))

    def report_settled(self) -> None:
        """Report files that are not inspected: unchanged ones, and unchanged ones that failed before."""
        self._report.unchanged += int((self.known.item_ids[self._settled] >= 0).sum())
        for row in self._settled[self.known.failed[self._settled]].tolist():
            file = self.known.file(row)
            assert file.reason is not None
            self._report.add_failure(self.target.root / file.rel_path, file.reason)
        self._report.notices.extend(self.manifests.problems)
        for row in self._ignored.tolist():
            path = self._scan.rel_paths[row]
            if path not in self._archives and path not in self.manifests.states:
                self.left_out[path] = reason_of_ignored(path)
        if self.target.only_listed:
            absent = {*self.target.paths} - {*self._scan.rel_paths}
            missing = sorted(filter(self.options.share.belongs, absent))
            if len(missing) > MAX_MISSING:
                self._report.notices.append(
                    f"{len(missing)} of {len(self.target.paths)} listed files are not there: the first {MAX_MISSING} "
                    "are reported as failed"
                )
            for path in missing[:MAX_MISSING]:
                reason = "listed in a manifest, but the file does not exist"
                self._report.add_failure(self.target.root / path, reason)

    def record_left_out(self, store: Path) -> None:
        """Record and count the files that were left out; those that the run did not look at stay as they are."""
        self.left_out.update((path, why) for path, why in self.manifests.others.items() if path in self.left_out)
        unread = self._archives.keys() - {path for path, _ in self.archives}
        out_of_sight = partial(self._out_of_sight, unread) if unread or not self.sees_all else None
        table = write_left_out(store, self.target.collection_id, self.left_out, out_of_sight)
        self._report.skipped.update(self.left_out.values())
        if unread:  # their members were left out, too
            members = table.filter(_below(table.column("rel_path").combine_chunks(), unread))
            self._report.skipped.update(counts_by_reason(members))

    def _out_of_sight(self, unread: Set[str], paths: pa.Array) -> pa.Array:
        """Return whether the run does not look at paths, bool (n,): excluded, or in archives that have not changed."""
        import pyarrow as pa
        import pyarrow.compute as pc

        narrowing = self.options.narrowing
        if narrowing.include or narrowing.exclude:
            included = pa.array([narrowing.includes(path.rstrip("/")) for path in paths.to_pylist()], pa.bool_())
        elif narrowing.only is not None:
            included = at_or_below(paths, narrowing.only)
        else:
            included = pa.repeat(pa.scalar(True), len(paths))
        return pc.or_(pc.invert(included), _below(paths, unread))

    def missing(self) -> dict[int, int]:
        """Return what is to be removed: item_id, or -1 - row for a file that only failed, with its row in `known`."""
        prune = self.options.prune
        gone = find_gone(self._missing, self._scan, self.known, self.target, found=self._found, prune=prune)
        self._report.notices.extend(gone.notices)
        self._confirms_deletions = gone.is_confirmed
        ids = self.known.item_ids[gone.rows]
        return dict(zip(np.where(ids < 0, -1 - gone.rows, ids).tolist(), gone.rows.tolist(), strict=True))

    def stage_found(self, batch: StagedBatch) -> None:
        """Record what follows from the walk alone: names that cannot be stored, and links that lead to no file.

        Archives to read are recorded as unknown until they are processed, since their items change meanwhile.
        """
        collection_id = self.target.collection_id
        batch.forgotten_containers += [(collection_id, path) for path, _ in self.archives if path in self._containers]
        for name in self._scan.not_utf8:
            printable_path = Path(name.decode(errors="backslashreplace"))
            rel_path = printable_path.relative_to(self.target.root).as_posix()
            self._fail(rel_path, UNKNOWN_STATE, "its name is not UTF-8: rename it", batch)
        for rel_path, reason in self._scan.failed.items():
            if self.options.narrowing.includes(rel_path):
                self._fail(rel_path, UNKNOWN_STATE, reason, batch)
        for rel_path, end in self._scan.bad_links.items():
            is_container = rel_path.lower().endswith((*TAR_NAMES, *ZIP_NAMES, *MANIFEST_NAMES))
            if self.options.narrowing.includes(rel_path) and (is_container or self._is_work(rel_path, {})):
                self._fail(rel_path, UNKNOWN_STATE, f"a link to {end}, which is {NOT_REGULAR}: remove it", batch)

    def stage_archive(self, archive: Archive, missing: dict[int, int], batch: StagedBatch) -> None:
        """Stage the failures of an archive whose members are all processed, and note what `sweep` is to record.

        The archive counts as read only when its missing members are removed: in one commit, else a crash between them
        would keep these members.
        """
        self._report.add_notes(self.target.root / archive.rel_path, archive.notes)
        for skipped in archive.skipped:
            if skipped.is_left_out:
                self.left_out[f"{archive.rel_path}/{skipped.name}"] = skipped.reason
                continue
            if skipped.is_repeated:  # the path is that of the first member
                self._report.notices.append(f"{self.target.root / archive.rel_path}: {skipped.name}: {skipped.reason}")
                continue
            rel_path = f"{archive.rel_path}/{skipped.name}"
            self._fail(rel_path, archive.state, skipped.reason, batch)
            previous = self.known.file_at(rel_path)
            if previous is not None and previous.item_id is not None:
                batch.removed.append(previous.item_id)
        if archive.error is not None:
            self._fail(archive.rel_path, UNKNOWN_STATE if archive.is_transient else archive.state, archive.error, batch)
            return
        if self.known.file_at(archive.rel_path) is not None:
            batch.forgotten_failures.append((self.target.collection_id, archive.rel_path))
        for row in archive.missing_rows:
            item_id = int(self.known.item_ids[row])
            missing[item_id if item_id >= 0 else -1 - row] = row
        if not (self._narrows or archive.is_transient):
            self._read_archives.append(SourceContainer(self.target.collection_id, archive.rel_path, archive.state))

    def _fail(self, rel_path: str, state: FileState, reason: str, batch: StagedBatch) -> None:
        """Record a failed file."""
        self._failed_paths.add(rel_path)
        batch.failures.append(Failure(self.target.collection_id, rel_path, state, reason))
        self._report.add_failure(self.target.root / rel_path, reason)

    def sweep(self, missing: Mapping[int, int], batch: StagedBatch) -> None:
        """Remove missing files; record archives that were read, and manifests that were added, changed or deleted."""
        if self.options.share.keeps_missing:
            self._report.kept_missing += len(missing)
            missing = {}
        for key, row in missing.items():
            file = self.known.file(row)
            if key >= 0:
                batch.removed.append(key)
                self._report.removed += 1
            if file.reason is not None and file.rel_path not in self._failed_paths:
                batch.forgotten_failures.append((self.target.collection_id, file.rel_path))
        batch.containers += self._read_archives
        for path, state in self.manifests.states.items():
            if self._containers.get(path) != state and not self._narrows:
                batch.containers.append(SourceContainer(self.target.collection_id, path, state))
        for path in self._containers.keys() - self.manifests.states.keys() - self._archives.keys():
            if self._is_deleted_container(path):
                batch.forgotten_containers.append((self.target.collection_id, path))

    def _is_deleted_container(self, path: str) -> bool:
        """Return whether a recorded archive or manifest that was not found is deleted, as far as this scan can tell."""
        unread = (*self._scan.unreadable, *self._scan.failed, *self._scan.unmounted)
        is_unreadable = any(is_at_or_below(path, folder) for folder in unread)
        may_be_manifest = path.lower().endswith(MANIFEST_NAMES)  # manifests are searched in the whole collection
        is_seen = may_be_manifest or PathFilter(only=self.options.narrowing.only).includes(path)
        return self._confirms_deletions and not is_unreadable and is_seen


def _below(paths: pa.Array, archives: Set[str]) -> pa.Array:
    """Return whether paths, string (n,), are those of members of archives, bool (n,)."""
    import pyarrow as pa
    import pyarrow.compute as pc

    is_archive = pc.is_in(paths, value_set=pa.array([*archives], pa.string()))
    return pc.and_(at_or_below(paths, archives), pc.invert(is_archive))
