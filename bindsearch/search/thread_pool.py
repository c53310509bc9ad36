"""Workers: threads that help the calling one with jobs that release the interpreter's lock, as FAISS does."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from typing import TypeVar

from bindsearch.device import usable_cores

MAX_THREADS = 8

Value = TypeVar("Value")


class Workers:
    """One thread a core, the calling one among them; the others are started on first use. Any thread may call."""

    def __init__(self, threads: int | None = None) -> None:
        """`threads` None: as many as there are cores, MOST_THREADS at most."""
        self._threads = threads or min(usable_cores(), MAX_THREADS)

    @cached_property
    def _pool(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(self._threads - 1, thread_name_prefix="search")

    def run(self, jobs: Sequence[Callable[[], Value]]) -> list[Value]:
        """Return what each job returns, in their order; the longest should come first. An error of one is raised."""
        helpers = min(self._threads, len(jobs)) - 1
        if helpers < 1:
            return [job() for job in jobs]
        waiting = iter(list(enumerate(jobs)))  # its steps are atomic: every job is taken once
        done: dict[int, Value] = {}

        def work() -> None:
            for number, job in waiting:
                done[number] = job()

        others = [self._pool.submit(work) for _ in range(helpers)]
        try:
            work()
        finally:
            for other in others:
                if not other.cancel():
                    other.result()
        return [done[number] for number in range(len(jobs))]

    def close(self) -> None:
        """Let the threads go."""
        if "_pool" in self.__dict__:
            self._pool.shutdown()
            del self._pool
