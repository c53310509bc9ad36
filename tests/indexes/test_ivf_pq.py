"""IVF-PQ indexes against an exact search: what they find, what they leave out, and how they are made."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from bindsearch.indexes.exact import ExactRows
from bindsearch.indexes.ivf_pq import IvfPqIndex, build_index, read_ivf_pq
from bindsearch.indexes.parameters import choose_parameters
from bindsearch.indexes.row_mask import RowMask
from bindsearch.indexes.types import IndexForm, IndexParameters, IndexSettings
from bindsearch.vectors import l2_normalize

DIM = 64
FORMS = [form for form in IndexForm if form is not IndexForm.EXACT]


def make_rows(n: int, seed: int = 0, dim: int = DIM) -> NDArray[np.float16]:
    """Rows around 40 centres and off the origin, as the vectors of one modality are."""
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(1).standard_normal((40, dim))
    rows = centres[rng.integers(0, 40, n)] + 0.7 * rng.standard_normal((n, dim)) + 1.0
    return l2_normalize(rows).astype(np.float16)


def parameters_for(n: int, form: IndexForm = IndexForm.IVF_PQ, dim: int = DIM, **overrides: int) -> IndexParameters:
    return choose_parameters(n, dim, IndexSettings(form=form, overrides=overrides))


def recall(index: IvfPqIndex, rows: NDArray[np.float16], probes: int, mask: RowMask | None = None) -> float:
    queries = make_rows(40, seed=99).astype(np.float32)
    exact = ExactRows(rows.shape[1], [rows])
    truth = exact.scan(queries, 10, mask)
    found = exact.rerank(queries, index.candidates(queries, 400, probes, mask), 10)
    return float(
        np.mean([np.isin(true, here).mean() for true, here in zip(truth.positions, found.positions, strict=True)])
    )


@pytest.fixture(scope="module")
def rows() -> NDArray[np.float16]:
    return make_rows(6000)


@pytest.fixture(scope="module", params=[(form, lists) for form in FORMS for lists in (1, 20)], ids=str)
def index(request: pytest.FixtureRequest, rows: NDArray[np.float16]) -> IvfPqIndex:
    form, lists = request.param
    parameters = parameters_for(len(rows), form, lists=lists, subquantizers=16, train_rows=2000)
    return build_index([rows[:2500], rows[2500:]], parameters)


def test_reranked_candidates_of_all_lists_are_nearly_the_true_nearest(
    index: IvfPqIndex, rows: NDArray[np.float16]
) -> None:
    assert (index.n, index.dim) == (6000, DIM)
    assert recall(index, rows, index.lists) >= 0.99


@pytest.mark.parametrize("share", [0.5, 0.02, 0.0])
def test_rows_that_the_mask_leaves_out_are_never_candidates(
    index: IvfPqIndex, rows: NDArray[np.float16], share: float
) -> None:
    mask = RowMask(np.random.default_rng(3).random(6000) < share)
    found = index.candidates(rows[:5].astype(np.float32), 200, index.lists, mask)
    assert mask.flags[found[found >= 0]].all()
    assert ((found >= 0).sum(axis=1) == min(200, mask.count)).all()
    assert share == 0 or recall(index, rows, index.lists, mask) >= 0.99


def test_candidates_are_distinct_and_padded_where_rows_run_out(index: IvfPqIndex, rows: NDArray[np.float16]) -> None:
    found = index.candidates(rows[:2].astype(np.float32), 7000, 10**6)
    assert found.shape == (2, 7000)
    assert (np.sort(found[:, :6000], axis=1) == np.arange(6000)).all()
    assert (found[:, 6000:] == -1).all()


def test_one_query_and_many_find_the_same(index: IvfPqIndex, rows: NDArray[np.float16]) -> None:
    queries = make_rows(12, seed=5).astype(np.float32)
    together = index.candidates(queries, 50, 4)
    alone = np.concatenate([index.candidates(queries[number : number + 1], 50, 4) for number in range(12)])
    same = [np.isin(a, b).mean() for a, b in zip(together, alone, strict=True)]
    assert np.mean(same) >= 0.99


def test_threads_may_search_it_at_once(index: IvfPqIndex) -> None:
    queries = make_rows(32, seed=6).astype(np.float32)

    def search(number: int) -> NDArray[np.int64]:
        return index.candidates(queries[number : number + 1], 50, 4)

    alone = [search(number) for number in range(32)]
    with ThreadPoolExecutor(8) as pool:
        np.testing.assert_array_equal(list(pool.map(search, range(32))), alone)


def test_lists_hold_every_ordinal_once(index: IvfPqIndex) -> None:
    ordinals = np.concatenate([index.list_ordinals(number) for number in range(index.lists)])
    assert np.sort(ordinals).tolist() == list(range(6000))


def test_a_file_gives_the_same_index_back(index: IvfPqIndex, rows: NDArray[np.float16], tmp_path: Path) -> None:
    index.write(tmp_path / "index.faiss")
    again = read_ivf_pq(np.fromfile(tmp_path / "index.faiss", np.uint8), index.parameters)
    queries = rows[:20].astype(np.float32)
    np.testing.assert_array_equal(again.candidates(queries, 50, 3), index.candidates(queries, 50, 3))
    assert again.quality(rows[:500]) == index.quality(rows[:500])


def test_a_copy_of_an_index_from_a_file_grows_without_it(
    index: IvfPqIndex, rows: NDArray[np.float16], tmp_path: Path
) -> None:
    index.write(tmp_path / "index.faiss")
    opened = read_ivf_pq(np.fromfile(tmp_path / "index.faiss", np.uint8), index.parameters)
    queries = rows[:20].astype(np.float32)
    before = opened.candidates(queries, 50, 3)
    copies = [opened.clone(), index.clone()]
    more = make_rows(3000, seed=8)
    for copy in copies:
        copy.add(more)
    assert (opened.n, index.n, *(copy.n for copy in copies)) == (6000, 6000, 9000, 9000)
    np.testing.assert_array_equal(opened.candidates(queries, 50, 3), before)
    del opened
    first, second = (copy.candidates(queries, 50, 3) for copy in copies)
    np.testing.assert_array_equal(first, second)
    assert (first >= 6000).any()
    assert recall(copies[0], np.concatenate([rows, more]), 20) >= 0.98


def test_building_again_gives_the_same_index(rows: NDArray[np.float16]) -> None:
    parameters = parameters_for(len(rows), lists=5)
    queries = rows[:20].astype(np.float32)
    first, second = (build_index([rows], parameters).candidates(queries, 30, 5) for _ in range(2))
    np.testing.assert_array_equal(first, second)


def test_building_tells_how_far_it_is(rows: NDArray[np.float16]) -> None:
    told: list[int] = []
    build_index([rows[:100], rows[100:130], rows[130:]], parameters_for(len(rows)), told.append)
    assert told == [100, 130, 6000]


def test_quality_tells_rows_like_those_of_the_training_from_others(rows: NDArray[np.float16]) -> None:
    index = build_index([rows], parameters_for(len(rows), lists=20, reduced_dim=32, subquantizers=16))
    known = index.quality(rows[::10])
    like = index.quality(make_rows(600, seed=7))
    other = index.quality(l2_normalize(np.random.default_rng(7).standard_normal((600, DIM))).astype(np.float16))
    assert like.code_error == pytest.approx(known.code_error, rel=0.1)
    assert other.code_error > 1.3 * known.code_error
    assert 1.0 <= known.imbalance < 2.0


def test_lists_become_uneven_when_the_rows_change(rows: NDArray[np.float16]) -> None:
    index = build_index([rows], parameters_for(len(rows), lists=20))
    before = index.quality(rows[:100]).imbalance
    index.add(np.repeat(rows[:1], 3000, axis=0))
    assert index.quality(rows[:100]).imbalance > 2 * before


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("dim", [1, 3, 20, 384])
@pytest.mark.parametrize("n", [1, 2, 15, 17, 100])
def test_a_forced_form_works_for_very_few_rows(
    n: int, dim: int, form: IndexForm, capfd: pytest.CaptureFixture[str]
) -> None:
    rows = make_rows(n, dim=dim)
    index = build_index([rows], parameters_for(n, form, dim))
    found = index.candidates(rows[:1].astype(np.float32), n + 3, 1)
    assert np.sort(found[0]).tolist() == [-1, -1, -1, *range(n)]
    assert np.isfinite(index.quality(rows).code_error)
    assert capfd.readouterr().err == ""
