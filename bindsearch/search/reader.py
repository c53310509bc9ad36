"""Reader: hands out the newest generation of a store, opened once."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from pathlib import Path

from bindsearch.errors import StoreError, StoreNotFoundError
from bindsearch.indexes.gpu.placement import Gpus
from bindsearch.search.generation import Generation
from bindsearch.storage.snapshot import CURRENT, read_manifest

OPEN_ATTEMPTS = 5
OPEN_PAUSE_S = 0.03
"""A writer may retire a generation between reading CURRENT and opening its files; the next look finds a newer one."""


class Reader:
    """Opens a generation when CURRENT names another one than before; a damaged one is rebuilt. Thread-safe."""

    def __init__(
        self, store: Path, dim: Callable[[], int], rebuild: Callable[[], None], gpus: Gpus | None = None
    ) -> None:
        """`dim`: dimensions of the store's space; `rebuild`: derives the snapshot from the catalog again; `gpus`: where
        it may be searched (None: on the CPU)."""
        self._store = store
        self._dim = dim
        self._rebuild = rebuild
        self._gpus = gpus
        self._lock = threading.Lock()
        self._generation: Generation | None = None
        self._mark: tuple[int, int, int] | None = None

    def close(self) -> None:
        """Let go of the open generation."""
        with self._lock:
            self._generation = None
            self._mark = None

    def current(self) -> Generation:
        """The newest generation.

        Raises:
            StoreNotFoundError: there is no store.
            StoreError: it is damaged and cannot be rebuilt.
        """
        for _ in range(OPEN_ATTEMPTS):
            with contextlib.suppress(StoreError):
                if (generation := self._open()) is not None:
                    return generation
                break
            time.sleep(OPEN_PAUSE_S)
        self._rebuild()
        generation = self._open()
        if generation is None:
            raise StoreNotFoundError(f"no store at {self._store}: make one with `bindsearch index FOLDER`")
        return generation

    def _open(self) -> Generation | None:
        mark = self._current_mark()
        with self._lock:
            if self._generation is not None and mark == self._mark:
                return self._generation
            manifest = read_manifest(self._store)
            if manifest is None:
                return None
            if self._generation is None or self._generation.manifest != manifest:
                self._generation = Generation(self._store, manifest, self._dim(), self._gpus, self._generation)
            self._mark = mark
            return self._generation

    def _current_mark(self) -> tuple[int, int, int] | None:
        """What tells one CURRENT from the next without reading it: it is replaced, never written to."""
        try:
            found = (self._store / CURRENT).stat()
        except OSError:
            return None
        return found.st_ino, found.st_mtime_ns, found.st_size
