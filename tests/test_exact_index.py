"""The exact index against a plain NumPy search."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bindsearch.indexes.exact import ExactIndex
from bindsearch.space import l2_normalize


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 10**6), st.integers(1, 200), st.integers(1, 30), st.floats(0, 1))
def test_it_finds_what_numpy_finds(seed: int, n: int, k: int, share: float) -> None:
    rng = np.random.default_rng(seed)
    stored = l2_normalize(rng.standard_normal((n, 24))).astype(np.float16)
    queries = l2_normalize(rng.standard_normal((3, 24)))
    allowed = rng.random(n) < share
    index = ExactIndex(24, [stored[: n // 3], stored[n // 3 :]])
    for selector in (None, allowed):
        positions, cosines = index.search(queries, k, selector)
        expected = queries @ stored.astype(np.float32).T
        if selector is not None:
            expected[:, ~selector] = -np.inf
        best = -np.sort(-expected, axis=1)[:, :k]
        found = cosines[:, : best.shape[1]]
        np.testing.assert_allclose(found, best, atol=1e-5)
        assert (positions[:, best.shape[1] :] == -1).all()
        assert (cosines[positions < 0] == -np.inf).all()
        if selector is not None:
            assert selector[positions[positions >= 0]].all()


def test_no_rows_give_no_hits() -> None:
    positions, cosines = ExactIndex(4, []).search(np.eye(4, dtype=np.float32), 2)
    assert (positions == -1).all()
    assert (cosines == -np.inf).all()
    assert positions.shape == (4, 2)


def test_rows_are_scored_as_stored() -> None:
    stored = l2_normalize(np.random.default_rng(1).standard_normal((50, 384))).astype(np.float16)
    _, cosines = ExactIndex(384, [stored]).search(stored[:1].astype(np.float32), 1)
    row = stored[0].astype(np.float32)
    assert cosines[0, 0] == pytest.approx(float(row @ row), abs=1e-6)
