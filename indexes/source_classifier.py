"""Regions of each modality's queries, which predict the source modality of a precomputed vector."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class SourceClassifier:
    """Regions of the queries of s sources.

    Attributes:
        sources: modalities, s names.
        means: float32 (s, d), the unit mean of each source's queries.
        cosines: float32 (s,), the cosine to the mean from which on a query belongs to this source alone.
    """

    sources: tuple[str, ...]
    means: NDArray[np.float32]
    cosines: NDArray[np.float32]

    def predict_source(self, query: NDArray[np.float32]) -> str | None:
        """Return the source whose region a query float32 (d,) is in; None if it is in no region."""
        if not self.sources:
            return None
        margins = self.means @ query - self.cosines
        best = int(margins.argmax())
        return self.sources[best] if margins[best] >= 0 else None

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """Return plain arrays to be stored."""
        return {
            "source_names": np.array(self.sources, "U16"),
            "source_means": self.means,
            "source_cosines": self.cosines,
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> SourceClassifier:
        """Return the classifier that `to_arrays` was called on."""
        names, means, cosines = (arrays[f"source_{suffix}"] for suffix in ("names", "means", "cosines"))
        return cls(tuple(names.tolist()), means, cosines)


def find_regions(queries: Mapping[str, NDArray[np.float32]], dim: int) -> SourceClassifier:
    """Return the region of each source from samples of its queries, each float32 (nq, d), nq >= 1."""
    from bindsearch.indexes.tuning import in_distribution_cosine  # searches need no tuning

    means = np.zeros((len(queries), dim), np.float32)
    cosines = np.zeros(len(queries), np.float32)
    for number, (source, rows) in enumerate(queries.items()):
        mean = rows.mean(axis=0)
        foreign_queries = [sample for name, sample in queries.items() if name != source]
        means[number] = mean / max(float(np.linalg.norm(mean)), 1e-12)
        cosines[number] = in_distribution_cosine(rows, mean, foreign_queries)
    return SourceClassifier(tuple(queries), means, cosines)
