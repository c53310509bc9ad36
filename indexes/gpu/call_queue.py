"""CallQueue: calls of something that only one thread may use at a time; those that wait are joined to one call."""

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
"""Queries of several callers that are joined to one call, at most."""

Job = Callable[["NDArray[np.float32]"], SearchResult]
"""Searches for queries (nq, d). Equal ones may be joined, so it is hashable or at least tells who equals it."""


@dataclass(eq=False)
class _Request:
    """Queries of one caller that wait for their turn, and what became of them."""

    job: Job
    queries: NDArray[np.float32]
    found: SearchResult | None = None
    error: BaseException | None = None

    @property
    def done(self) -> bool:
        return self.found is not None or self.error is not None


class CallQueue:
    """Runs one call at a time. Whoever finds it free runs his job, and those of waiting callers that equal it in the
    same call: under load calls grow by themselves, and an idle queue keeps nobody waiting."""

    def __init__(self, most: int = QUEUE_QUERIES) -> None:
        """`most`: queries that are joined; more than that at once come from one caller only."""
        self._most = most
        self._changed = threading.Condition()
        self._waiting: list[_Request] = []
        self._busy = False

    def run(self, job: Job, queries: NDArray[np.float32]) -> SearchResult:
        """Return what `job` finds for queries (nq, d). An error of the call that they were part of is raised here."""
        request = _Request(job, queries)
        with self._changed:
            self._waiting.append(request)
            self._changed.wait_for(lambda: request.done or not self._busy)
            batch = [] if request.done else self._take(request)
        if batch:
            self._serve(batch)
        if request.error is not None:
            raise request.error
        assert request.found is not None
        return request.found

    def _take(self, first: _Request) -> list[_Request]:
        """Those that wait for the same as `first`, which comes first; the queue is busy from here on."""
        self._busy = True
        batch, left, count = [first], [], len(first.queries)
        for request in self._waiting:
            if request is first:
                continue
            if request.job == first.job and count + len(request.queries) <= self._most:
                batch.append(request)
                count += len(request.queries)
            else:
                left.append(request)
        self._waiting = left
        return batch

    def _serve(self, batch: Sequence[_Request]) -> None:
        error: BaseException | None = None
        answers: list[SearchResult] = []
        try:
            together = batch[0].queries if len(batch) == 1 else np.concatenate([one.queries for one in batch])
            found = batch[0].job(together)
            edges = np.cumsum([len(one.queries) for one in batch])[:-1]
            answers = [SearchResult(*parts) for parts in zip(*(np.split(part, edges) for part in found), strict=True)]
        except BaseException as raised:  # every caller gets it: they would wait for ever otherwise
            error = raised
        with self._changed:
            for number, request in enumerate(batch):
                request.found, request.error = (answers[number], None) if error is None else (None, error)
            self._busy = False
            self._changed.notify_all()
