"""Few-shot linear probe: samples, training, and figures that are known."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

from bindsearch.errors import UsageError
from bindsearch.evaluation.classification import mean_class_accuracy
from bindsearch.evaluation.linear_probe import (
    AUDIO_RECIPE,
    DEPTH_RECIPE,
    ProbeFigures,
    Recipe,
    few_shot_figures,
    few_shot_rows,
    train_probe,
)
from bindsearch.vectors import l2_normalize

RECIPES = [AUDIO_RECIPE, DEPTH_RECIPE]


def clusters(a_class: int, noise: float, seed: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return `a_class` vectors around each of five orthogonal directions, which are no axes, and their classes."""
    c, d = 5, 32
    directions, _ = np.linalg.qr(np.random.default_rng(7).standard_normal((d, d)))
    targets = np.repeat(np.arange(c), a_class)
    random = np.random.default_rng(seed)
    return l2_normalize(directions[targets] + noise * random.standard_normal((len(targets), d))), targets


def test_recipes_are_those_of_the_paper() -> None:
    assert Recipe(learning_rate=1.6e-3, weight_decay=0.05, epochs=50) == AUDIO_RECIPE
    assert Recipe(learning_rate=1e-2, weight_decay=0.0, epochs=60) == DEPTH_RECIPE


@given(st.integers(1, 4), st.integers(0, 99))
def test_samples_are_k_of_each_class_and_nested(k: int, seed: int) -> None:
    targets = np.random.default_rng(seed).permutation(np.repeat(np.arange(3), [8, 9, 10]))
    rows = few_shot_rows(targets, k, seed)
    assert np.bincount(targets[rows]).tolist() == [k] * 3
    assert len(set(rows.tolist())) == 3 * k
    np.testing.assert_array_equal(rows, few_shot_rows(targets, k, seed))
    assert set(rows.tolist()) <= set(few_shot_rows(targets, 2 * k, seed).tolist())


def test_seeds_choose_other_samples() -> None:
    targets = np.repeat(np.arange(3), 20)
    assert len({tuple(few_shot_rows(targets, 2, seed)) for seed in range(20)}) > 15


@pytest.mark.parametrize("recipe", RECIPES)
def test_separate_clusters_are_learned_from_one_sample_a_class(recipe: Recipe) -> None:
    train, test = clusters(8, 0.02, 0), clusters(20, 0.02, 1)
    found = few_shot_figures(*train, *test, recipe)
    assert list(found) == [1, 2, 4, 8]
    assert [found[k].mean for k in found] == [1.0] * 4
    assert found[1].deviation == 0.0


@pytest.mark.parametrize("recipe", RECIPES)
def test_more_samples_are_better_and_near_a_logistic_regression(recipe: Recipe) -> None:
    train, test = clusters(16, 0.25, 0), clusters(100, 0.25, 1)
    found = few_shot_figures(*train, *test, recipe, figure=mean_class_accuracy)
    means = [found[k].mean for k in (1, 2, 4, 8)]
    assert means == sorted(means)
    assert 0.6 < means[0] < means[3] - 0.1
    rows = few_shot_rows(train[1], 8, 0)
    theirs = LogisticRegression(C=100.0, max_iter=2000).fit(train[0][rows], train[1][rows]).score(*test)
    assert found[8].values[0] == pytest.approx(theirs, abs=0.06)


def test_labels_that_say_nothing_leave_chance() -> None:
    random = np.random.default_rng(0)
    vectors, tests = (l2_normalize(random.standard_normal((n, 32))) for n in (400, 800))
    found = few_shot_figures(vectors, np.arange(400) % 4, tests, np.arange(800) % 4, DEPTH_RECIPE)
    assert found[8].mean == pytest.approx(0.25, abs=0.04)


def test_an_encoder_that_embeds_everything_alike_is_at_chance() -> None:
    vectors = np.full((40, 4), 0.5, np.float32)
    targets = np.repeat(np.arange(4), 10)
    found = few_shot_figures(vectors, targets, vectors, targets, AUDIO_RECIPE)
    assert [found[k].mean for k in found] == pytest.approx([0.25] * 4)


def test_mean_and_deviation_over_seeds() -> None:
    figures = ProbeFigures(1, np.array([0.5, 0.7]))
    assert figures.mean == pytest.approx(0.6)
    assert figures.deviation == pytest.approx(0.2 / np.sqrt(2))
    assert np.isnan(ProbeFigures(1, np.array([0.5])).deviation)


def test_training_is_the_same_every_time_and_leaves_the_state_of_torch() -> None:
    vectors, targets = clusters(4, 0.3, 0)
    state, threads = torch.get_rng_state(), torch.get_num_threads()
    first = train_probe(vectors, targets, 5, AUDIO_RECIPE)
    torch.manual_seed(123)
    with torch.no_grad():
        second = train_probe(vectors, targets, 5, AUDIO_RECIPE)
    torch.set_rng_state(state)
    for name in ("weight", "bias"):
        np.testing.assert_array_equal(first[name], second[name])
    assert torch.get_num_threads() == threads


def test_one_step_by_hand() -> None:
    """AdamW's first step from zero is the learning rate, against the sign of the gradient; zero does not decay."""
    vectors = np.array([[0.6, 0.8], [-0.6, 0.8]], np.float32)
    found = train_probe(vectors, np.array([0, 1]), 2, Recipe(0.01, 0.5, 1))
    np.testing.assert_allclose(found["weight"][:, 0], [0.01, -0.01], atol=1e-6)
    np.testing.assert_allclose(found["weight"][:, 1], 0.0, atol=1e-6)


def test_wrong_arguments_give_one_line() -> None:
    vectors, targets = clusters(3, 0.1, 0)
    with pytest.raises(UsageError, match="class 0 has 3 vectors, 4 a class are wanted: leave the class out"):
        few_shot_figures(vectors, targets, vectors, targets, AUDIO_RECIPE)
    with pytest.raises(UsageError, match="class 1 has 0 vectors"):
        few_shot_rows(np.array([0, 2, 0, 2]), 1, 0)
    with pytest.raises(UsageError, match="targets contain 5: give the number of a class, 0 to 4"):
        few_shot_figures(vectors, targets, vectors, targets + 1, AUDIO_RECIPE, shots=(1,))
    with pytest.raises(UsageError, match="a probe needs numbers of samples and seeds"):
        few_shot_figures(vectors, targets, vectors, targets, AUDIO_RECIPE, shots=(1,), seeds=())
    with pytest.raises(UsageError, match="k is 0"):
        few_shot_rows(targets, 0, 0)
    with pytest.raises(UsageError, match="seed is -1"):
        few_shot_rows(targets, 1, -1)
    with pytest.raises(UsageError, match=r"Recipe.* cannot be trained"):
        train_probe(vectors, targets, 5, Recipe(0.0, 0.0, 1))
