"""The two ends of a channel between a run and a worker."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from numpy.typing import NDArray


class WorkerLostError(Exception):
    """A worker died or hangs; the message says how."""


class RunEndedError(Exception):
    """The run has ended, so there is no work left."""


class Worker(Protocol):
    """The run's end of a channel to a worker."""

    def send(self, order: object) -> None:
        """Send an order.

        Raises:
            WorkerLostError: the worker died.
        """

    def receive(self, timeout_s: float) -> tuple[Any, NDArray[Any] | None] | None:
        """Return the next answer and its views; None after the timeout.

        Raises:
            WorkerLostError: the worker died.
        """

    def close(self) -> None:
        """End the worker, also in the middle of a job."""


class WorkerEnd(Protocol):
    """The worker's end of a channel."""

    def receive(self) -> Any:
        """Return the next order; None if the run has ended."""

    def send(self, message: object, views: NDArray[Any] | None = None) -> None:
        """Send an answer; wait while the other end is far behind.

        Raises:
            RunEndedError: the run has ended.
        """
