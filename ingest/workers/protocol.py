"""The two ends of a channel between a run and a worker."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from numpy.typing import NDArray


class WorkerLostError(Exception):
    """A worker has died or hangs; the message says how."""


class RunEndedError(Exception):
    """There is nobody to work for any more."""


class Worker(Protocol):
    """The run's end of a channel to a worker."""

    def send(self, order: object) -> None:
        """Give an order.

        Raises:
            WorkerLostError: the worker is gone.
        """

    def receive(self, timeout_s: float) -> tuple[Any, NDArray[Any] | None] | None:
        """The next answer and the views that belong to it; None where there is none in that time.

        Raises:
            WorkerLostError: the worker is gone.
        """

    def close(self) -> None:
        """End the worker, also in the middle of a job."""


class WorkerEnd(Protocol):
    """The worker's end of a channel."""

    def receive(self) -> Any:
        """The next order; None: there is nobody to work for any more."""

    def send(self, message: object, views: NDArray[Any] | None = None) -> None:
        """Tell what was found; waits while the other end is far behind.

        Raises:
            RunEndedError: nobody listens.
        """
