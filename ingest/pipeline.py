"""An indexing run: for each collection scan, inspect, decode and embed new files, commit, remove missing ones."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path

from bindsearch.encoders.base import Encoder
from bindsearch.ingest.collect import BatchCollector
from bindsearch.ingest.commit import Committer
from bindsearch.ingest.dedup import Deduplicator, FingerprintIndex, FingerprintSet
from bindsearch.ingest.embed import embed_files
from bindsearch.ingest.inspect.folder_settings import SETTINGS_FILE, FolderFacts
from bindsearch.ingest.inspect.inspect_file import InspectOptions
from bindsearch.ingest.scan.archive_members import Members
from bindsearch.ingest.scan.collection import CollectionScan, IndexOptions
from bindsearch.ingest.scan.target import WHOLE_COLLECTION, ScanTarget
from bindsearch.ingest.workers.messages import Setup
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
        self._spool = store / SPOOL
        shutil.rmtree(self._spool, ignore_errors=True)  # left over from a killed run
        self._on_progress = on_progress
        self._segments = 0
        self.report = IndexReport()

    def index(self, target: ScanTarget, options: IndexOptions) -> None:
        """Bring the catalog up to date with the files of `target`; counts are added to `report`.

        Raises:
            UsageError: an ignore file is invalid.
            InstallationError: a library for decoding or embedding cannot be loaded.
        """
        collection_scan = self._survey(target, options)
        if collection_scan.manifests.changed and not target.only_listed and target.paths != WHOLE_COLLECTION:
            collection_scan = self._survey(replace(target, paths=WHOLE_COLLECTION), options)
        collection_scan.report_settled()
        missing = collection_scan.missing()
        with Committer(self._writer) as committer:
            collection_scan.stage_found(committer.batch)
            if collection_scan.has_work:
                self._index_files(collection_scan, options, missing, committer)
            collection_scan.sweep(missing, committer.batch)
        collection_scan.record_left_out(self._store)
        if collection_scan.sees_all and options.facts.globs:
            self._report_unused_facts(target, options.facts)

    def _report_unused_facts(self, target: ScanTarget, facts: FolderFacts) -> None:
        """Add a line for each glob that no file of the collection gets a fact by."""
        files = self._catalog.known_files(target.collection_id, WHOLE_COLLECTION)
        for glob in facts.unused((files.rel_path(row), files.modality(row)) for row in range(files.n)):
            self.report.unused_facts.append(
                f"{target.root / SETTINGS_FILE}: [facts.{glob!r}] applies to no file: check the glob and the keys"
            )

    def _survey(self, target: ScanTarget, options: IndexOptions) -> CollectionScan:
        known = self._catalog.known_files(target.collection_id, target.paths)
        containers = self._catalog.containers(target.collection_id)
        return CollectionScan(target, options, known, containers, self.report)

    def _index_files(
        self, collection_scan: CollectionScan, options: IndexOptions, missing: dict[int, int], committer: Committer
    ) -> None:
        prints = FingerprintIndex(*self._catalog.fingerprints())
        deduplicator = Deduplicator(collection_scan.known, prints, FingerprintSet(), missing, options.share.find)
        root_name = collection_scan.target.root.name
        inspect = InspectOptions(options.rules, self._encoder.modalities, root_name, options.facts)
        setup = Setup(inspect, options.decode)
        collector = BatchCollector(
            collection_scan.target, deduplicator, self._encoder, self.report, collection_scan.left_out
        )
        done = 0
        with spool_folder(self._spool) as spool:
            members = Members(
                collection_scan.target.root,
                collection_scan.known,
                options.archives,
                options.narrowing,
                collection_scan.declarations,
                spool,
                default_ignore=options.default_ignore,
            )

            def has_room() -> bool:
                return members.has_room() and not collection_scan.one_at_a_time

            messages = self._decoders.run(collection_scan.files(members), has_room, deduplicator.wants_decoding, setup)
            self._report_progress(0, collection_scan, members)
            # Closed at once when the run is interrupted, so that the workers stop.
            with closing(messages):
                for embedded in embed_files(messages, self._encoder):
                    if isinstance(embedded, int):
                        self._segments += embedded
                        self._report_progress(done, collection_scan, members)
                        continue
                    for processed in collector.stage(embedded, committer):
                        done += 1
                        members.finished(processed.file_task.file, processed.failure)
                        committer.commit_if_due(len(processed.segments))
                    for archive in members.settled():
                        collection_scan.stage_archive(archive, missing, committer.batch)
                    self._report_progress(done, collection_scan, members)
            for archive in members.settled():
                collection_scan.stage_archive(archive, missing, committer.batch)
        self.report.notices.extend(collector.notices())
        if self._decoders.notice is not None and self._decoders.notice not in self.report.notices:
            self.report.notices.append(self._decoders.notice)

    def _report_progress(self, done: int, collection_scan: CollectionScan, members: Members) -> None:
        total = collection_scan.total + members.found
        items = dict(self.report.items)
        current, current_s = self._decoders.current()
        path = None if current is None else collection_scan.target.root / current.rel_path
        self._on_progress(Progress(done, total, self.report.failed, self._segments, items, path, current_s))


@contextmanager
def spool_folder(path: Path) -> Iterator[Path]:
    """Create an empty folder; it is deleted when the block ends."""
    path.mkdir()
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)
