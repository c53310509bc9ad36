"""An indexing run: for each collection scan, inspect, decode and embed new files, commit, remove missing ones."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path

from bindsearch.encoders.base import Encoder
from bindsearch.ingest.collect import BatchCollector, Committer
from bindsearch.ingest.dedup import Deduplicator, FingerprintIndex
from bindsearch.ingest.embed import embed_files
from bindsearch.ingest.inspect.folder_settings import SETTINGS_FILE
from bindsearch.ingest.inspect.inspect_file import InspectOptions
from bindsearch.ingest.scan.archive_members import Members
from bindsearch.ingest.scan.collection import CollectionScan
from bindsearch.ingest.scan.target import WHOLE_COLLECTION, IndexOptions, ScanTarget
from bindsearch.ingest.workers.pool import Decoders
from bindsearch.reports import IndexReport, OnProgress, Progress
from bindsearch.storage.catalog import Catalog
from bindsearch.storage.writer import Writer

SPOOL = "spool"
"""Folder in a store for temporary copies of archive members while they are indexed."""


class Indexer:
    """Brings collections up to date, one after the other, in one run."""

    def __init__(
        self,
        catalog: Catalog,
        writer: Writer,
        encoder: Encoder,
        decoders: Decoders,
        store: Path,
        on_progress: OnProgress,
    ) -> None:
        """Prepare a run.

        Args:
            catalog: the store's catalog.
            writer: commits batches.
            encoder: embeds segments.
            decoders: inspect and decode files.
            store: the store's folder; extracted members of archives are in it during the run.
            on_progress: called with the progress.
        """
        self._catalog = catalog
        self._writer = writer
        self._encoder = encoder
        self._decoders = decoders
        self._store = store
        shutil.rmtree(store / SPOOL, ignore_errors=True)  # left over from a killed run
        self._on_progress = on_progress
        self._segments = 0
        self.report = IndexReport()

    def index(self, target: ScanTarget, options: IndexOptions) -> None:
        """Bring the catalog up to date with the files of `target`; counts are added to `report`.

        Raises:
            UsageError: an ignore file is invalid.
            InstallationError: a library for decoding or embedding cannot be loaded.
        """
        scanned = self._scan(target, options)
        if scanned.manifests.changed and not target.only_listed and target.paths != WHOLE_COLLECTION:
            scanned = self._scan(replace(target, paths=WHOLE_COLLECTION), options)
        scanned.report_settled()
        missing = scanned.missing()
        with Committer(self._writer) as committer:
            scanned.stage_found(committer.batch)
            if scanned.total or scanned.archives:
                self._index_files(scanned, missing, committer)
            scanned.sweep(missing, committer.batch)
        scanned.record_left_out(self._store)
        facts = options.settings.facts
        if scanned.sees_all and facts.globs:
            files = self._catalog.known_files(target.collection_id, WHOLE_COLLECTION)
            self.report.unused_facts += [
                f"{target.root / SETTINGS_FILE}: [facts.{glob!r}] applies to no file: check the glob and the keys"
                for glob in facts.unused((files.rel_path(row), files.modality(row)) for row in range(files.n))
            ]

    def _scan(self, target: ScanTarget, options: IndexOptions) -> CollectionScan:
        known = self._catalog.known_files(target.collection_id, target.paths)
        return CollectionScan(target, options, known, self._catalog.containers(target.collection_id), self.report)

    def _index_files(self, scanned: CollectionScan, missing: dict[int, int], committer: Committer) -> None:
        """Index the new and changed files of a scan; those of `missing` that were moved are removed from it."""
        target, options = scanned.target, scanned.options
        prints = FingerprintIndex(*self._catalog.fingerprints())
        deduplicator = Deduplicator(scanned.known, prints, missing, options.share.find)
        inspect = InspectOptions(
            options.rules, self._encoder.modalities, target.root.name, options.settings.facts, options.decode
        )
        collector = BatchCollector(target, deduplicator, self._encoder, self.report, scanned.left_out)
        done = 0
        with spool_folder(self._store / SPOOL) as spool:
            members = Members(target.root, scanned.known, options, scanned.declarations, spool)

            def has_room() -> bool:
                return members.has_room() and not scanned.one_at_a_time

            messages = self._decoders.run(scanned.files(members), has_room, deduplicator.wants_decoding, inspect)
            self._report_progress(0, scanned, members)
            # Closed at once when the run is interrupted, so that the workers stop.
            with closing(messages):
                for embedded in embed_files(messages, self._encoder):
                    if isinstance(embedded, int):
                        self._segments += embedded
                        self._report_progress(done, scanned, members)
                        continue
                    for task in collector.stage(embedded, committer):
                        done += 1
                        members.finished(task.file, task.failure)
                        committer.commit_if_due(len(task.segments))
                    for archive in members.settled():
                        scanned.stage_archive(archive, missing, committer.batch)
                    self._report_progress(done, scanned, members)
            for archive in members.settled():
                scanned.stage_archive(archive, missing, committer.batch)
        self.report.notices.extend(collector.notices())
        if self._decoders.notice is not None and self._decoders.notice not in self.report.notices:
            self.report.notices.append(self._decoders.notice)

    def _report_progress(self, done: int, scanned: CollectionScan, members: Members) -> None:
        current, current_s = self._decoders.current()
        path = None if current is None else scanned.target.root / current.rel_path
        total, items = scanned.total + members.found, dict(self.report.items)
        self._on_progress(Progress(done, total, self.report.failed, self._segments, items, path, current_s))


@contextmanager
def spool_folder(path: Path) -> Iterator[Path]:
    """Create an empty folder; it is deleted when the block ends."""
    path.mkdir()
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)
