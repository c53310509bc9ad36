"""Decoders: workers that look at files and decode them side by side, kept busy, and replaced when they crash."""

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
"""Answers, most of them prepared segments, that may wait for the towers."""

STALL_SECONDS = 300.0
SLOWEST_BYTES_PER_S = 5e6
"""A worker that says nothing for so long, and as long as it takes to read its file at that rate, hangs. A long
recording says something every few seconds."""

_LOOK_UP_SECONDS = 0.2

TRIES = 2


@dataclass(frozen=True, slots=True)
class SegmentReady:
    """A segment of a file."""

    task: FileTask
    segment: PreparedSegment


@dataclass(frozen=True, slots=True)
class Decoded:
    """All segments of a file have been given, or it failed."""

    task: FileTask


@dataclass(frozen=True, slots=True)
class Retracted:
    """Retraction of what has been given of a file: it is decoded again."""

    task: FileTask


Message = Inspected | SegmentReady | Decoded | Retracted


@dataclass(frozen=True, slots=True)
class _WorkerFailure:
    error: BaseException


class Decoders:
    """The workers of one or more runs. They start when there is work and stay for the next run; close them."""

    def __init__(self, encoder: Encoder, where: DecodeIn = DecodeIn.PROCESS) -> None:
        self._encoder = encoder
        self._packed: bytes | None = None
        self.notice: str | None = None
        """Reason that files are decoded in this process although processes were asked for; None where they are not."""
        if where is DecodeIn.PROCESS:
            try:
                self._packed = pack_encoder(encoder)
            except UnusableEncoderError as error:
                self._decode_here(error)
        self._idle: list[Worker] = []

    def check_libraries(self) -> None:
        """Load the libraries that decoding, embedding and indexing need, so that none fails in the middle of a run.

        Raises:
            InstallationError: one of them is missing, cannot be loaded or does not fit another.
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
        """Look at files and decode those that are `wanted`; what is known of each, as it comes, None now and then.

        `files` (see `Schedule`), `has_room` and `wanted` are asked in other threads, each by one at a time; `wanted`
        hears of failed looks as well.

        Raises:
            BindSearchError: workers cannot be started.
            InstallationError: a library that decoding, embedding or indexing needs cannot be loaded; raised before
                anything is given.
        """
        answers: queue.Queue[Message | _WorkerFailure | None] = queue.Queue(QUEUED_ANSWERS)
        schedule = Schedule(files, has_room, wanted, answers.put, usable_cores())
        attendants = [
            threading.Thread(target=self._attend, args=(schedule, answers, setup), name="attendant", daemon=True)
            for _ in range(schedule.workers)
        ]
        loading = ThreadPoolExecutor(1, "libraries")  # while workers start
        loaded = loading.submit(self.check_libraries)
        for attendant in attendants:
            attendant.start()
        try:
            loaded.result()
            yield from _answers(answers, len(attendants))
        finally:
            loading.shutdown()
            for attendant in attendants:
                while attendant.is_alive():  # one may be about to put what nobody wants any more
                    schedule.stop()
                    with suppress(queue.Empty):
                        answers.get_nowait()
                    attendant.join(0.01)

    def _attend(self, schedule: Schedule, answers: queue.Queue[Message | _WorkerFailure | None], setup: Setup) -> None:
        try:
            _WorkerSupervisor(self, schedule, answers, setup).run()
        except BaseException as error:
            answers.put(_WorkerFailure(error))
        finally:
            answers.put(None)

    def acquire(self) -> Worker:
        """A worker that is idle, or a new one."""
        with suppress(IndexError):
            return self._idle.pop()
        if self._packed is not None:
            try:
                return ProcessWorker(self._packed)
            except UnusableEncoderError as error:
                self._decode_here(error)
            except (WorkerLostError, OSError) as error:
                raise BindSearchError(f"a decoder process cannot be started: it {error}") from error
        return ThreadWorker(self._encoder)

    def release(self, worker: Worker) -> None:
        """Keep a worker that has nothing to do for the next run."""
        self._idle.append(worker)

    def _decode_here(self, error: UnusableEncoderError) -> None:
        self._packed = None
        self.notice = (
            f"files are decoded in this process, which a damaged one might crash: the encoder {self._encoder.name} "
            f"cannot be sent to others ({printable(str(error))})"
        )


def _answers(answers: queue.Queue[Message | _WorkerFailure | None], attendants: int) -> Generator[Message | None]:
    while attendants:
        try:
            answer = answers.get(timeout=0.5)
        except queue.Empty:
            yield None
            continue
        if isinstance(answer, _WorkerFailure):
            raise answer.error
        if answer is None:
            attendants -= 1
        else:
            yield answer


class _WorkerSupervisor:
    """Keeps one worker busy, and another one in its place when it is lost. Runs in a thread of its own."""

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

    def run(self) -> None:
        """Work until there is nothing left to do."""
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
        """Give the worker more, or hear what it has to say; False where all is done."""
        if self._schedule.stopped:
            return False
        try:
            if len(self._tasks) <= 1 and not self._suspect:
                tasks = self._schedule.take(wait=not self._tasks)
                if tasks:
                    self._give(tasks)
                elif not self._tasks:
                    return False
            self._listen()
        except WorkerLostError as error:
            self._lost(str(error))
        return True

    def _listen(self) -> None:
        """Hear the worker's next answer, or give up with the run.

        Raises:
            WorkerLostError: it is gone, or hangs.
        """
        assert self._worker is not None
        patience_s = STALL_SECONDS + self._tasks[0].file_task.file.state.size_bytes / SLOWEST_BYTES_PER_S
        started = time.monotonic()
        while not self._schedule.stopped:
            answer = self._worker.receive(_LOOK_UP_SECONDS)
            if answer is not None:
                self._hear(*answer)
                return
            if time.monotonic() - started > patience_s:
                raise WorkerLostError(f"gave no sign of life for {patience_s:.0f} s")

    def _give(self, tasks: list[Task]) -> None:
        self._tasks.extend(tasks)
        self._suspect = any(task.tries for task in tasks)
        if self._worker is None:
            self._worker = self._decoders.acquire()
            self._worker.send(self._setup)
        self._worker.send([task.job for task in tasks])

    def _hear(self, message: object, views: object) -> None:
        task = self._tasks[0]
        file_task = task.file_task
        match message:
            case SegmentFacts(modality, start_s, end_s, text):
                self._answers.put(SegmentReady(file_task, PreparedSegment(views, modality, start_s, end_s, text)))  # type: ignore[arg-type]
                return
            case InspectResult():
                file_task.look = message
                self._schedule.looked(file_task)
            case Done():
                self._decoded(file_task)
            case Failed():
                self._failed(file_task, message)
            case _:
                raise AssertionError(message)
        self._tasks.popleft()
        self._suspect = False

    def _failed(self, file_task: FileTask, failure: Failed) -> None:
        file_task.failure = failure
        if file_task.look is None:
            self._schedule.looked(file_task)
        else:
            self._decoded(file_task)

    def _decoded(self, file_task: FileTask) -> None:
        self._answers.put(Decoded(file_task))
        self._schedule.decoded()

    def _lost(self, how: str) -> None:
        """Find who it was: the first file that it has not answered for. That one gets another try, alone."""
        assert self._worker is not None
        self._worker.close()
        self._worker = None
        self._suspect = False
        tasks = list(self._tasks)
        self._tasks.clear()
        if not tasks:
            return
        first = tasks[0]
        first.tries += 1
        if first.tries >= TRIES:
            self._failed(first.file_task, Failed(f"its decoder {how}, and again when it was tried once more"))
            self._schedule.give_back(tasks[1:], first=False)
            return
        if first.file_task.look is not None:
            self._answers.put(Retracted(first.file_task))
            first.file_task = replace(first.file_task)
        self._schedule.give_back(tasks, first=True)
