"""One indexing run: for each collection survey, look, decode and embed what is new, commit, sweep."""

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
from bindsearch.ingest.inspect.inspect_file import InspectOptions
from bindsearch.ingest.scan.archive_members import Members
from bindsearch.ingest.scan.collection import WHOLE_COLLECTION, CollectionScan, IndexOptions, ScanTarget
from bindsearch.ingest.workers.messages import Setup
from bindsearch.ingest.workers.pool import Decoders
from bindsearch.reports import IndexReport, OnProgress, Progress
from bindsearch.storage.catalog import Catalog
from bindsearch.storage.writer import Writer


class Indexer:
    """Brings collections up to date, one after the other, in one run."""

    def __init__(
        self,
        catalog: Catalog,
        writer: Writer,
        encoder: Encoder,
        decoders: Decoders,
        spool: Path,
        on_progress: OnProgress,
    ) -> None:
        """`spool`: a folder for copies of members of archives, made when there are some and removed in the end."""
        self._catalog = catalog
        self._writer = writer
        self._encoder = encoder
        self._decoders = decoders
        shutil.rmtree(spool, ignore_errors=True)  # what a run before that was killed has left
        self._spool = spool
        self._on_progress = on_progress
        self.report = IndexReport()

    def index(self, target: ScanTarget, options: IndexOptions) -> None:
        """Bring the catalog up to date with the files of `target`; counts go into `report`.

        Raises:
            UsageError: an ignore file is damaged.
            InstallationError: a library that decoding or embedding needs cannot be loaded.
        """
        one_pass = self._survey(target, options)
        if one_pass.list_entries.changed and not target.only_listed and target.paths != WHOLE_COLLECTION:
            one_pass = self._survey(replace(target, paths=WHOLE_COLLECTION), options)  # lists speak of files anywhere
        one_pass.report_settled()
        gone = one_pass.gone()
        with Committer(self._writer) as committer:
            one_pass.stage_found(committer.batch)
            if one_pass.has_work:
                self._take_in(one_pass, options, gone, committer)
            one_pass.sweep(gone, committer.batch)

    def _survey(self, target: ScanTarget, options: IndexOptions) -> CollectionScan:
        known = self._catalog.known_files(target.collection_id, target.paths)
        containers = self._catalog.containers(target.collection_id)
        return CollectionScan(target, options, known, containers, self.report)

    def _take_in(
        self, one_pass: CollectionScan, options: IndexOptions, gone: dict[int, int], committer: Committer
    ) -> None:
        prints = FingerprintIndex(*self._catalog.fingerprints())
        decider = Deduplicator(one_pass.known, prints, FingerprintSet(), gone)
        setup = Setup(
            InspectOptions(options.rules, self._encoder.modalities, one_pass.target.root.name), options.decode
        )
        stage = BatchCollector(one_pass.target, decider, self._encoder, self.report)
        done = 0
        with spool_folder(self._spool) as spool:
            members = Members(one_pass.target.root, one_pass.known, options.archives, options.narrowing, spool)
            messages = self._decoders.run(one_pass.files(members), members.has_room, decider.wants_decoding, setup)
            self._tell(0, one_pass, members, committer)
            # Closed at once when the run is interrupted, so that no worker goes on with it.
            with closing(messages):
                for embedded in embed_files(messages, self._encoder):
                    for through in stage.stage(embedded, committer):
                        done += 1
                        members.finished(through.task.file, through.failure)
                        committer.commit_if_due(len(through.segments))
                    for archive in members.settled():
                        one_pass.stage_archive(archive, gone, committer.batch)
                    self._tell(done, one_pass, members, committer)
            for archive in members.settled():
                one_pass.stage_archive(archive, gone, committer.batch)
        self.report.notices.extend(stage.notices())
        if self._decoders.notice is not None and self._decoders.notice not in self.report.notices:
            self.report.notices.append(self._decoders.notice)

    def _tell(self, done: int, one_pass: CollectionScan, members: Members, committer: Committer) -> None:
        total = one_pass.total + members.found
        items = dict(self.report.items)
        self._on_progress(Progress(done, total, self.report.failed, committer.segments, items))


@contextmanager
def spool_folder(path: Path) -> Iterator[Path]:
    """An empty folder that is gone afterwards."""
    path.mkdir()
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)
