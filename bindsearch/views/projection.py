"""Projection of unit vectors to the plane: UMAP (McInnes, Healy and Melville 2018, arXiv 1802.03426) in numpy.

The graph of nearest neighbours is exact. The layout starts from the first two principal components and is optimised in
batches: all points move at once, by a share of the gradients of their edges and of points drawn at random, so that each
epoch is a few array operations. The result depends on the vectors and the seed alone.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

NEIGHBOURS = 15
EPOCHS = 200
NEGATIVE_SAMPLES = 5
SPREAD_A, SPREAD_B = 1.577, 0.895
"""Parameters of the similarity 1 / (1 + a d^(2 b)) in the plane, for min_dist 0.1 and spread 1 (UMAP's default)."""

EXTENT = 10.0
"""Greatest distance from the mean, along an axis, of the layout that the optimisation starts from."""

_STEP, _MAX_STEP = 0.1, 4.0
"""Size of the first step, as a share of the sum of the gradients, and its greatest length along an axis.

From 0.02 to 0.3, the same neighbours are preserved (within 2%); at 1, fewer."""

_BANDWIDTH_STEPS = 40


@dataclass(frozen=True, slots=True)
class Graph:
    """Undirected edges between neighbours: ends int64 (e,) each, and weights in 0..1, float32 (e,)."""

    heads: NDArray[np.int64]
    tails: NDArray[np.int64]
    weights: NDArray[np.float32]


def project(vectors: NDArray[np.float32], *, seed: int = 0, epochs: int = EPOCHS) -> NDArray[np.float32]:
    """Return the projection of unit vectors (n, d): float32 (n, 2), centred, the farthest coordinate 1 or -1.

    Args:
        vectors: The vectors.
        seed: Seed of the random points.
        epochs: Number of steps; 0: the principal components.
    """
    n = len(vectors)
    if n < 3:
        return np.linspace([-1.0, 0.0], [1.0, 0.0], n, dtype=np.float32) if n > 1 else np.zeros((n, 2), np.float32)
    layout = principal_components(vectors)
    if epochs:
        indices, distances = nearest(vectors, min(NEIGHBOURS, n - 1))
        layout = _optimised(layout, neighbour_graph(indices, distances), np.random.default_rng(seed), epochs)
    return _scaled(layout - layout.mean(axis=0), 1.0)


def principal_components(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the first two principal components of vectors (n, d): float32 (n, 2), at most EXTENT from the mean."""
    centred = vectors - vectors.mean(axis=0)
    _, axes = np.linalg.eigh(centred.T @ centred)
    axes = axes[:, :-3:-1] if axes.shape[1] > 1 else np.pad(axes, ((0, 0), (0, 1)))
    axes = axes * np.where(axes[np.abs(axes).argmax(axis=0), [0, 1]] < 0, -1, 1)  # the sign of an axis is arbitrary
    return _scaled(centred @ axes, EXTENT)


def _scaled(layout: NDArray[np.floating], extent: float) -> NDArray[np.float32]:
    """Return a layout (n, 2) whose greatest coordinate is `extent`: float32."""
    scaled: NDArray[np.float32] = (layout * (extent / max(float(np.abs(layout).max()), 1e-9))).astype(np.float32)
    return scaled


def nearest(vectors: NDArray[np.float32], k: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Return the k nearest others of each vector and their distances 1 - cosine: int64, float32 (n, k), ascending."""
    import faiss

    cosines, indices = faiss.knn(vectors, vectors, k + 1, metric=faiss.METRIC_INNER_PRODUCT)
    is_self = indices == np.arange(len(vectors))[:, None]  # not always the first: a copy is as near
    others = np.argsort(is_self, axis=1, kind="stable")[:, :k]
    distances = 1 - np.take_along_axis(cosines, others, 1)
    return np.take_along_axis(indices, others, 1), np.maximum(distances, 0)


def neighbour_graph(indices: NDArray[np.int64], distances: NDArray[np.float32]) -> Graph:
    """Return the fuzzy union of the neighbourhoods (n, k) of all points (arXiv 1802.03426, section 3.1).

    The weight of a neighbour is exp(-(d - rho) / sigma): rho is the least distance above 0, and sigma such that the
    weights of a point sum to log2(k). The weights w and v of both directions of an edge become w + v - w v.
    """
    n, k = indices.shape
    rho = np.where(distances > 0, distances, np.inf).min(axis=1, keepdims=True)
    beyond = np.maximum(distances - np.where(np.isfinite(rho), rho, 0), 0)
    low, high = np.zeros((n, 1)), np.full((n, 1), 2.0)
    for _ in range(_BANDWIDTH_STEPS):
        sigma = (low + high) / 2
        is_wide = np.exp(-beyond / np.maximum(sigma, 1e-9)).sum(axis=1, keepdims=True) > np.log2(max(k, 2))
        low, high = np.where(is_wide, low, sigma), np.where(is_wide, sigma, high)
    weights = np.exp(-beyond / np.maximum(high, 1e-3 * distances.mean() + 1e-9)).ravel()
    heads, tails = np.repeat(np.arange(n), k), indices.ravel()
    pairs, edge_of = np.unique(np.minimum(heads, tails) * n + np.maximum(heads, tails), return_inverse=True)
    total = np.bincount(edge_of, weights)
    product = np.where(np.bincount(edge_of) == 2, np.exp(np.bincount(edge_of, np.log(np.maximum(weights, 1e-30)))), 0)
    return Graph(pairs // n, pairs % n, (total - product).astype(np.float32))


def _optimised(
    layout: NDArray[np.float32], graph: Graph, random: np.random.Generator, epochs: int
) -> NDArray[np.float32]:
    """Return a layout (n, 2) after `epochs` steps of shrinking size.

    An edge takes part in a share of the epochs that is its weight; each time, its ends attract each other, and are
    repelled by NEGATIVE_SAMPLES random points.
    """
    n = len(layout)
    layout = layout + random.normal(0, 1e-3, layout.shape).astype(np.float32)  # separates copies
    shares = graph.weights / graph.weights.max()
    for epoch in range(epochs):
        is_active = np.floor(shares * (epoch + 1)) > np.floor(shares * epoch)
        heads, tails = graph.heads[is_active], graph.tails[is_active]
        gaps = layout[heads] - layout[tails]
        squares = np.einsum("ij,ij->i", gaps, gaps)
        powers = np.maximum(squares, 1e-12) ** np.float32(SPREAD_B - 1)
        pulls = (-2 * SPREAD_A * SPREAD_B * powers / (SPREAD_A * powers * squares + 1))[:, None] * gaps
        pulls = np.clip(pulls, -_MAX_STEP, _MAX_STEP)
        moves = _summed(heads, pulls, n) - _summed(tails, pulls, n)
        counts = np.bincount(heads, minlength=n) + np.bincount(tails, minlength=n)
        others = random.integers(0, n, (NEGATIVE_SAMPLES, n))
        gaps = layout - layout[others]
        squares = np.einsum("ijk,ijk->ij", gaps, gaps)
        strengths = 2 * SPREAD_B / ((0.001 + squares) * (SPREAD_A * squares**SPREAD_B + 1))
        pushes = np.clip(strengths[..., None] * gaps, -_MAX_STEP, _MAX_STEP).sum(axis=0)
        moves = moves + pushes * counts[:, None]
        scale = 1 - epoch / epochs
        layout = layout + (scale * np.clip(_STEP * moves, -_MAX_STEP, _MAX_STEP)).astype(np.float32)
    return layout


def _summed(places: NDArray[np.int64], moves: NDArray[np.float32], n: int) -> NDArray[np.float64]:
    """Return the sum of moves (m, 2) at each of n places: float64 (n, 2)."""
    return np.stack([np.bincount(places, moves[:, axis], n) for axis in range(2)], axis=1)
