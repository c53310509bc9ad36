"""Processes that run Python scripts without loading the usual libraries again: forks of one that has loaded them."""

from __future__ import annotations

import atexit
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from helpers.children import fork_server

LIBRARIES = (
    *("numpy", "numpy.random", "numpy.ma", "duckdb", "faiss", "pyarrow.compute", "pyarrow.ipc", "pyarrow.parquet"),
    *("PIL.Image", "av", "soundfile", "filelock", "xxhash", "rich.console", "rich.progress", "rich.table"),
    *("typer", "pydantic.type_adapter", "argparse", "zoneinfo"),
)
"""What most commands load; neither torch nor any of BindSearch."""

TORCH = (*LIBRARIES, "torch", "torchvision", "torchaudio")

BINDSEARCH = Path(sys.executable).with_name("bindsearch")
"""The installed command, as a script to run."""

SERVERS: dict[tuple[str, ...], ForkServer] = {}


class ForkServer:
    """A process with modules loaded, and the forks of it."""

    def __init__(self, modules: Sequence[str]) -> None:
        self._lock = threading.Lock()
        ours, theirs = socket.socketpair()
        command = [sys.executable, fork_server.__file__, str(theirs.fileno()), *modules]
        self._process = subprocess.Popen(command, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL)
        theirs.close()
        self._connection = ours
        self._stream = ours.makefile("rw")
        atexit.register(self.close)

    def ask(self, request: Mapping[str, Any]) -> Any:
        with self._lock:
            self._stream.write(json.dumps(request) + "\n")
            self._stream.flush()
            return json.loads(self._stream.readline())

    def close(self) -> None:
        self._stream.close()
        self._connection.close()
        self._process.wait()


class Forked:
    """What tests need of a `subprocess.Popen` whose output is captured as text."""

    def __init__(
        self,
        arguments: Sequence[str | Path],
        *,
        modules: Sequence[str] = LIBRARIES,
        variables: Mapping[str, str] | None = None,
        folder: Path | None = None,
    ) -> None:
        """Run a script in a fork of a process that has loaded `modules`, with `variables` as its environment."""
        if tuple(modules) not in SERVERS:
            SERVERS[tuple(modules)] = ForkServer(modules)
        self._server = SERVERS[tuple(modules)]
        self._place = tempfile.TemporaryDirectory()
        self.output, self.errors = (Path(self._place.name) / name for name in ("output", "errors"))
        for path in (self.output, self.errors):
            path.touch()
        self.returncode: int | Any = None  # as in the types of subprocess
        self.pid: int = self._server.ask(
            {
                "arguments": [str(argument) for argument in arguments],
                "variables": dict(os.environ if variables is None else variables),
                "folder": str(folder or Path.cwd()),
                "output": str(self.output),
                "errors": str(self.errors),
            }
        )

    def poll(self) -> int | None:
        if self.returncode is None:
            self.returncode = self._server.ask({"wait": self.pid})
        return self.returncode

    def kill(self) -> None:
        if self.poll() is None:
            os.kill(self.pid, signal.SIGKILL)

    def communicate(self, timeout: float = 300) -> tuple[str, str]:
        """Wait for the end; what was written to standard output and to standard error."""
        deadline = time.monotonic() + timeout
        while self.poll() is None:
            if time.monotonic() > deadline:
                self.kill()
                raise subprocess.TimeoutExpired(str(self.pid), timeout)
            time.sleep(0.01)
        written = self.output.read_text(), self.errors.read_text()
        self._place.cleanup()
        return written


def run_forked(
    arguments: Sequence[str | Path], timeout: float = 300, **options: Any
) -> subprocess.CompletedProcess[str]:
    """Run a script as `Forked` does; what it printed, and its exit code."""
    process = Forked(arguments, **options)
    output, errors = process.communicate(timeout)
    assert process.returncode is not None
    return subprocess.CompletedProcess([*arguments], process.returncode, output, errors)
