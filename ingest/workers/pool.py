"""Decoders: workers that inspect and decode files in parallel, and are replaced when they crash."""

from __future__ import annotations

import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Self

from bindsearch.device import usable_cores
from bindsearch.encoders.base import Encoder
from bindsearch.environment import check_libraries
from bindsearch.errors import BindSearchError
from bindsearch.ingest.inspect.inspect_file import InspectResult, SourceFile
from bindsearch.ingest.media.decode import required_libraries
from bindsearch.ingest.workers.messages import Done, SegmentFacts, Setup
from bindsearch.ingest.workers.prepare import Failed, PreparedSegment, printable
from bindsearch.ingest.workers.process import ProcessWorker, UnusableEncoderError, pack_encoder
from bindsearch.ingest.workers.protocol import Worker, WorkerLostError
from bindsearch.ingest.workers.scheduler import FileTask, Inspected, Schedule, Task
from bindsearch.ingest.workers.thread import ThreadWorker
from bindsearch.types import DecodeIn

QUEUED_ANSWERS = 160
"""Maximum answers, most of them prepared segments, that wait for the towers."""

STALL_SECONDS = 300.0
SLOWEST_BYTES_PER_S = 5e6
"""A worker hangs if it sends nothing for this long, plus the time to read its file at that rate.

A worker sends a message every few seconds for a long recording.
"""

_STOP_CHECK_SECONDS = 0.2

TRIES = 2


@dataclass(frozen=True, slots=True)
class SegmentReady:
    """A segment of a file."""

    file_task: FileTask
    segment: PreparedSegment


@dataclass(frozen=True, slots=True)
class Decoded:
    """All segments of a file were sent, or it failed."""

    file_task: FileTask


@dataclass(frozen=True, slots=True)
class Retracted:
    """Retraction of the segments of a file: it is decoded again."""

    file_task: FileTask


Message = Inspected | SegmentReady | Decoded | Retracted


@dataclass(frozen=True, slots=True)
class _WorkerFailure:
    """An error in a supervisor thread, to be raised by `Decoders.run`."""

    error: BaseException


class Decoders:
    """The workers of one or more runs; they start when needed and stay for the next run; close them."""

    def __init__(self, encoder: Encoder, where: DecodeIn = DecodeIn.PROCESS, workers: int | None = None) -> None:
        """Prepare workers; `workers` is their number (None: one for each usable core)."""
        self._encoder = encoder
        self._workers = workers or usable_cores()
        self._packed: bytes | None = None
        self.notice: str | None = None
        """Reason that files are decoded in this process although processes were requested; None if they are not."""
        if where is DecodeIn.PROCESS:
            try:
                self._packed = pack_encoder(encoder)
            except UnusableEncoderError as error:
                self._decode_here(error)
        self._idle: list[Worker] = []
        self._supervisors: list[_WorkerSupervisor] = []

    def check_libraries(self) -> None:
        """Load the libraries for decoding, embedding and indexing, so that none fails in the middle of a run.

        Raises:
            InstallationError: a library is missing, cannot be loaded or is incompatible with another.
        """
        check_libraries((*required_libraries(self._encoder, self._encoder.modalities), "faiss"))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End all workers."""
        while self._idle:
            self._idle.pop().close()

    def run(
        self,
        files: Iterator[SourceFile | None],
        has_room: Callable[[], bool],
        wanted: Callable[[FileTask], bool],
        setup: Setup,
    ) -> Generator[Message | None]:
        """Inspect files and decode the wanted ones; yield messages as they come, and None while waiting.

        `files`, `has_room` and `wanted` are called in other threads, each by one at a time.

        Args:
            files: see `Schedule`.
            has_room: see `Schedule`.
            wanted: returns whether to decode a file; called for failed inspections as well.
            setup: options of inspection and decoding.

        Raises:
            BindSearchError: a worker cannot be started.
            InstallationError: a library for decoding, embedding or indexing cannot be loaded; raised before the first
                message.
        """
        answers: queue.Queue[Message | _WorkerFailure | None] = queue.Queue(QUEUED_ANSWERS)
        schedule = Schedule(files, has_room, wanted, answers.put, self._workers)
        self._supervisors = [_WorkerSupervisor(self, schedule, answers, setup) for _ in range(schedule.workers)]
        supervisors = [
            threading.Thread(target=_supervise, args=(supervisor, answers), name="supervisor", daemon=True)
            for supervisor in self._supervisors
        ]
        loading = ThreadPoolExecutor(1, "libraries")  # while workers start
        loaded = loading.submit(self.check_libraries)
        for supervisor in supervisors:
            supervisor.start()
        try:
            loaded.result()
            yield from _answers(answers, len(supervisors))
        finally:
            loading.shutdown()
            for supervisor in supervisors:
                while supervisor.is_alive():  # one may be blocked by a full queue
                    schedule.stop()
                    with suppress(queue.Empty):
                        answers.get_nowait()
                    supervisor.join(0.01)

    def current(self) -> tuple[SourceFile | None, float]:
        """Return the file that a worker has been busy with for the longest time, and for how many seconds."""
        busy = [supervisor.current for supervisor in self._supervisors if supervisor.current is not None]
        if not busy:
            return None, 0.0
        started, file = min(busy, key=lambda pair: pair[0])
        return file, time.monotonic() - started

    def acquire(self) -> Worker:
        """Return an idle worker, or a new one."""
        with suppress(IndexError):
            return self._idle.pop()
        if self._packed is not None:
            try:
                return ProcessWorker(self._packed)
            except UnusableEncoderError as error:
                self._decode_here(error)
            except (WorkerLostError, OSError) as error:
                raise BindSearchError(f"cannot start a decoder process: it {error}") from error
        return ThreadWorker(self._encoder)

    def release(self, worker: Worker) -> None:
        """Keep an idle worker for the next run."""
        self._idle.append(worker)

    def _decode_here(self, error: UnusableEncoderError) -> None:
        """Decode in threads of this process from now on."""
        self._packed = None
        self.notice = (
            f"files are decoded in this process, which a damaged file might crash: the encoder {self._encoder.name} "
            f"cannot be sent to another process ({printable(str(error))})"
        )


def _answers(answers: queue.Queue[Message | _WorkerFailure | None], supervisors: int) -> Generator[Message | None]:
    """Yield messages until all supervisors have ended."""
    while supervisors:
        try:
            answer = answers.get(timeout=0.5)
        except queue.Empty:
            yield None
            continue
        if isinstance(answer, _WorkerFailure):
            raise answer.error
        if answer is None:
            supervisors -= 1
        else:
            yield answer


def _supervise(supervisor: _WorkerSupervisor, answers: queue.Queue[Message | _WorkerFailure | None]) -> None:
    """Run a supervisor; pass its error to the run."""
    try:
        supervisor.run()
    except BaseException as error:
        answers.put(_WorkerFailure(error))
    finally:
        answers.put(None)


class _WorkerSupervisor:
    """Keeps one worker busy, and replaces it when it is lost; runs in a thread of its own."""

    def __init__(
        self,
        decoders: Decoders,
        schedule: Schedule,
        answers: queue.Queue[Message | _WorkerFailure | None],
        setup: Setup,
    ) -> None:
        self._decoders = decoders
        self._schedule = schedule
        self._answers = answers
        self._setup = setup
        self._worker: Worker | None = None
        self._tasks: deque[Task] = deque()
        self._suspect = False
        self.current: tuple[float, SourceFile] | None = None
        """Start of the work on the current file, and the file."""

    def run(self) -> None:
        """Work until nothing is left to do."""
        try:
            while self._step():
                pass
        finally:
            if self._worker is not None:
                if self._tasks:
                    self._worker.close()
                else:
                    self._decoders.release(self._worker)

    def _step(self) -> bool:
        """Send tasks to the worker, or receive an answer; return False when all is done."""
        if self._schedule.stopped:
            return False
        try:
            if len(self._tasks) <= 1 and not self._suspect:
                tasks = self._schedule.take(wait=not self._tasks)
                if tasks:
                    self._send_tasks(tasks)
                elif not self._tasks:
                    return False
            self._receive()
        except WorkerLostError as error:
            self._handle_loss(str(error))
        return True

    def _receive(self) -> None:
        """Receive the worker's next answer, or stop with the run.

        Raises:
            WorkerLostError: the worker died or hangs.
        """
        assert self._worker is not None
        patience_s = STALL_SECONDS + self._tasks[0].file_task.file.state.size_bytes / SLOWEST_BYTES_PER_S
        started = time.monotonic()
        while not self._schedule.stopped:
            answer = self._worker.receive(_STOP_CHECK_SECONDS)
            if answer is not None:
                self._process_answer(*answer)
                return
            if time.monotonic() - started > patience_s:
                raise WorkerLostError(f"did not answer for {patience_s:.0f} s")

    def _send_tasks(self, tasks: list[Task]) -> None:
        """Send tasks to the worker; it is started if necessary."""
        self._tasks.extend(tasks)
        self._suspect = any(task.tries for task in tasks)
        if self._worker is None:
            self._worker = self._decoders.acquire()
            self._worker.send(self._setup)
        self._worker.send([task.job for task in tasks])
        if self.current is None:
            self._begin_next()

    def _begin_next(self) -> None:
        """Record which file the worker is busy with now."""
        self.current = (time.monotonic(), self._tasks[0].file_task.file) if self._tasks else None

    def _process_answer(self, message: object, views: object) -> None:
        """Pass an answer of the worker on."""
        task = self._tasks[0]
        file_task = task.file_task
        match message:
            case SegmentFacts(modality, start_s, end_s, text):
                self._answers.put(SegmentReady(file_task, PreparedSegment(views, modality, start_s, end_s, text)))  # type: ignore[arg-type]
                return
            case InspectResult():
                file_task.inspection = message
                self._schedule.inspected(file_task)
            case Done(reading):
                file_task.reading = reading
                self._decoded(file_task)
            case Failed():
                self._failed(file_task, message)
            case _:
                raise AssertionError(message)
        self._tasks.popleft()
        self._suspect = False
        self._begin_next()

    def _failed(self, file_task: FileTask, failure: Failed) -> None:
        file_task.failure = failure
        if file_task.inspection is None:
            self._schedule.inspected(file_task)
        else:
            self._decoded(file_task)

    def _decoded(self, file_task: FileTask) -> None:
        self._answers.put(Decoded(file_task))
        self._schedule.decoded()

    def _handle_loss(self, reason: str) -> None:
        """Replace the lost worker: the first file without an answer is tried once more, alone."""
        assert self._worker is not None
        self._worker.close()
        self._worker = None
        self._suspect = False
        tasks = list(self._tasks)
        self._tasks.clear()
        self._begin_next()
        if not tasks:
            return
        first = tasks[0]
        first.tries += 1
        if first.tries >= TRIES:
            self._failed(first.file_task, Failed(f"its decoder {reason}, also on a second try"))
            self._schedule.give_back(tasks[1:], first=False)
            return
        if first.file_task.inspection is not None:
            self._answers.put(Retracted(first.file_task))
            first.file_task = replace(first.file_task)
        self._schedule.give_back(tasks, first=True)
