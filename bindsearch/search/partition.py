"""A partition: the vectors of one target modality in one generation, with its index, ready to be searched."""

from __future__ import annotations

import logging
import threading
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bindsearch.errors import IndexDamagedError
from bindsearch.indexes.exact import ExactRows
from bindsearch.indexes.gpu.index import GpuIndex
from bindsearch.indexes.gpu.placement import GpuResidency
from bindsearch.indexes.ivf_pq import IvfPqIndex
from bindsearch.indexes.row_mask import RowMask
from bindsearch.indexes.source_classifier import SourceClassifier
from bindsearch.indexes.storage import OpenedIndex, open_gpu_codes, open_index
from bindsearch.indexes.types import IndexForm
from bindsearch.search.calibration import PartitionStatistics, partition_statistics
from bindsearch.search.plan import IndexFacts, PartitionFacts
from bindsearch.storage.snapshot import Snapshot
from bindsearch.storage.vector_files import VECTORS, open_vectors
from bindsearch.types import Modality
from bindsearch.vectors import l2_normalize

if TYPE_CHECKING:
    from numpy.typing import NDArray

logger = logging.getLogger("bindsearch")

STATISTICS_SAMPLE = 4096
"""Vectors the mean and covariance are estimated from: their standard error is then under 2% of the deviation."""


class Partition:
    """The n vector rows of one modality, which of them are alive, the segments that refer to each, and the index.

    Everything is mapped or made on first use, and stays as it is: a newer generation has partitions of its own.
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
        """Map the vector files of a modality. `gpus`: where it may be searched (None: on the CPU); `before`: the
        partition of an older generation, whose index is taken over where it is the same one.

        Raises:
            StoreError: one is missing or damaged.
        """
        names = [name for name, _ in snapshot.manifest.vectors.get(modality, ())]
        files = [open_vectors(store / VECTORS / modality / name, dim) for name in names]
        self.modality = modality
        self.dim = dim
        self.blocks = [file.embeddings for file in files]
        self.rows = ExactRows(dim, self.blocks)
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
        self._segment_vectors, rows = snapshot.partition_segments(modality)
        self._segment_rows = _as_range(rows)
        self._lock = threading.Lock()
        if before is not None and before._published == self._published and "_open_once" in before.__dict__:
            self._open_once = before._open_once
        self._one_to_one = np.array_equal(self._segment_vectors, self.vector_ids)

    @property
    def n(self) -> int:
        """Number of rows, dead ones included."""
        return self.rows.n

    @cached_property
    def alive(self) -> RowMask | None:
        """Rows that a segment refers to; None where that is all of them."""
        if self._one_to_one:
            return None
        return RowMask(np.isin(self.vector_ids, self._segment_vectors))

    @property
    def live_rows(self) -> int:
        """Number of rows that a segment refers to."""
        return self.n if self.alive is None else self.alive.count

    @property
    def index(self) -> OpenedIndex | None:
        """The published index; None where there is none, or where it is damaged (see `index_error`)."""
        return self._opened[0]

    @property
    def index_error(self) -> str | None:
        """Why an index that should be here is not used."""
        return self._opened[1]

    @property
    def _opened(self) -> tuple[OpenedIndex | None, str | None]:
        with self._lock:  # opened on first use, once
            return self._open_once

    @cached_property
    def _open_once(self) -> tuple[OpenedIndex | None, str | None]:
        if self._published is None:
            return None, None
        try:
            return open_index(self._store, self.modality, *self._published), None
        except IndexDamagedError as error:
            logger.warning("the %s index is not used, rows are scanned instead: %s", self.modality, error)
            return None, str(error)

    @cached_property
    def indexed_rows(self) -> int:
        """Rows that the index covers: those up to the last vector it holds. The rest is the tail."""
        if self.index is None:
            return 0
        return int(np.searchsorted(self.vector_ids, self.index.manifest.last_vector_id, side="right"))

    @cached_property
    def gpu(self) -> GpuIndex | None:
        """What gives candidates on GPUs; None where none is used. Put there on first use."""
        gpus, opened = self._gpus, self.index
        if gpus is None or not gpus.devices or not self.n:
            return None
        rows = {modality.value: sum(n for _, n in files) for modality, files in self._files.items()}
        if gpus.holds_exact(self.modality.value, rows, self.dim):
            return gpus.place_rows(self.modality.value, self._files[self.modality], self.blocks)
        if opened is None or opened.manifest.gpu_parameters is None:
            return None
        return gpus.place_codes(self.modality.value, self._published or (), self.open_gpu_codes)

    def open_gpu_codes(self) -> IvfPqIndex:
        """The codes for GPUs that the published index has, where it has some.

        Raises:
            IndexDamagedError: they cannot be used.
        """
        assert self._published is not None
        assert self.index is not None
        return open_gpu_codes(self._store, self._published[0], self.index.manifest)

    @property
    def tail_start(self) -> int:
        """The first row that what is searched for candidates does not hold: it and those after it are the tail."""
        on_gpu = self.gpu is not None and self.gpu.parameters.form is IndexForm.EXACT
        return self.gpu.n if self.gpu is not None and on_gpu else self.indexed_rows

    @cached_property
    def _row_of_ordinal(self) -> NDArray[np.int64] | None:
        """Row of each vector of the index, -1 where it has gone with a merge; None where they are the same."""
        assert self.index is not None
        indexed = self.index.vector_ids
        if np.array_equal(indexed, self.vector_ids[: self.indexed_rows]):
            return None
        rows = np.searchsorted(self.vector_ids, indexed)
        rows[self.vector_ids[np.minimum(rows, self.n - 1)] != indexed] = -1
        return rows

    @property
    def moved(self) -> bool:
        """Whether vectors that the index holds have gone from the files, so that ordinals and rows differ."""
        return self._row_of_ordinal is not None

    def candidates(
        self, queries: NDArray[np.float32], width: int, probes: int, mask: RowMask | None
    ) -> NDArray[np.int64]:
        """Rows (nq, width) that the index's codes say are nearest, -1 where there are fewer; only those in `mask`,
        which a GPU cannot be given."""
        if self.gpu is not None:
            return self._gpu_candidates(self.gpu, queries, width, probes, mask)
        opened = self.index
        assert opened is not None
        assert opened.index is not None
        rows = self._row_of_ordinal
        if rows is None:
            within = None if mask is None else mask.slice(0, self.indexed_rows)
            return opened.index.candidates(queries, width, probes, within)
        kept = rows >= 0
        if mask is not None:
            kept &= mask.flags[rows]
        ordinals = opened.index.candidates(queries, width, probes, RowMask(kept))
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
        """Mean and covariance of the living vectors: those kept with the index, else from an even sample."""
        if self.index is not None:
            return PartitionStatistics.from_arrays(self.index.statistics, self.dim)
        return partition_statistics(self.sample(STATISTICS_SAMPLE)[1], n=self.live_rows)

    def sample(self, n: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """At most n living rows (m,), evenly spread, and their vectors (m, d)."""
        living = np.arange(self.n) if self.alive is None else self.alive.positions
        rows = living[np.linspace(0, len(living) - 1, min(len(living), n)).astype(np.int64)]
        return rows, self.rows.embeddings(rows)

    @cached_property
    def facts(self) -> PartitionFacts:
        """What the planner is told of it where nothing is filtered and the query is not known."""
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
        if (
            parameters.form is IndexForm.EXACT
        ):  # no points: as good as exact, in the time of the call, whatever the rows
            return IndexFacts(gpu.n, gpu.lists, parameters.code_bytes, (), device, parameters.form)
        assert self.index is not None
        manifest = self.index.manifest
        points, recall = manifest.gpu_points, manifest.settings.recall
        return IndexFacts(self.indexed_rows, gpu.lists, parameters.code_bytes, points, device, parameters.form, recall)

    def in_distribution(self, query: NDArray[np.float32]) -> bool:
        """Return whether a query (d,) lies among the vectors, not across the gap between modalities."""
        assert self.index is not None
        return float(self._direction @ query) >= self.index.manifest.in_distribution_cosine

    def predict_source(self, query: NDArray[np.float32]) -> Modality | None:
        """The modality among whose queries a query (d,) lies; None where that is not known."""
        source = self._regions.predict_source(query)
        return None if source is None else Modality(source)

    @cached_property
    def _regions(self) -> SourceClassifier:
        assert self.index is not None
        return SourceClassifier.from_arrays(self.index.statistics)

    @cached_property
    def _direction(self) -> NDArray[np.float32]:
        return l2_normalize(self.statistics.mu)

    def rows_of_vectors(self, vector_ids: NDArray[np.int64]) -> NDArray[np.int64]:
        """Rows that hold these vectors: int64 (m,)."""
        return np.searchsorted(self.vector_ids, vector_ids)

    def segments_of_rows(self, rows: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Living segments that refer to the vectors in `rows` (m,): for each its place in `rows` and its row in the
        snapshot, int64 (s,) both."""
        if self._one_to_one:
            return np.arange(len(rows)), self._segments(rows)
        vectors = self.vector_ids[rows]
        first = np.searchsorted(self._segment_vectors, vectors)
        counts = np.searchsorted(self._segment_vectors, vectors, side="right") - first
        places = np.repeat(np.arange(len(rows)), counts)
        offsets = np.arange(len(places)) - np.repeat(np.cumsum(counts) - counts, counts)
        return places, self._segments(first[places] + offsets)

    def _segments(self, numbers: NDArray[np.int64]) -> NDArray[np.int64]:
        """Rows in the snapshot of those of the partition's segments: int64 (m,)."""
        held = self._segment_rows
        return numbers + held.start if isinstance(held, range) else held[numbers]

    def mask_of_segments(self, kept: NDArray[np.bool_]) -> RowMask:
        """Rows that a living segment refers to which `kept`, over the snapshot's segment rows, lets pass."""
        held = self._segment_rows
        of_segments = kept[held.start : held.stop] if isinstance(held, range) else kept[held]
        if self._one_to_one:
            return RowMask(of_segments)
        mask = np.zeros(self.n, np.bool_)
        mask[self.rows_of_vectors(self._segment_vectors[of_segments])] = True
        return RowMask(mask)


def _as_range(rows: NDArray[np.int64]) -> NDArray[np.int64] | range:
    """Rows that follow one another as a range, which holds no memory; others as they are."""
    if not len(rows) or rows[-1] - rows[0] != len(rows) - 1 or bool(np.any(rows[1:] < rows[:-1])):
        return rows
    return range(int(rows[0]), int(rows[-1]) + 1)
