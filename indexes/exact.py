"""Exact search over fp16 rows: the reference every other index is measured against, and the fastest form when small."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


class ExactIndex:
    """A FAISS scan over n fp16 rows of d dimensions. See `bindsearch.indexes.base.VectorIndex`.

    The rows are FAISS's own fp16 codes byte for byte, so they are copied in without conversion, and the cosines are
    those of the stored rows: fp16 values multiplied and summed in float32.
    """

    def __init__(self, dim: int, blocks: Sequence[NDArray[np.float16]]) -> None:
        """Take the rows of all `blocks`, each fp16 (m, dim), in order."""
        import faiss

        self._index = faiss.IndexScalarQuantizer(dim, faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT)
        self._index.is_trained = True
        for block in blocks:
            codes = np.ascontiguousarray(block).view(np.uint8).reshape(len(block), 2 * dim)
            self._index.add_sa_codes(codes)

    def search(
        self, queries: NDArray[np.float32], k: int, allowed: NDArray[np.bool_] | None = None
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Positions int64 (nq, k) and cosines float32 (nq, k), best first; -1 and -inf where fewer than k match."""
        import faiss

        queries = np.ascontiguousarray(queries, np.float32)
        if allowed is None:
            cosines, positions = self._index.search(queries, k)
        else:
            bits = np.packbits(allowed, bitorder="little")
            selector = faiss.IDSelectorBitmap(bits)  # type: ignore[call-arg,arg-type]  # takes an array
            parameters = faiss.SearchParameters(sel=selector)  # type: ignore[call-arg]  # and its fields by name
            cosines, positions = self._index.search(queries, k, params=parameters)
        cosines[positions < 0] = -np.inf
        return positions, cosines
