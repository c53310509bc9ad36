"""The index protocol: positions of rows in, nearest positions out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class VectorIndex(Protocol):
    """Finds the rows of one partition that are nearest to a query by inner product."""

    def search(
        self, queries: NDArray[np.float32], k: int, allowed: NDArray[np.bool_] | None = None
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Positions int64 (nq, k) and cosines float32 (nq, k), best first; -1 and -inf where fewer than k rows match.

        `allowed` bool (n,): only rows where it is True are considered; None allows all.
        """
