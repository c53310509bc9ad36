"""One line of the quality table: what was measured, the figure, what was wanted of it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Row:
    """`figure` as measured, `wanted` the least it should be (None: reported for information), over `n` queries."""

    name: str
    figure: float
    wanted: float | None
    n: int
    note: str = ""

    @property
    def reached(self) -> bool | None:
        """Whether the figure is at least what was wanted; None where nothing was."""
        return None if self.wanted is None else self.figure >= self.wanted
