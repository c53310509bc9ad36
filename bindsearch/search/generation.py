"""Open generations with their partitions and caches, and the reader that opens the newest one."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Iterable, Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bindsearch.environment import check_libraries
from bindsearch.errors import SnapshotDamagedError, VectorFileLostError
from bindsearch.indexes.gpu.placement import GpuResidency
from bindsearch.search.filter import NO_FILTER, Filter, segment_mask
from bindsearch.search.lru_cache import LruCache
from bindsearch.search.partition import FilteredPartition, Partition
from bindsearch.storage.config import read_config
from bindsearch.storage.snapshot import CURRENT, Snapshot, open_snapshot, read_manifest
from bindsearch.storage.snapshot_checks import REMEDY, Checks
from bindsearch.types import Modality

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from bindsearch.search.sql_filter.columns import FilterColumns
    from bindsearch.search.words.index import WordIndex

logger = logging.getLogger("bindsearch")

FILTER_CACHE_SIZE = 16
"""Number of filters whose bitmaps a generation caches; each takes 2 bytes per segment."""

PLAN_CACHE_SIZE = 256
"""Number of plans that a generation caches."""

OPEN_ATTEMPTS = 5
OPEN_PAUSE_S = 0.03
"""Pause between attempts to open the newest generation.

A writer may remove a generation after CURRENT was read and before its files are opened; the next attempt then finds a
newer one."""


class Generation:
    """An open generation; immutable and thread-safe."""

    def __init__(
        self,
        store: Path,
        snapshot: Snapshot,
        dim: int,
        gpus: GpuResidency | None = None,
        before: Generation | None = None,
        problem: str | None = None,
    ) -> None:
        """Map the vector files of a generation.

        Args:
            store: Folder of the store.
            snapshot: Items and segments of the generation.
            dim: Dimensions of the embedding space.
            gpus: GPUs to search on (None: search on the CPU).
            before: An older generation, whose open indexes are reused if they are unchanged.
            problem: Why the snapshot was read from the catalog; None if it was not.

        Raises:
            VectorFileLostError: a vector file is missing or damaged.
            StoreError: a file cannot be read now.
            InstallationError: FAISS cannot be loaded.
        """
        check_libraries(["faiss"])  # partitions are scanned with FAISS
        self.manifest = manifest = snapshot.manifest
        self.snapshot = snapshot
        self.problem = problem
        older: Mapping[Modality, Partition] = {} if before is None else before.partitions
        self.partitions: dict[Modality, Partition] = {
            modality: Partition(store, self.snapshot, modality, dim, gpus, older.get(modality))
            for modality in manifest.vectors
        }
        self._store = store
        self._older_words: WordIndex | None = None if before is None else before.__dict__.get("words")
        self._filters: LruCache[tuple[NDArray[np.bool_], dict[Modality, FilteredPartition]]] = LruCache(
            FILTER_CACHE_SIZE
        )
        self.plans: dict[object, Any] = {}
        """Plans, of which the engine keeps PLAN_CACHE_SIZE; `lock` is held while they change."""
        self.lock = threading.Lock()

    def filtered(self, modalities: Iterable[Modality], filter: Filter) -> dict[Modality, FilteredPartition]:
        """Return the partitions of some modalities, with the rows that are live and match a filter.

        Raises:
            UsageError: the filter is invalid.
        """
        present = [modality for modality in modalities if modality in self.partitions]
        if filter is NO_FILTER or not filter:
            return {modality: self.partitions[modality].unfiltered for modality in present}
        mask, known = self._filters.get(filter, lambda: (segment_mask(filter, self.snapshot, self._columns), {}))
        for modality in present:
            if modality not in known:
                partition = self.partitions[modality]
                known[modality] = FilteredPartition(partition, partition.mask_of_segments(mask), mask)
        return {modality: known[modality] for modality in present}

    @cached_property
    def words(self) -> WordIndex:
        """Word index of the generation."""
        from bindsearch.search.words.index import WordIndex

        older, self._older_words = self._older_words, None
        return WordIndex(self._store, self.snapshot, older)

    @cached_property
    def _columns(self) -> FilterColumns:
        """Column values for filters, computed once."""
        from bindsearch.search.sql_filter.columns import FilterColumns

        return FilterColumns(self.snapshot)


class Reader:
    """A thread-safe reader of the newest generation; it changes nothing on disk.

    If the snapshot is damaged, the generation is read from the catalog, and a warning is logged.
    """

    def __init__(self, store: Path, gpus: GpuResidency | None = None) -> None:
        """Prepare to read a store; it needs no encoder, and nothing is opened yet.

        Args:
            store: Folder of the store.
            gpus: GPUs to search on (None: search on the CPU).
        """
        self._store = store
        self._gpus = gpus
        self._lock = threading.Lock()
        self._current = os.fspath(store / CURRENT)
        self._opened: tuple[Generation, tuple[int, int, int] | None] | None = None  # with the mark of CURRENT

    def close(self) -> None:
        """Close the open generation."""
        with self._lock:
            self._opened = None

    def current(self) -> Generation:
        """Return the newest generation; open it if CURRENT has changed.

        Raises:
            StoreNotFoundError: there is no store.
            VectorFileLostError: a vector file is missing or damaged.
            StoreError: a file cannot be read now, or the snapshot is damaged and the catalog cannot be read either.
        """
        opened = self._opened
        if opened is not None and opened[1] == self._current_mark():
            return opened[0]
        for attempt in range(OPEN_ATTEMPTS):
            try:
                return self._open()
            except VectorFileLostError:
                if attempt == OPEN_ATTEMPTS - 1:
                    raise
            except SnapshotDamagedError as error:
                problem = error
                if self._current_mark() is None:  # it is replaced in one step, never missing for a while
                    break
            time.sleep(OPEN_PAUSE_S)
        return self._open_from_catalog(problem)

    def _open(self) -> Generation:
        mark = self._current_mark()
        with self._lock:
            before, mark_before = self._opened or (None, None)
            if before is not None and mark == mark_before:
                return before
            manifest = read_manifest(self._store)
            if manifest is None:
                raise SnapshotDamagedError(f"{self._store / CURRENT} is missing: {REMEDY}")
            generation = before
            if generation is None or generation.manifest != manifest:
                with Checks() as checks:
                    snapshot = open_snapshot(self._store, manifest, checks)
                    dim = read_config(self._store).dim
                    generation = Generation(self._store, snapshot, dim, self._gpus, before)
            self._opened = generation, mark
            return generation

    def _open_from_catalog(self, error: SnapshotDamagedError) -> Generation:
        """Return the generation of the catalog; it is kept until CURRENT changes."""
        from bindsearch.storage.session import snapshot_from_catalog  # imported only if a snapshot is damaged

        mark = self._current_mark()
        with self._lock:
            snapshot = snapshot_from_catalog(self._store)
            problem = f"{error}; read from the catalog instead"
            dim = read_config(self._store).dim
            generation = Generation(self._store, snapshot, dim, self._gpus, None, problem)
            self._opened = generation, mark
            logger.warning("%s", problem)
            return generation

    def _current_mark(self) -> tuple[int, int, int] | None:
        """Return inode, mtime and size of CURRENT, which change when it is replaced; None if it does not exist."""
        try:
            status = os.stat(self._current)  # noqa: PTH116  (for every search; a quarter of the time)
        except OSError:
            return None
        return status.st_ino, status.st_mtime_ns, status.st_size
