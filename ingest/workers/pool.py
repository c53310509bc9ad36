"""Decoders: workers that inspect and decode files in parallel, and are replaced when they crash."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from typing import Self, TypeAlias

from bindsearch.device import usable_cores
from bindsearch.encoders.base import Encoder
from bindsearch.environment import check_libraries
from bindsearch.errors import BindSearchError
from bindsearch.ingest.inspect.inspect_file import InspectOptions, InspectResult, SourceFile
from bindsearch.ingest.media.decode import required_libraries
from bindsearch.ingest.workers.prepare import Failed, PreparedSegment, printable
from bindsearch.ingest.workers.process import ProcessWorker, UnusableEncoderError, pack_encoder
from bindsearch.ingest.workers.protocol import Job, Worker, WorkerLostError
from bindsearch.ingest.workers.scheduler import FileTask, Schedule
from bindsearch.ingest.workers.thread import ThreadWorker
from bindsearch.media import Reading, SegmentOf
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

Message: TypeAlias = "FileTask | tuple[FileTask, PreparedSegment]"
"""A file that is done as far as workers are concerned, or one of its prepared segments."""

_Answers: TypeAlias = "queue.Queue[Message | BaseException | None]"
"""Messages; the last one of each supervisor is the error that ended it, or None."""


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
        options: InspectOptions,
    ) -> Generator[Message | None]:
        """Inspect files and decode the wanted ones; yield messages as they come, and None while waiting.

        `files`, `has_room` and `wanted` are called in other threads, each by one at a time.

        Args:
            files: see `Schedule`.
            has_room: see `Schedule`.
            wanted: returns whether to decode a file; called for failed inspections as well.
            options: options of inspection and decoding.

        Raises:
            BindSearchError: a worker cannot be started.
            InstallationError: a library for decoding, embedding or indexing cannot be loaded; raised before the first
                message.
        """
        answers: _Answers = queue.Queue(QUEUED_ANSWERS)
        schedule = Schedule(files, has_room, wanted, answers.put)
        self._supervisors = [_WorkerSupervisor(self, schedule, answers, options) for _ in range(self._workers)]
        threads = [threading.Thread(target=one.run, name="supervisor", daemon=True) for one in self._supervisors]
        loading = ThreadPoolExecutor(1, "libraries")  # while workers start
        loaded = loading.submit(self.check_libraries)
        for thread in threads:
            thread.start()
        try:
            loaded.result()
            running = len(threads)
            while running:
                try:
                    answer = answers.get(timeout=0.5)
                except queue.Empty:
                    yield None
                    continue
                if isinstance(answer, BaseException):
                    raise answer
                if answer is None:
                    running -= 1
                else:
                    yield answer
        finally:
            loading.shutdown()
            for thread in threads:
                while thread.is_alive():  # one may be blocked by a full queue
                    schedule.stop()
                    with suppress(queue.Empty):
                        answers.get_nowait()
                    thread.join(0.01)

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


class _WorkerSupervisor:
    """Keeps one worker busy, and replaces it when it is lost; runs in a thread of its own."""

    def __init__(self, decoders: Decoders, schedule: Schedule, answers: _Answers, options: InspectOptions) -> None:
        self._decoders = decoders
        self._schedule = schedule
        self._answers = answers
        self._options = options
        self._worker: Worker | None = None
        self._tasks: dict[int, FileTask] = {}
        self._sent = 0
        self.current: tuple[float, SourceFile] | None = None
        """Start of the work on the current file, and the file."""

    def run(self) -> None:
        """Work until nothing is left to do; pass an error to the run."""
        ended: BaseException | None = None
        try:
            while self._step():
                pass
        except BaseException as error:
            ended = error
        if self._worker is not None:
            if self._tasks:
                self._worker.close()
            else:
                self._decoders.release(self._worker)
        self._answers.put(ended)

    def _step(self) -> bool:
        """Send tasks to the worker, or receive an answer; return False when all is done."""
        if self._schedule.stopped:
            return False
        try:
            if len(self._tasks) <= 1 and not any(task.tries for task in self._tasks.values()):
                tasks = self._schedule.take(wait=not self._tasks)
                if tasks:
                    self._send_tasks(tasks)
                elif not self._tasks:
                    return False
            self._receive()
        except WorkerLostError as error:
            self._handle_loss(str(error))
        return True

    def _send_tasks(self, tasks: list[FileTask]) -> None:
        """Send tasks to the worker; it is started if necessary."""
        jobs: list[Job] = []
        for task in tasks:
            self._sent += 1
            self._tasks[self._sent] = task
            jobs.append((self._sent, task.file, task.inspection))
        if self._worker is None:
            self._worker = self._decoders.acquire()
            self._worker.send(self._options)
        self._worker.send(jobs)
        if self.current is None:
            self._begin_next()

    def _begin_next(self) -> None:
        """Record which file the worker is busy with now."""
        task = next(iter(self._tasks.values()), None)
        self.current = None if task is None else (time.monotonic(), task.file)

    def _receive(self) -> None:
        """Receive the worker's next answer, or stop with the run; raise WorkerLostError if it died or hangs."""
        assert self._worker is not None
        size_bytes = max(task.file.state.size_bytes for task in self._tasks.values())
        patience_s = STALL_SECONDS + size_bytes / SLOWEST_BYTES_PER_S
        started = time.monotonic()
        while not self._schedule.stopped:
            answer = self._worker.receive(_STOP_CHECK_SECONDS)
            if answer is not None:
                self._process_answer(*answer)
                return
            if time.monotonic() - started > patience_s:
                raise WorkerLostError(f"did not answer for {patience_s:.0f} s")

    def _process_answer(self, number: int, message: object) -> None:
        """Pass an answer of the worker on."""
        task = self._tasks[number]
        match message:
            case SegmentOf():
                self._answers.put((task, message))
                return
            case InspectResult():
                task.inspection = message
                assert self._worker is not None
                is_wanted = self._schedule.decide(task)
                if not is_wanted:
                    self._done(number)
                self._worker.send((number, is_wanted))
                return
            case Reading():
                task.reading = message
            case Failed():
                task.failure = message
            case _:
                raise AssertionError(message)
        self._done(number)
        self._finish(task)

    def _done(self, number: int) -> None:
        """Record that the worker has no more work with a file."""
        del self._tasks[number]
        self._begin_next()

    def _finish(self, task: FileTask) -> None:
        """Pass on a file that was decoded, or that failed."""
        if task.inspection is None:
            self._schedule.decide(task)
        else:
            self._answers.put(task)
            self._schedule.decoded()

    def _handle_loss(self, reason: str) -> None:
        """Replace the lost worker: the file that it was busy with is tried once more, alone."""
        assert self._worker is not None
        current = self._worker.current()
        self._worker.close()
        self._worker = None
        tasks, self._tasks = self._tasks, {}
        self._begin_next()
        if not tasks:
            return
        task = tasks.pop(current if current in tasks else next(iter(tasks)))
        task.tries += 1
        if task.tries >= TRIES:
            task.failure = Failed(f"its decoder {reason}, also on a second try")
            self._finish(task)
            self._schedule.give_back([*tasks.values()])
            return
        if task.inspection is not None:
            task.is_retracted = True
            task = replace(task, segments=[], pending=0, is_retracted=False)
        self._schedule.give_back([task, *tasks.values()])
