"""Files that are through the run, turned into what is committed, and counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from bindsearch.encoders.base import Encoder
from bindsearch.ingest.commit import Committer
from bindsearch.ingest.dedup import Action, Decision, Deduplicator
from bindsearch.ingest.embed import EmbeddedFile
from bindsearch.ingest.scan.collection import ScanTarget
from bindsearch.ingest.workers.prepare import Failed
from bindsearch.reports import FailedFile, IndexReport
from bindsearch.storage.batch import StagedBatch, StagedItem, StagedSegment
from bindsearch.storage.catalog import Failure
from bindsearch.storage.file_state import UNKNOWN_STATE
from bindsearch.types import Modality

PADDING_SHOWN_S = 0.05
"""Less missing motion than this is a matter of rounding and not worth a word."""


class BatchCollector:
    """Stages the files of one collection."""

    def __init__(self, target: ScanTarget, decider: Deduplicator, encoder: Encoder, report: IndexReport) -> None:
        self._target = target
        self._decider = decider
        self._encoder = encoder
        self._report = report
        self._followers: dict[str, list[EmbeddedFile]] = {}
        self._failed: dict[str, Failed] = {}
        self._padded = 0
        self._refused: Counter[Modality] = Counter()

    def stage(self, embedded: EmbeddedFile, committer: Committer) -> Iterator[EmbeddedFile]:
        """Stage a file, or keep it back until the one it follows is through; the files that were staged. Each goes into
        the batch that is filling then: between two of them it may be handed over."""
        look, decision = embedded.task.look, embedded.task.decision
        assert isinstance(decision, Decision)
        fingerprint = "" if look is None else look.fingerprint
        if decision.action is Action.FOLLOW:
            if fingerprint in self._decider.in_flight:
                self._followers.setdefault(fingerprint, []).append(embedded)
                return
            embedded.failure = self._failed.get(fingerprint)
        self._put(embedded, decision, committer.batch)
        yield embedded
        if decision.action is Action.EMBED:
            self._decider.in_flight.discard(fingerprint)
            if embedded.failure is not None:
                self._failed[fingerprint] = embedded.failure
            for follower in self._followers.pop(fingerprint, ()):
                yield from self.stage(follower, committer)

    def _put(self, embedded: EmbeddedFile, decision: Decision, batch: StagedBatch) -> None:
        before = decision.before
        file, look = embedded.task.file, embedded.task.look
        collection_id = self._target.collection_id
        old_item = before.item_id if before is not None else None
        if embedded.failure is not None:
            passing = embedded.failure.is_transient
            state = UNKNOWN_STATE if passing else file.state
            batch.failures.append(Failure(collection_id, file.rel_path, state, embedded.failure.reason))
            self._report.failures.append(FailedFile(self._target.root / file.rel_path, embedded.failure.reason))
            if old_item is not None and not passing:
                batch.removed.append(old_item)
            return
        assert look is not None
        if before is not None and before.reason is not None:
            batch.forgotten_failures.append((collection_id, file.rel_path))
        if decision.action is Action.LEAVE_OUT:
            if self._target.is_named(file.rel_path):
                self._report.notices.append(f"{self._target.root / file.rel_path} is left out: {look.verdict.why}")
            if look.refused is not None:
                self._refused[look.refused] += 1
            if old_item is not None:
                batch.removed.append(old_item)
                self._report.removed += 1
        elif decision.action is Action.TOUCH:
            assert old_item is not None
            batch.touched[old_item] = file.state
            self._report.unchanged += 1
        else:
            self._put_item(embedded, decision, batch)

    def _put_item(self, embedded: EmbeddedFile, decision: Decision, batch: StagedBatch) -> None:
        file, look = embedded.task.file, embedded.task.look
        assert look is not None
        modality = look.verdict.modality
        assert modality is not None
        embeds = decision.action is Action.EMBED
        if embeds:
            held = [segment.modality for segment in embedded.segments]
            modality = modality if modality in held else held[0]  # an mp4 without a picture is a sound
            self._padded += sum(map(self._is_padded, embedded.segments))
        moved = decision.action is Action.MOVE
        replaced = None if decision.before is None else decision.before.item_id
        item_id = decision.item_id if moved else replaced
        batch.items.append(
            StagedItem(
                item_id=item_id,
                collection_id=self._target.collection_id,
                rel_path=file.rel_path,
                modality=modality,
                state=file.state,
                content_hash=look.content_hash,
                fingerprint=look.fingerprint,
                segments=tuple(embedded.segments) if embeds else None,
                columns=look.columns,
                metadata=look.metadata,
            )
        )
        self._report.items[modality] += 1
        if moved:
            self._report.moved += 1
        elif item_id is None:
            self._report.added += 1
        elif not embeds and decision.before is not None and decision.before.state.sidecar_version < 0:
            self._report.unchanged += 1  # it came from another store, and is as it was there
        else:
            self._report.changed += 1

    def _is_padded(self, segment: StagedSegment) -> bool:
        """Return whether the encoder had to pad it: motion shorter than it looks at."""
        if segment.modality is not Modality.IMU or segment.start_s is None or segment.end_s is None:
            return False
        return segment.end_s - segment.start_s < self._encoder.wants.motion_s - PADDING_SHOWN_S

    def notices(self) -> Iterator[str]:
        """Yield what a user should know of files that were indexed or left out as they should be."""
        encoder = self._encoder
        if self._refused:
            counts = ", ".join(f"{n} {modality}" for modality, n in sorted(self._refused.items()))
            yield f"left out, since the encoder {encoder.name} cannot embed them: {counts}"
        if self._padded:
            yield (
                f"motion segments shorter than the {encoder.wants.motion_s:g} s that {encoder.name} looks at: "
                f"{self._padded}, each padded with its last sample"
            )
