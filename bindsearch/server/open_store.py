"""The store that a server answers from, while other processes write it."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

from bindsearch.indexes.cost_model import costs_path
from bindsearch.search.lru_cache import LruCache
from bindsearch.search.scoring.calibration_file import CALIBRATION_FILE
from bindsearch.shards.connect import connect
from bindsearch.storage.config import STORE_FILE, read_config
from bindsearch.store import Store

CACHED_TERMS = 512
"""Queries' texts and files whose vectors are kept: 1.5 KB each with `mini`."""

CACHED_VALUES = 32
"""Values derived from a generation, such as the numbers of items, that are kept."""

_Mark = tuple[tuple[int, int, int] | None, ...]


class OpenStore:
    """A store that is opened again when its configuration, its calibration or the unit costs change; thread-safe.

    New generations are opened by the store itself. The encoder stays loaded as long as the configuration is the same.
    """

    def __init__(self, path: Path) -> None:
        """Open the store in a folder. Raises StoreNotFoundError: there is none; StoreError: it is damaged."""
        self.path = path
        self.replaced = 0
        self._values: LruCache[Any] = LruCache(CACHED_VALUES)
        self._lock = threading.Lock()
        self._mark = self._current_mark()
        self._config = read_config(path)
        self._store = self._connect(None)

    def current(self) -> Store:
        """Return the store as it is now. Raises StoreNotFoundError: it is gone; StoreError: it is damaged."""
        mark = self._current_mark()
        if mark == self._mark:
            return self._store
        with self._lock:
            if mark != self._mark:
                config = read_config(self.path)
                before = self._store  # not closed: searches may be about to use it
                self._store = self._connect(before if config == self._config else None)
                self.replaced += config != self._config
                self._config, self._mark = config, mark
            return self._store

    def value(self, name: str, make: Any) -> Any:
        """Return a value derived from the newest generation, which `make` computes from the store once for each."""
        store = self.current()
        manifest = store.generation().snapshot.manifest
        # a store that is put back from a copy counts on from the copy's generation, with other content
        content = tuple(sorted(manifest.part_digests.items()))
        return self._values.get((name, self.replaced, manifest.generation, content), lambda: make(store))

    def close(self) -> None:
        """Close the store."""
        self._store.close()

    def _connect(self, before: Store | None) -> Store:
        """Open the store, with the encoder and the encoded terms of before if the configuration is the same."""
        store = connect(self.path, encoder=None if before is None else before.__dict__.get("encoder"))
        store.cache_terms(CACHED_TERMS)
        return store

    def _current_mark(self) -> _Mark:
        paths = (self.path / STORE_FILE, self.path / CALIBRATION_FILE, costs_path())
        return tuple(map(_mark_of, paths))


def _mark_of(path: Path) -> tuple[int, int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns, status.st_size
