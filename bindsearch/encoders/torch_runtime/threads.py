"""Number of threads of torch: preprocessing runs single-threaded in several threads, towers run over all cores.

`torch.set_num_threads` applies to the calling thread and to threads that use torch for the first time later. If
preprocessing in decoder threads used torch's own threads, they would oversubscribe the cores and wait for each other:
100 ms per sound instead of 2 ms were measured.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import lru_cache

from bindsearch.device import usable_cores


@lru_cache(maxsize=1)
def tower_threads() -> int:
    """Return torch's initial number of threads: the cores, OMP_NUM_THREADS, or the caller's setting.

    It is read once, before this module changes it.
    """
    import torch

    return torch.get_num_threads()


@contextmanager
def all_threads() -> Iterator[None]:
    """Let torch use `tower_threads` threads within the block.

    A thread that first used torch while another one was `single_threaded` has inherited one thread; this corrects it.
    """
    import torch

    previous = torch.get_num_threads()
    torch.set_num_threads(tower_threads())
    try:
        yield
    finally:
        torch.set_num_threads(previous)


@contextmanager
def single_threaded() -> Iterator[None]:
    """Let torch use only the calling thread within the block."""
    import torch

    threads = tower_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def parallel_passes() -> ThreadPoolExecutor:
    """Return a pool that runs whole passes of a tower in parallel: a thread per core, each with one thread of torch.

    This is faster than one pass over all cores, does not stall when a decoder uses a core, and wastes no time with busy
    waiting: torch's own workers spin for a while after each task. Measured on 2 cores: 250 instead of 180 pictures/s;
    400 sounds, decoded at the same time, in 10 s instead of 22 s.
    """
    import torch

    tower_threads()  # read before the initializer below changes it for new threads
    return ThreadPoolExecutor(usable_cores(), "passes", initializer=lambda: torch.set_num_threads(1))
