"""Worker threads for jobs that release the interpreter lock, as FAISS does."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from typing import TypeVar

from bindsearch.device import usable_cores

MAX_THREADS = 8

Value = TypeVar("Value")


class Workers:
    """One thread per core, the calling thread included; the others are started on first use. Thread-safe."""

    def __init__(self, threads: int | None = None) -> None:
        """Set the number of threads (None: the number of cores, at most MAX_THREADS)."""
        self._threads = threads or min(usable_cores(), MAX_THREADS)

    @cached_property
    def _pool(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(self._threads - 1, thread_name_prefix="search")

    def run(self, jobs: Sequence[Callable[[], Value]]) -> list[Value]:
        """Run jobs in parallel.

        Args:
            jobs: The jobs; the longest should come first.

        Returns:
            The result of each job, in the order of the jobs. An exception of a job is raised.
        """
        helpers = min(self._threads, len(jobs)) - 1
        if helpers < 1:
            return [job() for job in jobs]
        waiting = iter(list(enumerate(jobs)))  # next() is atomic: every job runs once
        done: dict[int, Value] = {}

        def work() -> None:
            for number, job in waiting:
                done[number] = job()

        futures = [self._pool.submit(work) for _ in range(helpers)]
        try:
            work()
        finally:
            for future in futures:
                if not future.cancel():
                    future.result()
        return [done[number] for number in range(len(jobs))]

    def close(self) -> None:
        """Stop the threads."""
        if "_pool" in self.__dict__:
            self._pool.shutdown()
            del self._pool
