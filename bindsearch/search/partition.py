"""Partitions: the vectors of one target modality in one generation, with their index."""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bindsearch.errors import IndexDamagedError, SnapshotDamagedError
from bindsearch.indexes.exact import ExactRows, RowBlock
from bindsearch.indexes.gpu.placement import GpuResidency
from bindsearch.indexes.index_files import OpenedIndex, open_gpu_codes, open_index
from bindsearch.indexes.row_mask import RowMask
from bindsearch.indexes.types import IndexForm
from bindsearch.search.plan import IndexFacts, PartitionFacts
from bindsearch.search.scoring.calibration import partition_statistics
from bindsearch.search.scoring.scores import COPY_COSINE, PartitionStatistics
from bindsearch.storage.snapshot import Snapshot
from bindsearch.storage.snapshot_checks import REMEDY
from bindsearch.storage.vector_files import VECTORS, open_stored_vectors
from bindsearch.types import Modality
from bindsearch.vectors import l2_normalize

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from bindsearch.indexes.gpu.index import GpuIndex
    from bindsearch.indexes.ivf_pq import IvfPqIndex
    from bindsearch.indexes.source_classifier import SourceClassifier

logger = logging.getLogger("bindsearch")


@dataclass(frozen=True)
class FilteredPartition:
    """A partition with the filter of a search.

    Attributes:
        partition: The partition.
        rows: Rows that are live and match the filter; None for all.
        segments: True for the segments that match the filter, over the snapshot's rows: bool; None for all.
    """

    partition: Partition
    rows: RowMask | None
    segments: NDArray[np.bool_] | None


STATISTICS_SAMPLE = 4096
"""Sample size for mean and covariance; their standard error is then below 2% of the standard deviation."""

PICTURES = (Modality.IMAGE, Modality.VIDEO)
"""Modalities whose copies may be recognised by their cosine."""

COPIES = 4
"""More copies than most pictures have: if most have that many neighbours as near as copies, these are no copies."""

NEIGHBOUR_SAMPLE = 256
"""Sample size for `neighbour_cosines`: in a sample, copies of one file rarely meet, recordings of one kind do."""


class Partition:
    """The n vector rows of one modality with their segments and index; immutable.

    Files are mapped, and values computed, on first use. A newer generation has its own partitions.
    """

    def __init__(
        self,
        store: Path,
        snapshot: Snapshot,
        modality: Modality,
        dim: int,
        gpus: GpuResidency | None = None,
        before: Partition | None = None,
    ) -> None:
        """Map the vector files of a modality.

        Args:
            store: Folder of the store.
            snapshot: Snapshot of the generation.
            modality: The modality.
            dim: Dimensions of the embedding space.
            gpus: GPUs to search on (None: search on the CPU).
            before: The partition of an older generation, whose open index is reused if it is unchanged.

        Raises:
            StoreError: a file is missing or damaged.
        """
        stored = snapshot.manifest.vectors.get(modality, ())
        files = [open_stored_vectors(store / VECTORS / modality, file, dim) for file in stored]
        self.modality = modality
        self.dim = dim
        self._vector_files = files
        self.rows = ExactRows(dim, [RowBlock(file.embeddings, file.checks) for file in files])
        self.vector_ids: NDArray[np.int64] = (
            files[0].vector_ids
            if len(files) == 1
            else np.concatenate([np.zeros(0, np.int64), *(file.vector_ids for file in files)])
        )
        """vector_id of each row: int64 (n,), ascending."""
        self._store = store
        self._files = snapshot.manifest.vectors
        self._gpus = gpus
        self._published = snapshot.manifest.indexes.get(modality)
        self._snapshot = snapshot
        self._segment_vectors, rows = snapshot.partition_segments(modality)
        if len(self._segment_vectors) and (not len(self.vector_ids) or self._segment_vectors[-1] > self.vector_ids[-1]):
            raise SnapshotDamagedError(f"the snapshot names {modality} vectors that no file holds: {REMEDY}")
        self._segment_rows = _as_range(rows)
        self._lock = threading.Lock()
        self._index: tuple[OpenedIndex | None, str | None] | None = None
        if before is not None and before._published == self._published:
            self._index = before._index
        self._one_to_one = np.array_equal(self._segment_vectors, self.vector_ids)

    @property
    def n(self) -> int:
        """Number of rows, dead ones included."""
        return self.rows.n

    @cached_property
    def blocks(self) -> list[NDArray[np.float16]]:
        """Rows of each vector file, fp16 (m, d), all of them checked.

        Raises:
            VectorFileLostError: a file is damaged.
        """
        return [file.checked_embeddings() for file in self._vector_files]

    @cached_property
    def alive(self) -> RowMask | None:
        """Rows that a segment refers to; None if all rows are live."""
        if self._one_to_one:
            return None
        return RowMask(np.isin(self.vector_ids, self._segment_vectors))

    @cached_property
    def unfiltered(self) -> FilteredPartition:
        """The partition without a filter."""
        with self._lock:
            return FilteredPartition(self, self.alive, None)

    @property
    def live_rows(self) -> int:
        """Number of rows that a segment refers to."""
        return self.n if self.alive is None else self.alive.count

    @property
    def index(self) -> OpenedIndex | None:
        """Published index; None if there is none or if it is damaged (see `index_error`)."""
        return self._opened[0]

    @property
    def index_error(self) -> str | None:
        """Reason why the published index is not used; None if there is no problem."""
        return self._opened[1]

    @cached_property
    def _opened(self) -> tuple[OpenedIndex | None, str | None]:
        if self._published is None:
            return None, None
        with self._lock:  # once, also for generations that share it
            if self._index is None:
                try:
                    self._index = open_index(self._store, self.modality, *self._published), None
                except IndexDamagedError as error:
                    logger.warning("the %s index is not used, searches scan all rows: %s", self.modality, error)
                    self._index = None, str(error)
            return self._index

    @cached_property
    def indexed_rows(self) -> int:
        """Number of rows that the index covers, up to its last vector; later rows are the tail."""
        if self.index is None:
            return 0
        return int(np.searchsorted(self.vector_ids, self.index.manifest.last_vector_id, side="right"))

    @cached_property
    def gpu(self) -> GpuIndex | None:
        """GPU index for candidates, transferred on first use; None if no GPU is used."""
        gpus, opened = self._gpus, self.index
        if gpus is None or not gpus.devices or not self.n:
            return None
        rows = {modality.value: sum(file.rows for file in files) for modality, files in self._files.items()}
        if gpus.holds_exact(self.modality.value, rows, self.dim):
            files = [(file.name, file.rows) for file in self._files[self.modality]]
            return gpus.place_rows(self.modality.value, files, self.blocks)
        if opened is None or opened.manifest.gpu_parameters is None:
            return None
        return gpus.place_codes(self.modality.value, self._published or (), self.open_gpu_codes)

    def open_gpu_codes(self) -> IvfPqIndex:
        """Open the PQ codes for GPUs of the published index.

        Raises:
            IndexDamagedError: the codes are damaged.
        """
        assert self._published is not None
        assert self.index is not None
        return open_gpu_codes(self._store, self._published[0], self.index.manifest)

    @property
    def tail_start(self) -> int:
        """First row that the searched index does not cover; it and later rows are the tail."""
        on_gpu = self.gpu is not None and self.gpu.parameters.form is IndexForm.EXACT
        return self.gpu.n if self.gpu is not None and on_gpu else self.indexed_rows

    @cached_property
    def _row_of_ordinal(self) -> NDArray[np.int64] | None:
        """Row of each vector of the index, -1 if a merge removed it; None if rows and ordinals are the same."""
        assert self.index is not None
        indexed = self.index.vector_ids
        if np.array_equal(indexed, self.vector_ids[: self.indexed_rows]):
            return None
        rows = np.searchsorted(self.vector_ids, indexed)
        rows[self.vector_ids[np.minimum(rows, self.n - 1)] != indexed] = -1
        return rows

    @property
    def moved(self) -> bool:
        """Return whether vectors of the index were removed from the files, so that ordinals and rows differ."""
        return self._row_of_ordinal is not None

    def candidates(
        self, queries: NDArray[np.float32], width: int, probes: int, mask: RowMask | None
    ) -> NDArray[np.int64]:
        """Return candidates from the index, by PQ distance.

        Args:
            queries: float32 (nq, d), unit norm.
            width: Number of candidates per query.
            probes: Number of inverted lists to probe.
            mask: Rows to return (None: all); must be None on a GPU.

        Returns:
            Rows int64 (nq, width), -1 if there are fewer.
        """
        if self.gpu is not None:
            return self._gpu_candidates(self.gpu, queries, width, probes, mask)
        opened = self.index
        assert opened is not None
        assert opened.index is not None
        rows = self._row_of_ordinal
        if rows is None:
            indexed_mask = None if mask is None else mask.slice(0, self.indexed_rows)
            return opened.index.candidates(queries, width, probes, indexed_mask)
        flags = rows >= 0
        if mask is not None:
            flags &= mask.flags[rows]
        ordinals = opened.index.candidates(queries, width, probes, RowMask(flags))
        return np.where(ordinals >= 0, rows[ordinals], -1)

    def _gpu_candidates(
        self, gpu: GpuIndex, queries: NDArray[np.float32], width: int, probes: int, mask: RowMask | None
    ) -> NDArray[np.int64]:
        assert mask is None
        ordinals = gpu.candidates(queries, width, probes)
        rows = None if gpu.parameters.form is IndexForm.EXACT else self._row_of_ordinal
        return ordinals if rows is None else np.where(ordinals >= 0, rows[ordinals], -1)

    @cached_property
    def statistics(self) -> PartitionStatistics:
        """Mean and covariance of the live vectors, from the index if there is one, else from an even sample."""
        if self.index is not None:
            return PartitionStatistics.from_arrays(self.index.statistics, self.dim)
        return partition_statistics(self.sample(STATISTICS_SAMPLE)[1], n=self.live_rows)

    def sample(self, n: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Return at most n evenly spaced live rows int64 (m,), and their vectors float32 (m, d)."""
        live = np.arange(self.n) if self.alive is None else self.alive.positions
        rows = live[np.linspace(0, len(live) - 1, min(len(live), n)).astype(np.int64)]
        return rows, self.rows.embeddings(rows)

    @cached_property
    def neighbour_cosines(self) -> NDArray[np.float32]:
        """Median cosine of a row to the nearest other item, the second nearest, ... in a sample: float32 (COPIES,)."""
        rows, embeddings = self.sample(NEIGHBOUR_SAMPLE)
        return neighbour_cosines(embeddings, self.items_of_rows(rows), COPIES)

    @cached_property
    def has_copies(self) -> bool:
        """True if a cosine of COPY_COSINE shows a copy, not merely something of the same kind."""
        return self.modality in PICTURES and shows_copies(self.neighbour_cosines)

    def items_of_rows(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the item of the first segment of each of these live rows (m,): int64 (m,)."""
        positions, _, item_ids, _ = self.segments_of_rows(rows)
        return item_ids if positions is None else item_ids[np.unique(positions, return_index=True)[1]]

    @cached_property
    def facts(self) -> PartitionFacts:
        """Properties for the planner, without a filter and for an unknown query."""
        index = None
        if self.gpu is not None:
            index = self._gpu_facts(self.gpu)
        elif self.index is not None and self.index.index is not None:
            manifest = self.index.manifest
            parameters = manifest.parameters
            index = IndexFacts(
                n=self.indexed_rows,
                lists=parameters.lists,
                code_bytes=parameters.code_bytes,
                points=manifest.points,
                form=parameters.form,
                recall=manifest.settings.recall,
            )
        return PartitionFacts(self.modality, self.dim, self.n, self.live_rows, self.live_rows, index, self.index_error)

    def _gpu_facts(self, gpu: GpuIndex) -> IndexFacts:
        assert self._gpus is not None
        parameters, device = gpu.parameters, self._gpus.name
        if parameters.form is IndexForm.EXACT:
            # no points: results are exact, and the time hardly depends on the number of rows
            return IndexFacts(gpu.n, gpu.lists, parameters.code_bytes, (), device, parameters.form)
        assert self.index is not None
        manifest = self.index.manifest
        points, recall = manifest.gpu_points, manifest.settings.recall
        return IndexFacts(self.indexed_rows, gpu.lists, parameters.code_bytes, points, device, parameters.form, recall)

    def resemblance(self, query: NDArray[np.float32]) -> tuple[bool | None, Modality | None]:
        """Return what a query (d,) of unit norm is like, for the planner; only where `regions` are known.

        Returns:
            Whether it is in the distribution of the vectors, not across the modality gap; and its predicted source,
            None if unknown.
        """
        assert self.regions is not None
        direction, least_cosine, classifier = self.regions
        source = classifier.predict_source(query)
        return float(direction @ query) >= least_cosine, None if source is None else Modality(source)

    @cached_property
    def regions(self) -> tuple[NDArray[np.float32], float, SourceClassifier] | None:
        """Unit mean of the vectors, the least cosine to it in their distribution, and the regions of query sources."""
        index = self.facts.index
        if index is None or index.form is IndexForm.EXACT:
            return None
        assert self.index is not None
        from bindsearch.indexes.source_classifier import SourceClassifier

        classifier = SourceClassifier.from_arrays(self.index.statistics)
        return l2_normalize(self.statistics.mu), self.index.manifest.in_distribution_cosine, classifier

    def rows_of_vectors(self, vector_ids: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the rows of these vectors: int64 (m,)."""
        return np.searchsorted(self.vector_ids, vector_ids)

    def segments_of_rows(
        self, rows: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64] | None, NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """Return the live segments that refer to the vectors in `rows`.

        Args:
            rows: int64 (m,).

        Returns:
            Position in `rows`, row in the snapshot, item, and the item's number of segments here, of each segment:
            int64 (s,) each; no positions if each row has one segment.
        """
        positions, numbers = None, rows
        if not self._one_to_one:
            vectors = self.vector_ids[rows]
            first = np.searchsorted(self._segment_vectors, vectors)
            counts = np.searchsorted(self._segment_vectors, vectors, side="right") - first
            positions = np.repeat(np.arange(len(rows)), counts)
            numbers = first[positions] + np.arange(len(positions)) - np.repeat(np.cumsum(counts) - counts, counts)
        where = self._segment_rows
        segment_rows = numbers + where.start if isinstance(where, range) else where[numbers]
        chances = np.ones(len(numbers), np.int64) if self._segments_of_items is None else self.chances(segment_rows)
        return positions, segment_rows, self._snapshot.segment_items[segment_rows], chances

    def chances(self, segment_rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the number of segments that the item of each of these segments has here: int64 (m,).

        Args:
            segment_rows: Rows in the snapshot of segments of this partition: int64 (m,).
        """
        if self._segments_of_items is None:
            return np.ones(len(segment_rows), np.int64)
        return self._segments_of_items[self._snapshot.item_of_segment_rows[segment_rows]]

    @cached_property
    def items(self) -> int:
        """Number of items with a segment here."""
        counts = self._segments_of_items
        return len(self._segment_vectors) if counts is None else int(np.count_nonzero(counts))

    @cached_property
    def _segments_of_items(self) -> NDArray[np.int64] | None:
        """Number of segments here of each item, by its row in the snapshot: int64; None if no item has several."""
        rows = self._segment_rows
        where = slice(rows.start, rows.stop) if isinstance(rows, range) else rows
        counts = np.bincount(self._snapshot.item_of_segment_rows[where])
        return None if not len(counts) or counts.max() <= 1 else counts

    def mask_of_segments(self, matching: NDArray[np.bool_]) -> RowMask:
        """Return a mask of the rows with a live segment in `matching`: bool, over the snapshot's segment rows."""
        rows = self._segment_rows
        of_segments = matching[rows.start : rows.stop] if isinstance(rows, range) else matching[rows]
        if self._one_to_one:
            return RowMask(of_segments)
        mask = np.zeros(self.n, np.bool_)
        mask[self.rows_of_vectors(self._segment_vectors[of_segments])] = True
        return RowMask(mask)


def _as_range(rows: NDArray[np.int64]) -> NDArray[np.int64] | range:
    """Return consecutive rows as a range, which saves memory; other rows unchanged."""
    if not len(rows) or rows[-1] - rows[0] != len(rows) - 1 or bool(np.any(rows[1:] < rows[:-1])):
        return rows
    return range(int(rows[0]), int(rows[-1]) + 1)


def neighbour_cosines(rows: NDArray[np.float32], items: NDArray[np.int64], n: int) -> NDArray[np.float32]:
    """Return the median over rows of the cosine to the nearest other item, to the second nearest, ...: float32 (n,).

    They show what the encoder can tell: if half of the rows are as near to another item as copies are, cosines do not
    distinguish copies from what is merely of the same kind.

    Args:
        rows: float32 (m, d), unit norm.
        items: Item of each row: int64 (m,). The cosine to an item is the largest one to its rows.
        n: Number of neighbours; -1 stands for those that there are not.
    """
    order = np.argsort(items, kind="stable")
    rows, items = rows[order], items[order]
    medians = np.full(n, -1.0, np.float32)
    starts = np.flatnonzero(np.diff(items, prepend=-1))
    known = min(n, len(starts) - 1)
    if known > 0:
        cosines = np.maximum.reduceat(rows @ rows.T, starts, axis=1)
        cosines[np.arange(len(rows)), np.searchsorted(items[starts], items)] = -1.0
        nearest = -np.sort(np.partition(-cosines, known - 1, axis=1)[:, :known], axis=1)
        medians[:known] = np.median(nearest, axis=0)
    return medians


def shows_copies(neighbours: NDArray[np.float32]) -> bool:
    """Return whether pictures with these `neighbour_cosines` are told apart, so that COPY_COSINE shows a copy."""
    return bool(neighbours[-1] < COPY_COSINE)
