"""Vectors, queries, attributes for filters, and the exact results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import synthetic

if TYPE_CHECKING:
    from numpy.typing import NDArray

K = 10
TRUTH_BLOCK = 32768
LABELS = ("a", "b", "c", "d", "e")
LABEL_SHARES = (0.001, 0.009, 0.09, 0.4, 0.5)
"""Labels from the nearest to an anchor direction outward: a has 0.1% of a modality, a and b 1%, a to c 10%, ..."""
FILTER_SHARES = (0.5, 0.1, 0.01, 0.001)


@dataclass(frozen=True)
class Dataset:
    """Data of the benchmark, by modality.

    Attributes:
        vectors: indexed vectors, fp16 (n, d).
        queries: held-out queries, float32 (nq, d) of unit length.
        labels: for each row a position in LABELS, int8 (n,).
        chances: for each row a uniform random number in 0..1, float64 (n,).
    """

    vectors: Mapping[str, NDArray[np.float16]]
    queries: Mapping[str, NDArray[np.float32]]
    labels: Mapping[str, NDArray[np.int8]]
    chances: Mapping[str, NDArray[np.float64]]

    @property
    def n(self) -> int:
        """Number of vectors over all modalities."""
        return sum(len(rows) for rows in self.vectors.values())

    def only(self, modality: str) -> Dataset:
        """Return the data with the vectors of one modality; queries stay."""
        return Dataset({modality: self.vectors[modality]}, self.queries, self.labels, self.chances)


@dataclass(frozen=True)
class BenchFilter:
    """A filter with a known result: `expression` for the engine, `keeps` bool (n,) over the rows of a modality."""

    name: str
    share: float
    expression: str
    keeps: NDArray[np.bool_]


def make_dataset(size: int, n_queries: int, cache: Path, dim: int = 1024) -> Dataset:
    """Read `size` vectors from `cache`, or generate them into it.

    The cache has a `vec_<modality>.npy` of at least as many rows for each modality. Queries are the events after the
    last one stored: they were never indexed, and most have a counterpart in other modalities.
    """
    space = synthetic.make_space(dim)
    vectors, queries = {}, {}
    for modality, n in synthetic.sizes(size).items():
        vectors[modality] = _cached(space, modality, n, cache)
        after = -(-n // synthetic.BLOCK)
        sample = synthetic.block(space, modality, after, n_queries).astype(np.float32)
        queries[modality] = sample / np.linalg.norm(sample, axis=1, keepdims=True)
    rng = np.random.default_rng(11)
    chances = {name: (rng.permutation(len(rows)) + 0.5) / len(rows) for name, rows in vectors.items()}
    return Dataset(vectors, queries, {name: _labels(rows) for name, rows in vectors.items()}, chances)


def image_filters(data: Dataset) -> list[BenchFilter]:
    """Return random and label-like filters over the images, of every share."""
    chances, labels = data.chances["image"], data.labels["image"]
    filters = []
    for share in FILTER_SHARES:
        filters.append(BenchFilter(f"random {share:.1%}", share, f"chance < {share}", chances < share))
    for share in FILTER_SHARES:
        last = int(np.searchsorted(np.cumsum(LABEL_SHARES), share - 1e-9))
        names = ", ".join(f"'{name}'" for name in LABELS[: last + 1])
        filters.append(BenchFilter(f"label {share:.1%}", share, f"label in ({names})", labels <= last))
    return filters


def exact_top(
    queries: NDArray[np.float32], rows: NDArray[np.float16], masks: Sequence[NDArray[np.bool_] | None] = (None,)
) -> list[NDArray[np.int64]]:
    """Return the K nearest rows (n, d) of each query (nq, d), scored in float32, for each mask over the rows.

    int64 (nq, K), nearest first; -1 where a mask has fewer rows.
    """
    best = [(np.full((len(queries), K), -np.inf, np.float32), np.full((len(queries), K), -1)) for _ in masks]
    for start in range(0, len(rows), TRUTH_BLOCK):
        cosines = queries @ rows[start : start + TRUTH_BLOCK].astype(np.float32).T
        for number, mask in enumerate(masks):
            matching = (
                np.arange(cosines.shape[1]) if mask is None else np.flatnonzero(mask[start : start + TRUTH_BLOCK])
            )
            if len(matching):
                best[number] = _merge(*best[number], cosines[:, matching], start + matching)
    return [positions for _, positions in best]


def recall(found: Sequence[Sequence[int]], truth: NDArray[np.int64]) -> float:
    """Return the mean share of the true neighbours (nq, k) that were returned; -1 is ignored."""
    shares = []
    for given, expected in zip(found, truth, strict=True):
        relevant = {int(row) for row in expected if row >= 0}
        shares.append(len(relevant.intersection(given)) / max(len(relevant), 1))
    return float(np.mean(shares))


def _merge(
    cosines: NDArray[np.float32], positions: NDArray[np.int64], more: NDArray[np.float32], at: NDArray[np.int64]
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    all_cosines = np.concatenate([cosines, more], axis=1)
    all_positions = np.concatenate([positions, np.broadcast_to(at, more.shape)], axis=1)
    chosen = np.argpartition(-all_cosines, K - 1, axis=1)[:, :K]
    order = np.argsort(-np.take_along_axis(all_cosines, chosen, 1), axis=1, kind="stable")
    chosen = np.take_along_axis(chosen, order, 1)
    return np.take_along_axis(all_cosines, chosen, 1), np.take_along_axis(all_positions, chosen, 1)


def _labels(rows: NDArray[np.float16]) -> NDArray[np.int8]:
    """Return labels by nearness to one of the rows, after the mean is subtracted."""
    mean = rows[: min(len(rows), 20000)].astype(np.float32).mean(axis=0)
    anchor = rows[len(rows) // 3].astype(np.float32) - mean
    likeness = np.concatenate(
        [rows[i : i + TRUTH_BLOCK].astype(np.float32) @ anchor for i in range(0, len(rows), TRUTH_BLOCK)]
    )
    ranks = np.empty(len(rows), np.int64)
    ranks[np.argsort(-likeness, kind="stable")] = np.arange(len(rows))
    bounds = np.round(np.cumsum(LABEL_SHARES) * len(rows)).astype(np.int64)
    return np.searchsorted(bounds[:-1], ranks, side="right").astype(np.int8)


def _cached(space: synthetic.Space, modality: str, n: int, cache: Path) -> NDArray[np.float16]:
    path = cache / f"vec_{modality}.npy"
    if path.is_file():
        rows = np.load(path, mmap_mode="r")
        if len(rows) >= n and rows.shape[1] == space.dim:
            expected = synthetic.block(space, modality, 0, 16).astype(np.float32)
            # Near-duplicates depend on the block length, so only most rows have to agree.
            if np.median((rows[:16] * expected).sum(axis=1)) < 0.999:
                raise SystemExit(f"{path} was written by another generator: remove it, or use another --cache")
            return np.asarray(rows[:n])  # a plain view of the map: indexing a memmap object is slower
    cache.mkdir(parents=True, exist_ok=True)
    rows = np.lib.format.open_memmap(path, "w+", np.float16, (n, space.dim))
    start = 0
    for block in synthetic.blocks(space, modality, n):
        rows[start : start + len(block)] = block
        start += len(block)
    rows.flush()
    return np.asarray(rows)
