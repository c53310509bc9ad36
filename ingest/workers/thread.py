"""Worker in a thread of this process: on request, and for encoders that cannot be used in another process."""

from __future__ import annotations

import queue
import threading
from contextlib import suppress
from typing import Any

from bindsearch.encoders.base import Encoder
from bindsearch.ingest.workers.main import serve
from bindsearch.ingest.workers.protocol import RunEndedError, WorkerLostError


class _ThreadEnd:
    """The worker's end, in a thread; see `bindsearch.ingest.workers.protocol.WorkerEnd`."""

    def __init__(self) -> None:
        self.orders: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self.answers: queue.Queue[tuple[int, Any]] = queue.Queue(1)
        self.is_closed = threading.Event()
        self.number = 0
        self.receive = self.orders.get

    def begin(self, number: int) -> None:
        """Record the file that the answers to come are about."""
        self.number = number

    def send(self, message: object) -> None:
        """Send an answer."""
        if self.is_closed.is_set():
            raise RunEndedError
        self.answers.put((self.number, message))

    def serve(self, encoder: Encoder) -> None:
        """Do jobs until the worker is closed."""
        with suppress(RunEndedError):
            serve(self, encoder)


class ThreadWorker:
    """A worker in a thread of this process; a file that crashes its decoder ends the process."""

    def __init__(self, encoder: Encoder) -> None:
        self._end = _ThreadEnd()
        self.send = self._end.orders.put
        self._thread = threading.Thread(target=self._end.serve, args=(encoder,), name="decoder", daemon=True)
        self._thread.start()

    def receive(self, timeout_s: float) -> tuple[int, Any] | None:
        """Return the number of a file and the next answer about it; None after the timeout."""
        with suppress(queue.Empty):
            return self._end.answers.get(timeout=timeout_s)
        if not self._thread.is_alive():
            raise WorkerLostError("ended")
        return None

    def current(self) -> int:
        """Return the number of the last file that it began to inspect or decode."""
        return self._end.number

    def close(self) -> None:
        """End it, and wait until it has ended."""
        self._end.is_closed.set()
        self._end.orders.put(None)
        while self._thread.is_alive():
            with suppress(queue.Empty):
                self._end.answers.get_nowait()
            self._thread.join(0.01)
