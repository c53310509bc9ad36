"""Schedule of a run: distributes files to workers, which inspect and, if wanted, decode them."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING

from bindsearch.ingest.inspect.inspect_file import InspectResult, SourceFile
from bindsearch.ingest.workers.prepare import Failed
from bindsearch.media import NO_READING, Reading
from bindsearch.storage.batch import Embedded
from bindsearch.storage.file_state import IndexedFile

if TYPE_CHECKING:
    from bindsearch.ingest.scan.target import FoundVectors

FILES_AT_ONCE, BYTES_AT_ONCE = 16, 1 << 20
"""Files sent to a worker together, and their size above which no further one is added.

A worker gets the next ones before it is done, so that it never waits; large files are distributed one by one.
"""

_ROOM_SECONDS = 0.1


class Action(Enum):
    """Action on an inspected file.

    TOUCH: the file is unchanged. SHARE: an item with equal content has its vectors. MOVE: that item was this file, at
    another path. FOLLOW: a file with equal content is being embedded. TAKE: another store has its vectors.
    """

    LEAVE_OUT = "leave out"
    TOUCH = "touch"
    SHARE = "share"
    MOVE = "move"
    FOLLOW = "follow"
    EMBED = "embed"
    TAKE = "take"


@dataclass(eq=False, slots=True)
class FileTask:
    """A file in the run: inspected, and decoded and embedded if wanted.

    Attributes:
        file: the file.
        inspection: result of its inspection; None: not inspected yet, or its inspection failed.
        action: what is done with it.
        before: the indexed file at its path; None: it is new.
        moved_id: the item of MOVE.
        found: the vectors of TAKE.
        failure: its failure, if any.
        reading: what its decoder found out.
        segments: its embedded segments.
        pending: number of its segments that are not embedded yet.
        is_decoded: all its segments are sent, or it is not decoded.
        is_retracted: its worker was lost; another task with its file replaces it.
        tries: number of workers lost with it.
    """

    file: SourceFile
    inspection: InspectResult | None = None
    action: Action = Action.LEAVE_OUT
    before: IndexedFile | None = None
    moved_id: int | None = None
    found: FoundVectors | None = None
    failure: Failed | None = None
    reading: Reading = NO_READING
    segments: list[Embedded] = field(default_factory=list)
    pending: int = 0
    is_decoded: bool = False
    is_retracted: bool = False
    tries: int = 0

    def fail(self, failure: Failed) -> None:
        """Record a failure and drop the segments."""
        self.failure = failure
        self.segments.clear()


@dataclass(eq=False)
class Schedule:
    """Schedule of a run; shared by the supervisor threads of the workers.

    Attributes:
        files: given out in this order; those before a None are not sent to a worker together with those after it.
        has_room: returns whether more files may be requested now; without room only when none is in flight.
        wanted: returns whether to decode an inspected file.
        answer: called at once for files that are not decoded, in the order of the decisions.
        returned: tasks of lost workers, given out one by one to find the file at fault.
        in_flight: tasks that workers have, and threads that are requesting files.
        exhausted: all files were requested.
        stopped: the run has ended.
        changed: guards the state, and is notified of changes.
        scan_lock: guards `files`.
    """

    files: Iterator[SourceFile | None]
    has_room: Callable[[], bool]
    wanted: Callable[[FileTask], bool]
    answer: Callable[[FileTask], None]
    returned: deque[FileTask] = field(default_factory=deque)
    in_flight: int = 0
    exhausted: bool = False
    stopped: bool = False
    changed: threading.Condition = field(default_factory=threading.Condition)
    scan_lock: threading.Lock = field(default_factory=threading.Lock)

    def take(self, *, wait: bool) -> list[FileTask]:
        """Return the next tasks; none if there are none now, or with `wait` if there will be no more."""
        while True:
            with self.changed:
                if self.stopped:
                    return []
                if self.returned:
                    self.in_flight += 1
                    return [self.returned.popleft()]
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
                if files:
                    self.in_flight += len(files)
                    return [FileTask(file) for file in files]
                self.exhausted |= files is not None
                self.changed.notify_all()

    def _next_files(self) -> list[SourceFile] | None:
        """Return the next files, none at the end; None if there is no room now."""
        files: list[SourceFile] = []
        size_bytes = 0
        with self.scan_lock:
            if self._is_full():  # since this thread waited for the lock
                return None
            for file in self.files:
                if file is not None:
                    files.append(file)
                    size_bytes += file.state.size_bytes
                elif not files and self._is_full():
                    return None
                if files and (file is None or len(files) == FILES_AT_ONCE or size_bytes > BYTES_AT_ONCE):
                    break
        return files

    def _is_full(self) -> bool:
        """Return whether there is no room for a thread that requests files: not while it is the only one at work."""
        return self.in_flight > 1 and not self.has_room()

    def decide(self, task: FileTask) -> bool:
        """Return whether to decode a file that was inspected, or whose inspection failed; else it is done."""
        with self.changed:
            wanted = self.wanted(task)
            if not wanted:
                self.in_flight -= 1
                self.answer(task)
                self.changed.notify_all()
            return wanted

    def decoded(self) -> None:
        """Record that a file was decoded."""
        with self.changed:
            self.in_flight -= 1
            self.changed.notify_all()

    def give_back(self, tasks: list[FileTask]) -> None:
        """Put back tasks that a lost worker did not do, the first one first."""
        with self.changed:
            self.in_flight -= len(tasks)
            self.returned.extendleft(reversed(tasks))
            self.changed.notify_all()

    def stop(self) -> None:
        """End the schedule.

        Call it again until all threads have noticed: one that has the lock may wait for the caller to take an answer.
        """
        self.stopped = True
        if self.changed.acquire(blocking=False):
            self.changed.notify_all()
            self.changed.release()
