"""Exact search against a plain NumPy search."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from bindsearch.indexes.exact import SMALL_ROWS, ExactRows, decode, one_thread
from bindsearch.indexes.row_mask import RowMask
from bindsearch.vectors import l2_normalize

DIM = 24


def make_rows(seed: int, n: int, dim: int = DIM) -> NDArray[np.float16]:
    return l2_normalize(np.random.default_rng(seed).standard_normal((n, dim))).astype(np.float16)


def plain_search(
    rows: NDArray[np.float16], queries: NDArray[np.float32], k: int, kept: NDArray[np.bool_]
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    cosines = queries.astype(np.float64) @ rows.astype(np.float64).T
    cosines[:, ~kept] = -np.inf
    order = np.argsort(-cosines, axis=1, kind="stable")[:, :k]
    best = np.take_along_axis(cosines, order, axis=1)
    order[best == -np.inf] = -1
    missing = ((0, 0), (0, k - order.shape[1]))
    return np.pad(order, missing, constant_values=-1), np.pad(best, missing, constant_values=-np.inf)


@settings(deadline=None, max_examples=60)
@given(
    st.integers(0, 10**6),
    st.lists(st.sampled_from([0, 1, 3, 200, SMALL_ROWS, SMALL_ROWS + 70]), max_size=5),
    st.integers(1, 40),
    st.sampled_from([0.0, 0.01, 0.5, 1.0]),
    st.floats(0, 1),
)
def test_scan_finds_what_numpy_finds(seed: int, sizes: list[int], k: int, share: float, begin: float) -> None:
    rng = np.random.default_rng(seed)
    rows = make_rows(seed, sum(sizes))
    index = ExactRows(DIM, np.split(rows, np.cumsum(sizes)[:-1]) if sizes else [])
    queries = l2_normalize(rng.standard_normal((3, DIM)))
    start = int(begin * len(rows))
    kept = rng.random(len(rows)) < share
    for mask in (None, RowMask(kept)):
        due = (np.arange(len(rows)) >= start) & (True if mask is None else kept)
        positions, cosines = plain_search(rows, queries, k, due)
        found = index.scan(queries, k, mask, start)
        assert found.positions.shape == found.cosines.shape == (3, k)
        np.testing.assert_array_equal(found.positions, positions)
        np.testing.assert_allclose(found.cosines, cosines, atol=1e-5)


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 10**6), st.integers(1, 30), st.integers(0, 60))
def test_rerank_gives_the_same_as_a_scan_of_the_candidates(seed: int, k: int, r: int) -> None:
    rng = np.random.default_rng(seed)
    rows = make_rows(seed, 3000)
    index = ExactRows(DIM, [rows[:1500], rows[1500:2800], rows[2800:]])
    queries = l2_normalize(rng.standard_normal((2, DIM)))
    candidates = np.full((2, r + 5), -1)
    for number in range(2):
        candidates[number, rng.permutation(r + 5)[:r]] = rng.choice(3000, r, replace=False)
    found = index.rerank(queries, candidates, k)
    for number in range(2):
        kept = np.isin(np.arange(3000), candidates[number])
        expected = index.scan(queries[number : number + 1], k, RowMask(kept))
        np.testing.assert_array_equal(found.positions[number], expected.positions[0])
        np.testing.assert_array_equal(found.cosines[number], expected.cosines[0])


@pytest.mark.parametrize("k", [1, 3, 10, 40])
def test_equal_cosines_are_ordered_by_position_even_where_only_some_have_a_place(k: int) -> None:
    rng = np.random.default_rng(3)
    rows = np.tile(make_rows(1, 6), (400, 1))[rng.permutation(2400)]
    query = l2_normalize(rng.standard_normal((2, DIM)))
    for sizes in ([2400], [1300, 1100], [5, 7, 2000, 388]):
        found = ExactRows(DIM, np.split(rows, np.cumsum(sizes)[:-1])).scan(query, k)
        for number in range(2):
            cosines = rows.astype(np.float32) @ query[number]
            order = np.lexsort((np.arange(2400), -np.round(cosines, 5)))[:k]
            np.testing.assert_array_equal(found.positions[number], order)


def test_how_the_rows_are_cut_into_blocks_changes_nothing() -> None:
    rows = make_rows(5, 5000)
    query = rows[17:20].astype(np.float32)
    whole = ExactRows(DIM, [rows]).scan(query, 20)
    cut = ExactRows(DIM, np.array_split(rows, 41)).scan(query, 20)
    np.testing.assert_array_equal(whole.positions, cut.positions)
    np.testing.assert_array_equal(whole.cosines, cut.cosines)


def test_large_blocks_are_searched_where_they_are_and_read_only(tmp_path: Path) -> None:
    rows = make_rows(7, 3000)
    np.save(tmp_path / "rows.npy", rows)
    mapped = np.load(tmp_path / "rows.npy", mmap_mode="r")
    index = ExactRows(DIM, [mapped, mapped[:40], mapped[40:90]])
    assert [np.shares_memory(block.rows, mapped) for block in index._blocks] == [True, False]
    assert index.n == 3090
    assert index.scan(rows[2990:2991].astype(np.float32), 1).positions.tolist() == [[2990]]


def test_gathered_rows_are_the_stored_ones() -> None:
    rows = make_rows(9, 4000)
    chosen = np.random.default_rng(2).integers(0, 4000, 100)
    for blocks in ([rows], [rows[:1100], rows[1100:1105], rows[1105:]]):
        index = ExactRows(DIM, blocks)
        np.testing.assert_array_equal(index.gather(chosen), rows[chosen])
        np.testing.assert_array_equal(index.embeddings(chosen), rows[chosen].astype(np.float32))
        assert index.gather(np.zeros(0, np.int64)).shape == (0, DIM)


def test_decoding_is_what_numpy_does() -> None:
    halves = np.arange(1 << 16, dtype=np.uint16).view(np.float16)
    values = halves[np.isfinite(halves)].reshape(-1, 32)
    np.testing.assert_array_equal(decode(values), values.astype(np.float32))


def test_threads_may_share_it() -> None:
    rows = make_rows(11, 6000)
    index = ExactRows(DIM, [rows[:2000], rows[2000:]])
    queries = l2_normalize(np.random.default_rng(4).standard_normal((64, DIM)))
    mask = RowMask(np.random.default_rng(5).random(6000) < 0.3)
    expected = index.scan(queries, 5, mask)
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda number: index.scan(queries[number : number + 1], 5, mask), range(64)))
    np.testing.assert_array_equal(np.concatenate([one.positions for one in found]), expected.positions)
    np.testing.assert_array_equal(np.concatenate([one.cosines for one in found]), expected.cosines)


def test_one_thread_holds_for_the_calling_thread_alone_and_ends() -> None:
    import faiss

    before = faiss.omp_get_max_threads()
    with ThreadPoolExecutor(1) as pool:
        elsewhere = pool.submit(faiss.omp_get_max_threads).result()
        with one_thread():
            assert faiss.omp_get_max_threads() == 1
            assert pool.submit(faiss.omp_get_max_threads).result() == elsewhere
    assert faiss.omp_get_max_threads() == before


def test_no_rows_give_no_hits() -> None:
    found = ExactRows(4, []).scan(np.eye(4, dtype=np.float32), 2)
    assert (found.positions == -1).all()
    assert (found.cosines == -np.inf).all()
    assert found.positions.shape == (4, 2)
    positions, _ = ExactRows(4, []).scan(np.eye(4, dtype=np.float32), 2, RowMask(np.zeros(0, np.bool_)))
    assert positions.shape == (4, 2)


def test_rows_are_scored_as_stored() -> None:
    rows = make_rows(1, 50, 384)
    found = ExactRows(384, [rows]).scan(rows[:1].astype(np.float32), 1)
    row = rows[0].astype(np.float32)
    assert found.cosines[0, 0] == pytest.approx(float(row @ row), abs=1e-6)
