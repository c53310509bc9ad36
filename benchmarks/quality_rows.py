"""One line of the quality table: a figure and its minimum."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Row:
    """`figure` as measured, `wanted` its minimum (None: reported for information), over `n` queries."""

    name: str
    figure: float
    wanted: float | None
    n: int
    note: str = ""

    @property
    def reached(self) -> bool | None:
        """Return whether the figure reaches its minimum; None if it has none."""
        return None if self.wanted is None else self.figure >= self.wanted
