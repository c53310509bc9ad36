"""How many threads torch may use, and where: preprocessing runs in threads of its own, towers over all cores.

`torch.set_num_threads` counts for the calling thread and for threads that touch torch for the first time later.
Preprocessing with torch's own threads inside decoder threads would oversubscribe the cores, and its threads would wait
for each other: measured 100 ms a sound instead of 2.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache


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
