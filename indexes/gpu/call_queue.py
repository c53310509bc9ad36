"""CallQueue: serializes calls that only one thread may make at a time; waiting calls are joined into one."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from bindsearch.indexes.types import SearchResult

if TYPE_CHECKING:
    from numpy.typing import NDArray

QUEUE_QUERIES = 1024
"""Maximum number of queries of several callers that are joined into one call."""

Job = Callable[["NDArray[np.float32]"], SearchResult]
"""Searches for queries float32 (nq, d). Equal jobs may be joined, so a job defines when it equals another."""


@dataclass(eq=False)
class _Request:
    """Queries of one caller that wait for their turn, and their result or error."""

    job: Job
    queries: NDArray[np.float32]
    result: SearchResult | None = None
    error: BaseException | None = None

    @property
    def done(self) -> bool:
        return self.result is not None or self.error is not None


class CallQueue:
    """Runs one call at a time; calls that wait are joined.

    A caller that finds the queue free runs its job, together with the waiting requests whose jobs are equal. Under
    load the calls become larger, and an idle queue adds no delay.
    """

    def __init__(self, most: int = QUEUE_QUERIES) -> None:
        """Join up to `most` queries; a single request may have more."""
        self._most = most
        self._changed = threading.Condition()
        self._waiting: list[_Request] = []
        self._busy = False

    def run(self, job: Job, queries: NDArray[np.float32]) -> SearchResult:
        """Return the result of `job` for queries float32 (nq, d); errors of the joined call are raised here."""
        request = _Request(job, queries)
        with self._changed:
            self._waiting.append(request)
            self._changed.wait_for(lambda: request.done or not self._busy)
            batch = [] if request.done else self._take(request)
        if batch:
            self._serve(batch)
        if request.error is not None:
            raise request.error
        assert request.result is not None
        return request.result

    def _take(self, first: _Request) -> list[_Request]:
        """Remove and return the requests with the job of `first`, which comes first; mark the queue busy."""
        self._busy = True
        batch, remaining, count = [first], [], len(first.queries)
        for request in self._waiting:
            if request is first:
                continue
            if request.job == first.job and count + len(request.queries) <= self._most:
                batch.append(request)
                count += len(request.queries)
            else:
                remaining.append(request)
        self._waiting = remaining
        return batch

    def _serve(self, batch: Sequence[_Request]) -> None:
        error: BaseException | None = None
        answers: list[SearchResult] = []
        try:
            answers = _run_joined(batch)
        except BaseException as raised:  # passed to every caller; without it they would wait forever
            error = raised
        with self._changed:
            for number, request in enumerate(batch):
                request.result, request.error = (answers[number], None) if error is None else (None, error)
            self._busy = False
            self._changed.notify_all()


def _run_joined(batch: Sequence[_Request]) -> list[SearchResult]:
    """Run the job of some requests once, for the queries of all; return the result of each."""
    if len(batch) == 1:
        return [batch[0].job(batch[0].queries)]
    result = batch[0].job(np.concatenate([request.queries for request in batch]))
    edges = np.cumsum([len(request.queries) for request in batch])[:-1]
    return [SearchResult(*parts) for parts in zip(*(np.split(part, edges) for part in result), strict=True)]
