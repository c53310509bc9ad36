"""Schedule of a run: distributes files to inspect, and inspected files to decode, to workers."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from bindsearch.ingest.inspect.inspect_file import InspectResult, SourceFile
from bindsearch.ingest.workers.messages import Job
from bindsearch.ingest.workers.prepare import Failed
from bindsearch.media import NO_READING, Reading

INSPECTIONS_AT_ONCE = 16
DECODES_AT_ONCE = 4
"""Maximum files sent to a worker together; it gets the next ones before it is done, so that it never waits."""

_ROOM_SECONDS = 0.1


@dataclass(eq=False, slots=True)
class FileTask:
    """A file in the run: inspected, and decoded if wanted.

    Attributes:
        file: the file.
        inspection: result of its inspection; None: not inspected yet, or its inspection failed.
        failure: its failure, if any.
        reading: what its decoder found out.
        decision: set by the caller.
    """

    file: SourceFile
    inspection: InspectResult | None = None
    failure: Failed | None = None
    reading: Reading = NO_READING
    decision: Any = None


@dataclass(frozen=True, slots=True)
class Inspected:
    """The file is not decoded: its inspection sufficed, or failed."""

    file_task: FileTask


@dataclass(eq=False, slots=True)
class Task:
    """A job and the number of failed tries."""

    file_task: FileTask
    tries: int = 0

    @property
    def job(self) -> Job:
        """The job as it is sent to a worker."""
        return Job(self.file_task.file, self.file_task.inspection)


@dataclass(eq=False)
class Schedule:
    """Schedule of a run; shared by the supervisor threads of the workers.

    Attributes:
        files: inspected in this order; those before a None are not sent to a worker together with those after it.
        has_room: returns whether more files may be requested now; without room only when none is in flight.
        wanted: returns whether to decode an inspected file.
        answer: called at once for files that are not decoded, in the order of the decisions.
        workers: number of workers.
        to_decode: tasks to decode.
        retries: tasks to try again, alone.
        in_flight: tasks that workers have, and threads that are requesting files.
        exhausted: all files were requested.
        stopped: the run has ended.
        changed: guards the state, and is notified of changes.
        scan_lock: guards `files`.
    """

    files: Iterator[SourceFile | None]
    has_room: Callable[[], bool]
    wanted: Callable[[FileTask], bool]
    answer: Callable[[Inspected], None]
    workers: int
    to_decode: deque[Task] = field(default_factory=deque)
    retries: deque[Task] = field(default_factory=deque)
    in_flight: int = 0
    exhausted: bool = False
    stopped: bool = False
    changed: threading.Condition = field(default_factory=threading.Condition)
    scan_lock: threading.Lock = field(default_factory=threading.Lock)

    def take(self, *, wait: bool) -> list[Task]:
        """Return the next tasks; none if there are none now, or with `wait` if there will be no more."""
        while True:
            with self.changed:
                if self.stopped:
                    return []
                if self.retries:  # alone, to find the file at fault
                    return self._check_out([self.retries.popleft()])
                if self.to_decode:  # first, so that few files wait between inspection and decoding
                    share = len(self.to_decode) // (2 * self.workers)
                    return self._check_out(
                        [self.to_decode.popleft() for _ in range(max(1, min(share, DECODES_AT_ONCE)))]
                    )
                if self.exhausted:
                    if not wait or not self.in_flight:
                        return []
                    self.changed.wait()
                    continue
                if self.in_flight and not self.has_room():
                    if not wait:
                        return []
                    self.changed.wait(_ROOM_SECONDS)
                    continue
                self.in_flight += 1  # so that no other thread sees this moment as the end
            files = self._next_files()
            with self.changed:
                self.in_flight -= 1
                if files is None:
                    self.changed.notify_all()
                    continue
                if files:
                    return self._check_out([Task(FileTask(file)) for file in files])
                self.exhausted = True
                self.changed.notify_all()

    def _next_files(self) -> list[SourceFile] | None:
        """Return the next files to inspect, none at the end; None if there is no room now."""
        files: list[SourceFile] = []
        with self.scan_lock:
            if self._is_full():  # since this thread waited for the lock
                return None
            for file in self.files:
                if file is not None:
                    files.append(file)
                elif not files and self._is_full():
                    return None
                if files and (file is None or len(files) == INSPECTIONS_AT_ONCE):
                    break
        return files

    def _is_full(self) -> bool:
        """Return whether there is no room for a thread that requests files: not while it is the only one at work."""
        return self.in_flight > 1 and not self.has_room()

    def _check_out(self, tasks: list[Task]) -> list[Task]:
        """Count tasks as in flight."""
        self.in_flight += len(tasks)
        return tasks

    def inspected(self, file_task: FileTask) -> None:
        """Record that a file was inspected, or that its inspection failed."""
        with self.changed:
            self.in_flight -= 1
            if self.wanted(file_task):
                self.to_decode.append(Task(file_task))
            else:
                self.answer(Inspected(file_task))
            self.changed.notify_all()

    def decoded(self) -> None:
        """Record that a file was decoded."""
        with self.changed:
            self.in_flight -= 1
            self.changed.notify_all()

    def give_back(self, tasks: list[Task], *, first: bool) -> None:
        """Put back tasks that a lost worker did not do; with `first`, the first of them may be the cause."""
        with self.changed:
            self.in_flight -= len(tasks)
            for task in reversed(tasks[1:] if first else tasks):
                (self.retries if task.file_task.inspection is None else self.to_decode).appendleft(task)
            if first:
                self.retries.appendleft(tasks[0])
            self.changed.notify_all()

    def stop(self) -> None:
        """End the schedule.

        Call it again until all threads have noticed: one that has the lock may wait for the caller to take an answer.
        """
        self.stopped = True
        if self.changed.acquire(blocking=False):
            self.changed.notify_all()
            self.changed.release()
