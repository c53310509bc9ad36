"""A worker in a process of its own: orders and answers over a socket, views through shared memory."""

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
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from bindsearch.encoders.base import Encoder
from bindsearch.ingest.workers.messages import Ready, Unusable
from bindsearch.ingest.workers.protocol import RunEndedError, WorkerLostError

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

    from numpy.typing import NDArray

ARENA_BYTES = 16 << 20
"""Shared memory of a worker: what it may be ahead by. Larger views than half of it travel over the socket."""

_HEADER_BYTES = 64
_ALIGNED = 64
_POLL_S = 0.0005
START_SECONDS = 120.0

_SINGLE_THREADED = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
"""There is a worker a core, so libraries start no threads of their own."""


class UnusableEncoderError(Exception):
    """The encoder cannot be used in another process; the message says why."""


class _Placed(NamedTuple):
    """Place of views in the arena; `end`: how much has been written in all when they were."""

    offset: int
    shape: tuple[int, ...]
    dtype: str
    end: int


class _Arena:
    """A ring of shared memory: one process puts arrays in, another takes them out in the same order."""

    def __init__(self, descriptor: int) -> None:
        self._memory = mmap.mmap(descriptor, ARENA_BYTES + _HEADER_BYTES)
        self._taken = np.frombuffer(self._memory, np.uint64, 1)  # the one word both sides look at
        self._ring = np.frombuffer(self._memory, np.uint8, ARENA_BYTES, _HEADER_BYTES)
        self._put = 0

    def put(self, array: NDArray[Any]) -> _Placed | None:
        """Copy an array in, once there is room; None where it is too large.

        Raises:
            RunEndedError: the other process has died.
        """
        size = -(-array.nbytes // _ALIGNED) * _ALIGNED
        if size > ARENA_BYTES // 2 or array.dtype.hasobject:
            return None
        offset = self._put % ARENA_BYTES
        if offset + size > ARENA_BYTES:  # no array is split
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
        """Copy an array out, which makes room."""
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

    def receive(self) -> Any:
        """The next order; None where the run has ended."""
        try:
            return self._connection.recv()
        except (EOFError, ConnectionError):
            return None

    def send(self, message: object, views: NDArray[Any] | None = None) -> None:
        """Send an answer; views through the arena where they fit."""
        placed = None if views is None else self._arena.put(views)
        try:
            self._connection.send((message, views if placed is None else placed))
        except OSError as error:
            raise RunEndedError from error


class ProcessWorker:
    """A worker in a process of its own; what crashes there is no more than a WorkerLostError here."""

    def __init__(self, packed_encoder: bytes) -> None:
        """Start it, with an encoder as `pack_encoder` gave it.

        Raises:
            UnusableEncoderError: the encoder cannot be used there.
            WorkerLostError: it cannot start.
        """
        from multiprocessing.connection import Connection

        ours, theirs = socket.socketpair()
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
                env={**os.environ, **_SINGLE_THREADED, "PYTHONPATH": _import_path()},
            )
        self._connection: Connection = Connection(ours.detach())
        self._answers = select.poll()  # asked for each answer: Connection.poll would make one anew
        self._answers.register(self._connection.fileno(), select.POLLIN)
        try:
            self.send(packed_encoder)
            started = self.receive(START_SECONDS)
            if started is None:
                raise WorkerLostError(f"did not start within {START_SECONDS:g} s")
        except WorkerLostError:
            self.close()
            raise
        answer, _ = started
        if isinstance(answer, Unusable):
            self.close()
            raise UnusableEncoderError(answer.reason)
        assert isinstance(answer, Ready)

    def send(self, order: object) -> None:
        """Give an order."""
        try:
            self._connection.send(order)
        except OSError:
            raise WorkerLostError(self._how_it_ended()) from None

    def receive(self, timeout_s: float) -> tuple[Any, NDArray[Any] | None] | None:
        """The next answer, its views copied out of shared memory."""
        try:
            if not self._answers.poll(1000 * timeout_s):
                return None
            message, views = self._connection.recv()
        except (EOFError, OSError):
            raise WorkerLostError(self._how_it_ended()) from None
        return message, self._arena.take(views) if isinstance(views, _Placed) else views

    def close(self) -> None:
        """End it at once: it holds nothing worth saving."""
        self._process.kill()
        self._process.wait()
        self._connection.close()

    def _how_it_ended(self) -> str:
        with suppress(subprocess.TimeoutExpired):
            code = self._process.wait(5.0)
            if code < 0:
                with suppress(ValueError):
                    return f"crashed ({signal.Signals(-code).name})"
            return f"ended with exit code {code}"
        return "broke off"


def pack_encoder(encoder: Encoder) -> bytes:
    """An encoder as a worker process takes it.

    Raises:
        UnusableEncoderError: it cannot be sent to another process.
    """
    try:
        return pickle.dumps(encoder)
    except Exception as error:  # whatever the encoder's own code raises
        raise UnusableEncoderError(f"{type(error).__name__}: {error}") from error


def _shared_memory() -> Any:
    """A file that lies in memory where the system has such, and that no name leads to."""
    if hasattr(os, "memfd_create"):
        return os.fdopen(os.memfd_create("bindsearch-worker"), "r+b")
    return tempfile.TemporaryFile()


def _import_path() -> str:
    """Return where this process imports from, so that encoders found here are found there."""
    return os.pathsep.join(place or str(Path.cwd()) for place in sys.path)
