"""Regions: where the queries of each modality lie, so that a ready vector tells which modality it was made from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from bindsearch.indexes.tuning import in_distribution_cosine

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class SourceClassifier:
    """Of s sources, the unit mean of their queries float32 (s, d), and the cosine to it from which on a query is one of
    theirs and of nobody else's: float32 (s,)."""

    sources: tuple[str, ...]
    means: NDArray[np.float32]
    cosines: NDArray[np.float32]

    def predict_source(self, query: NDArray[np.float32]) -> str | None:
        """The source among whose queries a query (d,) lies; None where it lies among none's."""
        if not self.sources:
            return None
        margins = self.means @ query - self.cosines
        best = int(margins.argmax())
        return self.sources[best] if margins[best] >= 0 else None

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """Plain arrays to be stored."""
        return {
            "source_names": np.array(self.sources, "U16"),
            "source_means": self.means,
            "source_cosines": self.cosines,
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> SourceClassifier:
        """Return what `to_arrays` gave."""
        names, means, cosines = (arrays[f"source_{what}"] for what in ("names", "means", "cosines"))
        return cls(tuple(names.tolist()), means, cosines)


def find_regions(queries: Mapping[str, NDArray[np.float32]], dim: int) -> SourceClassifier:
    """The region of each source from samples of its queries, each float32 (nq, d), nq >= 1."""
    means = np.zeros((len(queries), dim), np.float32)
    cosines = np.zeros(len(queries), np.float32)
    for number, (source, held) in enumerate(queries.items()):
        mean = held.mean(axis=0)
        strangers = [others for other, others in queries.items() if other != source]
        means[number] = mean / max(float(np.linalg.norm(mean)), 1e-12)
        cosines[number] = in_distribution_cosine(held, mean, strangers)
    return SourceClassifier(tuple(queries), means, cosines)
