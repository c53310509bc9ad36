"""Direct FAISS calls without metadata: the reference for the engine's overhead.

Single queries run on one thread, as in the engine: FAISS wakes its thread team for them without using it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import faiss
import numpy as np
from search_data import K

from bindsearch.indexes.exact import one_thread
from bindsearch.indexes.types import IndexParameters

if TYPE_CHECKING:
    from numpy.typing import NDArray

ADD_ROWS = 32768
COVARIANCE_ROWS = 20000


@dataclass(frozen=True)
class HandSetting:
    """Settings of one kind of query: probes of the inverted lists, and candidates scored exactly."""

    probes: int
    rerank: int


class HandIndex:
    """A partition: bias-free PCA, random rotation, 4-bit PQ in inverted lists, rerank from the fp16 rows (n, d)."""

    def __init__(self, rows: NDArray[np.float16], parameters: IndexParameters) -> None:
        """Train on a sample, then add in blocks."""
        self.rows = rows
        rng = np.random.default_rng(parameters.seed)
        n, dim = rows.shape
        chosen = np.sort(rng.choice(n, min(n, parameters.train_rows), replace=False))
        sample = rows[chosen].astype(np.float32)
        self._matrix = _reduction(sample, parameters.reduced_dim, rng)
        coarse = faiss.IndexFlatIP(parameters.reduced_dim)
        self._codes = faiss.IndexIVFPQFastScan(
            coarse,
            parameters.reduced_dim,
            parameters.lists,
            parameters.subquantizers,
            4,
            faiss.METRIC_INNER_PRODUCT,
        )
        self._coarse = coarse  # FAISS does not keep a reference to it
        self._codes.by_residual = True
        self._codes.cp.spherical = True
        self._codes.cp.niter = 10
        self._codes.cp.max_points_per_centroid = 128
        self._codes.train(self._matrix.apply(sample))
        for start in range(0, n, ADD_ROWS):
            self._codes.add(self._matrix.apply(rows[start : start + ADD_ROWS].astype(np.float32)))
        self._scorer = faiss.IndexScalarQuantizer(dim, faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT)
        self._scorer.is_trained = True

    def search(self, query: NDArray[np.float32], setting: HandSetting) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Return the rows (K,) nearest to a query (d,) and their cosines."""
        query = query[None]
        self._codes.nprobe = setting.probes
        with one_thread():
            _, nearest = self._codes.search(self._matrix.apply(query), min(setting.rerank, len(self.rows)))
            candidates = nearest[0][nearest[0] >= 0]
            self._scorer.reset()
            self._scorer.add_sa_codes(self.rows[candidates].view(np.uint8))
            cosines, order = self._scorer.search(query, K)
        return candidates[order[0]], cosines[0]


class HandFlat:
    """Exact fp16 search: every row (n, d) is scored."""

    def __init__(self, rows: NDArray[np.float16]) -> None:
        """Copy the rows into FAISS, block by block."""
        dim = rows.shape[1]
        self._index = faiss.IndexScalarQuantizer(dim, faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT)
        self._index.is_trained = True
        for start in range(0, len(rows), ADD_ROWS):
            self._index.add_sa_codes(np.ascontiguousarray(rows[start : start + ADD_ROWS]).view(np.uint8))

    def search(self, query: NDArray[np.float32]) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Return the rows (K,) nearest to a query (d,) and their cosines."""
        with one_thread():
            cosines, positions = self._index.search(query[None], K)
        return positions[0], cosines[0]


def merged_by_hand(
    parts: dict[str, tuple[HandIndex, HandSetting] | HandFlat], query: NDArray[np.float32]
) -> list[tuple[str, int]]:
    """Return modality and row of the K nearest over several partitions, by cosine."""
    hits: list[tuple[float, str, int]] = []
    for modality, part in parts.items():
        rows, cosines = part.search(query) if isinstance(part, HandFlat) else part[0].search(query, part[1])
        hits += [(cosine, modality, row) for cosine, row in zip(cosines.tolist(), rows.tolist(), strict=True)]
    return [(modality, row) for _, modality, row in sorted(hits, reverse=True)[:K]]


def _reduction(sample: NDArray[np.float32], dims: int, rng: np.random.Generator) -> faiss.LinearTransform:
    """Return the principal directions of the sample, applied without centring, then a random rotation.

    The rotation spreads the variance evenly over the sub-quantizers.
    """
    _, directions = np.linalg.eigh(np.cov(sample[:COVARIANCE_ROWS].T))
    rotation, _ = np.linalg.qr(rng.standard_normal((dims, dims)))
    matrix = np.ascontiguousarray(rotation @ directions[:, ::-1][:, :dims].T, np.float32)
    transform = faiss.LinearTransform(sample.shape[1], dims, False)
    faiss.copy_array_to_vector(matrix.reshape(-1), transform.A)
    transform.is_trained = True
    return transform
