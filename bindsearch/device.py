"""Usable CPU cores, threads of NumPy's linear algebra, and device names."""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING

from bindsearch.errors import UsageError

if TYPE_CHECKING:
    from threadpoolctl import ThreadpoolController

_CHANGING_THREADS = threading.RLock()
_DEVICE = re.compile(r"auto|cpu|cuda(:[0-9]{1,3})?")


CORES_VARIABLE = "BINDSEARCH_CORES"
"""Environment variable with the number of cores that a process and its children use, such as one of several workers."""


def usable_cores() -> int:
    """Return the number of cores this process may use.

    A container, taskset or CORES_VARIABLE may allow fewer than the machine has.

    Raises:
        UsageError: CORES_VARIABLE is no number above 0.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    limit = os.environ.get(CORES_VARIABLE) or str(cores)
    if not limit.isdecimal() or int(limit) < 1:
        raise UsageError(f"{CORES_VARIABLE} is {limit!r:.40}: give a number of cores from 1")
    return min(cores, int(limit))


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Run NumPy's linear algebra inside the block on one thread; blocks of other threads wait: the setting is global.

    For work of few milliseconds: OpenBLAS waits actively for all its threads. With another program on 2 cores a product
    of (5, 384) and (384, 1536) took 28 ms, on one thread 0.9 ms.
    """
    with _CHANGING_THREADS, _blas_libraries().limit(limits=1):
        yield


@cache
def _blas_libraries() -> ThreadpoolController:
    """Return the BLAS libraries that are loaded, NumPy's among them."""
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController().select(user_api="blas")


def check_device_name(device: str) -> None:
    """Check the syntax of a device name; whether the device exists is not checked.

    Raises:
        UsageError: the name is none of auto, cpu, cuda and cuda:N.
    """
    if not _DEVICE.fullmatch(device):
        raise UsageError(f"unknown device {device!r}: choose auto, cpu, cuda or cuda:N")
