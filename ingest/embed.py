"""The encoder stage: prepared segments in batches of one modality through the towers, files out as they are whole."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from bindsearch.encoders.base import Encoder
from bindsearch.environment import raise_installation_fault
from bindsearch.errors import EncoderError
from bindsearch.ingest.workers.pool import Decoded, Message, Retracted, SegmentReady
from bindsearch.ingest.workers.prepare import Failed, PreparedSegment, failure_of
from bindsearch.ingest.workers.scheduler import FileTask, Inspected
from bindsearch.storage.batch import StagedSegment
from bindsearch.storage.vector_files import check_vectors
from bindsearch.types import Modality

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

BATCH_VIEWS = 128
"""Views of one modality that make a full batch, at most."""

FIRST_BATCH_VIEWS, LEAST_BATCH_VIEWS = 16, 4
BATCH_SECONDS = 2.0
"""A batch has as many views as the tower embeds in about this time, so that with a large tower on a CPU too progress
shows, and a kill costs seconds."""

MAX_BATCH_AGE_S = 0.5
"""A part-filled batch older than this is run when nothing else comes, and MAX_BATCH_AGES of it in any case, so that a
rare modality is not held back until the end."""
MAX_BATCH_AGES = 4


@dataclass(eq=False, slots=True)
class EmbeddedFile:
    """A file that is through: its segments are all embedded, or it failed, or a look was enough."""

    task: FileTask
    segments: list[StagedSegment] = field(default_factory=list)
    failure: Failed | None = None
    _waiting: int = 0
    _decoded: bool = False
    _given_up: bool = False

    def fail(self, failure: Failed) -> None:
        """Give the file up."""
        self.failure = failure
        self.segments.clear()

    @property
    def _is_whole(self) -> bool:
        return self._decoded and not self._waiting and not self._given_up


@dataclass(slots=True)
class _Batch:
    """Prepared segments of one modality that wait for its tower; `views` is their number of views."""

    started: float = field(default_factory=time.monotonic)
    prepared: list[tuple[EmbeddedFile, PreparedSegment]] = field(default_factory=list)
    views: int = 0

    def add(self, owner: EmbeddedFile, segment: PreparedSegment) -> None:
        self.prepared.append((owner, segment))
        self.views += len(segment.views)

    def is_due(self, views: int, *, idle: bool) -> bool:
        age_s = time.monotonic() - self.started
        return self.views >= views or age_s > MAX_BATCH_AGE_S * (1 if idle else MAX_BATCH_AGES)


def embed_files(messages: Iterator[Message | None], encoder: Encoder) -> Iterator[EmbeddedFile]:
    """Embed what decoders give (see `Decoders.run`); yields each file once, as soon as it is through, in any order.

    Raises:
        EncoderError: the encoder cannot work at all.
        InstallationError: a library cannot be loaded.
    """
    owners: dict[FileTask, EmbeddedFile] = {}
    batches: dict[Modality, _Batch] = {}
    full: dict[Modality, int] = {}
    for message in messages:
        match message:
            case Inspected(file_task):
                _end_run_if_called_for(file_task)
                yield EmbeddedFile(file_task, failure=file_task.failure)
            case SegmentReady(file_task, segment):
                owner = owners.setdefault(file_task, EmbeddedFile(file_task))
                owner._waiting += 1
                batches.setdefault(segment.modality, _Batch()).add(owner, segment)
            case Retracted(file_task):
                if file_task in owners:
                    owners.pop(file_task)._given_up = True
            case Decoded(file_task):
                owner = owners.pop(file_task, EmbeddedFile(file_task))
                owner._decoded = True
                _end_run_if_called_for(file_task)
                if file_task.failure is not None:
                    owner.fail(file_task.failure)
                if owner._is_whole:
                    yield owner
        for modality in list(batches):
            if batches[modality].is_due(min(full.get(modality, FIRST_BATCH_VIEWS), BATCH_VIEWS), idle=message is None):
                yield from _run_batch(batches.pop(modality), modality, encoder, full)
    for modality in list(batches):
        yield from _run_batch(batches.pop(modality), modality, encoder, full)


def _end_run_if_called_for(file_task: FileTask) -> None:
    if file_task.failure is not None and file_task.failure.ends_run is not None:
        raise file_task.failure.ends_run(file_task.failure.reason)


def _run_batch(
    batch: _Batch, modality: Modality, encoder: Encoder, full: dict[Modality, int]
) -> Iterator[EmbeddedFile]:
    """Embed a batch, note how many views make a full one, and give the files that are whole with it."""
    started = time.monotonic()
    _embed(batch, modality, encoder)
    took_s = time.monotonic() - started
    full[modality] = max(LEAST_BATCH_VIEWS, min(BATCH_VIEWS, int(batch.views * BATCH_SECONDS / max(took_s, 1e-6))))
    for owner, _ in batch.prepared:
        owner._waiting -= 1
        if owner._is_whole:
            yield owner


def _embed(batch: _Batch, modality: Modality, encoder: Encoder) -> None:
    """Run one batch; where it fails, its segments run one by one, so that only those at fault fail their files."""
    wanted = [(owner, segment) for owner, segment in batch.prepared if owner.failure is None and not owner._given_up]
    try:
        outcomes = _encode(encoder, modality, [segment for _, segment in wanted])
    except EncoderError:
        raise
    except Exception as error:
        raise_installation_fault(error)
        outcomes = []
        for owner, segment in wanted:
            try:
                outcomes += _encode(encoder, modality, [segment])
            except Exception as error:
                outcomes.append(None)
                owner.fail(failure_of(error))
    for (owner, segment), embedding in zip(wanted, outcomes, strict=True):
        if embedding is not None and owner.failure is None:
            owner.segments.append(StagedSegment(modality, embedding, segment.start_s, segment.end_s, segment.text))


def _encode(
    encoder: Encoder, modality: Modality, segments: Sequence[PreparedSegment]
) -> list[NDArray[np.float32] | None]:
    if not segments:
        return []
    embeddings = encoder.encode(modality, [segment.views for segment in segments])
    check_vectors(embeddings, encoder.dim)
    return list(embeddings)
