"""Masks: the rows of a partition that a search may return, and FAISS's selectors for them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import faiss


@dataclass(frozen=True, eq=False)
class RowMask:
    """Mask of the rows, of n, that a search may return.

    Attributes:
        flags: bool (n,), read-only: a writable array is copied.
    """

    flags: NDArray[np.bool_]

    def __post_init__(self) -> None:
        if self.flags.flags.writeable:
            copy = self.flags.copy()
            copy.setflags(write=False)
            object.__setattr__(self, "flags", copy)

    @property
    def n(self) -> int:
        """Number of rows, matching or not."""
        return len(self.flags)

    @cached_property
    def count(self) -> int:
        """Number of matching rows."""
        return int(np.count_nonzero(self.flags))

    @cached_property
    def bits(self) -> NDArray[np.uint8]:
        """One bit per row, the lowest bit of a byte first: uint8 (ceil(n / 8),)."""
        bits = np.packbits(self.flags, bitorder="little")
        bits.setflags(write=False)
        return bits

    @cached_property
    def positions(self) -> NDArray[np.int64]:
        """Positions of the matching rows, ascending: int64 (count,)."""
        positions = np.flatnonzero(self.flags)
        positions.setflags(write=False)
        return positions

    @cached_property
    def runs(self) -> int:
        """Number of runs of neighbouring matching rows."""
        if not self.n:
            return 0
        return int(np.count_nonzero(self.flags[1:] & ~self.flags[:-1])) + int(self.flags[0])

    def slice(self, start: int, stop: int) -> RowMask:
        """Return the mask of rows start..stop, which count from 0 in it."""
        return self if start == 0 and stop >= self.n else RowMask(self.flags[start:stop])


def selector(mask: RowMask) -> faiss.IDSelector:
    """Return FAISS's filter for a mask; it keeps the mask's bits alive."""
    import faiss

    return faiss.IDSelectorBitmap(mask.bits)  # type: ignore[call-arg,arg-type]  # the wrapper takes an array
