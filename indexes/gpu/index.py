"""A GPU as FAISS uses it, and a partition's rows or codes that lie on GPUs.

FAISS ignores filters on a GPU without a word, so nothing here takes one. Its GPU indexes must not be called by two
threads at once, not even to search, nor may those that share its resources: a `GpuIndex` has resources of its own, and
a `CallQueue` that all its searches go through.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from bindsearch.indexes.gpu.call_queue import CallQueue
from bindsearch.indexes.types import IndexParameters, SearchResult

if TYPE_CHECKING:
    import faiss
    from numpy.typing import NDArray

GPU_LIMIT = 2048
"""Candidates and probes that FAISS gives at most on a GPU."""

TEMPORARY_SHARE = 1 / 40
"""Of the free GPU memory, for what one index computes with: a store has seven of them at most."""

TEMPORARY_BYTES = (64 * 2**20, 1536 * 2**20)
"""The least and the most of it; the most is FAISS's own choice."""


class Gpu:
    """One GPU as FAISS uses it. What it makes shares resources, and is for one thread at a time; see `fresh`."""

    def __init__(self, number: int) -> None:
        """`number` as in "cuda:N"."""
        self.number = number

    @cached_property
    def _resources(self) -> faiss.StandardGpuResources:
        import faiss

        least, most = TEMPORARY_BYTES
        resources = faiss.StandardGpuResources()
        resources.setTempMemory(int(max(least, min(most, TEMPORARY_SHARE * self.free_bytes()))))
        resources.setPinnedMemory(0)  # only used for a quarter of a GB of queries at once
        return resources

    def with_own_resources(self) -> Gpu:
        """The same GPU with resources of its own."""
        return Gpu(self.number)

    def free_bytes(self) -> int:
        """Memory that is free now, 0 where CUDA does not tell. Asked of the CUDA runtime that FAISS has loaded, since
        FAISS does not pass it on to Python."""
        from faiss import swigfaiss

        library: Any = swigfaiss
        cuda = ctypes.CDLL(library._swigfaiss.__file__)
        before, free, total = ctypes.c_int(0), ctypes.c_size_t(0), ctypes.c_size_t(0)
        cuda.cudaGetDevice(ctypes.byref(before))
        cuda.cudaSetDevice(self.number)
        failed = cuda.cudaMemGetInfo(ctypes.byref(free), ctypes.byref(total))
        cuda.cudaSetDevice(before)
        return 0 if failed else free.value

    def flat(self, dim: int, *, half: bool = True) -> Any:
        """An empty FAISS index that scores all rows there by inner product, kept in fp16 or float32."""
        import faiss

        config = faiss.GpuIndexFlatConfig()
        config.device = self.number
        config.useFloat16 = half
        return faiss.GpuIndexFlat(self._resources, dim, faiss.METRIC_INNER_PRODUCT, config)

    def copy(self, lists: Any, reserve: int = 0) -> Any:
        """FAISS's index there with the same codes as the IndexIVFPQ `lists`; with room for `reserve` rows if empty."""
        import faiss

        options = faiss.GpuClonerOptions()
        options.useFloat16 = True  # of the lookup tables: codes of 56 bytes and more fit no other way
        options.usePrecomputed = False
        options.indicesOptions = faiss.INDICES_64_BIT  # type: ignore[attr-defined]  # its stubs lack it
        options.reserveVecs = reserve
        return faiss.index_cpu_to_gpu(self._resources, self.number, lists, options)

    def fetch(self, lists: Any) -> Any:
        """An IndexIVFPQ on the CPU with the same codes as `lists` there."""
        import faiss

        return faiss.index_gpu_to_cpu(lists)


@dataclass(frozen=True, eq=False)
class Shard:
    """A FAISS index on the GPU of that place in the list of them; `first` is added to the ids it finds."""

    gpu: int
    index: Any
    first: int = 0


@dataclass(frozen=True)
class _Search:
    """A job of the queue. Equal where index, width and probes are."""

    index: GpuIndex
    width: int
    probes: int

    def __call__(self, queries: NDArray[np.float32]) -> SearchResult:
        return self.index.search(queries, self.width, self.probes)


class GpuIndex:
    """A partition's rows on GPUs, as fp16 rows or 8-bit codes. Threads may share it; it never changes."""

    def __init__(
        self,
        shards: Sequence[Shard],
        dim: int,
        parameters: IndexParameters,
        pool: ThreadPoolExecutor | None = None,
        reduction: NDArray[np.float32] | None = None,
    ) -> None:
        """`pool` runs the shards of several GPUs at once; `reduction` (r, d): applied to queries (None: none)."""
        self.parameters = parameters
        self.dim = dim
        self.n = sum(int(shard.index.ntotal) for shard in shards)
        self.lists = max(parameters.lists, 1)
        self._queue = CallQueue()
        self._pool = pool
        self._reduction = reduction
        gpus = sorted({shard.gpu for shard in shards})
        self._shards = [[shard for shard in shards if shard.gpu == gpu] for gpu in gpus]

    def candidates(self, queries: NDArray[np.float32], width: int, probes: int, mask: None = None) -> NDArray[np.int64]:
        """Ordinals int64 (nq, width) of the rows that are nearest to each query (nq, d), by codes in the `probes`
        nearest lists or by rows, nearest first; -1 where there are fewer, and beyond GPU_LIMIT.

        No mask can be given: deleted rows are among them too.
        """
        assert mask is None  # FAISS would ignore it
        queries = np.ascontiguousarray(queries, np.float32)
        depth = max(1, min(width, self.n, GPU_LIMIT))
        ordinals = self._queue.run(_Search(self, depth, min(probes, self.lists, GPU_LIMIT)), queries).positions
        return np.pad(ordinals, ((0, 0), (0, width - depth)), constant_values=-1)

    def search(self, queries: NDArray[np.float32], width: int, probes: int) -> SearchResult:
        """Ordinals and scores (nq, width), best first. Only for one thread at a time: that of the queue."""
        if self._reduction is not None:
            queries = queries @ self._reduction.T

        def search_gpu(shards: Sequence[Shard]) -> list[SearchResult]:
            return [_search_shard(shard, queries, width, probes if self.parameters.lists else 0) for shard in shards]

        each = self._pool.map if self._pool is not None and len(self._shards) > 1 else map
        parts = [part for found in each(search_gpu, self._shards) for part in found]
        if len(parts) == 1:
            return parts[0]
        positions, scores = (np.concatenate(column, axis=1) for column in zip(*parts, strict=True))
        order = np.argsort(-scores, axis=1, kind="stable")[:, :width]
        return SearchResult(np.take_along_axis(positions, order, axis=1), np.take_along_axis(scores, order, axis=1))


def _search_shard(shard: Shard, queries: NDArray[np.float32], width: int, probes: int) -> SearchResult:
    """Return what one FAISS index finds, (nq, width); `probes` 0: it has no lists."""
    import faiss

    # FAISS's wrapper takes the fields by name, which its stubs do not tell.
    parameters = faiss.SearchParametersIVF(nprobe=probes) if probes else None  # type: ignore[call-arg]
    scores, ids = shard.index.search(queries, width, params=parameters)
    scores[ids < 0] = -np.inf
    return SearchResult(np.where(ids < 0, -1, ids + shard.first), scores)
