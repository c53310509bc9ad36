"""Exact search over fp16 rows: the reference for measuring every index, and the fastest form for small partitions.

FAISS reads the rows in place, in mapped files as well: its own fp16 codes are the same bytes. A row has the same
cosine whichever way it is scored, so exact scans and reranked candidates agree to the last bit.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from bindsearch.indexes.row_mask import RowMask, selector
from bindsearch.indexes.types import SearchResult

if TYPE_CHECKING:
    import faiss


@contextmanager
def one_thread() -> Iterator[None]:
    """Keep FAISS's calls of the calling thread inside the block on one thread; other threads are not affected.

    For single queries: FAISS wakes its whole thread team even for those, although one thread does all the work. On a
    busy machine waiting for the team takes 15 ms where the work takes 0.05.
    """
    import faiss

    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    try:
        yield
    finally:
        faiss.omp_set_num_threads(before)


SMALL_ROWS = 1024
"""Neighbouring blocks of fewer rows than this are copied together: each block costs a call of about 40 us."""

FEW_ROWS = 32
"""Rows that are converted without FAISS, which would wake its threads for them."""

JOINED_ROWS = 8192
"""Maximum rows copied together, so that copies in memory stay small compared with the mapped rows."""


def decode(rows: NDArray[np.float16]) -> NDArray[np.float32]:
    """Return the rows (n, d) as float32 (n, d), faster than by NumPy's conversion."""
    import faiss

    codec = faiss.IndexScalarQuantizer(rows.shape[1], faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT)
    codec.is_trained = True
    decoded: NDArray[np.float32] = codec.sa_decode(np.ascontiguousarray(rows).view(np.uint8))
    return decoded


class RowChecks(Protocol):
    """Checks of rows before their first use; each raises an error if one of the rows is damaged."""

    done: bool
    """True once all rows have been checked."""

    def check(self, first: int, stop: int) -> None:
        """Check rows first..stop."""

    def check_rows(self, rows: NDArray[np.int64]) -> None:
        """Check these rows, int64 (m,)."""


class RowBlock(NamedTuple):
    """Rows fp16 (m, d) that lie together, and their checks; None: they need none."""

    rows: NDArray[np.float16]
    checks: RowChecks | None = None


class _Block(NamedTuple):
    """Rows of a partition from ordinal `start` on: fp16 (m, d), their checks, and FAISS's view of them."""

    start: int
    rows: NDArray[np.float16]
    checks: RowChecks | None
    view: faiss.IndexScalarQuantizer


class ExactRows:
    """The n fp16 rows of d dimensions of a partition. Immutable: threads may share it."""

    def __init__(self, dim: int, blocks: Sequence[NDArray[np.float16] | RowBlock]) -> None:
        """Refer to the rows of all `blocks`, each fp16 (m, dim), in order; they must not change afterwards."""
        self.dim = dim
        self._blocks: list[_Block] = []
        start = 0
        # memmaps become plain arrays, which are faster to slice
        pairs = (block if isinstance(block, RowBlock) else RowBlock(block) for block in blocks)
        for rows, checks in _join_small([RowBlock(np.ascontiguousarray(np.asarray(rows)), c) for rows, c in pairs]):
            self._blocks.append(_Block(start, rows, checks, _view(rows)))
            start += len(rows)
        self.n = start
        self._starts = np.array([block.start for block in self._blocks], np.int64)

    def scan(self, queries: NDArray[np.float32], k: int, mask: RowMask | None = None, start: int = 0) -> SearchResult:
        """Return the k nearest of rows start..n for each query; equal cosines are ordered by position.

        Args:
            queries: float32 (nq, d).
            k: results per query.
            mask: over all n rows; rows outside of it are not returned. None: all rows match.
            start: first row to scan.
        """
        queries = np.ascontiguousarray(queries, np.float32)
        parts = []
        for block in self._blocks:
            stop = block.start + len(block.rows)
            first = max(start, block.start)
            block_mask = None if mask is None else mask.slice(first, stop)
            if first >= stop or (block_mask is not None and not block_mask.count):
                continue
            if block.checks is not None and not block.checks.done:
                block.checks.check(first - block.start, len(block.rows))
            view = block.view if first == block.start else _view(block.rows[first - block.start :])
            nearest = _nearest(view, queries, k, block_mask)
            if first:
                positions = np.where(nearest.positions < 0, -1, nearest.positions + first)
                nearest = SearchResult(positions, nearest.cosines)
            parts.append(nearest)
        if len(parts) == 1 and parts[0].positions.shape[1] == k:
            return parts[0]
        return _merge(parts, len(queries), k)

    def rerank(self, queries: NDArray[np.float32], positions: NDArray[np.int64], k: int) -> SearchResult:
        """Return the k nearest of each query's own candidates.

        Args:
            queries: float32 (nq, d).
            positions: int64 (nq, r), distinct in each row, -1 for none.
            k: results per query.
        """
        queries = np.ascontiguousarray(queries, np.float32)
        parts = []
        for number, candidates in enumerate(positions):
            rows = np.sort(candidates[candidates >= 0])
            gathered = self.gather(rows)
            nearest = _nearest(_view(gathered), queries[number : number + 1], k, None) if len(rows) else None
            part = _empty_result(1, 0) if nearest is None else SearchResult(rows[nearest.positions], nearest.cosines)
            parts.append(part if part.positions.shape[1] == k else _merge([part], 1, k))
        if len(parts) == 1:
            return parts[0]
        return SearchResult(*(np.concatenate(column) for column in zip(_empty_result(0, k), *parts, strict=True)))

    def gather(self, positions: NDArray[np.int64]) -> NDArray[np.float16]:
        """Return copies of the rows at `positions` (m,): fp16 (m, d)."""
        if len(self._blocks) == 1:
            (block,) = self._blocks
            if block.checks is not None and not block.checks.done:
                block.checks.check_rows(positions)
            return block.rows.take(positions, axis=0)
        out = np.empty((len(positions), self.dim), np.float16)
        block_of = np.searchsorted(self._starts, positions, side="right") - 1
        for number in np.unique(block_of):
            in_block, block = block_of == number, self._blocks[number]
            places = positions[in_block] - block.start
            if block.checks is not None and not block.checks.done:
                block.checks.check_rows(places)
            out[in_block] = block.rows.take(places, axis=0)
        return out

    def embeddings(self, positions: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return the rows at `positions` (m,) as float32 (m, d)."""
        rows = self.gather(positions)
        return rows.astype(np.float32) if len(rows) <= FEW_ROWS else decode(rows)


def _join_small(blocks: Sequence[RowBlock]) -> list[RowBlock]:
    """Return the same rows in fewer blocks: runs of small blocks are checked and copied together, others unchanged."""
    joined: list[RowBlock] = []
    run: list[RowBlock] = []
    for block in blocks:
        small = len(block.rows) < SMALL_ROWS
        if run and (not small or sum(len(other.rows) for other in run) + len(block.rows) > JOINED_ROWS):
            joined.append(_concatenate(run))
            run = []
        if small:
            run += [block] if len(block.rows) else []
        else:
            joined.append(block)
    if run:
        joined.append(_concatenate(run))
    return joined


def _concatenate(run: Sequence[RowBlock]) -> RowBlock:
    if len(run) == 1:
        return run[0]
    for rows, checks in run:
        if checks is not None:
            checks.check(0, len(rows))
    return RowBlock(np.concatenate([block.rows for block in run]))


def _view(rows: NDArray[np.float16]) -> faiss.IndexScalarQuantizer:
    """Return FAISS's index over contiguous fp16 rows (n, d) without a copy; the caller keeps them alive."""
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
    """Return the min(k, n) nearest rows of one block, equal cosines ordered by position.

    FAISS returns any of several equal rows at the last rank. So `depth` rows are fetched, more than k, and more again
    for queries whose ties extend to the last fetched row.
    """
    import faiss

    n = view.ntotal
    depth = min(max(depth, k + 1), n)
    k = min(k, n)
    # FAISS's wrapper takes the fields as keywords, which its stubs lack.
    parameters = None if mask is None else faiss.SearchParameters(sel=selector(mask))  # type: ignore[call-arg]
    with one_thread() if len(queries) == 1 else nullcontext():
        cosines, positions = view.search(queries, depth, params=parameters)
    if len(queries) == 1 and (mask is None or positions[0, -1] >= 0):
        (ordered,) = cosines
        if (ordered[1:] != ordered[:-1]).all():  # FAISS has ordered them
            return SearchResult(positions[:, :k], cosines[:, :k])
    cosines[positions < 0] = -np.inf
    order = np.lexsort((positions, -cosines), axis=-1)[:, :k]
    rows = np.arange(len(queries))[:, None]
    nearest = SearchResult(positions[rows, order], cosines[rows, order])
    open_ended = (positions[:, -1] >= 0) & (cosines[:, -1] == cosines[:, k - 1])
    if depth < n and open_ended.any():
        deeper = _nearest(view, queries[open_ended], k, mask, 4 * depth)
        nearest.positions[open_ended] = deeper.positions
        nearest.cosines[open_ended] = deeper.cosines
    return nearest


def _empty_result(nq: int, k: int) -> SearchResult:
    return SearchResult(np.full((nq, k), -1, np.int64), np.full((nq, k), -np.inf, np.float32))


def _merge(parts: Sequence[SearchResult], nq: int, k: int) -> SearchResult:
    """Return the k best of the results of several blocks, given in row order."""
    best = _empty_result(nq, k)
    if not parts:
        return best
    cosines = np.concatenate([part.cosines for part in parts], axis=1)
    positions = np.concatenate([part.positions for part in parts], axis=1)
    if len(parts) > 1:
        order = np.argsort(-cosines, axis=1, kind="stable")[:, :k]
        cosines = np.take_along_axis(cosines, order, axis=1)
        positions = np.take_along_axis(positions, order, axis=1)
    best.positions[:, : positions.shape[1]] = positions
    best.cosines[:, : cosines.shape[1]] = cosines
    return best
