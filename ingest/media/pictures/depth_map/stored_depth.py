"""Stored values of a depth map, before they are distances."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class StoredDepth:
    """Values of a depth map as its file holds them.

    Attributes:
        raw: Stored values (height, width), numbers.
        unit: Unit that the format implies, as text; None: it has none.
        kind: What implies it, such as "16-bit integers".
        orientation: EXIF orientation 1..8 of the stored values.
        mask: bool (height, width), False where the file itself tells that there is no value; None: it does not.
        notes: What was chosen or converted while reading.
    """

    raw: NDArray[Any]
    unit: str | None
    kind: str
    orientation: int = 1
    mask: NDArray[np.bool_] | None = None
    notes: tuple[str, ...] = ()


def stored(raw: NDArray[Any], *, orientation: int = 1, notes: tuple[str, ...] = ()) -> StoredDepth:
    """Return stored values without a unit of their own: floating-point values are metres, integers have no unit."""
    is_float = raw.dtype.kind == "f"
    kind = "floating-point values" if is_float else f"{8 * raw.dtype.itemsize}-bit integers"
    return StoredDepth(raw, "m" if is_float else None, kind, orientation, notes=notes)
