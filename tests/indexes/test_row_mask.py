"""Masks of rows, and the selectors made of them."""

import gc
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bindsearch.indexes.row_mask import RowMask, selector


@given(st.lists(st.booleans(), max_size=70))
def test_count_positions_and_bits_tell_the_same_rows(kept: list[bool]) -> None:
    mask = RowMask(np.array(kept, np.bool_))
    assert (mask.n, mask.count) == (len(kept), sum(kept))
    assert mask.positions.tolist() == [row for row, here in enumerate(kept) if here]
    assert mask.positions.dtype == np.int64
    assert np.unpackbits(mask.bits, bitorder="little")[: len(kept)].tolist() == kept


@given(st.lists(st.booleans(), min_size=1, max_size=40), st.integers(0, 40), st.integers(0, 40))
def test_a_slice_is_the_mask_of_those_rows(kept: list[bool], start: int, stop: int) -> None:
    assert RowMask(np.array(kept, np.bool_)).slice(start, stop).flags.tolist() == kept[start:stop]


def test_a_mask_does_not_change_with_the_array_it_was_made_of() -> None:
    kept = np.array([True, False, True])
    mask = RowMask(kept)
    kept[:] = True
    assert mask.positions.tolist() == [0, 2]
    for array in (mask.flags, mask.bits, mask.positions):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 1


def test_the_selector_outlives_the_mask_and_leaves_out_rows_beyond_it() -> None:
    kept = np.random.default_rng(0).random(1001) < 0.5
    made: Any = selector(RowMask(kept))
    gc.collect()
    assert [made.is_member(row) for row in range(1001)] == kept.tolist()
    assert not made.is_member(1008)
