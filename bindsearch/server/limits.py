"""Bounds of what a server accepts: sizes, numbers, times; and the threads that requests run in."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from types import MappingProxyType
from typing import Any, TypeVar

MAX_HEADER_BYTES = 16 << 10
MAX_JSON_BYTES = 1 << 20
MAX_UPLOAD_BYTES = 64 << 20
MAX_UPLOADS_BYTES = 512 << 20
MAX_UPLOADS = 100
UPLOAD_LIFETIME_S = 3600.0
MAX_TERMS = 32
MAX_TEXT_CHARACTERS = 10_000
"""Characters of all texts of a query together; about 10 passages, which take a tenth of a second on a CPU."""
MAX_K = 1000
MAX_MAP_POINTS = 10_000
MAX_HEAT_CELLS = 64
"""Cells of a side of a heat map; larger ones are reduced."""
MAX_EVENT_STREAMS = 32
MAX_MEDIA_STREAMS = 64
MAX_CONNECTIONS = 512
HEADER_S = 10.0
"""Time in which a client must have sent the headers of a request."""
BODY_PAUSE_S = 10.0
"""Longest pause in a body."""
BODY_S = 300.0
"""Time in which a body must have been sent."""
SEND_S = 60.0
"""Longest time that a client may take to read the next part of an answer."""
STOP_S = 30.0
"""Time that running requests have to end when the server stops."""
WAIT_S = 20.0
"""Longest time that a request waits for a thread."""
RUN_S = 120.0
"""Longest time that a client waits for what runs."""

Result = TypeVar("Result")
NO_HEADERS: Mapping[str, str] = MappingProxyType({})


class Refusal(Exception):  # noqa: N818  (an answer, not a fault)
    """A request that is refused: the status of HTTP, one line for the client, and headers of the answer."""

    def __init__(self, status: int, message: str, headers: Mapping[str, str] = NO_HEADERS) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.headers = headers


def busy() -> Refusal:
    """Return the refusal of a server that has too much to do."""
    return Refusal(503, "the server is busy: try again", {"Retry-After": "1"})


class Lane:
    """Threads that requests run in, with a queue of bounded length before them.

    A thread cannot be interrupted: one whose client has given up keeps its place until it ends.
    """

    def __init__(self, name: str, threads: int, waiting: int) -> None:
        """Prepare the threads, which start when they are needed; beyond them `waiting` requests may wait."""
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix=name)
        self._places = threads + waiting
        self._taken: set[Future[Any]] = set()

    async def run(self, function: Callable[[], Result]) -> Result:
        """Run a function in a thread and return its result; call it in the loop of the server.

        Raises:
            Refusal: too many requests wait, it has not started after WAIT_S, or not ended after RUN_S.
        """
        if len(self._taken) >= self._places:
            raise busy()
        future = self._pool.submit(function)
        self._taken.add(future)
        future.add_done_callback(self._taken.discard)
        wrapped = asyncio.wrap_future(future)
        try:
            done, _ = await asyncio.wait([wrapped], timeout=WAIT_S)
        except asyncio.CancelledError:
            future.cancel()
            raise
        if not done and future.cancel():
            raise busy()
        if not done:
            done, _ = await asyncio.wait([wrapped], timeout=RUN_S)
        if not done:
            raise Refusal(503, f"the request takes longer than {RUN_S:g} s: ask for less", {"Retry-After": "60"})
        return wrapped.result()

    @property
    def is_idle(self) -> bool:
        """Return whether nothing runs or waits."""
        return not self._taken

    def close(self) -> None:
        """Start nothing more; do not wait for what runs."""
        self._pool.shutdown(wait=False, cancel_futures=True)


def search_threads() -> int:
    """Return the number of searches that run at once."""
    return max(2, min(8, os.cpu_count() or 2))
