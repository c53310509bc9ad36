"""The two ends of a channel between a run and a worker.

Orders are InspectOptions, which apply to what follows, a list of jobs, and (number, whether to decode it) of an
inspected file. The answers to a job are an InspectResult, if it came without one, then, if the file is to be decoded,
its prepared segments and the Reading of the whole file. A Failed ends it at any point.
"""

from __future__ import annotations

from typing import Any, Protocol, TypeAlias

from bindsearch.ingest.inspect.inspect_file import InspectResult, SourceFile

Job: TypeAlias = tuple[int, SourceFile, InspectResult | None]
"""Number of a file, counted from 1, the file, and the result of its inspection; with it, the file is decoded at once.
"""


class WorkerLostError(Exception):
    """A worker died or hangs; the message says how."""


class RunEndedError(Exception):
    """The run has ended, so there is no work left."""


class Worker(Protocol):
    """The run's end of a channel to a worker."""

    def send(self, order: object) -> None:
        """Send an order; raise WorkerLostError if the worker died."""

    def receive(self, timeout_s: float) -> tuple[int, Any] | None:
        """Return the number of a file and the next answer, None after the timeout, or raise WorkerLostError."""

    def current(self) -> int:
        """Return the number of the last file that the worker began to inspect or decode; 0: none."""

    def close(self) -> None:
        """End the worker, also in the middle of a job."""


class WorkerEnd(Protocol):
    """The worker's end of a channel."""

    def receive(self) -> Any:
        """Return the next order; None if the run has ended."""

    def begin(self, number: int) -> None:
        """Record the file that the answers to come are about."""

    def send(self, message: object) -> None:
        """Send an answer; wait while the other end is far behind, and raise RunEndedError if the run has ended."""
