"""Exact search over fp16 rows: the reference every index is measured against, and the fastest form when small.

FAISS reads the rows where they are, in mapped files as well: its own fp16 codes are the same bytes. A row has the same
cosine whichever way it is scored, so that exact scans and reranked candidates agree to the last bit.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from bindsearch.indexes.omp_threads import one_thread
from bindsearch.indexes.row_mask import RowMask, selector
from bindsearch.indexes.types import SearchResult

if TYPE_CHECKING:
    import faiss
    from numpy.typing import NDArray

SMALL_ROWS = 1024
"""Neighbouring blocks of fewer rows than this are copied together: each block costs a call of about 40 us."""

JOINED_ROWS = 8192
"""Rows copied together at most, so that what is held in memory stays small beside what is mapped."""


def decode(rows: NDArray[np.float16]) -> NDArray[np.float32]:
    """The same rows (n, d) as float32, faster than NumPy converts them."""
    import faiss

    codec = faiss.IndexScalarQuantizer(rows.shape[1], faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT)
    codec.is_trained = True
    decoded: NDArray[np.float32] = codec.sa_decode(np.ascontiguousarray(rows).view(np.uint8))
    return decoded


class _Block(NamedTuple):
    """Rows start.. of a partition: fp16 (m, d), and FAISS's view of them."""

    start: int
    rows: NDArray[np.float16]
    view: faiss.IndexScalarQuantizer


class ExactRows:
    """The n fp16 rows of d dimensions of a partition. Nothing in it ever changes: threads may share it."""

    def __init__(self, dim: int, blocks: Sequence[NDArray[np.float16]]) -> None:
        """Look at the rows of all `blocks`, each fp16 (m, dim), in order; they must not change afterwards."""
        self.dim = dim
        self._blocks: list[_Block] = []
        start = 0
        for rows in _join_small(blocks):
            self._blocks.append(_Block(start, rows, _view(rows)))
            start += len(rows)
        self.n = start
        self._starts = np.array([block.start for block in self._blocks], np.int64)

    def scan(self, queries: NDArray[np.float32], k: int, mask: RowMask | None = None, start: int = 0) -> SearchResult:
        """The k nearest of rows start..n for each of the queries (nq, d); equal cosines are ordered by position.

        `mask`, over all n rows, leaves rows out.
        """
        queries = np.ascontiguousarray(queries, np.float32)
        parts = []
        for block in self._blocks:
            stop = block.start + len(block.rows)
            first = max(start, block.start)
            here = None if mask is None else mask.slice(first, stop)
            if first >= stop or (here is not None and not here.count):
                continue
            view = block.view if first == block.start else _view(block.rows[first - block.start :])
            found = _nearest(view, queries, k, here)
            parts.append(SearchResult(np.where(found.positions < 0, -1, found.positions + first), found.cosines))
        return _merge(parts, len(queries), k)

    def rerank(self, queries: NDArray[np.float32], positions: NDArray[np.int64], k: int) -> SearchResult:
        """The k nearest of each query's own candidates, `positions` int64 (nq, r), distinct, -1 for none."""
        queries = np.ascontiguousarray(queries, np.float32)
        best = _nothing(len(queries), k)
        for number, candidates in enumerate(positions):
            rows = np.sort(candidates[candidates >= 0])
            if len(rows):
                gathered = self.gather(rows)
                found = _nearest(_view(gathered), queries[number : number + 1], k, None)
                width = found.positions.shape[1]
                best.positions[number, :width] = rows[found.positions[0]]
                best.cosines[number, :width] = found.cosines[0]
        return best

    def gather(self, positions: NDArray[np.int64]) -> NDArray[np.float16]:
        """Copies of the rows at `positions` (m,): fp16 (m, d)."""
        if len(self._blocks) == 1:
            return np.take(self._blocks[0].rows, positions, axis=0)
        out = np.empty((len(positions), self.dim), np.float16)
        block_of = np.searchsorted(self._starts, positions, side="right") - 1
        for number in np.unique(block_of):
            here = block_of == number
            block = self._blocks[number]
            out[here] = np.take(block.rows, positions[here] - block.start, axis=0)
        return out

    def embeddings(self, positions: NDArray[np.int64]) -> NDArray[np.float32]:
        """The rows at `positions` (m,) as float32 (m, d)."""
        return decode(self.gather(positions))


def _join_small(blocks: Sequence[NDArray[np.float16]]) -> list[NDArray[np.float16]]:
    """The same rows in fewer blocks: runs of small ones are copied together, the others left where they are."""
    joined: list[NDArray[np.float16]] = []
    run: list[NDArray[np.float16]] = []
    for block in blocks:
        rows = np.ascontiguousarray(np.asarray(block))  # of a memmap as well, which is slower to slice
        small = len(rows) < SMALL_ROWS
        if run and (not small or sum(map(len, run)) + len(rows) > JOINED_ROWS):
            joined.append(np.concatenate(run) if len(run) > 1 else run[0])
            run = []
        if small:
            run += [rows] if len(rows) else []
        else:
            joined.append(rows)
    if run:
        joined.append(np.concatenate(run) if len(run) > 1 else run[0])
    return joined


def _view(rows: NDArray[np.float16]) -> faiss.IndexScalarQuantizer:
    """FAISS's index over contiguous fp16 rows (n, d) that stay where they are: the caller keeps them alive."""
    import faiss

    index = faiss.IndexScalarQuantizer(rows.shape[1], faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT)
    codes: Any = index.codes
    codes.is_owned = False
    codes.view_data = codes.c_ptr = faiss.swig_ptr(rows.reshape(-1).view(np.uint8))
    codes.view_size = codes.c_size = rows.nbytes
    index.ntotal = len(rows)
    index.is_trained = True
    return index


def _nearest(
    view: faiss.IndexScalarQuantizer, queries: NDArray[np.float32], k: int, mask: RowMask | None, depth: int = 0
) -> SearchResult:
    """The min(k, n) nearest rows of one block, equal cosines by position.

    FAISS lets any of several equal rows have the last place, so `depth` rows are fetched, more than k, and more again
    for a query whose equal rows go on to the end of them.
    """
    import faiss

    n = view.ntotal
    depth = min(max(depth, k + 1), n)
    k = min(k, n)
    # FAISS's wrapper takes the fields by name, which its stubs do not tell.
    parameters = None if mask is None else faiss.SearchParameters(sel=selector(mask))  # type: ignore[call-arg]
    with one_thread() if len(queries) == 1 else nullcontext():
        cosines, positions = view.search(queries, depth, params=parameters)
    cosines[positions < 0] = -np.inf
    order = np.lexsort((positions, -cosines), axis=-1)[:, :k]
    rows = np.arange(len(queries))[:, None]
    found = SearchResult(positions[rows, order], cosines[rows, order])
    open_ended = (positions[:, -1] >= 0) & (cosines[:, -1] == cosines[:, k - 1])
    if depth < n and open_ended.any():
        deeper = _nearest(view, queries[open_ended], k, mask, 4 * depth)
        found.positions[open_ended] = deeper.positions
        found.cosines[open_ended] = deeper.cosines
    return found


def _nothing(nq: int, k: int) -> SearchResult:
    return SearchResult(np.full((nq, k), -1, np.int64), np.full((nq, k), -np.inf, np.float32))


def _merge(parts: Sequence[SearchResult], nq: int, k: int) -> SearchResult:
    """The k best of the finds of several blocks, given in the order of their rows."""
    best = _nothing(nq, k)
    if len(parts) == 1:
        cosines, positions = parts[0].cosines, parts[0].positions
    elif parts:
        cosines = np.concatenate([part.cosines for part in parts], axis=1)
        positions = np.concatenate([part.positions for part in parts], axis=1)
        order = np.argsort(-cosines, axis=1, kind="stable")[:, :k]
        cosines = np.take_along_axis(cosines, order, axis=1)
        positions = np.take_along_axis(positions, order, axis=1)
    else:
        return best
    best.positions[:, : positions.shape[1]] = positions
    best.cosines[:, : cosines.shape[1]] = cosines
    return best
