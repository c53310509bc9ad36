"""The geometry of an embedding space: modality gap, alignment, uniformity, hubness, intrinsic dimension.

All distances are Euclidean, between unit vectors: ||x - y||^2 = 2 - 2 cos(x, y), 0 to 4. The functions take all pairs
of the vectors given, in blocks: time grows with their number, memory does not. `sample_rows` makes large sets smaller.

Letters: n vectors, m others, d dimensions.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from bindsearch.arguments import to_integer
from bindsearch.errors import UsageError
from bindsearch.evaluation.arrays import to_same_space, to_unit_rows
from bindsearch.vectors import cosines

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from bindsearch.evaluation.arrays import Vectors

SAMPLE = 5000
"""Default number of vectors of `sample_rows`: 25 million pairs take 1 to 3 s."""

NEIGHBOURS = 10
"""Length of the lists that hubness is counted over, as in Radovanović et al. 2010."""

KEPT_SHARE = 0.9
"""Share of the ratios that the fit of the intrinsic dimension uses, the smallest ones (Facco et al. 2017)."""

COPY_DISTANCE = 1e-5
"""Vectors nearer than this count as copies in `intrinsic_dimension`: what float32 makes of equal media is nearer."""

BLOCK_PAIRS = 1 << 22
"""Pairs that are held at a time: 32 MiB of float64."""


@dataclass(frozen=True, slots=True)
class Hubness:
    """Counts of how often vectors are found: N_k is the number of queries of which a vector is among the k nearest.

    Attributes:
        k: Length of the lists.
        skewness: Skewness of N_k, E[(N_k - mean)^3] / deviation^3: 0 for even lists, large if few vectors (hubs) are in
            many of them.
        largest: Largest N_k.
        never: Share of the vectors that are in no list ("anti-hubs").
    """

    k: int
    skewness: float
    largest: float
    never: float


@dataclass(frozen=True, slots=True)
class IntrinsicDimension:
    """Intrinsic dimension by TwoNN.

    Attributes:
        dimension: The estimate.
        n: Number of vectors that it is computed from.
        copies: Number of vectors that are left out as copies of others.
    """

    dimension: float
    n: int
    copies: int


def sample_rows(n: int, limit: int = SAMPLE, seed: int = 0) -> NDArray[np.int64]:
    """Return the rows of a uniform sample of `limit` of n vectors, or all of them if there are no more: ascending."""
    if n <= limit:
        return np.arange(n, dtype=np.int64)
    return np.sort(np.random.default_rng(seed).choice(n, limit, replace=False)).astype(np.int64)


def modality_gap(a: Vectors, b: Vectors) -> float:
    """Return the distance between the means of two modalities, 0 to 2 (Liang et al. 2022, Mind the gap).

    Args:
        a: Unit vectors of one modality: float32 (n, d).
        b: Unit vectors of another one: float32 (m, d).

    Raises:
        UsageError: the arrays do not fit.
    """
    first, second = _two_sets(a, b)
    return float(np.linalg.norm(first.mean(axis=0, dtype=np.float64) - second.mean(axis=0, dtype=np.float64)))


def alignment(a: Vectors, b: Vectors) -> float:
    """Return the mean of ||a_i - b_i||^2 over pairs, 0 to 4: 0 if the two of each pair are equal.

    Wang & Isola 2020, Understanding contrastive representation learning through alignment and uniformity; alpha = 2.

    Args:
        a: Unit vectors: float32 (n, d).
        b: Unit vectors of the same items, or of what belongs to them: float32 (n, d).

    Raises:
        UsageError: the arrays do not fit.
    """
    first, second = _two_sets(a, b)
    if len(first) != len(second):
        raise UsageError(f"alignment of {len(first)} and {len(second)} vectors: give pairs, row by row")
    return float((np.square(first.astype(np.float64) - second).sum(axis=1)).mean())


def uniformity(vectors: Vectors) -> float:
    """Return log E[exp(-2 ||x - y||^2)] over pairs of different rows (Wang & Isola 2020, t = 2).

    0 if all vectors are equal; the lower, the more evenly they cover the sphere: -4 is what orthogonal vectors have,
    and in many dimensions vectors in random directions.

    Args:
        vectors: Unit vectors: float32 (n, d), n >= 2.

    Raises:
        UsageError: the array does not fit, or there is only one vector.
    """
    rows = _several(vectors, "uniformity")
    total = sum(float(np.exp(-2.0 * squares).sum()) for _, squares in _squared_distances(rows, rows))
    return float(np.log((total - len(rows)) / (len(rows) * (len(rows) - 1))))


def hubness(vectors: Vectors, queries: Vectors | None = None, k: int = NEIGHBOURS) -> Hubness:
    """Return how unevenly vectors are found by queries (Radovanović, Nanopoulos & Ivanović 2010, Hubs in space).

    Equal cosines at the end of a list share its last places. A set whose vectors are all equal has no hubs: skewness 0.

    Args:
        vectors: Unit vectors that are found: float32 (n, d).
        queries: Unit vectors of queries, of another modality: float32 (m, d). None: each vector is a query for the
            others.
        k: Length of the lists, less than n.

    Raises:
        UsageError: the arrays do not fit, or k is not 1 to n - 1.
    """
    rows = _several(vectors, "hubness")
    own = queries is None
    asked = rows if queries is None else _two_sets(queries, rows)[0]
    depth = to_integer(k, "k", "give the length of the lists, at least 1", 1)
    if depth >= len(rows):
        raise UsageError(f"k is {depth}, with {len(rows)} vectors: give a shorter length of the lists, or more vectors")
    counts = np.zeros(len(rows))
    step = max(1, BLOCK_PAIRS // len(rows))
    for start in range(0, len(asked), step):
        scores = cosines(asked[start : start + step], rows)
        if own:
            scores[np.arange(len(scores)), np.arange(start, start + len(scores))] = -np.inf
        last = -np.partition(-scores, depth - 1, axis=1)[:, depth - 1 : depth]
        above, tied = scores > last, scores == last
        share = (depth - above.sum(axis=1)) / tied.sum(axis=1)
        counts += above.sum(axis=0) + share @ tied
    excess = counts - counts.mean()
    deviation = float(np.sqrt(np.square(excess).mean()))
    is_even = deviation <= 1e-9 * float(counts.mean())
    skewness = 0.0 if is_even else float((excess**3).mean()) / deviation**3
    return Hubness(depth, skewness, float(counts.max()), float((counts < 1e-9).mean()))


def intrinsic_dimension(vectors: Vectors) -> IntrinsicDimension:
    """Return the intrinsic dimension by TwoNN (Facco, d'Errico, Rodriguez & Laio 2017).

    The ratio mu = r2 / r1 of the distances to the second and to the first neighbour has the distribution 1 - mu^-D,
    where D is the dimension, if the density is constant over these distances. D is the slope through the origin of
    -log(1 - F(mu)) over log(mu), F the empirical distribution; the largest tenth of the ratios is left out, as in the
    paper. 2,000 uniform vectors give 4.8 for 5 dimensions, 17.9 for 20 and 28 for 40: values above 10 are too low, and
    comparable only between sets of one size.

    Copies have no first neighbour at a distance: of vectors nearer than COPY_DISTANCE one is kept.

    Args:
        vectors: Unit vectors: float32 (n, d).

    Raises:
        UsageError: the array does not fit, or has fewer than 20 different vectors.
    """
    rows = _several(vectors, "the intrinsic dimension")
    copies = np.zeros(len(rows), np.bool_)
    for start, squares in _squared_distances(rows, rows):
        for query, other in np.argwhere(squares < COPY_DISTANCE**2).tolist():
            copies[start + query] |= other < start + query and not copies[other]
    kept = rows[~copies]
    if len(kept) < 20:
        raise UsageError(f"the intrinsic dimension of {len(kept)} different vectors: give at least 20, better 1000")
    nearest = []
    for start, squares in _squared_distances(kept, kept):
        squares[np.arange(len(squares)), np.arange(start, start + len(squares))] = np.inf
        nearest.append(np.sort(np.partition(squares, 1, axis=1)[:, :2], axis=1))
    first, second = np.concatenate(nearest).T
    ratios = np.sort(0.5 * (np.log(second) - np.log(first)))  # log(mu); the distances are squared
    used = int(KEPT_SHARE * len(ratios))
    heights = -np.log1p(-np.arange(1, used + 1) / len(ratios))
    x = ratios[:used]
    if not float(x @ x) > 0:
        raise UsageError("the intrinsic dimension of vectors on a grid: all have two nearest neighbours, give others")
    return IntrinsicDimension(float(x @ heights) / float(x @ x), len(kept), len(rows) - len(kept))


def _squared_distances(a: Vectors, b: Vectors) -> Iterator[tuple[int, NDArray[np.float64]]]:
    """Yield squared distances of blocks of rows of `a` to all of `b`, with the number of the first row: float64.

    Vectors are normalised again in float64: 2 - 2 cos loses the distance of near ones to the rounding of their norms.
    """
    first, second = a.astype(np.float64), b.astype(np.float64)
    first /= np.linalg.norm(first, axis=1, keepdims=True)
    second /= np.linalg.norm(second, axis=1, keepdims=True)
    step = max(1, BLOCK_PAIRS // len(second))
    for start in range(0, len(first), step):
        yield start, np.maximum(2.0 - 2.0 * (first[start : start + step] @ second.T), 0.0)


def _two_sets(a: Vectors, b: Vectors) -> tuple[Vectors, Vectors]:
    first, second = to_unit_rows(a, "the first vectors"), to_unit_rows(b, "the second vectors")
    to_same_space(first, second, ("the first vectors", "the second"))
    return first, second


def _several(vectors: Vectors, what: str) -> Vectors:
    rows = to_unit_rows(vectors, "vectors")
    if len(rows) < 2:
        raise UsageError(f"{what} of {len(rows)} vectors: give at least 2")
    return rows
