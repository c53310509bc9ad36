"""The commit stage: commits batches of processed files in a thread of its own while the next one fills."""

from __future__ import annotations

import time
from concurrent.futures import Future, ThreadPoolExecutor

from bindsearch.storage.batch import StagedBatch
from bindsearch.storage.writer import Writer

COMMIT_SEGMENTS = 2048
COMMIT_FILES = 4096
COMMIT_SECONDS = 2.0
"""A batch is committed when it reaches one of these limits: they bound what a crash can lose."""


class Committer:
    """Commits batches one at a time; staged files are committed when the block ends, also if it is interrupted."""

    def __init__(self, writer: Writer) -> None:
        self.batch = StagedBatch()
        """Batch of the next commit."""
        self._writer = writer
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="commit")
        self._pending: Future[None] | None = None
        self._staged_files = 0
        self._staged_segments = 0
        self._last: float | None = None

    def __enter__(self) -> Committer:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        try:
            if kind is None or kind is KeyboardInterrupt:
                self._commit()
            self._wait()
        finally:
            self._thread.shutdown()

    def commit_if_due(self, new_segments: int) -> None:
        """Count the segments of one more file, and commit the batch if it reached a limit."""
        self._staged_files += 1
        self._staged_segments += new_segments
        if self._last is None:  # the start of workers and libraries does not count
            self._last = time.monotonic()
        is_old = time.monotonic() - self._last > COMMIT_SECONDS
        if is_old or self._staged_files >= COMMIT_FILES or self._staged_segments >= COMMIT_SEGMENTS:
            self._commit()

    def _commit(self) -> None:
        self._wait()
        self._last = time.monotonic()
        self._staged_files = self._staged_segments = 0
        if self.batch.is_empty:
            return
        batch, self.batch = self.batch, StagedBatch()
        self._pending = self._thread.submit(self._writer.commit, batch)

    def _wait(self) -> None:
        if self._pending is not None:
            self._pending.result()
            self._pending = None
