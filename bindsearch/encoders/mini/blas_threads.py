"""Number of threads of NumPy's matrix products."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from threadpoolctl import ThreadpoolController

_CHANGING = threading.Lock()


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Run NumPy's matrix products inside the block on one thread; one block at a time, since the setting is global.

    For products of few rows: OpenBLAS waits actively for all its threads. With another program on 2 cores a product of
    (5, 384) and (384, 1536) took 28 ms, on one thread 0.9 ms.
    """
    with _CHANGING, _libraries().limit(limits=1):
        yield


@cache
def _libraries() -> ThreadpoolController:
    """Return the BLAS libraries that are loaded, NumPy's among them."""
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController().select(user_api="blas")
