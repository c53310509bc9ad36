"""IVF-PQ: rows reduced by a bias-free PCA, rotated, and stored as short codes in inverted lists.

Whole partitions are coded: the neighbours of one modality's queries may be anywhere among another's vectors.
Candidates are always reranked from the fp16 rows. Ids are row ordinals 0..n-1 in the order added.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from bindsearch.indexes.exact import ExactRows, decode, one_thread
from bindsearch.indexes.row_mask import RowMask, selector
from bindsearch.indexes.types import IndexForm, IndexParameters, IndexQuality

if TYPE_CHECKING:
    import faiss

PCA_ROWS = 20_000
"""Rows the covariance is estimated from: of 1024 dimensions, the retained variance is then within 1% of the best."""

ADD_ROWS = 16_384
"""Rows added at once: 100 MB as float32 of 1024 dimensions and reduced."""

BATCH_QUERIES = 8
"""Queries from which on a matrix product reduces them: it uses several threads.

For fewer queries, waiting for the threads costs more than it saves, and many times as much on a busy machine.
"""

KMEANS_ROUNDS = 10
"""FAISS's default; recall at equal cost no longer grows with more."""

POINTS_PER_CENTROID = 128
"""Maximum rows per list that k-means uses."""

PADDING_NOISE = 1e-3
"""Spread of the copies that pad a training sample of fewer rows than centroids."""


class IvfPqIndex:
    """A trained index. Searches do not change it, so threads may share one that no thread adds to."""

    def __init__(
        self, chain: faiss.IndexPreTransform, parameters: IndexParameters, buffer: NDArray[np.uint8] | None = None
    ) -> None:
        """Wrap FAISS's index.

        Args:
            chain: a linear transform before inverted lists.
            parameters: parameters of the index.
            buffer: the bytes of the file that the centroids are read from in place; None if they are in memory.
        """
        import faiss

        self.parameters = parameters
        self._buffer = buffer
        self._chain = chain  # owns the parts below, which FAISS would free with it
        transforms: Any = chain.chain
        self._transform: Any = faiss.downcast_VectorTransform(transforms.at(0))
        self._lists: Any = faiss.downcast_index(chain.index)
        self._settings: dict[int, Any] = {}  # of searches without a mask, by probes: at most `lists`

    @property
    def n(self) -> int:
        """Number of rows."""
        return int(self._chain.ntotal)

    @property
    def dim(self) -> int:
        """Dimensions of the rows, before the reduction."""
        return int(self._chain.d)

    @property
    def lists(self) -> int:
        """Number of inverted lists."""
        return int(self._lists.nlist)

    def add(self, rows: NDArray[np.float16]) -> None:
        """Add rows fp16 (m, d), which get the next ordinals; never while another thread searches this index."""
        for start in range(0, len(rows), ADD_ROWS):
            self._chain.add(decode(rows[start : start + ADD_ROWS]))

    def candidates(
        self, queries: NDArray[np.float32], width: int, probes: int, mask: RowMask | None = None
    ) -> NDArray[np.int64]:
        """Return ordinals of the `width` rows whose codes are nearest to each query, in the `probes` nearest lists.

        If `width` is at least the number of matching rows, all of them are candidates, regardless of `probes`.

        Args:
            queries: float32 (nq, d).
            width: candidates per query.
            probes: lists searched per query.
            mask: rows that may be returned; None: all.

        Returns:
            int64 (nq, width), nearest first, -1 where there are fewer.
        """
        import faiss

        parameters = self._settings.get(probes)
        if parameters is None or mask is not None:
            # FAISS's wrapper takes the fields as keywords, which its stubs lack.
            parameters = faiss.SearchParametersIVF(nprobe=min(probes, self.lists))  # type: ignore[call-arg]
            if mask is None:
                self._settings[probes] = parameters
            else:
                parameters.sel = selector(mask)
        n = self.n
        depth = max(1, min(width, n))
        reduced = self._reduce(np.ascontiguousarray(queries, np.float32))
        with one_thread() if len(queries) == 1 else nullcontext():
            _, nearest = self._lists.search(reduced, depth, params=parameters)
        ordinals: NDArray[np.int64] = nearest
        if depth < width:
            ordinals = np.pad(nearest, ((0, 0), (0, width - depth)), constant_values=-1)
        if width >= (n if mask is None else mask.count):
            # rows in lists that were not probed, or with the lowest possible score, which fast-scan never returns
            available = np.arange(n) if mask is None else mask.positions[mask.positions < n]
            is_present = np.zeros(n, bool)
            for row in ordinals:
                present = row[row >= 0]
                row[: len(present)] = present
                if len(present) < len(available):
                    is_present[present] = True
                    row[len(present) : len(available)] = available[~is_present[available]]
                    is_present[present] = False
        return ordinals

    def _reduce(self, queries: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return queries (nq, d) in the reduced space (nq, r)."""
        import faiss

        if len(queries) >= BATCH_QUERIES:
            reduced: NDArray[np.float32] = self._transform.apply(queries)
            return reduced
        d, r = queries.shape[1], self.parameters.reduced_dim
        out = np.empty((len(queries), r), np.float32)
        products_of: Any = faiss.fvec_inner_products_ny  # type: ignore[attr-defined]  # its stubs lack it
        rows = self._transform.A.data()
        for query, products in zip(queries, out, strict=True):
            products_of(faiss.swig_ptr(products), faiss.swig_ptr(query), rows, d, r)
        return out

    def list_ordinals(self, number: int) -> NDArray[np.int64]:
        """Return ordinals of the rows in one inverted list: int64 (m,)."""
        import faiss

        invlists = self._lists.invlists
        if not invlists.list_size(number):  # FAISS returns no pointer then
            return np.zeros(0, np.int64)
        ids: NDArray[np.int64] = faiss.rev_swig_ptr(invlists.get_ids(number), invlists.list_size(number)).copy()
        return ids

    @property
    def reduction(self) -> NDArray[np.float32]:
        """Matrix that reduces queries, `queries @ reduction.T`: a copy, float32 (r, d)."""
        import faiss

        return faiss.vector_to_array(self._transform.A).reshape(-1, self.dim)

    def lists_of(self, start: int, stop: int) -> Any:
        """Return FAISS's IndexIVFPQ over reduced rows, limited to ordinals start..stop; for form IVF_PQ8.

        The index itself is returned if the range covers all rows. The result refers to the coarse centroids of this
        index, which must outlive it.
        """
        import faiss

        lists = self._lists
        if (start, stop) == (0, self.n):
            return lists
        subset = faiss.IndexIVFPQ(lists.quantizer, lists.d, lists.nlist, lists.pq.M, lists.pq.nbits, lists.metric_type)
        subset.pq = lists.pq
        subset.is_trained = True
        by_id = faiss.InvertedLists.SUBSET_TYPE_ID_RANGE  # type: ignore[attr-defined]  # its stubs lack it
        lists.copy_subset_to(subset, by_id, start, stop)
        return subset

    def merge(self, part: Any) -> None:
        """Move the rows of FAISS's IndexIVFPQ `part`, with equal training, into this index.

        Their ids do not change: they must be the next ordinals.
        """
        self._lists.merge_from(part, 0)
        self._chain.ntotal = self._lists.ntotal

    def quality(self, rows: NDArray[np.float16], added: int = 0) -> IndexQuality:
        """Measure how well the index fits `rows`: the error of the codes, and the imbalance of the lists.

        The mean of the rows does not count as an error of the reduction: it is the same for all, so no ranking
        depends on it, and it is so large that it would hide the rest.

        Args:
            rows: fp16 (m, d), m >= 1.
            added: estimate the imbalance after that many more rows like these.
        """
        full = decode(rows)
        reduced = self._transform.apply(full)
        _, nearest = self._lists.quantizer.search(reduced, 1)
        residuals = reduced - self._lists.quantizer.reconstruct_batch(nearest[:, 0])
        coder = self._lists.pq  # not sa_decode, which crashes on an index read from a file
        residuals -= coder.decode(coder.compute_codes(residuals))
        outside = full.var(axis=0).sum() - reduced.var(axis=0).sum()
        lost = float(outside) + float(np.square(residuals).sum()) / len(rows)
        lengths = np.array([self._lists.invlists.list_size(number) for number in range(self.lists)], np.float64)
        lengths += np.bincount(nearest[:, 0], minlength=self.lists) * (added / len(rows))
        return IndexQuality(lost, float(self.lists * np.square(lengths).sum() / max(lengths.sum(), 1.0) ** 2))

    def clone(self) -> IvfPqIndex:
        """Return an independent copy with the same rows, to add to while others search this one."""
        import faiss

        # Not clone_index: it would still refer to the mapped bytes of an index from a file, which cannot grow.
        copy: Any = faiss.deserialize_index(faiss.serialize_index(self._chain))
        return IvfPqIndex(copy, self.parameters)

    def write(self, path: Path) -> None:
        """Write FAISS's file; the caller makes it durable.

        Raises:
            OSError: the file cannot be written.
        """
        import faiss

        try:
            faiss.write_index(self._chain, str(path))
        except RuntimeError as error:  # raised by FAISS if the disk is full
            raise OSError(f"cannot write the index {path.name}: {str(error).splitlines()[0]}") from error


def read_ivf_pq(buffer: NDArray[np.uint8], parameters: IndexParameters) -> IvfPqIndex:
    """Read an index from the bytes of a file that `write` wrote; it refers to them for its coarse centroids.

    Raises:
        RuntimeError: FAISS cannot read them. (FAISS does not detect all damage: check a digest first.)
    """
    import faiss

    reader: Any = faiss.ZeroCopyIOReader(faiss.swig_ptr(buffer), buffer.nbytes)  # type: ignore[attr-defined]
    chain: Any = faiss.read_index(reader)
    return IvfPqIndex(chain, parameters, buffer)


def build_index(
    blocks: Sequence[NDArray[np.float16]], parameters: IndexParameters, on_rows: Callable[[int], None] = lambda _: None
) -> IvfPqIndex:
    """Train an index on an even sample of all rows and add them.

    Uses memory for the sample, and for a block of rows as float32.

    Args:
        blocks: each fp16 (m, d), at least one row in all.
        parameters: parameters of the index.
        on_rows: called with the number of rows added so far.
    """
    index = train_on_blocks(blocks, parameters)
    for block in blocks:
        for start in range(0, len(block), ADD_ROWS):
            index.add(block[start : start + ADD_ROWS])
            on_rows(index.n)
    return index


def train_on_blocks(
    blocks: Sequence[NDArray[np.float16]], parameters: IndexParameters, assigner: faiss.Index | None = None
) -> IvfPqIndex:
    """Return an empty index, trained on an even sample of all rows of `blocks`; see `build_index`, `train_index`."""
    rows = ExactRows(blocks[0].shape[1], blocks)
    chosen = np.linspace(0, rows.n - 1, min(rows.n, parameters.train_rows)).astype(np.int64)
    return train_index(rows.gather(chosen), parameters, assigner)


def train_index(
    sample: NDArray[np.float16], parameters: IndexParameters, assigner: faiss.Index | None = None
) -> IvfPqIndex:
    """Return an empty index for rows like those of `sample`.

    Args:
        sample: fp16 (m, d), m >= 1.
        parameters: parameters of the index.
        assigner: an empty index by inner product over reduced rows, for instance on a GPU, that k-means uses to find
            the nearest centroids; it contains the centroids afterwards. None: the CPU.
    """
    import faiss

    rng = np.random.default_rng(parameters.seed)
    d, r = sample.shape[1], parameters.reduced_dim
    transform = faiss.LinearTransform(d, r, False)
    # The directions of most variance, rotated at random. They are applied without centring: an inner product with a
    # shifted query ranks otherwise. The rotation spreads the variance evenly over the subquantizers, which raises the
    # share of the true nearest among 50 candidates from .91 to .99.
    chosen = np.linspace(0, len(sample) - 1, min(len(sample), PCA_ROWS)).astype(np.int64)
    rows = decode(sample[chosen])
    rows -= rows.mean(axis=0)
    _, vectors = np.linalg.eigh((rows.T @ rows).astype(np.float64))
    rotation, _ = np.linalg.qr(rng.standard_normal((r, r)))
    faiss.copy_array_to_vector(
        np.ascontiguousarray(rotation @ vectors[:, ::-1][:, :r].T, np.float32).reshape(-1), transform.A
    )
    transform.is_trained = True
    lists: Any = _empty_lists(parameters)
    out = np.empty((len(sample), transform.d_out), np.float32)
    for start in range(0, len(sample), ADD_ROWS):
        block = sample[start : start + ADD_ROWS]
        out[start : start + len(block)] = transform.apply(decode(block))
    rows = _pad_sample(out, max(parameters.lists, 2**parameters.bits), rng)
    lists.clustering_index = assigner
    lists.train_q1(len(rows), faiss.swig_ptr(rows), False, lists.metric_type)
    lists.clustering_index = None
    with one_thread():  # hundreds of two-dimensional k-means, too small for threads
        lists.train(rows)
    return IvfPqIndex(faiss.IndexPreTransform(transform, lists), parameters)


def _empty_lists(parameters: IndexParameters) -> faiss.IndexIVFPQFastScan | faiss.IndexIVFPQ:
    """Return FAISS's untrained index of inverted lists over reduced rows."""
    import faiss

    r, code = parameters.reduced_dim, (parameters.lists, parameters.subquantizers, parameters.bits)
    kind = faiss.IndexIVFPQ if parameters.form == IndexForm.IVF_PQ8 else faiss.IndexIVFPQFastScan
    lists = kind(faiss.IndexFlatIP(r), r, *code, faiss.METRIC_INNER_PRODUCT)
    lists.by_residual = True
    lists.cp.spherical = True
    lists.cp.niter = KMEANS_ROUNDS
    lists.cp.max_points_per_centroid = POINTS_PER_CENTROID
    lists.cp.seed = lists.pq.cp.seed = 1234 + parameters.seed
    lists.cp.min_points_per_centroid = lists.pq.cp.min_points_per_centroid = 1  # FAISS would warn on stderr
    return lists


def _pad_sample(reduced: NDArray[np.float32], min_rows: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """Return at least `min_rows` rows, as many as k-means has centroids: fewer are repeated with noise."""
    if len(reduced) >= min_rows:
        return reduced
    rows = np.resize(reduced, (min_rows, reduced.shape[1]))
    copies = rows[len(reduced) :]
    copies += np.float32(PADDING_NOISE) * rng.standard_normal(copies.shape, np.float32)
    return rows
