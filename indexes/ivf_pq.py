"""IVF-PQ: rows reduced by a bias-free PCA, turned, and kept as short codes in inverted lists.

Whole partitions are coded, so that what one modality's queries seek in another's vectors is found wherever it lies;
candidates are always scored again from the fp16 rows. Ids are row ordinals 0..n-1 in the order added.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bindsearch.indexes.exact import ExactRows, decode
from bindsearch.indexes.omp_threads import one_thread
from bindsearch.indexes.row_mask import RowMask, selector
from bindsearch.indexes.types import IndexForm, IndexParameters, IndexQuality

if TYPE_CHECKING:
    import faiss
    from numpy.typing import NDArray

PCA_ROWS = 20_000
"""Rows the covariance is estimated from: of 1024 dimensions, the kept variance is then within 1% of the best."""

ADD_ROWS = 16_384
"""Rows added at once: 100 MB as float32 of 1024 dimensions and reduced."""

BATCH_QUERIES = 8
"""Queries reduced by a matrix product, which spreads over threads: for fewer, waiting for them costs more than it
saves, and on a busy machine many times as much."""

KMEANS_ROUNDS = 10
"""FAISS's default; recall at equal cost no longer grows with more."""

POINTS_PER_CENTROID = 128
"""Rows a list that k-means looks at, at most."""

PADDING_NOISE = 1e-3
"""Spread of the copies that fill up a training sample of fewer rows than centroids."""


class IvfPqIndex:
    """A trained index. Searching changes nothing in it, so threads may share one that is not added to."""

    def __init__(
        self, chain: faiss.IndexPreTransform, parameters: IndexParameters, buffer: NDArray[np.uint8] | None = None
    ) -> None:
        """Take FAISS's index, a linear transform before inverted lists, and the bytes its centroids lie in, if any."""
        import faiss

        self.parameters = parameters
        self._buffer = buffer
        self._chain = chain  # owns the parts below, which FAISS would free with it
        transforms: Any = chain.chain
        self._transform: Any = faiss.downcast_VectorTransform(transforms.at(0))
        self._lists: Any = faiss.downcast_index(chain.index)

    @property
    def n(self) -> int:
        """Rows held."""
        return int(self._chain.ntotal)

    @property
    def dim(self) -> int:
        """Dimensions of the rows, before they are reduced."""
        return int(self._chain.d)

    @property
    def lists(self) -> int:
        """Inverted lists."""
        return int(self._lists.nlist)

    def add(self, rows: NDArray[np.float16]) -> None:
        """Add rows (m, d), which get the next ordinals. Never while another thread searches this index."""
        for start in range(0, len(rows), ADD_ROWS):
            self._chain.add(decode(rows[start : start + ADD_ROWS]))

    def candidates(
        self, queries: NDArray[np.float32], width: int, probes: int, mask: RowMask | None = None
    ) -> NDArray[np.int64]:
        """Ordinals of the `width` rows whose codes are nearest to each query (nq, d), in the `probes` nearest lists.

        int64 (nq, width), nearest first, -1 where there are fewer; those that `mask` leaves out are none. Where all
        rows that may be found fit into `width`, all of them are candidates, whatever the probes.
        """
        import faiss

        # FAISS's wrapper takes the fields by name, which its stubs do not tell.
        parameters = faiss.SearchParametersIVF(nprobe=min(probes, self.lists))  # type: ignore[call-arg]
        if mask is not None:
            parameters.sel = selector(mask)
        depth = max(1, min(width, self.n))
        reduced = self._reduce(np.ascontiguousarray(queries, np.float32))
        with one_thread() if len(queries) == 1 else nullcontext():
            _, found = self._lists.search(reduced, depth, params=parameters)
        ordinals: NDArray[np.int64] = found
        if depth < width:
            ordinals = np.pad(found, ((0, 0), (0, width - depth)), constant_values=-1)
        if width >= (self.n if mask is None else mask.count):
            _fill_up(ordinals, np.arange(self.n) if mask is None else mask.positions[mask.positions < self.n])
        return ordinals

    def _reduce(self, queries: NDArray[np.float32]) -> NDArray[np.float32]:
        """Queries (nq, d) in the reduced space (nq, r)."""
        import faiss

        if len(queries) >= BATCH_QUERIES:
            reduced: NDArray[np.float32] = self._transform.apply(queries)
            return reduced
        d, r = self.dim, self.parameters.reduced_dim
        out = np.empty((len(queries), r), np.float32)
        products_of: Any = faiss.fvec_inner_products_ny  # type: ignore[attr-defined]  # its stubs lack it
        rows = self._transform.A.data()
        for query, products in zip(queries, out, strict=True):
            products_of(faiss.swig_ptr(products), faiss.swig_ptr(query), rows, d, r)
        return out

    def list_ordinals(self, number: int) -> NDArray[np.int64]:
        """Ordinals of the rows in one inverted list: int64 (m,)."""
        import faiss

        held = self._lists.invlists
        if not held.list_size(number):  # FAISS gives no pointer then
            return np.zeros(0, np.int64)
        ids: NDArray[np.int64] = faiss.rev_swig_ptr(held.get_ids(number), held.list_size(number)).copy()
        return ids

    @property
    def reduction(self) -> NDArray[np.float32]:
        """What takes queries to the reduced space, `queries @ reduction.T`: a copy, float32 (r, d)."""
        import faiss

        return faiss.vector_to_array(self._transform.A).reshape(-1, self.dim)

    def lists_of(self, start: int, stop: int) -> Any:
        """FAISS's IndexIVFPQ over reduced rows with those of ordinals start..stop alone, for form IVF_PQ8; all of them
        where they are all there is. It looks at the coarse centroids of this index, which must outlive it."""
        import faiss

        lists = self._lists
        if (start, stop) == (0, self.n):
            return lists
        some = faiss.IndexIVFPQ(lists.quantizer, lists.d, lists.nlist, lists.pq.M, lists.pq.nbits, lists.metric_type)
        some.pq = lists.pq
        some.is_trained = True
        by_id = faiss.InvertedLists.SUBSET_TYPE_ID_RANGE  # type: ignore[attr-defined]  # its stubs lack it
        lists.copy_subset_to(some, by_id, start, stop)
        return some

    def merge(self, part: Any) -> None:
        """Take the rows out of FAISS's IndexIVFPQ `part`, trained alike, and into this index. Their ids stay: they
        must be the next ordinals."""
        self._lists.merge_from(part, 0)
        self._chain.ntotal = self._lists.ntotal

    def quality(self, rows: NDArray[np.float16], added: int = 0) -> IndexQuality:
        """Return how well the index fits `rows` (m, d), m >= 1: what codes lose of them, and how even the lists are, or
        would be with `added` more rows like these.

        Their mean is left out of what the reduction loses: it is the same for all, so no ranking depends on it, and
        it is so large that the rest would hardly be seen.
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
        """An index of its own with the same rows, to be added to while others search this one."""
        import faiss

        # Not clone_index: a clone of an index from a file would still look at its bytes, which cannot grow.
        copy: Any = faiss.deserialize_index(faiss.serialize_index(self._chain))
        return IvfPqIndex(copy, self.parameters)

    def write(self, path: Path) -> None:
        """Write FAISS's file; making it durable is the caller's part."""
        import faiss

        try:
            faiss.write_index(self._chain, str(path))
        except RuntimeError as error:  # FAISS's word for a full disk
            raise OSError(f"the index {path.name} cannot be written: {str(error).splitlines()[0]}") from error


def read_ivf_pq(buffer: NDArray[np.uint8], parameters: IndexParameters) -> IvfPqIndex:
    """The index in the bytes of a file that `write` made. It keeps them: the coarse centroids are read where they are.

    Raises:
        RuntimeError: FAISS cannot read them. (It does not see every damage: check a digest first.)
    """
    import faiss

    reader: Any = faiss.ZeroCopyIOReader(faiss.swig_ptr(buffer), buffer.nbytes)  # type: ignore[attr-defined]
    chain: Any = faiss.read_index(reader)
    return IvfPqIndex(chain, parameters, buffer)


def build_index(
    blocks: Sequence[NDArray[np.float16]], parameters: IndexParameters, on_rows: Callable[[int], None] = lambda _: None
) -> IvfPqIndex:
    """Train on an even sample of all rows of `blocks`, each fp16 (m, d), at least one row in all, and add them.

    `on_rows` is told the rows added so far. Held in memory: the sample, and a block of rows as float32.
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
    """An empty index, trained on an even sample of all rows of `blocks`; see `build_index`, `train_index`."""
    rows = ExactRows(blocks[0].shape[1], blocks)
    chosen = np.linspace(0, rows.n - 1, min(rows.n, parameters.train_rows)).astype(np.int64)
    return train_index(rows.gather(chosen), parameters, assigner)


def train_index(
    sample: NDArray[np.float16], parameters: IndexParameters, assigner: faiss.Index | None = None
) -> IvfPqIndex:
    """An empty index for rows like those of `sample` (m, d), m >= 1.

    `assigner`: an empty index by inner product over reduced rows that k-means looks for the nearest centroids with,
    on a GPU say; it holds the centroids afterwards.
    """
    import faiss

    rng = np.random.default_rng(parameters.seed)
    d, r = sample.shape[1], parameters.reduced_dim
    transform = faiss.LinearTransform(d, r, False)
    faiss.copy_array_to_vector(_reduction(sample, r, rng).reshape(-1), transform.A)
    transform.is_trained = True
    lists: Any = _empty_lists(parameters)
    rows = _padded(_reduced(transform, sample), max(parameters.lists, 2**parameters.bits), rng)
    lists.clustering_index = assigner
    lists.train_q1(len(rows), faiss.swig_ptr(rows), False, lists.metric_type)
    lists.clustering_index = None
    with one_thread():  # hundreds of k-means of two dimensions, each too small to share
        lists.train(rows)
    return IvfPqIndex(faiss.IndexPreTransform(transform, lists), parameters)


def _fill_up(found: NDArray[np.int64], available: NDArray[np.int64]) -> None:
    """Put what is missing of `available` at the end of each row of `found`: it lies in lists that were not probed, or
    is the row of lowest possible score, which fast-scan never returns."""
    for row in found:
        held = row[row >= 0]
        missing = np.setdiff1d(available, held)
        row[: len(held)] = held
        row[len(held) : len(held) + len(missing)] = missing


def _empty_lists(parameters: IndexParameters) -> faiss.IndexIVFPQFastScan | faiss.IndexIVFPQ:
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


def _reduction(sample: NDArray[np.float16], r: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """Rows of the matrix (r, d) that keeps the directions of most variance, turned at random.

    It is applied without centring: an inner product with a shifted query ranks otherwise. The turn spreads the variance
    evenly over the subquantizers, which lifts the share of the true nearest among 50 candidates from .91 to .99.
    """
    chosen = np.linspace(0, len(sample) - 1, min(len(sample), PCA_ROWS)).astype(np.int64)
    rows = decode(sample[chosen])
    rows -= rows.mean(axis=0)
    _, vectors = np.linalg.eigh((rows.T @ rows).astype(np.float64))
    turn, _ = np.linalg.qr(rng.standard_normal((r, r)))
    return np.ascontiguousarray(turn @ vectors[:, ::-1][:, :r].T, np.float32)


def _reduced(transform: faiss.LinearTransform, sample: NDArray[np.float16]) -> NDArray[np.float32]:
    """The sample (m, d) in the reduced space (m, r), block by block."""
    out = np.empty((len(sample), transform.d_out), np.float32)
    for start in range(0, len(sample), ADD_ROWS):
        block = sample[start : start + ADD_ROWS]
        out[start : start + len(block)] = transform.apply(decode(block))
    return out


def _padded(reduced: NDArray[np.float32], least: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """At least as many rows as k-means has centroids: where there are fewer, repeated with a little noise."""
    if len(reduced) >= least:
        return reduced
    rows = np.resize(reduced, (least, reduced.shape[1]))
    copies = rows[len(reduced) :]
    copies += np.float32(PADDING_NOISE) * rng.standard_normal(copies.shape, np.float32)
    return rows
