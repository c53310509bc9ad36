"""Collector: stages processed files, counts them, and commits them in a thread of its own while the next ones come."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

from bindsearch.encoders.base import Encoder
from bindsearch.ingest.dedup import Deduplicator
from bindsearch.ingest.scan.target import ScanTarget
from bindsearch.ingest.workers.prepare import Failed, failure_of
from bindsearch.ingest.workers.scheduler import Action, FileTask
from bindsearch.reports import IndexReport
from bindsearch.storage.batch import Embedded, StagedBatch, StagedItem, check_storable
from bindsearch.storage.catalog import Failure
from bindsearch.storage.file_state import UNKNOWN_STATE
from bindsearch.storage.writer import Writer
from bindsearch.types import Metadata, Modality, facts_of, measured_metadata

COMMIT_SEGMENTS = 2048
COMMIT_FILES = 4096
COMMIT_SECONDS = 2.0
"""A batch is committed when it reaches one of these limits: they bound what a crash can lose."""

PADDING_SHOWN_S = 0.05
"""Padding below this many seconds is due to rounding and not reported."""


class Committer:
    """Commits batches one at a time; staged files are committed when the block ends, also if it is interrupted."""

    def __init__(self, writer: Writer) -> None:
        self.batch = StagedBatch()
        """Batch of the next commit."""
        self._writer = writer
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="commit")
        self._pending: Future[None] | None = None
        self._staged_files = 0
        self._staged_segments = 0
        self._last: float | None = None

    def __enter__(self) -> Committer:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        try:
            if kind is None or kind is KeyboardInterrupt:
                self._commit()
            self._wait()
        finally:
            self._thread.shutdown()

    def commit_if_due(self, new_segments: int) -> None:
        """Count the segments of one more file, and commit the batch if it reached a limit."""
        self._staged_files += 1
        self._staged_segments += new_segments
        if self._last is None:  # the start of workers and libraries does not count
            self._last = time.monotonic()
        is_old = time.monotonic() - self._last > COMMIT_SECONDS
        if is_old or self._staged_files >= COMMIT_FILES or self._staged_segments >= COMMIT_SEGMENTS:
            self._commit()

    def _commit(self) -> None:
        self._wait()
        self._last = time.monotonic()
        self._staged_files = self._staged_segments = 0
        if self.batch.is_empty:
            return
        batch, self.batch = self.batch, StagedBatch()
        self._pending = self._thread.submit(self._writer.commit, batch)

    def _wait(self) -> None:
        if self._pending is not None:
            self._pending.result()
            self._pending = None


def modality_of(task: FileTask, segments: Sequence[Embedded]) -> Modality:
    """Return the modality of an inspected file: of its segments if it has any, since an mp4 may have no pictures."""
    assert task.inspection is not None
    modality = task.inspection.verdict.modality
    assert modality is not None
    modalities = [segment.modality for segment in segments]
    return modality if modality in modalities or not modalities else modalities[0]


def metadata_of(task: FileTask) -> Metadata:
    """Return the metadata of an inspected file: declared, else measured, else embedded in it."""
    assert task.inspection is not None
    measured = measured_metadata(task.reading.facts)
    return task.inspection.sidecar.metadata.merge_over(measured.merge_over(task.inspection.metadata))


class BatchCollector:
    """Stages the processed files of one collection."""

    def __init__(
        self,
        target: ScanTarget,
        deduplicator: Deduplicator,
        encoder: Encoder,
        report: IndexReport,
        left_out: dict[str, str],
    ) -> None:
        """Stage files of `target`; `left_out` receives the reason of each file that is not indexed, by path."""
        self._target = target
        self._deduplicator = deduplicator
        self._encoder = encoder
        self._report = report
        self._left_out = left_out
        self._followers: dict[str, list[FileTask]] = {}
        self._failed: dict[str, Failed] = {}
        self._padded = 0
        self._refused: Counter[Modality] = Counter()

    def stage(self, task: FileTask, committer: Committer) -> Iterator[FileTask]:
        """Stage a file, or hold it back until the file that it follows is done; yield the files that were staged.

        Each file goes into the batch that is current then: between two of them the batch may be committed.
        """
        fingerprint = "" if task.inspection is None else task.inspection.fingerprint
        if task.action is Action.FOLLOW:
            if fingerprint in self._deduplicator.in_flight:
                self._followers.setdefault(fingerprint, []).append(task)
                return
            task.failure = self._failed.get(fingerprint)
        self._put(task, committer.batch)
        yield task
        if task.action in (Action.EMBED, Action.TAKE):
            self._deduplicator.in_flight.discard(fingerprint)
            if task.failure is not None:
                self._failed[fingerprint] = task.failure
            for follower in self._followers.pop(fingerprint, ()):
                yield from self.stage(follower, committer)

    def _put(self, task: FileTask, batch: StagedBatch) -> None:
        """Stage the outcome of one file."""
        file, inspection, before = task.file, task.inspection, task.before
        collection_id = self._target.collection_id
        old_item = before.item_id if before is not None else None
        item = None
        if task.failure is None and task.action not in (Action.LEAVE_OUT, Action.TOUCH):
            try:
                item = self._item(task)
                check_storable(item)
            except Exception as error:  # one file must not end the run
                task.fail(failure_of(error))
        if task.failure is not None:
            is_transient = task.failure.is_transient
            state = UNKNOWN_STATE if is_transient else file.state
            batch.failures.append(Failure(collection_id, file.rel_path, state, task.failure.reason))
            self._report.add_failure(self._target.root / file.rel_path, task.failure.reason)
            if old_item is not None and not is_transient:
                batch.removed.append(old_item)
            return
        assert inspection is not None
        if before is not None and before.reason is not None:
            batch.forgotten_failures.append((collection_id, file.rel_path))
        if task.action is Action.LEAVE_OUT:
            if self._target.is_named(file.rel_path):
                self._report.notices.append(f"{self._target.root / file.rel_path} is skipped: {inspection.verdict.why}")
            if inspection.refused is not None:
                self._refused[inspection.refused] += 1
            self._left_out[file.rel_path] = inspection.verdict.why
            if old_item is not None:
                batch.removed.append(old_item)
                self._report.removed += 1
        elif task.action is Action.TOUCH:
            assert old_item is not None
            batch.touched[old_item] = file.state
            self._report.unchanged += 1
        elif item is not None:
            batch.items.append(item)
            self._count(task, item)

    def _item(self, task: FileTask) -> StagedItem:
        """Return a new, changed, moved or copied item."""
        file, inspection, found = task.file, task.inspection, task.found
        assert inspection is not None
        segments = None if found is None else found.segments
        if task.action is Action.EMBED:
            segments = tuple(task.segments)
        replaced = None if task.before is None else task.before.item_id
        return StagedItem(
            item_id=task.moved_id if task.action is Action.MOVE else replaced,
            collection_id=self._target.collection_id,
            rel_path=file.rel_path,
            modality=modality_of(task, segments or ()),
            state=file.state,
            content_hash=inspection.content_hash,
            fingerprint=inspection.fingerprint,
            segments=segments,
            columns=inspection.columns,
            metadata=metadata_of(task).merge_over(facts_of({} if found is None else found.facts)),
        )

    def _count(self, task: FileTask, item: StagedItem) -> None:
        """Count an item that was staged."""
        embeds, found, report = task.action is Action.EMBED, task.found, self._report
        if embeds:
            self._padded += sum(map(self._is_padded, task.segments))
            report.segments += len(task.segments)
            report.add_notes(self._target.root / item.rel_path, task.reading.notes)
        report.items[item.modality] += 1
        if found is not None:
            report.from_shards += 1
            report.moved_between += found.is_gone
        if task.action is Action.MOVE or (found is not None and found.is_gone):
            report.moved += 1
        elif item.item_id is None:
            report.added += 1
        elif not embeds and task.before is not None and task.before.state.sidecar_version < 0:
            report.unchanged += 1  # imported from another store, and unchanged
        else:
            report.changed += 1

    def _is_padded(self, segment: Embedded) -> bool:
        """Return whether the encoder padded it: motion shorter than the encoder's segments."""
        if segment.modality is not Modality.IMU or segment.start_s is None or segment.end_s is None:
            return False
        return segment.end_s - segment.start_s < self._encoder.wants.motion_s - PADDING_SHOWN_S

    def notices(self) -> Iterator[str]:
        """Yield notices on files that were indexed or left out as intended."""
        encoder = self._encoder
        if self._refused:
            counts = ", ".join(f"{n} {modality}" for modality, n in sorted(self._refused.items()))
            yield f"skipped, because the encoder {encoder.name} cannot embed them: {counts}"
        if self._padded:
            yield (
                f"motion segments shorter than the {encoder.wants.motion_s:g} s that {encoder.name} expects: "
                f"{self._padded}, each padded with its last sample"
            )
