"""The tables that a filter looks at, made by hand."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bindsearch.storage.class_columns import first_vectors
from bindsearch.types import Modality


@dataclass(frozen=True)
class Roots:
    """Roots of collections, by their ids."""

    collections: dict[int, str]


@dataclass(frozen=True)
class Tables:
    """Items and segments as Arrow tables, and the row in `items` of each segment: int64 (n segments,)."""

    items: Any
    segments: Any
    rows: NDArray[np.int64]
    manifest: Roots
    class_columns: Any = None

    @property
    def item_of_segment_rows(self) -> NDArray[np.int64]:
        return self.rows

    def class_keys(self, modality: Modality | None) -> NDArray[np.int64]:
        return first_vectors(self.items, self.segments, self.rows, modality)
