"""Threads that torch may use: preprocessing runs in threads of its own, towers over all cores.

`torch.set_num_threads` counts for the calling thread and for threads that touch torch for the first time later.
Preprocessing with torch's own threads inside decoder threads would oversubscribe the cores, and its threads would wait
for each other: measured 100 ms a sound instead of 2.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import lru_cache
from typing import TypeVar

from bindsearch.device import usable_cores

Given = TypeVar("Given")
Made = TypeVar("Made")


@lru_cache(maxsize=1)
def tower_threads() -> int:
    """Torch's own choice (the cores, OMP_NUM_THREADS, or what the caller set), read before any of it is changed."""
    import torch

    return torch.get_num_threads()


@contextmanager
def all_threads() -> Iterator[None]:
    """Within the block, torch uses as many threads as `tower_threads` says, also where the calling thread was new
    while another was `single_threaded`, and took that for the way things are."""
    import torch

    found = torch.get_num_threads()
    torch.set_num_threads(tower_threads())
    try:
        yield
    finally:
        torch.set_num_threads(found)


@contextmanager
def single_threaded() -> Iterator[None]:
    """Within the block, torch uses the calling thread alone."""
    import torch

    threads = tower_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


class ParallelForward:
    """Runs whole passes of a tower side by side: a thread a core, each with one thread of torch's own.

    That is faster than one pass over all cores, does not stall when a decoder takes a core, and burns none waiting:
    torch's own workers, once woken, spin for a while (measured on 2 cores: 250 against 180 pictures/s; 400 sounds,
    decoded meanwhile, in 10 s instead of 22).
    """

    def __init__(self) -> None:
        import torch

        tower_threads()  # reads torch's choice before the initializer below changes it for new threads
        self._threads = ThreadPoolExecutor(usable_cores(), "passes", initializer=lambda: torch.set_num_threads(1))

    def map(self, run: Callable[[Given], Made], groups: Iterable[Given]) -> list[Made]:
        """Return what `run` makes of each group, in their order; it is called in several threads at once."""
        return list(self._threads.map(run, groups))
