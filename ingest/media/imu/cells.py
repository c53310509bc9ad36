"""Cells of text columns as numbers: one text among numbers makes the whole column one of texts."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

_NUMBER = r"^\s*[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?\s*$"
_MAX_TEXT = 40


def text_numbers(column: Any) -> NDArray[np.float64]:
    """Return an Arrow column of texts as numbers, other texts as NaN."""
    import pyarrow as pa
    import pyarrow.compute as pc

    is_number = pc.match_substring_regex(column, _NUMBER)
    texts = pc.if_else(is_number, pc.utf8_trim_whitespace(column), pa.scalar(None, column.type))
    numbers: NDArray[np.float64] = texts.cast(pa.float64()).to_numpy()
    return numbers


def first_text(column: Any) -> tuple[int, str] | None:
    """Return the first cell of an Arrow column of texts that is not a number, as (row from 1, text); None if none."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if not pa.types.is_string(column.type):
        return None
    row = pc.index(pc.fill_null(pc.match_substring_regex(column, _NUMBER), True), False).as_py()
    return None if row < 0 else (row + 1, column[row].as_py()[:_MAX_TEXT])
