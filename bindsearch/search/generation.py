"""A generation as a reader holds it: snapshot, partitions, and what was worked out about them once."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Generic, TypeVar

from bindsearch.indexes.gpu.placement import Gpus
from bindsearch.indexes.row_mask import RowMask
from bindsearch.indexes.types import Form
from bindsearch.search.executor import Searched
from bindsearch.search.filter import Filter, segment_mask
from bindsearch.search.partition import Partition
from bindsearch.search.plan import PartitionFacts, Plan
from bindsearch.search.sql_filter.columns import FilterColumns
from bindsearch.storage.snapshot import Manifest, open_snapshot
from bindsearch.types import Modality

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

KEPT_FILTERS = 16
"""Filters whose bitmaps a generation remembers: 2 bytes a segment each."""

KEPT_PLANS = 256

Value = TypeVar("Value")


class _Recent(Generic[Value]):
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
    """What a filter keeps: segments of the snapshot, and rows of each partition, made on first use."""

    segments: NDArray[np.bool_]
    rows: dict[Modality, RowMask]


class Generation:
    """One generation, open. It never changes; many threads may search it."""

    def __init__(
        self,
        store: Path,
        manifest: Manifest,
        dim: int,
        gpus: Gpus | None = None,
        before: Generation | None = None,
    ) -> None:
        """Map it. `gpus`: where it may be searched (None: on the CPU); `before`: an older one, of which indexes that
        are the same are taken over.

        Raises:
            StoreError: a file of it is missing or damaged.
        """
        self.manifest = manifest
        self.snapshot = open_snapshot(store, manifest)
        older: Mapping[Modality, Partition] = {} if before is None else before.partitions
        self.partitions: dict[Modality, Partition] = {
            modality: Partition(store, self.snapshot, modality, dim, gpus, older.get(modality))
            for modality in manifest.vectors
        }
        self._filters: _Recent[_Mask] = _Recent(KEPT_FILTERS)
        self._plans: _Recent[Plan] = _Recent(KEPT_PLANS)
        self._lock = threading.Lock()

    def searched(self, modality: Modality, filter: Filter) -> Searched:
        """A partition with what the filter and deletions leave of it.

        Raises:
            UsageError: the filter cannot be used.
        """
        partition = self.partitions[modality]
        if not filter:
            with self._lock:
                return Searched(partition, partition.alive, None)
        mask = self._filters.get(filter, lambda: _Mask(segment_mask(filter, self.snapshot, self._columns), {}))
        if modality not in mask.rows:
            mask.rows[modality] = partition.mask_of_segments(mask.segments)
        return Searched(partition, mask.rows[modality], mask.segments)

    def facts(self, place: Searched, vector: NDArray[np.float32] | None) -> PartitionFacts:
        """What the planner is told of a partition; `vector`: the query (d,), where it is known."""
        partition = place.partition
        facts = partition.facts
        kept = facts.living if place.rows is None else place.rows.count
        inside = lies_among = None
        if vector is not None and facts.index is not None and facts.index.form is not Form.EXACT:
            inside, lies_among = partition.holds(vector), partition.source_of(vector)
        runs = None if place.rows is None else place.rows.runs
        return replace(facts, kept=kept, inside=inside, runs=runs, lies_among=lies_among)

    @cached_property
    def _columns(self) -> FilterColumns:
        """What filters look at, worked out once."""
        return FilterColumns(self.snapshot)

    def plan(self, key: Hashable, make: Callable[[], Plan]) -> Plan:
        """A plan made before for the same key, or a new one."""
        return self._plans.get(key, make)
