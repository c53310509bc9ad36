"""Arrays that figures are computed from, checked: vectors, scores, targets, and which candidates answer which query.

Letters: n rows, d dimensions, q queries, c classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from bindsearch.arguments import shown
from bindsearch.errors import UsageError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Vectors = NDArray[np.float32]
    """Vectors, a row each: float32 (n, d)."""

    Relevance = NDArray[np.bool_] | Sequence[Sequence[int] | NDArray[np.int64]]
    """Rows of the candidates that are relevant for each query, or a bool matrix (q, n)."""

NORM_TOLERANCE = 1e-3
"""Difference of a norm from 1 up to which a vector is a unit vector: half precision has 5e-4."""


def to_unit_rows(vectors: NDArray[np.floating], name: str) -> Vectors:
    """Return unit vectors (n, d), n >= 1, as float32.

    Raises:
        UsageError: the array has another shape, no rows, or a row that is not a unit vector.
    """
    rows = np.asarray(vectors, np.float32)
    if rows.ndim != 2 or not rows.size:
        raise UsageError(f"{name} have the shape {rows.shape}: give at least one vector a row, (n, d)")
    wrong = np.flatnonzero(~(np.abs(np.linalg.norm(rows, axis=1) - 1.0) <= NORM_TOLERANCE))
    if len(wrong):
        norm = float(np.linalg.norm(rows[wrong[0]]))
        raise UsageError(f"row {wrong[0]} of {name} has the norm {norm:.3g}: give unit vectors, see l2_normalize")
    return rows


def to_same_space(a: NDArray[np.floating], b: NDArray[np.floating], names: tuple[str, str]) -> None:
    """Raise UsageError if vectors (n, d) and (m, d) have different dimensions."""
    if a.shape[1] != b.shape[1]:
        raise UsageError(
            f"{names[0]} have {a.shape[1]} dimensions, {names[1]} {b.shape[1]}: embed both with the same encoder"
        )


def to_scores(scores: NDArray[np.floating], name: str = "scores") -> NDArray[Any]:
    """Return a matrix of scores (n, c), n >= 1 and c >= 1, in their own floating type, else as float64.

    Raises:
        UsageError: the array has another shape, is empty, or has values that are not finite.
    """
    matrix = np.asarray(scores)
    matrix = matrix if np.issubdtype(matrix.dtype, np.floating) else matrix.astype(np.float64)
    if matrix.ndim != 2 or not matrix.size:
        raise UsageError(f"{name} have the shape {matrix.shape}: give a row of scores for each example, (n, c)")
    if not np.isfinite(matrix).all():
        row = int(np.flatnonzero(~np.isfinite(matrix).all(axis=1))[0])
        raise UsageError(f"row {row} of {name} has a value that is not finite: leave the example out, and count it")
    return matrix


def to_targets(targets: Sequence[int] | NDArray[np.integer], n: int, n_classes: int) -> NDArray[np.int64]:
    """Return the numbers of the right classes: int64 (n,).

    Raises:
        UsageError: there are not n, or one is not a class.
    """
    numbers = np.asarray(targets)
    if numbers.shape != (n,) or not np.issubdtype(numbers.dtype, np.integer):
        raise UsageError(
            f"targets have the shape {numbers.shape} and type {numbers.dtype}: give {n} integers, one for each row"
        )
    if numbers.min() < 0 or numbers.max() >= n_classes:
        wrong = int(numbers[(numbers < 0) | (numbers >= n_classes)][0])
        raise UsageError(f"targets contain {wrong}: give the number of a class, 0 to {n_classes - 1}")
    return numbers.astype(np.int64)


def to_relevance(relevant: Relevance, n_queries: int, n_candidates: int) -> list[NDArray[np.int64]]:
    """Return the rows of the relevant candidates of each query, ascending and each once: int64 each.

    Raises:
        UsageError: there are more or fewer than `n_queries`, or a row is not a candidate.
    """
    if isinstance(relevant, np.ndarray):
        if relevant.dtype != np.bool_ or relevant.shape != (n_queries, n_candidates):
            raise UsageError(
                f"relevance has the shape {relevant.shape} and type {relevant.dtype}: "
                f"give bool {(n_queries, n_candidates)}, a row for each query"
            )
        return [np.flatnonzero(row).astype(np.int64) for row in relevant]
    if len(relevant) != n_queries:
        raise UsageError(f"relevance has {len(relevant)} rows for {n_queries} queries: give one for each query")
    rows = [np.unique(np.asarray(row, np.int64)) for row in relevant]
    for query, row in enumerate(rows):
        if len(row) and not (row[0] >= 0 and row[-1] < n_candidates):
            wrong = row[0] if row[0] < 0 else row[-1]
            raise UsageError(
                f"query {query} has the relevant row {shown(int(wrong))}: "
                f"give rows of the candidates, 0 to {n_candidates - 1}"
            )
    return rows


def transposed(relevant: Relevance, n_candidates: int) -> list[NDArray[np.int64]]:
    """Return which queries each candidate is relevant for: the relevance of the opposite direction."""
    rows = to_relevance(relevant, len(relevant), n_candidates)
    queries = np.repeat(np.arange(len(rows), dtype=np.int64), [len(row) for row in rows])
    candidates = np.concatenate([*rows, np.empty(0, np.int64)])
    order = np.argsort(candidates, kind="stable")
    counts = np.bincount(candidates, minlength=n_candidates)
    return np.split(queries[order], np.cumsum(counts)[:-1])
