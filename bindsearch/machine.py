"""What the machine offers this process."""

from __future__ import annotations

import os


def usable_cores() -> int:
    """Cores this process may run on (a container or taskset may allow fewer than there are)."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
