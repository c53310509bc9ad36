"""Operating points: that they reach the recall they state, and what stands in where nothing could be measured."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from bindsearch.indexes.exact import ExactRows
from bindsearch.indexes.ivf_pq import IvfPqIndex, build_index
from bindsearch.indexes.parameters import choose_parameters
from bindsearch.indexes.row_mask import RowMask
from bindsearch.indexes.tuning import (
    MIN_QUERIES,
    OUTSIDE,
    RERANKS,
    exact_nearest,
    fill_missing,
    in_distribution_cosine,
    measure_points,
)
from bindsearch.indexes.types import MIXED, UNMEASURED, IndexForm, IndexSettings, OperatingPoint, UnitCosts
from bindsearch.vectors import l2_normalize

N, DIM, LISTS = 8000, 32, 16
RNG = np.random.default_rng(0)
CENTRES = RNG.standard_normal((60, DIM))
OWN = RNG.choice(N, 120, replace=False)


def make_vectors(n: int, gap: float, seed: int) -> NDArray[np.float32]:
    """Vectors of a modality: shared centres, noise of their own, and a mean `gap` away from the origin."""
    rng = np.random.default_rng(seed)
    mean = gap * np.sign(np.random.default_rng(int(100 * gap)).standard_normal(DIM))
    return l2_normalize(CENTRES[rng.integers(0, 60, n)] + 0.6 * rng.standard_normal((n, DIM)) + mean)


ROWS = make_vectors(N, 1.0, 1).astype(np.float16)
QUERIES = {"image": ROWS[OWN].astype(np.float32), "text": make_vectors(120, 0.9, 2)}


@pytest.fixture(scope="module")
def rows() -> ExactRows:
    return ExactRows(DIM, [ROWS[:5000], ROWS[5000:]])


@pytest.fixture(scope="module")
def index() -> IvfPqIndex:
    settings = IndexSettings(form=IndexForm.IVF_PQ, overrides={"lists": LISTS, "train_rows": 3000})
    return build_index([ROWS], choose_parameters(N, DIM, settings))


@pytest.fixture(scope="module")
def points(index: IvfPqIndex, rows: ExactRows) -> tuple[OperatingPoint, ...]:
    return measure_points(index, rows, QUERIES, modality="image", own=OWN, recall=0.9, budget_s=600)


def only(points: tuple[OperatingPoint, ...], source: str, k: int = 10, kept: float = 1.0) -> OperatingPoint:
    [point] = [point for point in points if (point.source, point.k, point.selectivity) == (source, k, kept)]
    return point


def test_the_truth_is_what_numpy_finds_under_every_mask(rows: ExactRows) -> None:
    masks = [None, RowMask(np.arange(N) % 3 == 0), RowMask(np.arange(N) < 4), RowMask(np.zeros(N, np.bool_))]
    own = OWN[:7]
    cosines = QUERIES["image"][:7] @ ROWS.astype(np.float32).T
    cosines[np.arange(7), own] = -np.inf
    for mask, found in zip(masks, exact_nearest(rows, QUERIES["image"][:7], 20, masks, 6000, own), strict=True):
        due = np.arange(N) < 6000 if mask is None else mask.flags & (np.arange(N) < 6000)
        expected = np.argsort(-np.where(due, cosines, -np.inf), axis=1, kind="stable")[:, :20]
        for number in range(7):
            best = expected[number][: int((due & (np.arange(N) != own[number])).sum())]
            np.testing.assert_array_equal(found[number][: len(best)], best)
            assert (found[number][len(best) :] == -1).all()


def test_every_source_k_and_share_has_a_point_within_the_index(points: tuple[OperatingPoint, ...]) -> None:
    cases = {(point.source, point.k, point.selectivity) for point in points}
    assert cases == set(itertools.product(["text", "image", MIXED], [10, 100], [1.0, 0.5, 0.1]))
    assert len(points) == len(cases)
    for point in points:
        assert 1 <= point.probes <= LISTS
        assert point.rerank in RERANKS
        assert point.rerank >= point.k
        assert point.latency_ms > 0


@pytest.mark.parametrize(("source", "k"), [("text", 10), ("text", 100), ("image", 10), ("image", 100)])
def test_a_point_has_the_recall_it_states_and_the_wanted_one(
    points: tuple[OperatingPoint, ...], index: IvfPqIndex, rows: ExactRows, source: str, k: int
) -> None:
    point = only(points, source, k)
    queries = QUERIES[source]
    [truth] = exact_nearest(rows, queries, k, [None], N, OWN if source == "image" else None)
    candidates = index.candidates(queries, point.rerank, point.probes)
    found = [np.isin(true, near).mean() for true, near in zip(truth, candidates, strict=True)]
    assert point.recall == pytest.approx(np.mean(found), abs=0.005)
    assert point.recall >= 0.9
    assert point.fallback_source is None


def test_a_setting_that_just_reaches_the_wanted_recall_is_enough(index: IvfPqIndex, rows: ExactRows) -> None:
    queries = {"image": QUERIES["image"]}
    points = measure_points(index, rows, queries, modality="image", own=OWN, recall=1.0, budget_s=600, ks=(10,))
    point = only(points, "image")
    assert point.recall == 1.0
    assert (point.probes, point.rerank) < (LISTS, RERANKS[-1])


def test_of_settings_that_cost_the_same_the_narrowest_is_taken(index: IvfPqIndex, rows: ExactRows) -> None:
    free = UnitCosts(gather_ns_per_byte=0.0)
    queries = {"image": QUERIES["image"]}
    points = measure_points(
        index, rows, queries, modality="image", own=OWN, recall=0.0, budget_s=600, ks=(10,), costs=free
    )
    point = only(points, "image")
    assert (point.probes, point.rerank) == (1, min(width for width in RERANKS if width >= 10))


def test_queries_across_the_modality_gap_need_more_than_those_within(points: tuple[OperatingPoint, ...]) -> None:
    within, across = only(points, "image"), only(points, "text")
    assert across.probes >= within.probes
    assert across.probes * across.rerank > within.probes * within.rerank


def test_mixed_queries_get_the_dearest_point_and_its_source(points: tuple[OperatingPoint, ...]) -> None:
    mixed = only(points, MIXED)
    assert mixed == replace(only(points, "text"), source=MIXED, fallback_source="text")


def test_of_points_that_cost_the_same_the_one_of_lowest_recall_stands_for_other_sources(index: IvfPqIndex) -> None:
    recalls = {"audio": 0.95, "text": 0.91, "depth": 0.93}
    measured = [OperatingPoint(source, 10, 1.0, 4, RERANKS[1], recall, 1.0) for source, recall in recalls.items()]
    for order in itertools.permutations(measured):
        filled = fill_missing(order, [*recalls, "thermal"], "image", index)
        assert {only(filled, source).fallback_source for source in ("thermal", MIXED)} == {"text"}
        assert {only(filled, source).recall for source in ("thermal", MIXED)} == {0.91}


def test_where_no_setting_reaches_the_recall_the_widest_is_taken(index: IvfPqIndex, rows: ExactRows) -> None:
    found = measure_points(
        index,
        rows,
        {"text": QUERIES["text"]},
        modality="image",
        recall=1.01,
        ks=(10,),
        selectivities=(1.0, 0.5),
        budget_s=600,
    )
    assert {(point.probes, point.rerank) for point in found} == {(LISTS, RERANKS[-1])}
    assert all(point.recall <= 1.0 for point in found)


def test_dead_rows_are_no_truth(index: IvfPqIndex, rows: ExactRows) -> None:
    alive = RowMask(np.random.default_rng(5).random(N) < 0.3)
    found = measure_points(
        index, rows, {"text": QUERIES["text"]}, modality="image", alive=alive, recall=0.9, budget_s=600
    )
    assert all(point.recall >= 0.9 for point in found)
    none = RowMask(np.zeros(N, np.bool_))
    found = measure_points(index, rows, {"text": QUERIES["text"]}, modality="image", alive=none, recall=0.9, budget_s=9)
    assert {point.fallback_source for point in found} == {UNMEASURED}


def test_when_the_time_is_used_up_sources_get_a_stand_in_that_is_named(index: IvfPqIndex, rows: ExactRows) -> None:
    seconds = itertools.count()
    queries = {"image": QUERIES["image"], "text": QUERIES["text"], "audio": make_vectors(120, 0.5, 3)}
    told = measure_points(
        index, rows, queries, modality="image", recall=0.9, budget_s=10, ks=(10,), clock=lambda: float(next(seconds))
    )
    assert {point.source: point.fallback_source for point in told} == {
        "text": None,
        "audio": "text",
        "image": "text",
        MIXED: "text",
    }
    assert only(told, "audio").probes == only(told, "text").probes


def test_with_little_time_fewer_queries_are_used(index: IvfPqIndex, rows: ExactRows) -> None:
    queries = np.repeat(QUERIES["text"], 5, axis=0)
    told = measure_points(
        index, rows, {"text": queries}, modality="image", recall=0.9, ks=(10,), selectivities=(1.0,), budget_s=0.0
    )
    assert (only(told, "text").recall * 10 * MIN_QUERIES) == pytest.approx(
        round(only(told, "text").recall * 10 * MIN_QUERIES)
    )
    assert only(told, "text").fallback_source is None


def test_few_rows_in_one_list_can_be_measured() -> None:
    few = ROWS[:60]
    settings = IndexSettings(form=IndexForm.IVF_PQ)
    index = build_index([few], choose_parameters(60, DIM, settings))
    told = measure_points(
        index, ExactRows(DIM, [few]), {"text": QUERIES["text"][:5]}, modality="image", recall=0.98, budget_s=60
    )
    assert {(point.probes, point.source) for point in told} == {(1, "text"), (1, MIXED)}
    assert all(point.recall == 1.0 for point in told if point.rerank >= 60)


def test_sources_without_queries_get_the_widest_measured_cross_modal_point(index: IvfPqIndex) -> None:
    measured = [
        OperatingPoint("image", 10, 1.0, 16, 1600, 0.99, 3.0),
        OperatingPoint("text", 10, 1.0, 4, 200, 0.98, 0.3),
        OperatingPoint("audio", 10, 1.0, 8, 400, 0.985, 0.5),
    ]
    filled = fill_missing(measured, ["image", "text", "audio", "imu"], "image", index)
    assert filled[:3] == tuple(measured)
    assert only(filled, "imu") == replace(measured[2], source="imu", fallback_source="audio")
    assert only(filled, MIXED) == replace(measured[0], source=MIXED, fallback_source="image")
    assert fill_missing(filled, ["imu", "text"], "image", index) == filled


def test_with_no_cross_modal_point_all_lists_are_searched(index: IvfPqIndex) -> None:
    measured = [OperatingPoint("image", 10, 1.0, 2, 100, 0.99, 0.2)]
    filled = fill_missing(measured, ["image", "text"], "image", index)
    assert only(filled, "text") == OperatingPoint("text", 10, 1.0, LISTS, RERANKS[-1], 0.0, 0.0, UNMEASURED)
    assert only(filled, MIXED).probes == LISTS
    assert only(fill_missing([], ["text"], "image", index), "text", 100, 0.1).fallback_source == UNMEASURED


def test_a_query_is_inside_where_the_partition_is_and_strangers_are_not() -> None:
    images, texts = make_vectors(2000, 2.0, 6), make_vectors(500, 2.1, 7)
    mean = images.mean(axis=0)
    threshold = in_distribution_cosine(images, mean, [texts])
    assert (images @ l2_normalize(mean) >= threshold).mean() == pytest.approx(0.99, abs=0.001)
    assert (texts @ l2_normalize(mean) >= threshold).mean() <= 0.01
    assert in_distribution_cosine(images, mean, [texts, make_vectors(200, 2.0, 9)]) == OUTSIDE
    assert in_distribution_cosine(images[:0], np.zeros(DIM, np.float32)) == OUTSIDE
