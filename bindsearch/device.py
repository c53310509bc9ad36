"""Usable CPU cores and device names."""

from __future__ import annotations

import os
import re

from bindsearch.errors import UsageError

_DEVICE = re.compile(r"auto|cpu|cuda(:[0-9]{1,3})?")


def usable_cores() -> int:
    """Return the number of cores this process may use; a container or taskset may allow fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def check_device_name(device: str) -> None:
    """Check the syntax of a device name; whether the device exists is not checked.

    Raises:
        UsageError: the name is none of auto, cpu, cuda and cuda:N.
    """
    if not _DEVICE.fullmatch(device):
        raise UsageError(f"unknown device {device!r}: choose auto, cpu, cuda or cuda:N")
