"""Collector: stages processed files for the commit and counts them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from bindsearch.encoders.base import Encoder
from bindsearch.ingest.commit import Committer
from bindsearch.ingest.dedup import Action, Decision, Deduplicator
from bindsearch.ingest.embed import EmbeddedFile
from bindsearch.ingest.scan.target import ScanTarget
from bindsearch.ingest.workers.prepare import Failed, failure_of
from bindsearch.reports import IndexReport
from bindsearch.storage.batch import StagedBatch, StagedItem, StagedSegment, check_storable
from bindsearch.storage.catalog import Failure
from bindsearch.storage.file_state import UNKNOWN_STATE
from bindsearch.types import Metadata, Modality, facts_of, measured_metadata

NO_METADATA = Metadata()
PADDING_SHOWN_S = 0.05
"""Padding below this many seconds is due to rounding and not reported."""


def modality_of(embedded: EmbeddedFile, segments: Sequence[StagedSegment]) -> Modality:
    """Return the modality of an inspected file: of its segments if it has any, since an mp4 may have no pictures."""
    assert embedded.file_task.inspection is not None
    modality = embedded.file_task.inspection.verdict.modality
    assert modality is not None
    modalities = [segment.modality for segment in segments]
    return modality if modality in modalities or not modalities else modalities[0]


def metadata_of(embedded: EmbeddedFile) -> Metadata:
    """Return the metadata of an inspected file: declared, else measured, else embedded in it."""
    inspection = embedded.file_task.inspection
    assert inspection is not None
    measured = measured_metadata(embedded.file_task.reading.facts)
    return inspection.sidecar.metadata.merge_over(measured.merge_over(inspection.metadata))


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
        self._followers: dict[str, list[EmbeddedFile]] = {}
        self._failed: dict[str, Failed] = {}
        self._padded = 0
        self._refused: Counter[Modality] = Counter()

    def stage(self, embedded: EmbeddedFile, committer: Committer) -> Iterator[EmbeddedFile]:
        """Stage a file, or hold it back until the file that it follows is done; yield the files that were staged.

        Each file goes into the batch that is current then: between two of them the batch may be committed.
        """
        inspection, decision = embedded.file_task.inspection, embedded.file_task.decision
        assert isinstance(decision, Decision)
        fingerprint = "" if inspection is None else inspection.fingerprint
        if decision.action is Action.FOLLOW:
            if fingerprint in self._deduplicator.in_flight:
                self._followers.setdefault(fingerprint, []).append(embedded)
                return
            embedded.failure = self._failed.get(fingerprint)
        self._put(embedded, decision, committer.batch)
        yield embedded
        if decision.action in (Action.EMBED, Action.TAKE):
            self._deduplicator.in_flight.discard(fingerprint)
            if embedded.failure is not None:
                self._failed[fingerprint] = embedded.failure
            for follower in self._followers.pop(fingerprint, ()):
                yield from self.stage(follower, committer)

    def _put(self, embedded: EmbeddedFile, decision: Decision, batch: StagedBatch) -> None:
        """Stage the outcome of one file."""
        previous = decision.before
        file, inspection = embedded.file_task.file, embedded.file_task.inspection
        collection_id = self._target.collection_id
        old_item = previous.item_id if previous is not None else None
        item = None
        if embedded.failure is None and decision.action not in (Action.LEAVE_OUT, Action.TOUCH):
            try:
                item = self._item(embedded, decision)
                check_storable(item)
            except Exception as error:  # one file must not end the run
                embedded.fail(failure_of(error))
        if embedded.failure is not None:
            is_transient = embedded.failure.is_transient
            state = UNKNOWN_STATE if is_transient else file.state
            batch.failures.append(Failure(collection_id, file.rel_path, state, embedded.failure.reason))
            self._report.add_failure(self._target.root / file.rel_path, embedded.failure.reason)
            if old_item is not None and not is_transient:
                batch.removed.append(old_item)
            return
        assert inspection is not None
        if previous is not None and previous.reason is not None:
            batch.forgotten_failures.append((collection_id, file.rel_path))
        if decision.action is Action.LEAVE_OUT:
            if self._target.is_named(file.rel_path):
                self._report.notices.append(f"{self._target.root / file.rel_path} is skipped: {inspection.verdict.why}")
            if inspection.refused is not None:
                self._refused[inspection.refused] += 1
            self._left_out[file.rel_path] = inspection.verdict.why
            if old_item is not None:
                batch.removed.append(old_item)
                self._report.removed += 1
        elif decision.action is Action.TOUCH:
            assert old_item is not None
            batch.touched[old_item] = file.state
            self._report.unchanged += 1
        elif item is not None:
            batch.items.append(item)
            self._count(embedded, decision, item)

    def _item(self, embedded: EmbeddedFile, decision: Decision) -> StagedItem:
        """Return a new, changed, moved or copied item."""
        file, inspection = embedded.file_task.file, embedded.file_task.inspection
        assert inspection is not None
        found = decision.found
        segments = None if found is None else found.segments
        if decision.action is Action.EMBED:
            segments = tuple(embedded.segments)
        replaced = None if decision.before is None else decision.before.item_id
        return StagedItem(
            item_id=decision.item_id if decision.action is Action.MOVE else replaced,
            collection_id=self._target.collection_id,
            rel_path=file.rel_path,
            modality=modality_of(embedded, segments or ()),
            state=file.state,
            content_hash=inspection.content_hash,
            fingerprint=inspection.fingerprint,
            segments=segments,
            columns=inspection.columns,
            metadata=metadata_of(embedded).merge_over(NO_METADATA if found is None else facts_of(found.facts)),
        )

    def _count(self, embedded: EmbeddedFile, decision: Decision, item: StagedItem) -> None:
        """Count an item that was staged."""
        embeds = decision.action is Action.EMBED
        if embeds:
            self._padded += sum(map(self._is_padded, embedded.segments))
            self._report.segments += len(embedded.segments)
            self._report.add_notes(self._target.root / item.rel_path, embedded.file_task.reading.notes)
        self._report.items[item.modality] += 1
        if decision.found is not None:
            self._report.from_shards += 1
            self._report.moved_between += decision.found.is_gone
        if decision.action is Action.MOVE or (decision.found is not None and decision.found.is_gone):
            self._report.moved += 1
        elif item.item_id is None:
            self._report.added += 1
        elif not embeds and decision.before is not None and decision.before.state.sidecar_version < 0:
            self._report.unchanged += 1  # imported from another store, and unchanged
        else:
            self._report.changed += 1

    def _is_padded(self, segment: StagedSegment) -> bool:
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
