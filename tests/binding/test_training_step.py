"""The loss and its gradients: by hand, in parts, and over several processes."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, normalize

from bindsearch.binding.training.training_step import Batch, Forward, backward, contrastive_loss, seed_of, shares_of
from bindsearch.binding.training.workers import Workers

SCALE = torch.tensor(7.0)


def unit(rows: int, dims: int, seed: int) -> Tensor:
    return normalize(torch.randn(rows, dims, generator=torch.Generator().manual_seed(seed)), dim=1)


def test_loss_of_two_pairs_by_hand() -> None:
    vectors = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    shares, neither = shares_of(torch.tensor([0, 1]), torch.tensor([0, 1]))
    loss = contrastive_loss(vectors, vectors, shares, torch.tensor(2.0), neither=neither)
    assert loss.item() == pytest.approx(math.log(1 + math.exp(-2)))


@settings(deadline=None)
@given(rows=st.integers(2, 9), seed=st.integers(0, 99))
def test_loss_of_different_pairs_is_the_mean_of_two_cross_entropies(rows: int, seed: int) -> None:
    vectors, anchors, numbers = unit(rows, 5, seed), unit(rows, 5, seed + 100), torch.arange(rows)
    shares, neither = shares_of(numbers, numbers)
    logits = SCALE * vectors @ anchors.T
    expected = (cross_entropy(logits, numbers) + cross_entropy(logits.T, numbers)) / 2
    torch.testing.assert_close(contrastive_loss(vectors, anchors, shares, SCALE, neither=neither), expected)


def test_equal_partners_are_no_negatives() -> None:
    vectors, anchors = unit(3, 4, 1), unit(3, 4, 2)
    anchors[1] = anchors[0]
    shares, neither = shares_of(torch.tensor([5, 5, 6]), torch.tensor([5, 5, 6]))
    assert shares.tolist() == [[0.5, 0.5, 0], [0.5, 0.5, 0], [0, 0, 1]]
    assert not neither.any()
    logits = SCALE * vectors @ anchors.T
    by_hand = []
    for matrix in (logits, logits.T):
        logs = matrix - matrix.logsumexp(dim=1, keepdim=True)
        by_hand += [-(logs[0, :2]).mean(), -(logs[1, :2]).mean(), -logs[2, 2]]
    torch.testing.assert_close(
        contrastive_loss(vectors, anchors, shares, SCALE, neither=neither), torch.stack(by_hand).mean()
    )


def test_crops_of_one_picture_are_neither_alike_nor_different() -> None:
    vectors, anchors = unit(3, 4, 3), unit(3, 4, 4)
    shares, neither = shares_of(torch.tensor([10, 11, 20]), torch.tensor([1, 1, 2]))
    assert neither.tolist() == [[False, True, False], [True, False, False], [False, False, False]]
    loss = contrastive_loss(vectors, anchors, shares, SCALE, neither=neither)
    logits = SCALE * vectors @ anchors.T
    by_hand = []
    for row, others in ((0, [0, 2]), (1, [1, 2]), (2, [0, 1, 2])):
        for matrix in (logits, logits.T):
            by_hand.append(matrix[row, others].logsumexp(0) - matrix[row, row])
    torch.testing.assert_close(loss, torch.stack(by_hand).mean())


class Tower(nn.Module):
    """Small tower with dropout."""

    def __init__(self, dropout: float) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.Sequential(nn.Linear(6, 32), nn.GELU(), nn.Dropout(dropout), nn.Linear(32, 5))

    def forward(self, media: Tensor) -> Tensor:
        return normalize(self.layers(media), dim=1)


def loss_of(vectors: Tensor, anchors: Tensor, keys: Tensor, groups: Tensor) -> Tensor:
    shares, neither = shares_of(keys, groups)
    return contrastive_loss(vectors, anchors, shares, SCALE, neither=neither)


def make_batch(rows: int) -> Batch:
    media = torch.randn(rows, 6, generator=torch.Generator().manual_seed(1))
    keys = torch.arange(rows) % (rows - 1)  # the last one is equal to the first
    return Batch(media, unit(rows - 1, 5, 2)[keys], keys, keys)


def gradients(part: int, rows: int = 12, dropout: float = 0.0) -> tuple[float, list[Tensor]]:
    tower = Tower(dropout).train()
    loss = backward(Forward(tower, part, seed=3), make_batch(rows), loss_of, 0, Workers())
    return loss, [parameter.grad for parameter in tower.parameters() if parameter.grad is not None]


@pytest.mark.parametrize("part", [1, 2, 5, 7, 11])
def test_gradients_in_parts_are_those_of_the_whole_batch(part: int) -> None:
    loss, whole = gradients(part=12)
    loss_in_parts, in_parts = gradients(part)
    assert loss_in_parts == pytest.approx(loss, abs=1e-6)
    assert len(whole) == len(in_parts) == 4
    for expected, found in zip(whole, in_parts, strict=True):
        assert float((expected - found).abs().max()) <= 1e-5
        assert float(expected.abs().max()) > 1e-3


def test_dropout_of_a_part_is_drawn_alike_in_both_passes() -> None:
    """The gradient in parts is that of one fixed network: a numerical derivative along it agrees."""
    tower = Tower(dropout=0.5).train()
    forward, batch = Forward(tower, 4, seed=3), make_batch(12)
    before = backward(forward, batch, loss_of, 0, Workers())
    parameters = [*tower.parameters()]
    steps = [parameter.grad.clone() for parameter in parameters if parameter.grad is not None]
    size = 1e-3 / math.sqrt(sum(float((step**2).sum()) for step in steps))
    slope = sum(float((step**2).sum()) for step in steps) * size
    with torch.no_grad():
        for parameter, step in zip(parameters, steps, strict=True):
            parameter.sub_(step * size)
    after = backward(forward, batch, loss_of, 0, Workers())
    assert before - after == pytest.approx(slope, rel=0.05)


@settings(deadline=None)
@given(numbers=st.lists(st.integers(0, 1000), min_size=1, max_size=4))
def test_seeds_depend_on_all_numbers(numbers: list[int]) -> None:
    seed = seed_of(*numbers)
    assert 0 <= seed < 2**63
    assert seed == seed_of(*numbers) != seed_of(*numbers, 0)
    assert np.random.default_rng(seed).random() != np.random.default_rng(seed_of(*numbers, 0)).random()
