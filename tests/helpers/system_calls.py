"""Recording and failing of the system calls of a process on the files below a folder; see system_calls.c."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable, Mapping
from enum import IntEnum
from pathlib import Path

import pytest

SOURCE = Path(__file__).with_name("system_calls.c")

EVER = 2**62
"""A number of calls that none reaches."""


class Kind(IntEnum):
    """Kinds of system calls, numbered as in system_calls.c."""

    OPEN_READ = 0
    OPEN_WRITE = 1
    READ = 2
    WRITE = 3
    SYNC = 4
    TRUNCATE = 5
    RENAME = 6
    REMOVE = 7
    MKDIR = 8
    LINK = 9
    LOCK = 10
    STAT = 11
    LIST = 12
    MAP = 13


class SystemCalls:
    """The functions of system_calls.c in this process, which was started with it preloaded."""

    def __init__(self) -> None:
        self._library = ctypes.CDLL(None)
        self._library.calls_of.restype = self._library.failures.restype = ctypes.c_long

    def watch(self, folder: Path, log: Path | None = None) -> None:
        """Count calls on what is at or below the folder from now on, and record those that change something."""
        self._library.watch(os.fsencode(folder), None if log is None else os.fsencode(log))

    def fail(self, kinds: Iterable[Kind], error: int, first: int, last: int) -> None:
        """Fail calls of these kinds with an error number, from the first-th to the last-th, counted from 1."""
        bits = sum(1 << kind for kind in set(kinds))
        self._library.fail(ctypes.c_uint(bits), error, ctypes.c_long(first), ctypes.c_long(last))

    def mark(self, text: str) -> None:
        """Write a marker into the log."""
        content = text.encode()
        self._library.mark(content, ctypes.c_size_t(len(content)))

    def unwatch(self) -> None:
        self._library.unwatch()

    @property
    def failures(self) -> int:
        """Number of calls that were made to fail."""
        return int(self._library.failures())

    def counts(self) -> dict[Kind, int]:
        """Return the number of calls of each kind since `watch`."""
        return {kind: int(self._library.calls_of(int(kind))) for kind in Kind}


def build_library(folder: Path) -> Path:
    """Compile system_calls.c into a folder; skip the test where that cannot be done."""
    if sys.platform != "linux":
        pytest.skip("system calls are recorded and failed on Linux only")
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("there is no C compiler (cc)")
    library = folder / "system_calls.so"
    command = [compiler, "-shared", "-fPIC", "-O1", "-Wall", "-Wno-format-truncation", "-o", str(library), str(SOURCE)]
    done = subprocess.run([*command, "-ldl", "-lpthread"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return library


def environment(library: Path, place: Path) -> Mapping[str, str]:
    """Return the environment of a process with the library preloaded, and with caches of its own."""
    return {
        **os.environ,
        "LD_PRELOAD": str(library),
        "PYTHONPATH": os.pathsep.join([str(SOURCE.parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])]),
        "BINDSEARCH_CACHE": str(place / "cache"),
        "COLUMNS": "200",
        "OMP_NUM_THREADS": "1",
    }
