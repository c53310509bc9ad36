"""Sets of fingerprints in 16 bytes each, so that knowing what has been seen costs little however much that is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

_NEW_AT_MOST = 4096


def as_rows(fingerprints: Sequence[str]) -> NDArray[np.bytes_]:
    """Hex digests of 128 bits as bytes: S16 (n,)."""
    return np.frombuffer(bytes.fromhex("".join(fingerprints)), "S16")


class KnownPrints:
    """Fingerprints of the items that a store holds, and whose they are."""

    def __init__(self, rows: NDArray[np.bytes_], item_ids: NDArray[np.int64]) -> None:
        """`rows` as `as_rows` gives them."""
        order = np.argsort(rows, kind="stable")
        self._rows, self._item_ids = rows[order], item_ids[order]

    def items_of(self, fingerprint: str) -> NDArray[np.int64]:
        """item_id of all items with this fingerprint: int64 (m,)."""
        row = as_rows([fingerprint])[0]
        low, high = np.searchsorted(self._rows, row, "left"), np.searchsorted(self._rows, row, "right")
        return self._item_ids[low:high]


class SeenPrints:
    """A growing set of fingerprints."""

    def __init__(self) -> None:
        self._rows = as_rows([])
        self._new: set[str] = set()

    def __contains__(self, fingerprint: str) -> bool:
        if fingerprint in self._new:
            return True
        row = as_rows([fingerprint])[0]
        place = int(np.searchsorted(self._rows, row))
        return place < len(self._rows) and self._rows[place] == row

    def add(self, fingerprint: str) -> None:
        """Put one in."""
        self._new.add(fingerprint)
        if len(self._new) >= _NEW_AT_MOST:
            self._rows = np.sort(np.concatenate([self._rows, as_rows([*self._new])]))
            self._new.clear()
