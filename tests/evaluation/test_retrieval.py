"""Figures of retrieval: hand-worked cases, scikit-learn, torchmetrics, an exact version by permutations, directions."""

import math
from itertools import permutations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.metrics import ndcg_score
from torchmetrics.functional.retrieval import (
    retrieval_average_precision,
    retrieval_hit_rate,
    retrieval_normalized_dcg,
    retrieval_reciprocal_rank,
)

from bindsearch.errors import UsageError
from bindsearch.evaluation.arrays import to_relevance, transposed
from bindsearch.evaluation.retrieval import (
    PAPER_VIDEO_WEIGHT,
    WEIGHTS,
    RetrievalFigures,
    both_directions,
    combine,
    figures_of_scores,
    retrieval_figures,
    sweep_weights,
)
from bindsearch.vectors import l2_normalize


def random_rows(n: int, d: int, seed: int) -> NDArray[np.float32]:
    return l2_normalize(np.random.default_rng(seed).standard_normal((n, d)))


def values(figures: RetrievalFigures) -> list[float]:
    return [
        *(figures.recall_at(k) for k in figures.hits),
        figures.median_rank,
        figures.mean_average_precision,
        figures.ndcg,
    ]


def test_figures_by_hand() -> None:
    """Relevant at ranks 1 and 3 of the first query, at rank 2 of the second."""
    scores = np.array([[0.9, 0.8, 0.7, 0.1], [0.1, 0.2, 0.3, 0.0]])
    found = figures_of_scores(scores, [[0, 2], [1]], ks=(1, 2))
    assert found.recall_at(1) == 0.5
    assert found.recall_at(2) == 1.0
    assert found.ranks.tolist() == [1.0, 2.0]
    assert found.median_rank == 1.5
    assert found.average_precisions.tolist() == pytest.approx([(1 + 2 / 3) / 2, 1 / 2])
    best = 1 + 1 / math.log2(3)
    assert found.gains.tolist() == pytest.approx([(1 + 1 / math.log2(4)) / best, 1 / math.log2(3)])


def test_equal_scores_by_hand() -> None:
    """One candidate is above, three are equal, one of which is relevant: ranks 2, 3 and 4 with a third each."""
    found = figures_of_scores(np.array([[0.9, 0.5, 0.5, 0.5, 0.1]]), [[2]], ks=(1, 2, 3, 4))
    assert [found.recall_at(k) for k in (1, 2, 3, 4)] == pytest.approx([0, 1 / 3, 2 / 3, 1])
    assert found.median_rank == 3.0
    assert found.mean_average_precision == pytest.approx((1 / 2 + 1 / 3 + 1 / 4) / 3)


@settings(max_examples=60)
@given(st.integers(1, 5), st.integers(1, 6), st.integers(0, 9999))
def test_figures_are_means_over_all_orders_of_equal_scores(levels: int, n: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    scores = random.integers(0, levels, n).astype(np.float64)
    relevant = np.flatnonzero(random.random(n) < 0.5)
    relevant = relevant if len(relevant) else np.array([0])
    orders = [order for order in permutations(range(n)) if all(np.diff(scores[list(order)]) <= 0)]
    ranks, precisions, gains, hits = [], [], [], []
    for order in orders:
        places = [place for place, candidate in enumerate(order, 1) if candidate in relevant]
        ranks.append(places[0])
        precisions.append(np.mean([number / place for number, place in enumerate(places, 1)]))
        best = sum(1 / math.log2(1 + place) for place in range(1, len(places) + 1))
        gains.append(sum(1 / math.log2(1 + place) for place in places) / best)
        hits.append([places[0] <= k for k in (1, 2, 3)])
    found = figures_of_scores(scores[None], [relevant], ks=(1, 2, 3))
    assert found.ranks[0] == pytest.approx(np.mean(ranks))
    assert found.mean_average_precision == pytest.approx(np.mean(precisions))
    assert found.ndcg == pytest.approx(np.mean(gains))
    assert [found.recall_at(k) for k in (1, 2, 3)] == pytest.approx(np.mean(hits, axis=0).tolist())


@settings(max_examples=40)
@given(st.integers(2, 40), st.integers(0, 9999))
def test_figures_are_those_of_torchmetrics(n: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    scores = (1 + random.permutation(n)) / n  # torchmetrics leaves scores of 0 out
    relevant = random.random(n) < 0.3
    relevant[random.integers(n)] = True
    found = figures_of_scores(scores[None], relevant[None])
    theirs = torch.tensor(scores), torch.tensor(relevant)
    assert found.mean_average_precision == pytest.approx(float(retrieval_average_precision(*theirs)), abs=1e-6)
    assert found.ndcg == pytest.approx(float(retrieval_normalized_dcg(*theirs)), abs=1e-6)
    assert 1 / found.ranks[0] == pytest.approx(float(retrieval_reciprocal_rank(*theirs)), abs=1e-6)
    for k in (1, 5, 10):
        assert found.recall_at(k) == float(retrieval_hit_rate(*theirs, top_k=min(k, n)))


@settings(max_examples=60)
@given(st.integers(2, 30), st.integers(1, 6), st.integers(0, 9999))
def test_ndcg_is_that_of_scikit_learn_with_equal_scores(n: int, levels: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    scores = random.integers(0, levels, (3, n)).astype(np.float64)
    relevant = random.random((3, n)) < 0.4
    relevant[:, 0] = True
    assert figures_of_scores(scores, relevant).ndcg == pytest.approx(ndcg_score(relevant, scores))


def test_figures_of_vectors_are_those_of_their_cosines_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    queries, candidates = random_rows(23, 8, 0), random_rows(37, 8, 1)
    relevant = np.random.default_rng(2).random((23, 37)) < 0.1
    expected = values(figures_of_scores(queries @ candidates.T, relevant))
    assert values(retrieval_figures(queries, candidates, relevant)) == pytest.approx(expected)
    monkeypatch.setattr("bindsearch.evaluation.retrieval.BLOCK_SCORES", 100)
    assert values(retrieval_figures(queries, candidates, relevant)) == pytest.approx(expected)


def test_an_encoder_that_embeds_everything_alike_is_at_chance() -> None:
    """Also if its vectors differ by what float32 rounds."""
    n, random = 200, np.random.default_rng(0)
    rows = l2_normalize(np.ones((n, 48)) + random.standard_normal((n, 48)) * 1e-7)
    found = retrieval_figures(rows, rows, np.eye(n, dtype=np.bool_))
    assert [found.recall_at(k) for k in (1, 5, 10)] == pytest.approx([1 / n, 5 / n, 10 / n])
    assert found.median_rank == (n + 1) / 2
    assert found.mean_average_precision == pytest.approx(sum(1 / rank for rank in range(1, n + 1)) / n)
    with_noise = figures_of_scores(random.random((4000, n)), [[0]] * 4000)
    assert found.mean_average_precision == pytest.approx(with_noise.mean_average_precision, abs=0.004)
    assert found.ndcg == pytest.approx(with_noise.ndcg, abs=0.004)


def test_several_captions_an_item_in_both_directions() -> None:
    """Three pictures with two captions each; the second of the first and those of the last are as near to the last."""
    pictures = np.eye(4, dtype=np.float32)[:3]
    captions = l2_normalize(
        np.array([[1, 0, 0, 0], [0.8, 0, 0.6, 0], [0, 1, 0, 0], [0, 0.5, 0, 0.5], [0.8, 0, 0.6, 0], [0, 0, 0.6, 0.8]])
    )
    belongs = [[0, 1], [2, 3], [4, 5]]
    to_captions, to_pictures = both_directions(pictures, captions, belongs, ks=(1, 2))
    assert to_captions.hits[1].tolist() == [1, 1, pytest.approx(2 / 3)]
    assert to_captions.hits[2].tolist() == [1, 1, 1]
    assert to_captions.n_candidates == 6
    assert to_pictures.hits[1].tolist() == [1, 1, 1, 1, 0, 1]
    assert to_pictures.hits[2].tolist() == [1, 1, 1, 1, 1, 1]
    assert to_pictures.ranks.tolist() == [1, 1, 1, 1, 2, 1]


def test_queries_without_an_answer_are_counted_and_left_out() -> None:
    rows = random_rows(4, 8, 0)
    found = retrieval_figures(rows, rows, [[0], [], [2], []])
    assert found.queries.tolist() == [0, 2]
    assert found.n_unanswered == 2
    assert found.recall_at(1) == 1.0
    with pytest.raises(UsageError, match="none of 4 queries has a relevant candidate"):
        retrieval_figures(rows, rows, [[], [], [], []])


@given(st.integers(1, 8), st.integers(1, 8), st.integers(0, 9999))
def test_the_relevance_of_the_opposite_direction_is_the_transposed_matrix(q: int, n: int, seed: int) -> None:
    matrix = np.random.default_rng(seed).random((q, n)) < 0.4
    for given_as in (matrix, [np.flatnonzero(row).tolist() for row in matrix]):
        back = transposed(given_as, n)
        assert [row.tolist() for row in back] == [np.flatnonzero(column).tolist() for column in matrix.T]
        assert [row.tolist() for row in to_relevance(back, n, q)] == [row.tolist() for row in back]


def test_a_combination_by_hand() -> None:
    a, b = np.array([[1, 0], [0, 1]], np.float32), np.array([[0, 1], [0, 1]], np.float32)
    first = np.array([0.6, 0.4]) / math.hypot(0.6, 0.4)
    np.testing.assert_allclose(combine(a, b, 0.6), np.stack([first, b[1]]), atol=1e-7)
    np.testing.assert_array_equal(combine(a, b, 1.0), a)
    np.testing.assert_array_equal(combine(a, b, 0.0), b)
    with pytest.raises(UsageError, match=r"the vectors of row 1 cancel each other at weight 0\.5"):
        combine(a, np.array([[0, 1], [0, -1]], np.float32), 0.5)
    with pytest.raises(UsageError, match=r"weight is 1\.5: give a number from 0 to 1"):
        combine(a, b, 1.5)
    with pytest.raises(UsageError, match=r"shapes \(2, 2\) and \(1, 2\): give two for each item"):
        combine(a, b[:1], 0.5)


def test_a_sweep_finds_that_two_modalities_are_better_than_one() -> None:
    """Video tells pairs of items apart, sound the two of a pair: each alone is right for half of the queries."""
    queries = np.array([[1, 0, 1, 0], [1, 0, 0, 1], [0, 1, 1, 0], [0, 1, 0, 1]], np.float32) / np.float32(math.sqrt(2))
    video = np.array([[1, 0, 0, 0], [1, 0, 0, 0], [0, 1, 0, 0], [0, 1, 0, 0]], np.float32)
    sound = np.array([[0, 0, 1, 0], [0, 0, 0, 1], [0, 0, 1, 0], [0, 0, 0, 1]], np.float32)
    swept = sweep_weights(queries, video, sound, np.eye(4, dtype=np.bool_))
    assert tuple(swept) == WEIGHTS
    assert PAPER_VIDEO_WEIGHT in swept
    recalls = [figures.recall_at(1) for figures in swept.values()]
    assert recalls[0] == recalls[-1] == 0.5
    assert recalls[1:-1] == [1.0] * 19


@pytest.mark.parametrize(
    ("relevant", "message"),
    [
        ([[0]], "relevance has 1 rows for 2 queries"),
        ([[0], [3]], "query 1 has the relevant row 3: give rows of the candidates, 0 to 2"),
        ([[-1], [0]], "query 0 has the relevant row -1"),
        (np.zeros((3, 2), np.bool_), r"relevance has the shape \(3, 2\) and type bool: give bool \(2, 3\)"),
        (np.zeros((2, 3)), "type float64: give bool"),
    ],
)
def test_wrong_relevance_gives_one_line(relevant: list[list[int]], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        retrieval_figures(random_rows(2, 4, 0), random_rows(3, 4, 1), relevant)


def test_wrong_vectors_give_one_line() -> None:
    rows = random_rows(3, 4, 0)
    relevant = np.eye(3, dtype=np.bool_)
    with pytest.raises(UsageError, match="row 0 of queries has the norm 2: give unit vectors"):
        retrieval_figures(rows * 2, rows, relevant)
    with pytest.raises(UsageError, match="row 1 of candidates has the norm nan"):
        retrieval_figures(rows, np.where(np.arange(3)[:, None] == 1, np.nan, rows).astype(np.float32), relevant)
    with pytest.raises(UsageError, match="queries have 4 dimensions, candidates 5: embed both with the same encoder"):
        retrieval_figures(rows, random_rows(3, 5, 0), relevant)
    with pytest.raises(UsageError, match=r"queries have the shape \(0, 4\)"):
        retrieval_figures(rows[:0], rows, relevant[:0])
    with pytest.raises(UsageError, match="k is 0: give the number of candidates"):
        retrieval_figures(rows, rows, relevant, ks=(0,))
    with pytest.raises(UsageError, match="recall at 3 was not computed: choose from 1, 5, 10"):
        retrieval_figures(rows, rows, relevant).recall_at(3)
