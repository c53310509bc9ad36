"""Generations as readers hold them: snapshot, partitions, what was worked out about them; and the newest one."""

from __future__ import annotations

import contextlib
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Generic, TypeVar

from bindsearch.environment import check_libraries
from bindsearch.errors import StoreError, StoreNotFoundError
from bindsearch.indexes.gpu.placement import GpuResidency
from bindsearch.indexes.row_mask import RowMask
from bindsearch.indexes.types import IndexForm
from bindsearch.search.executor import FilteredPartition
from bindsearch.search.filter import Filter, segment_mask
from bindsearch.search.partition import Partition
from bindsearch.search.plan import PartitionFacts, Plan
from bindsearch.storage.config import read_config
from bindsearch.storage.snapshot import CURRENT, Manifest, open_snapshot, read_manifest
from bindsearch.types import Modality

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from bindsearch.search.sql_filter.columns import FilterColumns

FILTER_CACHE_SIZE = 16
"""Filters whose bitmaps a generation remembers: 2 bytes a segment each."""

PLAN_CACHE_SIZE = 256

OPEN_ATTEMPTS = 5
OPEN_PAUSE_S = 0.03
"""A writer may retire a generation between reading CURRENT and opening its files; the next look finds a newer one."""

Value = TypeVar("Value")


class _LruCache(Generic[Value]):
    """The last values made, by key. Thread-safe; a value may be made twice at the same time, and one is kept."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._values: OrderedDict[Hashable, Value] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: Hashable, make: Callable[[], Value]) -> Value:
        with self._lock:
            if key in self._values:
                self._values.move_to_end(key)
                return self._values[key]
        value = make()
        with self._lock:
            self._values[key] = value
            while len(self._values) > self._size:
                self._values.popitem(last=False)
        return value


@dataclass(frozen=True)
class _Mask:
    """Result of a filter: segments of the snapshot, and rows of each partition, made on first use."""

    segments: NDArray[np.bool_]
    rows: dict[Modality, RowMask]


class Generation:
    """One generation, open. It never changes; many threads may search it."""

    def __init__(
        self,
        store: Path,
        manifest: Manifest,
        dim: int,
        gpus: GpuResidency | None = None,
        before: Generation | None = None,
    ) -> None:
        """Map it. `gpus`: where it may be searched (None: on the CPU); `before`: an older one, of which indexes that
        are the same are taken over.

        Raises:
            StoreError: a file of it is missing or damaged.
            InstallationError: FAISS cannot be loaded.
        """
        check_libraries(["faiss"])  # partitions are scanned with it
        self.manifest = manifest
        self.snapshot = open_snapshot(store, manifest)
        older: Mapping[Modality, Partition] = {} if before is None else before.partitions
        self.partitions: dict[Modality, Partition] = {
            modality: Partition(store, self.snapshot, modality, dim, gpus, older.get(modality))
            for modality in manifest.vectors
        }
        self._filters: _LruCache[_Mask] = _LruCache(FILTER_CACHE_SIZE)
        self._plans: _LruCache[Plan] = _LruCache(PLAN_CACHE_SIZE)
        self._lock = threading.Lock()

    def searched(self, modality: Modality, filter: Filter) -> FilteredPartition:
        """A partition with what the filter and deletions leave of it.

        Raises:
            UsageError: the filter cannot be used.
        """
        partition = self.partitions[modality]
        if not filter:
            with self._lock:
                return FilteredPartition(partition, partition.alive, None)
        mask = self._filters.get(filter, lambda: _Mask(segment_mask(filter, self.snapshot, self._columns), {}))
        if modality not in mask.rows:
            mask.rows[modality] = partition.mask_of_segments(mask.segments)
        return FilteredPartition(partition, mask.rows[modality], mask.segments)

    def facts(self, place: FilteredPartition, vector: NDArray[np.float32] | None) -> PartitionFacts:
        """Return what the planner is told of a partition; `vector`: the query (d,), where it is known."""
        partition = place.partition
        facts = partition.facts
        kept = facts.live_rows if place.rows is None else place.rows.count
        inside = lies_among = None
        if vector is not None and facts.index is not None and facts.index.form is not IndexForm.EXACT:
            inside, lies_among = partition.in_distribution(vector), partition.predict_source(vector)
        runs = None if place.rows is None else place.rows.runs
        return replace(facts, matching_rows=kept, in_distribution=inside, runs=runs, predicted_source=lies_among)

    @cached_property
    def _columns(self) -> FilterColumns:
        """What filters look at, worked out once."""
        from bindsearch.search.sql_filter.columns import FilterColumns

        return FilterColumns(self.snapshot)

    def plan(self, key: Hashable, make: Callable[[], Plan]) -> Plan:
        """A plan made before for the same key, or a new one."""
        return self._plans.get(key, make)


class Reader:
    """Opens a generation when CURRENT names another one than before; a damaged one is rebuilt. Thread-safe."""

    def __init__(
        self, store: Path, dim: Callable[[], int], rebuild: Callable[[], None], gpus: GpuResidency | None = None
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
        """Return what tells one CURRENT from the next without reading it: it is replaced, never written to."""
        try:
            found = (self._store / CURRENT).stat()
        except OSError:
            return None
        return found.st_ino, found.st_mtime_ns, found.st_size


def open_reader(store: Path, gpus: GpuResidency | None = None) -> Reader:
    """Return a reader of a store; no encoder is asked for, and nothing is opened yet."""

    def dim() -> int:
        return read_config(store).dim

    def rebuild() -> None:
        from bindsearch.storage.session import rebuild_snapshot  # the writer loads where a snapshot is damaged

        rebuild_snapshot(store, dim)

    return Reader(store, dim, rebuild, gpus)
