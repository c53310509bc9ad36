"""Schedule of a run: files to look at, and those that were looked at to decode, shared out to workers."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from bindsearch.ingest.inspect.inspect_file import InspectResult, SourceFile
from bindsearch.ingest.workers.messages import Job
from bindsearch.ingest.workers.prepare import Failed

LOOKS_AT_ONCE = 16
DECODES_AT_ONCE = 4
"""Files handed to a worker together, at most; it gets the next ones before it is through, so that it never waits."""

_ROOM_SECONDS = 0.1


@dataclass(eq=False, slots=True)
class FileTask:
    """A file on its way through the run: looked at, and decoded where that is wanted. `decision`: the caller's."""

    file: SourceFile
    look: InspectResult | None = None
    failure: Failed | None = None
    decision: Any = None


@dataclass(frozen=True, slots=True)
class Inspected:
    """Nothing is to be decoded of this file: the look decided, or failed."""

    task: FileTask


@dataclass(eq=False, slots=True)
class Task:
    """A job and how often it has been tried."""

    file_task: FileTask
    tries: int = 0

    @property
    def job(self) -> Job:
        """What a worker is told."""
        return Job(self.file_task.file, self.file_task.look)


@dataclass(eq=False)
class Schedule:
    """Schedule of a run; shared by the threads that attend to workers.

    `files` are looked at in their order, a None among them means that those before it are to be worked on first;
    `has_room` tells whether more may be asked for now; `wanted` tells which of them are decoded, of the others `answer`
    hears at once: in the order that was decided in.
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
        """The next handful; empty where there is nothing now, or with `wait` where there will be nothing more."""
        while True:
            with self.changed:
                if self.stopped:
                    return []
                if self.retries:  # alone, so that the one at fault is found
                    return self._out([self.retries.popleft()])
                if self.to_decode:  # first, so that few files are between the two
                    share = len(self.to_decode) // (2 * self.workers)
                    return self._out([self.to_decode.popleft() for _ in range(max(1, min(share, DECODES_AT_ONCE)))])
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
                self.in_flight += 1  # so that nobody takes this moment for the end
            looks = self._next_files()
            with self.changed:
                self.in_flight -= 1
                if looks:
                    return self._out([Task(FileTask(file)) for file in looks])
                self.exhausted = True
                self.changed.notify_all()

    def _next_files(self) -> list[SourceFile]:
        taken: list[SourceFile] = []
        with self.scan_lock:
            for file in self.files:
                if file is not None:
                    taken.append(file)
                if taken and (file is None or len(taken) == LOOKS_AT_ONCE):
                    break
        return taken

    def _out(self, tasks: list[Task]) -> list[Task]:
        self.in_flight += len(tasks)
        return tasks

    def looked(self, file_task: FileTask) -> None:
        """A look is done, or has failed."""
        with self.changed:
            self.in_flight -= 1
            if self.wanted(file_task):
                self.to_decode.append(Task(file_task))
            else:
                self.answer(Inspected(file_task))
            self.changed.notify_all()

    def decoded(self) -> None:
        """A file is decoded."""
        with self.changed:
            self.in_flight -= 1
            self.changed.notify_all()

    def give_back(self, tasks: list[Task], *, first: bool) -> None:
        """Tasks that a lost worker did not do; with `first`, the first of them may be what it died of."""
        with self.changed:
            self.in_flight -= len(tasks)
            for task in reversed(tasks[1:] if first else tasks):
                (self.retries if task.file_task.look is None else self.to_decode).appendleft(task)
            if first:
                self.retries.appendleft(tasks[0])
            self.changed.notify_all()

    def stop(self) -> None:
        """Nothing more is to be done. Call it again until all have noticed: whoever holds the lock may be waiting for
        the caller to take an answer."""
        self.stopped = True
        if self.changed.acquire(blocking=False):
            self.changed.notify_all()
            self.changed.release()
