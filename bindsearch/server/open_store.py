"""The store that a server answers from, while other processes write it, and its events."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from bindsearch.errors import BindSearchError
from bindsearch.indexes.cost_model import costs_path
from bindsearch.search.lru_cache import LruCache
from bindsearch.search.scoring.calibration_file import CALIBRATION_FILE
from bindsearch.server.limits import Lane, Refusal
from bindsearch.shards.connect import connect
from bindsearch.storage.config import STORE_FILE, read_config
from bindsearch.storage.session import is_being_written
from bindsearch.store import Store

CACHED_TERMS = 512
"""Queries' texts and files whose vectors are kept: 1.5 KB each with `mini`."""

CACHED_VALUES = 32
"""Values derived from a generation, such as the numbers of items, that are kept."""

PAUSE_S = 1.0
"""Pause between two looks at the store."""
SILENCE_S = 15.0
"""Pause after which a comment is sent, so that a connection that is gone is noticed."""

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
        marks: list[tuple[int, int, int] | None] = []
        for path in (self.path / STORE_FILE, self.path / CALIBRATION_FILE, costs_path()):
            try:
                status = path.stat()
                marks.append((status.st_ino, status.st_mtime_ns, status.st_size))
            except OSError:
                marks.append(None)
        return tuple(marks)


def counts(store: Store) -> dict[str, Any]:
    """Return the numbers of items and segments by modality in the newest generation, and its number."""
    snapshot = store.generation().snapshot
    return {
        "generation": snapshot.manifest.generation,
        "items": {modality.value: n for modality, n in snapshot.counts("items").items()},
        "segments": {modality.value: n for modality, n in snapshot.counts("segments").items()},
    }


async def events(opened: OpenStore, lane: Lane, stopping: asyncio.Event) -> AsyncIterator[str]:
    """Yield events: what is now, then what changes, until the server stops."""

    def look() -> dict[str, dict[str, Any]]:
        now = opened.value("counts", counts)
        config = opened.current().config
        return {
            "store": {"encoder": config.encoder, "dim": config.dim, "replaced": opened.replaced},
            "generation": now,
            "indexing": {"running": is_being_written(opened.path), "items": sum(now["items"].values())},
        }

    before: dict[str, object] = {}
    silent_s = 0.0
    yield "retry: 2000\n\n"
    while not stopping.is_set():
        try:
            found = await lane.run(look)
        except (BindSearchError, Refusal) as error:
            found = {"problem": {"error": str(error)}}
        for name, data in found.items():
            if before.get(name) != data:
                before[name] = data
                silent_s = 0.0
                yield f"event: {name}\ndata: {json.dumps(data)}\n\n"
        if "problem" not in found:
            before.pop("problem", None)
        if silent_s >= SILENCE_S:
            silent_s = 0.0
            yield ": still here\n\n"
        silent_s += PAUSE_S
        try:
            await asyncio.wait_for(stopping.wait(), PAUSE_S)
        except TimeoutError:
            continue
