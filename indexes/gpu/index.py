"""FAISS on GPUs: one GPU, and a partition's rows or codes placed on GPUs.

FAISS silently ignores filters on a GPU, so nothing here accepts one. Its GPU indexes must not be called by two threads
at once, not even to search, nor may indexes that share resources: a `GpuIndex` has resources of its own, and a
`CallQueue` that serializes all its searches.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from bindsearch.indexes.types import IndexParameters, SearchResult

if TYPE_CHECKING:
    import faiss


QUEUE_QUERIES = 1024
"""Maximum number of queries of several callers that are joined into one call."""

Job = Callable[["NDArray[np.float32]"], SearchResult]
"""Searches for queries float32 (nq, d). Equal jobs may be joined, so a job defines when it equals another."""


@dataclass(eq=False)
class _Request:
    """Queries of one caller that wait for their turn, and their result or error."""

    job: Job
    queries: NDArray[np.float32]
    result: SearchResult | None = None
    error: BaseException | None = None

    @property
    def done(self) -> bool:
        return self.result is not None or self.error is not None


class CallQueue:
    """Runs one call at a time; calls that wait are joined.

    A caller that finds the queue free runs its job, together with the waiting requests whose jobs are equal. Under
    load the calls become larger, and an idle queue adds no delay.
    """

    def __init__(self, most: int = QUEUE_QUERIES) -> None:
        """Join up to `most` queries; a single request may have more."""
        self._most = most
        self._changed = threading.Condition()
        self._waiting: list[_Request] = []
        self._busy = False

    def run(self, job: Job, queries: NDArray[np.float32]) -> SearchResult:
        """Return the result of `job` for queries float32 (nq, d); errors of the joined call are raised here."""
        request = _Request(job, queries)
        with self._changed:
            self._waiting.append(request)
            self._changed.wait_for(lambda: request.done or not self._busy)
            batch = [] if request.done else self._take(request)
        if batch:
            self._serve(batch)
        if request.error is not None:
            raise request.error
        assert request.result is not None
        return request.result

    def _take(self, first: _Request) -> list[_Request]:
        """Remove and return the requests with the job of `first`, which comes first; mark the queue busy."""
        self._busy = True
        batch, remaining, count = [first], [], len(first.queries)
        for request in self._waiting:
            if request is first:
                continue
            if request.job == first.job and count + len(request.queries) <= self._most:
                batch.append(request)
                count += len(request.queries)
            else:
                remaining.append(request)
        self._waiting = remaining
        return batch

    def _serve(self, batch: Sequence[_Request]) -> None:
        """Run the job of some requests once, for the queries of all, and pass each its result, or the error."""
        error: BaseException | None = None
        answers: list[SearchResult] = []
        try:
            if len(batch) == 1:
                answers = [batch[0].job(batch[0].queries)]
            else:
                result = batch[0].job(np.concatenate([request.queries for request in batch]))
                edges = np.cumsum([len(request.queries) for request in batch])[:-1]
                parts = zip(*(np.split(part, edges) for part in result), strict=True)
                answers = [SearchResult(*part) for part in parts]
        except BaseException as raised:  # passed to every caller; without it they would wait forever
            error = raised
        with self._changed:
            for number, request in enumerate(batch):
                request.result, request.error = (answers[number], None) if error is None else (None, error)
            self._busy = False
            self._changed.notify_all()


GPU_LIMIT = 2048
"""Maximum number of candidates and of probes that FAISS supports on a GPU."""

TEMPORARY_SHARE = 1 / 40
"""Share of the free GPU memory for the temporary memory of one index: a store has at most seven indexes."""

TEMPORARY_BYTES = (64 * 2**20, 1536 * 2**20)
"""Minimum and maximum of the temporary memory, in bytes; the maximum is FAISS's default."""


class Gpu:
    """One GPU as FAISS uses it.

    The indexes it creates share resources and are for one thread at a time; see `with_own_resources`.
    """

    def __init__(self, number: int) -> None:
        """Refer to the GPU `number`, as in "cuda:N"."""
        self.number = number

    @cached_property
    def _resources(self) -> faiss.StandardGpuResources:
        import faiss

        least, most = TEMPORARY_BYTES
        resources = faiss.StandardGpuResources()
        resources.setTempMemory(int(max(least, min(most, TEMPORARY_SHARE * self.free_bytes()))))
        resources.setPinnedMemory(0)  # only used for calls with 0.25 GB of queries
        return resources

    def with_own_resources(self) -> Gpu:
        """Return the same GPU with resources of its own."""
        return Gpu(self.number)

    def free_bytes(self) -> int:
        """Return the free memory in bytes, 0 if CUDA cannot report it.

        Calls the CUDA runtime that FAISS has loaded: FAISS's Python module does not expose this function.
        """
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
        """Return an empty FAISS index that scores all rows there by inner product, stored in fp16 or float32."""
        import faiss

        config = faiss.GpuIndexFlatConfig()
        config.device = self.number
        config.useFloat16 = half
        return faiss.GpuIndexFlat(self._resources, dim, faiss.METRIC_INNER_PRODUCT, config)

    def copy(self, lists: Any, reserve: int = 0) -> Any:
        """Return a copy of the IndexIVFPQ `lists` on this GPU; with room for `reserve` rows if it is empty."""
        import faiss

        options = faiss.GpuClonerOptions()
        options.useFloat16 = True  # lookup tables: needed for codes of 56 bytes and more
        options.usePrecomputed = False
        options.indicesOptions = faiss.INDICES_64_BIT  # type: ignore[attr-defined]  # its stubs lack it
        options.reserveVecs = reserve
        return faiss.index_cpu_to_gpu(self._resources, self.number, lists, options)

    def fetch(self, lists: Any) -> Any:
        """Return a copy on the CPU of the GPU's index `lists`: an IndexIVFPQ with the same codes."""
        import faiss

        return faiss.index_gpu_to_cpu(lists)


@dataclass(frozen=True, eq=False)
class Shard:
    """A FAISS index on the GPU at a position in the list of GPUs; `first` is added to the ids that it returns."""

    gpu: int
    index: Any
    first: int = 0


@dataclass(frozen=True)
class _Search:
    """A job of the queue; equal if index, width and probes are."""

    index: GpuIndex
    width: int
    probes: int

    def __call__(self, queries: NDArray[np.float32]) -> SearchResult:
        return self.index.search(queries, self.width, self.probes)


class GpuIndex:
    """A partition's rows on GPUs, as fp16 rows or 8-bit codes. Immutable: threads may share it."""

    def __init__(
        self,
        shards: Sequence[Shard],
        dim: int,
        parameters: IndexParameters,
        pool: ThreadPoolExecutor | None = None,
        reduction: NDArray[np.float32] | None = None,
    ) -> None:
        """Search `shards`.

        Args:
            shards: the FAISS indexes.
            dim: dimensions of queries.
            parameters: parameters of the index.
            pool: runs the shards of several GPUs at once.
            reduction: float32 (r, d), applied to queries; None: no reduction.
        """
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
        """Return ordinals int64 (nq, width) of the rows nearest to each query (nq, d), nearest first.

        They are ranked by codes in the `probes` nearest lists, or by rows; -1 where there are fewer, and beyond
        GPU_LIMIT. No mask can be given: deleted rows are returned too.
        """
        assert mask is None  # FAISS would ignore it
        queries = np.ascontiguousarray(queries, np.float32)
        depth = max(1, min(width, self.n, GPU_LIMIT))
        ordinals = self._queue.run(_Search(self, depth, min(probes, self.lists, GPU_LIMIT)), queries).positions
        if depth == width:
            return ordinals
        return np.pad(ordinals, ((0, 0), (0, width - depth)), constant_values=-1)

    def search(self, queries: NDArray[np.float32], width: int, probes: int) -> SearchResult:
        """Return ordinals and scores (nq, width), best first; for one thread at a time: that of the queue."""
        if self._reduction is not None:
            queries = queries @ self._reduction.T

        def search_gpu(shards: Sequence[Shard]) -> list[SearchResult]:
            return [_search_shard(shard, queries, width, probes if self.parameters.lists else 0) for shard in shards]

        each = self._pool.map if self._pool is not None and len(self._shards) > 1 else map
        parts = [part for results in each(search_gpu, self._shards) for part in results]
        if len(parts) == 1:
            return parts[0]
        positions, scores = (np.concatenate(column, axis=1) for column in zip(*parts, strict=True))
        order = np.argsort(-scores, axis=1, kind="stable")[:, :width]
        return SearchResult(np.take_along_axis(positions, order, axis=1), np.take_along_axis(scores, order, axis=1))


def _search_shard(shard: Shard, queries: NDArray[np.float32], width: int, probes: int) -> SearchResult:
    """Return the results of one FAISS index, (nq, width); `probes` 0: it has no lists."""
    import faiss

    # FAISS's wrapper takes the fields as keywords, which its stubs lack.
    parameters = faiss.SearchParametersIVF(nprobe=probes) if probes else None  # type: ignore[call-arg]
    scores, ids = shard.index.search(queries, width, params=parameters)
    missing = ids < 0
    if missing.any():
        ids[missing], scores[missing] = -1, -np.inf
    if shard.first:
        ids[~missing] += shard.first
    return SearchResult(ids, scores)
