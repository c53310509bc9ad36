"""Worker in a process of its own: orders and answers over a socket, views through shared memory.

The process is started here rather than by `multiprocessing`, whose spawned processes run the `__main__` of the user
again: a script without `if __name__ == "__main__"` would index anew in each worker, or end in an error.
"""

from __future__ import annotations

import mmap
import os
import pickle
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from bindsearch.encoders.base import Encoder
from bindsearch.ingest.workers.protocol import RunEndedError, WorkerLostError
from bindsearch.media import SegmentOf

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

    from numpy.typing import NDArray

ARENA_BYTES = 16 << 20
"""Shared memory of a worker, which limits how far it is ahead; views above half of it use the socket."""

_HEADER_BYTES = 64
_ALIGNED = 64
_POLL_S = 0.0005
START_SECONDS = 120.0

_SINGLE_THREADED = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
"""There is one worker per core, so libraries start no threads of their own."""


class UnusableEncoderError(Exception):
    """The encoder cannot be used in another process; the message is the reason."""


class _Placed(NamedTuple):
    """Position of views in the arena; `end`: total bytes written up to their end."""

    offset: int
    shape: tuple[int, ...]
    dtype: str
    end: int


class _Arena:
    """A ring buffer in shared memory: one process puts arrays in, another takes them out in the same order."""

    def __init__(self, descriptor: int) -> None:
        self._memory = mmap.mmap(descriptor, ARENA_BYTES + _HEADER_BYTES)
        words = np.frombuffer(self._memory, np.uint64, 2)  # those that both sides access
        self._taken, self.current = words[:1], words[1:]  # total bytes taken; the number of the worker's file
        self._ring = np.frombuffer(self._memory, np.uint8, ARENA_BYTES, _HEADER_BYTES)
        self._put = 0

    def put(self, array: NDArray[Any]) -> _Placed | None:
        """Copy an array in, once there is room; return None if it is too large.

        Raises:
            RunEndedError: the other process has died.
        """
        size = -(-array.nbytes // _ALIGNED) * _ALIGNED
        if size > ARENA_BYTES // 2 or array.dtype.hasobject:
            return None
        offset = self._put % ARENA_BYTES
        if offset + size > ARENA_BYTES:  # arrays are contiguous
            self._put, offset = self._put + ARENA_BYTES - offset, 0
        self._put += size
        parent = os.getppid()
        while self._put - int(self._taken[0]) > ARENA_BYTES:
            time.sleep(_POLL_S)
            if os.getppid() != parent:
                raise RunEndedError
        self._ring[offset : offset + array.nbytes] = np.frombuffer(np.ascontiguousarray(array), np.uint8)
        return _Placed(offset, array.shape, array.dtype.str, self._put)

    def take(self, placed: _Placed) -> NDArray[Any]:
        """Copy an array out, which frees its room."""
        dtype = np.dtype(placed.dtype)
        count = int(np.prod(placed.shape, dtype=np.int64))
        flat = self._ring[placed.offset : placed.offset + count * dtype.itemsize].view(dtype)
        array = flat.reshape(placed.shape).copy()
        self._taken[0] = placed.end
        return array


class ProcessWorkerEnd:
    """The worker's end, in a process of its own; see `bindsearch.ingest.workers.protocol.WorkerEnd`."""

    def __init__(self, descriptor: int, arena: int) -> None:
        from multiprocessing.connection import Connection

        self._connection: Connection = Connection(descriptor)
        self._arena = _Arena(arena)

    def begin(self, number: int) -> None:
        """Record the file that the answers to come are about, where the run sees it even after a crash."""
        self._arena.current[0] = number

    def receive(self) -> Any:
        """Return the next order; None if the run has ended."""
        try:
            return self._connection.recv()
        except (EOFError, ConnectionError):
            return None

    def send(self, message: object) -> None:
        """Send an answer; views of a segment through the arena if they fit."""
        if isinstance(message, SegmentOf) and (placed := self._arena.put(message.payload)) is not None:
            message = replace(message, payload=placed)
        try:
            self._connection.send((int(self._arena.current[0]), message))
        except OSError as error:
            raise RunEndedError from error


class ProcessWorker:
    """A worker in a process of its own; a crash raises WorkerLostError."""

    def __init__(self, packed_encoder: bytes) -> None:
        """Start it, with an encoder packed by `pack_encoder`.

        Raises:
            UnusableEncoderError: the encoder cannot be used in another process.
            WorkerLostError: it cannot start.
        """
        from multiprocessing.connection import Connection

        ours, theirs = socket.socketpair()
        import_path = os.pathsep.join(path or str(Path.cwd()) for path in sys.path)  # it finds the same encoders
        with theirs, _shared_memory() as memory:
            memory.truncate(ARENA_BYTES + _HEADER_BYTES)
            self._arena = _Arena(memory.fileno())
            descriptors = (theirs.fileno(), memory.fileno())
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "bindsearch.ingest.workers.main", *map(str, descriptors)],
                pass_fds=descriptors,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env={**os.environ, **_SINGLE_THREADED, "PYTHONPATH": import_path},
            )
        self._connection: Connection = Connection(ours.detach())
        self._answers = select.poll()  # reused: Connection.poll would create one for each answer
        self._answers.register(self._connection.fileno(), select.POLLIN)
        try:
            self.send(packed_encoder)
            started = self.receive(START_SECONDS)
            if started is None:
                raise WorkerLostError(f"did not start within {START_SECONDS:g} s")
        except WorkerLostError:
            self.close()
            raise
        if started[1]:  # why the encoder cannot be unpacked
            self.close()
            raise UnusableEncoderError(started[1])

    def send(self, order: object) -> None:
        """Send an order."""
        try:
            self._connection.send(order)
        except OSError:
            raise WorkerLostError(self._end_reason()) from None

    def receive(self, timeout_s: float) -> tuple[int, Any] | None:
        """Return the number of a file and the next answer about it, views copied out of shared memory."""
        try:
            if not self._answers.poll(1000 * timeout_s):
                return None
            number, message = self._connection.recv()
        except (EOFError, OSError):
            raise WorkerLostError(self._end_reason()) from None
        if isinstance(message, SegmentOf) and isinstance(message.payload, _Placed):
            message = replace(message, payload=self._arena.take(message.payload))
        return number, message

    def current(self) -> int:
        """Return the number of the last file that it began to inspect or decode."""
        return int(self._arena.current[0])

    def close(self) -> None:
        """End it at once: it has no state to save."""
        self._process.kill()
        self._process.wait()
        self._connection.close()

    def _end_reason(self) -> str:
        """Return how the process ended."""
        with suppress(subprocess.TimeoutExpired):
            code = self._process.wait(5.0)
            if code < 0:
                with suppress(ValueError):
                    return f"crashed ({signal.Signals(-code).name})"
            return f"ended with exit code {code}"
        return "closed its connection"


def pack_encoder(encoder: Encoder) -> bytes:
    """Return an encoder in the form that a worker process receives.

    Raises:
        UnusableEncoderError: it cannot be sent to another process.
    """
    try:
        return pickle.dumps(encoder)
    except Exception as error:  # the encoder's own code may raise anything
        raise UnusableEncoderError(f"{type(error).__name__}: {error}") from error


def _shared_memory() -> Any:
    """Return an unnamed file, in memory if the system supports it."""
    if hasattr(os, "memfd_create"):
        return os.fdopen(os.memfd_create("bindsearch-worker"), "r+b")
    return tempfile.TemporaryFile()
