"""Masks: which rows of a partition a search may find, and the selectors that FAISS takes for them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import faiss
    from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class RowMask:
    """Mask of the rows, of n, that may be found. `flags` bool (n,) becomes read-only: a copy where the caller could
    still write."""

    flags: NDArray[np.bool_]

    def __post_init__(self) -> None:
        if self.flags.flags.writeable:
            copy = self.flags.copy()
            copy.setflags(write=False)
            object.__setattr__(self, "flags", copy)

    @property
    def n(self) -> int:
        """Rows the mask speaks of, left out or not."""
        return len(self.flags)

    @cached_property
    def count(self) -> int:
        """Rows that may be found."""
        return int(np.count_nonzero(self.flags))

    @cached_property
    def bits(self) -> NDArray[np.uint8]:
        """One bit a row, the lowest bit of a byte first: uint8 (ceil(n / 8),)."""
        bits = np.packbits(self.flags, bitorder="little")
        bits.setflags(write=False)
        return bits

    @cached_property
    def positions(self) -> NDArray[np.int64]:
        """The rows that may be found, ascending: int64 (count,)."""
        positions = np.flatnonzero(self.flags)
        positions.setflags(write=False)
        return positions

    @cached_property
    def runs(self) -> int:
        """Stretches of neighbouring rows that the kept ones lie in."""
        if not self.n:
            return 0
        return int(np.count_nonzero(self.flags[1:] & ~self.flags[:-1])) + int(self.flags[0])

    def slice(self, start: int, stop: int) -> RowMask:
        """The mask of rows start..stop alone, which count from 0 in it."""
        return self if start == 0 and stop >= self.n else RowMask(self.flags[start:stop])


def selector(mask: RowMask) -> faiss.IDSelector:
    """Return what FAISS takes as a filter; it keeps the mask's bits alive."""
    import faiss

    return faiss.IDSelectorBitmap(mask.bits)  # type: ignore[call-arg,arg-type]  # the wrapper takes an array
