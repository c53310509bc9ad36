"""Decoding in threads, embedding in batches: files in, embedded files out, in bounded memory.

Decoder threads read a file, preprocess its segments and put them on one bounded queue; the caller's thread runs the
towers over batches of one modality. So decoding never waits for a tower, and nothing piles up.
"""

from __future__ import annotations

import contextlib
import errno
import queue
import threading
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from bindsearch.encoders.base import Encoder
from bindsearch.errors import BindSearchError, EncoderError, VectorError
from bindsearch.ingest.segments import Piece
from bindsearch.ingest.sources import FoundFile
from bindsearch.ingest.staged import StagedSegment
from bindsearch.items import Modality
from bindsearch.machine import usable_cores
from bindsearch.vectors import check_vectors

if TYPE_CHECKING:
    from numpy.typing import NDArray

BATCH_VIEWS = 128
"""Views of one modality that make a full batch, at most."""

FIRST_BATCH_VIEWS, LEAST_BATCH_VIEWS = 16, 4
BATCH_SECONDS = 2.0
"""A batch has as many views as the tower embeds in about this time, so that with a large tower on a CPU too progress
shows, and a kill costs seconds."""

QUEUED_SEGMENTS = 160
"""Segments that may wait between the decoders and the towers."""

MAX_BATCH_AGE_S = 2.0
"""A part-filled batch older than this is run, so that a rare modality is not held back until the end."""


@dataclass(frozen=True, slots=True)
class Decoded:
    """What a decoder makes of a file: its outcome `facts`, and its segments as they come."""

    facts: Any
    pieces: Iterator[Piece]


@dataclass(slots=True)
class EmbeddedFile:
    """A file whose segments are all embedded, or that failed with an `error`; `facts` as the decoder gave them."""

    file: FoundFile
    facts: Any = None
    segments: list[StagedSegment] = field(default_factory=list)
    error: BaseException | None = None
    _waiting: int = 0
    _decoded: bool = False

    def fail(self, error: BaseException) -> None:
        """Give the file up."""
        self.error = error
        self.segments.clear()

    @property
    def reason(self) -> str | None:
        """Why it failed, in one line; None where it did not."""
        return None if self.error is None else printable(_reason(self.error))

    @property
    def failed_for_now(self) -> bool:
        """Whether the machine, not the file, is at fault: worth another try, and no reason to drop what is indexed."""
        causes = (self.error, self.error.__cause__) if self.error is not None else ()
        return any(
            isinstance(cause, MemoryError) or (isinstance(cause, OSError) and cause.errno in _PASSING_ERRORS)
            for cause in causes
        )


_PASSING_ERRORS = frozenset(
    getattr(errno, name)
    for name in ("EACCES", "EPERM", "EIO", "ENOENT", "EMFILE", "ENFILE", "ENOMEM", "ESTALE", "ENODEV", "EINTR")
    if hasattr(errno, name)
)


def printable(text: str) -> str:
    """`text` without lone surrogates, which can be neither stored nor printed."""
    return text.encode(errors="replace").decode()


@dataclass(frozen=True, slots=True)
class _Prepared:
    """A segment ready for its tower. It does not hold the decoded medium, which may be many times larger."""

    owner: EmbeddedFile
    views: NDArray[Any]
    modality: Modality
    start_s: float | None
    end_s: float | None
    text: str | None


@dataclass(frozen=True, slots=True)
class _Finished:
    owner: EmbeddedFile


@dataclass(slots=True)
class _Batch:
    """Prepared segments of one modality that wait for its tower; `views` is their number of views."""

    started: float = field(default_factory=time.monotonic)
    prepared: list[_Prepared] = field(default_factory=list)
    views: int = 0

    def add(self, prepared: _Prepared) -> None:
        self.prepared.append(prepared)
        self.views += len(prepared.views)

    def is_due(self, views: int) -> bool:
        return self.views >= views or time.monotonic() - self.started > MAX_BATCH_AGE_S


class _StoppedError(Exception):
    """The caller has gone; a decoder thread ends."""


def embed_files(
    files: Sequence[FoundFile], decode: Callable[[FoundFile], Decoded], encoder: Encoder
) -> Generator[EmbeddedFile]:
    """Decode and embed files; yields each once, as soon as it is whole or has failed, in no fixed order.

    `decode` is called in several threads at once. Whatever it raises fails its file and nothing else.
    """
    messages: queue.Queue[_Prepared | _Finished] = queue.Queue(QUEUED_SEGMENTS)
    stop = threading.Event()
    remaining = iter(files)
    turn = threading.Lock()
    workers = [
        threading.Thread(target=_decode_files, args=(remaining, turn, decode, encoder, messages, stop), daemon=True)
        for _ in range(min(len(files), usable_cores()))
    ]
    for worker in workers:
        worker.start()
    try:
        yield from _embed_messages(messages, len(files), encoder)
    finally:
        stop.set()
        for worker in workers:
            worker.join()


def _decode_files(
    remaining: Iterator[FoundFile],
    turn: threading.Lock,
    decode: Callable[[FoundFile], Decoded],
    encoder: Encoder,
    messages: queue.Queue[_Prepared | _Finished],
    stop: threading.Event,
) -> None:
    with contextlib.suppress(_StoppedError):
        while True:
            with turn:
                file = next(remaining, None)
            if file is None:
                return
            owner = EmbeddedFile(file)
            try:
                decoded = decode(file)
                owner.facts = decoded.facts
                for piece in decoded.pieces:
                    views = encoder.prepare(piece.media)
                    text = None if piece.text is None else printable(piece.text)
                    _put(messages, _Prepared(owner, views, piece.modality, piece.start_s, piece.end_s, text), stop)
            except _StoppedError:
                raise
            except BaseException as error:  # a library's panic too must not leave the run waiting for this thread
                owner.fail(error)
            _put(messages, _Finished(owner), stop)


def _put(messages: queue.Queue[_Prepared | _Finished], message: _Prepared | _Finished, stop: threading.Event) -> None:
    while not stop.is_set():
        with contextlib.suppress(queue.Full):
            messages.put(message, timeout=0.2)
            return
    raise _StoppedError


def _embed_messages(
    messages: queue.Queue[_Prepared | _Finished], n_files: int, encoder: Encoder
) -> Iterator[EmbeddedFile]:
    batches: dict[Modality, _Batch] = {}
    full: dict[Modality, int] = {}
    undecoded = n_files
    while undecoded or batches:
        try:
            message = messages.get(timeout=MAX_BATCH_AGE_S) if undecoded else None
        except queue.Empty:
            message = None
        if isinstance(message, _Finished):
            if isinstance(message.owner.error, EncoderError):
                raise message.owner.error
            undecoded -= 1
            message.owner._decoded = True
            if not message.owner._waiting:
                yield message.owner
        elif isinstance(message, _Prepared):
            message.owner._waiting += 1
            batches.setdefault(message.modality, _Batch()).add(message)
        for modality in list(batches):
            if not undecoded or batches[modality].is_due(min(full.get(modality, FIRST_BATCH_VIEWS), BATCH_VIEWS)):
                batch = batches.pop(modality)
                started = time.monotonic()
                embedded = _embed_batch(batch.prepared, modality, encoder)
                full[modality] = _full_batch(batch.views, time.monotonic() - started)
                yield from embedded


def _full_batch(views: int, took_s: float) -> int:
    """How many views take BATCH_SECONDS, where `views` took `took_s`."""
    return max(LEAST_BATCH_VIEWS, min(BATCH_VIEWS, int(views * BATCH_SECONDS / max(took_s, 1e-6))))


def _embed_batch(batch: list[_Prepared], modality: Modality, encoder: Encoder) -> list[EmbeddedFile]:
    """Run one batch; where it fails, its segments run one by one, so that only those at fault fail their files.

    Gives the files that are finished with it.
    """
    wanted = [prepared for prepared in batch if prepared.owner.error is None]
    try:
        outcomes = _encode(encoder, modality, wanted)
    except EncoderError:
        raise
    except Exception:
        outcomes = []
        for prepared in wanted:
            try:
                outcomes += _encode(encoder, modality, [prepared])
            except Exception as error:
                outcomes.append(None)
                prepared.owner.fail(error)
    for prepared, embedding in zip(wanted, outcomes, strict=True):
        if embedding is not None:
            segment = StagedSegment(modality, embedding, prepared.start_s, prepared.end_s, prepared.text)
            prepared.owner.segments.append(segment)
    finished = []
    for prepared in batch:
        prepared.owner._waiting -= 1
        if prepared.owner._decoded and not prepared.owner._waiting:
            finished.append(prepared.owner)
    return finished


def _encode(encoder: Encoder, modality: Modality, batch: Sequence[_Prepared]) -> list[NDArray[np.float32] | None]:
    if not batch:
        return []
    embeddings = encoder.encode(modality, [prepared.views for prepared in batch])
    check_vectors(embeddings, encoder.dim)
    return list(embeddings)


def _reason(error: BaseException) -> str:
    if isinstance(error, VectorError):
        return f"the encoder gave no usable vector for it ({error})"
    if isinstance(error, BindSearchError):
        return str(error)
    if isinstance(error, OSError):
        return error.strerror or str(error)
    return f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else 'no details'}"
