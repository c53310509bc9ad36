"""A partition: the vectors of one target modality in one generation, ready to be searched."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bindsearch.items import Modality
from bindsearch.snapshot import Snapshot
from bindsearch.space import PartitionStatistics, partition_statistics
from bindsearch.vectors import VECTORS, VectorFile, open_vectors

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from bindsearch.indexes.base import VectorIndex

STATISTICS_SAMPLE = 4096
"""Vectors the mean and covariance are estimated from: their standard error is then under 2% of the deviation."""


class Partition:
    """The n vector rows of one modality, which of them are alive, and the segments that refer to each."""

    def __init__(self, store: Path, snapshot: Snapshot, modality: Modality, dim: int) -> None:
        """Map the vector files of a modality.

        Raises:
            StoreError: one is missing or damaged.
        """
        names = [name for name, _ in snapshot.manifest.vectors.get(modality, ())]
        self.modality = modality
        self._dim = dim
        self._files: list[VectorFile] = [open_vectors(store / VECTORS / modality / name, dim) for name in names]
        self._starts = np.cumsum([0, *(len(file.vector_ids) for file in self._files)])
        rows = snapshot.segment_rows(modality)
        vectors = snapshot.segment_vectors[rows]
        order = np.argsort(vectors, kind="stable")
        self._segment_rows: NDArray[np.int64] = rows[order]
        self._segment_vectors: NDArray[np.int64] = vectors[order]

    @cached_property
    def vector_ids(self) -> NDArray[np.int64]:
        """vector_id of each row: int64 (n,), ascending."""
        return np.concatenate([np.zeros(0, np.int64), *(file.vector_ids for file in self._files)])

    @cached_property
    def alive(self) -> NDArray[np.bool_]:
        """Which rows a segment refers to: bool (n,)."""
        return np.isin(self.vector_ids, self._segment_vectors)

    @cached_property
    def index(self) -> VectorIndex:
        """The index over all rows, dead ones included."""
        from bindsearch.indexes.exact import ExactIndex

        return ExactIndex(self._dim, [file.embeddings for file in self._files])

    @cached_property
    def statistics(self) -> PartitionStatistics:
        """Mean and covariance of the living vectors, from an even sample."""
        living = np.flatnonzero(self.alive)
        chosen = living[np.linspace(0, len(living) - 1, min(len(living), STATISTICS_SAMPLE)).astype(np.int64)]
        return partition_statistics(self.embeddings(chosen))

    def embeddings(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """Vectors of the given rows (m,): float32 (m, d)."""
        out = np.empty((len(rows), self._dim), np.float32)
        file_of = np.searchsorted(self._starts, rows, side="right") - 1
        for number in np.unique(file_of):
            here = file_of == number
            out[here] = self._files[number].embeddings[rows[here] - self._starts[number]]
        return out

    def rows_of_vectors(self, vector_ids: NDArray[np.int64]) -> NDArray[np.int64]:
        """Rows that hold these vectors: int64 (m,)."""
        return np.searchsorted(self.vector_ids, vector_ids)

    def segment_rows_at(self, row: int) -> NDArray[np.int64]:
        """Rows of the snapshot's segments that refer to the vector in `row`."""
        vector_id = self.vector_ids[row]
        low, high = np.searchsorted(self._segment_vectors, [vector_id, vector_id + 1])
        return self._segment_rows[low:high]

    def rows_of_items(self, snapshot: Snapshot, item_ids: NDArray[np.int64]) -> NDArray[np.int64]:
        """Rows that segments of these items refer to."""
        of_items = np.isin(snapshot.segment_items[self._segment_rows], item_ids)
        return self.rows_of_vectors(self._segment_vectors[of_items])
