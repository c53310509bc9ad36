"""Cores that this process may use, and names of devices."""

from __future__ import annotations

import os
import re

from bindsearch.errors import UsageError

_DEVICE = re.compile(r"auto|cpu|cuda(:[0-9]{1,3})?")


def usable_cores() -> int:
    """Cores this process may run on (a container or taskset may allow fewer than there are)."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def check_device_name(device: str) -> None:
    """Refuse what names no device, here or elsewhere.

    Raises:
        UsageError: it is none of auto, cpu, cuda and cuda:N.
    """
    if not _DEVICE.fullmatch(device):
        raise UsageError(f"device {device!r} is not known: choose auto, cpu, cuda or cuda:N")
