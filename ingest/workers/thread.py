"""Worker in a thread of this process: on request, and for encoders that cannot be used in another process."""

from __future__ import annotations

import queue
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple

from bindsearch.encoders.base import Encoder
from bindsearch.ingest.workers.main import serve
from bindsearch.ingest.workers.protocol import RunEndedError, WorkerLostError

if TYPE_CHECKING:
    from numpy.typing import NDArray


class ThreadWorker:
    """A worker in a thread of this process; a file that crashes its decoder ends the process."""

    def __init__(self, encoder: Encoder) -> None:
        self._orders: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._answers: queue.Queue[tuple[Any, NDArray[Any] | None]] = queue.Queue(1)
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._serve, args=(encoder,), name="decoder", daemon=True)
        self._thread.start()

    def send(self, order: object) -> None:
        """Send an order."""
        self._orders.put(order)

    def receive(self, timeout_s: float) -> tuple[Any, NDArray[Any] | None] | None:
        """Return the next answer; None after the timeout."""
        with suppress(queue.Empty):
            return self._answers.get(timeout=timeout_s)
        if not self._thread.is_alive():
            raise WorkerLostError("ended")
        return None

    def close(self) -> None:
        """End it, and wait until it has ended."""
        self._closed.set()
        self._orders.put(None)
        while self._thread.is_alive():
            with suppress(queue.Empty):
                self._answers.get_nowait()
            self._thread.join(0.01)

    def _serve(self, encoder: Encoder) -> None:
        with suppress(RunEndedError):
            serve(_ThreadEnd(self._orders, self._answers, self._closed), encoder)


class _ThreadEnd(NamedTuple):
    """The worker's end, in a thread; see `bindsearch.ingest.workers.protocol.WorkerEnd`."""

    orders: queue.SimpleQueue[Any]
    answers: queue.Queue[tuple[Any, Any]]
    is_closed: threading.Event

    def receive(self) -> Any:
        """Return the next order; None if the run has ended."""
        return self.orders.get()

    def send(self, message: object, views: NDArray[Any] | None = None) -> None:
        """Send an answer."""
        if self.is_closed.is_set():
            raise RunEndedError
        self.answers.put((message, views))
