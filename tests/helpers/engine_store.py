"""Stores with a gap between modalities, to compare the answers of other engines with exact search."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

import bindsearch as bs

if TYPE_CHECKING:
    from numpy.typing import NDArray

DIM = 64
QUERIES = 50
K = 10


@dataclass(frozen=True)
class GapStore:
    """A store of pictures and texts, as far apart as modalities of real encoders are.

    Attributes:
        path: Folder of the store.
        rows: Unit vectors by modality, float32 (n, d), as stored.
        queries: Vectors of texts that are not in the store, float32 (QUERIES, d).
    """

    path: Path
    rows: dict[str, NDArray[np.float32]]
    queries: NDArray[np.float32]

    def recall(self, modality: str, answers: list[list[str]]) -> float:
        """Return the mean share of the K nearest paths of a modality that the answers to the queries have."""
        order = np.argsort(-(self.queries @ self.rows[modality].T), axis=1)[:, :K]
        nearest = [{path_of(modality, row) for row in rows} for rows in order]
        return float(np.mean([len(one & {*found}) / K for one, found in zip(nearest, answers, strict=True)]))


def path_of(modality: str, row: int) -> str:
    """Return the path of a row."""
    return f"/data/{modality}/{row}.bin"


def write_gap_store(folder: Path, n: int) -> GapStore:
    """Write a store of n pictures and n texts: clusters around a centre of each modality."""
    rng = np.random.default_rng(5)
    topics = rng.standard_normal((60, DIM))
    centres = {modality: 2.0 * rng.standard_normal(DIM) for modality in ("image", "text")}

    def draw(centre: NDArray[np.float64], count: int) -> NDArray[np.float32]:
        points = centre + topics[rng.integers(0, len(topics), count)] + 0.8 * rng.standard_normal((count, DIM))
        return (points / np.linalg.norm(points, axis=1, keepdims=True)).astype(np.float16).astype(np.float32)

    rows = {modality: draw(centre, n) for modality, centre in centres.items()}
    queries = draw(centres["text"], QUERIES)
    table = pa.table(
        {
            "path": [path_of(modality, row) for modality in rows for row in range(n)],
            "modality": [modality for modality in rows for _ in range(n)],
            "vector": [*map(list, np.concatenate([*rows.values()]).astype(np.float16))],
        }
    )
    pq.write_table(table, folder / "vectors.parquet")
    with bs.connect(folder / "store", encoder="null") as store:
        store.import_vectors(folder / "vectors.parquet", root="/data")
    return GapStore(folder / "store", rows, queries)
