"""The encoder stage: embeds prepared segments in batches of one modality and yields files as they are complete."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from bindsearch.encoders.base import Encoder
from bindsearch.environment import raise_installation_fault
from bindsearch.errors import EncoderError
from bindsearch.ingest.workers.pool import Message
from bindsearch.ingest.workers.prepare import PreparedSegment, failure_of
from bindsearch.ingest.workers.scheduler import FileTask
from bindsearch.storage.vector_files import check_vectors
from bindsearch.types import Modality

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

BATCH_VIEWS = 128
"""Maximum views of one modality in a batch."""

TOKENS_PER_VIEW, MIN_TOKENS = 256, 16
"""Tokens of texts that count as one view; a shorter text counts as MIN_TOKENS."""

FIRST_BATCH_VIEWS, MIN_BATCH_VIEWS = 16, 4
BATCH_SECONDS = 2.0
"""Target duration of a batch, from which the number of its views follows.

With a large tower on a CPU too, progress is then visible, and a crash loses only seconds of work.
"""

MAX_BATCH_AGE_S = 0.5
"""Maximum age of a partial batch: it is run after this time when nothing else comes, and after MAX_BATCH_AGES times it
in any case, so that a rare modality is not delayed until the end."""
MAX_BATCH_AGES = 4


@dataclass(slots=True)
class _Batch:
    """Prepared segments of one modality that wait for its tower; `views` is their number of views."""

    started: float = field(default_factory=time.monotonic)
    prepared: list[tuple[FileTask, PreparedSegment]] = field(default_factory=list)
    views: float = 0.0


def embed_files(messages: Iterator[Message | None], encoder: Encoder) -> Iterator[FileTask | int]:
    """Embed the segments of decoders (see `Decoders.run`); yield each file once, when it is complete.

    After each batch the number of its segments is yielded, and 0 from time to time while waiting.

    Raises:
        EncoderError: the encoder does not work.
        InstallationError: a library cannot be loaded.
    """
    batches: dict[Modality, _Batch] = {}
    batch_views: dict[Modality, float] = {}
    for message in messages:
        match message:
            case FileTask() as task:
                if (failure := task.failure) is not None:
                    if failure.ends_run is not None:
                        raise failure.ends_run(failure.reason)
                    task.fail(failure)
                task.is_decoded = True
                if not task.pending:
                    yield task
            case (task, segment):
                task.pending += 1
                batch = batches.setdefault(segment.modality, _Batch())
                batch.prepared.append((task, segment))
                views = segment.payload
                is_text = segment.modality is Modality.TEXT
                batch.views += max(views.size, MIN_TOKENS) / TOKENS_PER_VIEW if is_text else len(views)
            case None:
                yield 0
        max_age_s = MAX_BATCH_AGE_S * (1 if message is None else MAX_BATCH_AGES)
        for modality, batch in list(batches.items()):
            views_due = min(batch_views.get(modality, FIRST_BATCH_VIEWS), BATCH_VIEWS)
            if batch.views >= views_due or time.monotonic() - batch.started > max_age_s:
                yield from _run_batch(batches.pop(modality), modality, encoder, batch_views)
    for modality in list(batches):
        yield from _run_batch(batches.pop(modality), modality, encoder, batch_views)


def _run_batch(
    batch: _Batch, modality: Modality, encoder: Encoder, batch_views: dict[Modality, float]
) -> Iterator[FileTask | int]:
    """Embed a batch; yield its number of segments and the complete files, and update the views of a full batch."""
    started = time.monotonic()
    _embed(batch, modality, encoder)
    took_s = time.monotonic() - started
    batch_views[modality] = max(MIN_BATCH_VIEWS, min(BATCH_VIEWS, batch.views * BATCH_SECONDS / max(took_s, 1e-6)))
    yield len(batch.prepared)
    for task, _ in batch.prepared:
        task.pending -= 1
        if task.is_decoded and not task.pending:
            yield task


def _embed(batch: _Batch, modality: Modality, encoder: Encoder) -> None:
    """Embed one batch; if it fails, embed its segments one by one, so that only the files at fault fail."""
    live = [(task, segment) for task, segment in batch.prepared if task.failure is None and not task.is_retracted]
    try:
        outcomes = _encode(encoder, modality, [segment for _, segment in live])
    except EncoderError:
        raise
    except Exception as error:
        raise_installation_fault(error)
        outcomes = []
        for task, segment in live:
            try:
                outcomes += _encode(encoder, modality, [segment])
            except Exception as error:
                outcomes.append(None)
                task.fail(failure_of(error))
    for (task, segment), embedding in zip(live, outcomes, strict=True):
        if embedding is not None and task.failure is None:
            task.segments.append(replace(segment, payload=embedding))


def _encode(
    encoder: Encoder, modality: Modality, segments: Sequence[PreparedSegment]
) -> list[NDArray[np.float32] | None]:
    """Return the embeddings of segments, float32 (dim,) each."""
    if not segments:
        return []
    embeddings = encoder.encode(modality, [segment.payload for segment in segments])
    check_vectors(embeddings, encoder.dim)
    return list(embeddings)
