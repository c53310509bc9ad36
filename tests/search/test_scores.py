"""Scales of scores and what candidates get, as a plain computation of the stated rules gives them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import product

import numpy as np
import pytest

from bindsearch.search.plan import TermStep
from bindsearch.search.scoring.probability import DEFAULT_MODEL
from bindsearch.search.scoring.scores import (
    CERTAIN_LOG_ODDS,
    COPY_COSINE,
    MAX_COSINE,
    MAX_LOG_ODDS,
    MEAN_DEVIATION,
    PRIOR_DEVIATION,
    PRIOR_OTHER_MEAN,
    PRIOR_OWN_MEAN,
    PRIOR_VECTORS,
    Candidates,
    Moments,
    PartitionScale,
    TargetScale,
    features_of,
    log_odds_of,
    make_scales,
    rarities,
    score_candidates,
    target_scales,
)
from bindsearch.types import Modality

PARTS = (Moments(1, 0.3, 0.05, 0.0), Moments(40, 0.45, 0.3, 0.004), Moments(5000, 0.2, 0.11, 0.009))


def plain_own(parts: Sequence[Moments]) -> list[float]:
    """Return the share of the query that has the modality of each partition, if nobody knows it."""
    trust = [one.n / (one.n + PRIOR_VECTORS) for one in parts]
    own = []
    for weight, one in zip(trust, parts, strict=True):
        ratio = (one.mean - PRIOR_OTHER_MEAN) / max(one.pair_cosine - PRIOR_OTHER_MEAN, MEAN_DEVIATION)
        own.append(weight * min(max(ratio, 0.0), 1.0))
    left = 1.0 - max(own)
    return [share + (1.0 - weight) * left / 2 for share, weight in zip(own, trust, strict=True)]


def plain_prior(at: int, parts: Sequence[Moments], own: Sequence[float]) -> tuple[float, float]:
    """Return prior mean and variance of the mean of a partition, from the others and one assumed vector."""
    trust = [one.n / (one.n + PRIOR_VECTORS) for one in parts]
    assumed = 1.0 / (1 + PRIOR_VECTORS)
    others = [number for number in range(len(parts)) if number != at]
    weights = {number: trust[number] * (1.0 - own[number]) for number in others}
    other = sum(weights[number] * parts[number].mean for number in others) + assumed * PRIOR_OTHER_MEAN
    other /= sum(weights.values()) + assumed
    same = sum(trust[number] * parts[number].pair_cosine for number in others) + assumed * PRIOR_OWN_MEAN
    same /= sum(trust[number] for number in others) + assumed
    share = own[at]
    mean = (1.0 - share) * other + share * same
    return mean, MEAN_DEVIATION**2 + share * (1.0 - share) * (same - other) ** 2


@pytest.mark.parametrize("own", [None, (0.0, 1.0, 0.25)])
@pytest.mark.parametrize("parts", [PARTS, PARTS[:1], PARTS[1:2], PARTS[1:], PARTS[:2]])
def test_scales_are_those_of_the_stated_rule(parts: tuple[Moments, ...], own: tuple[float, ...] | None) -> None:
    targets = {
        modality: TargetScale(None if own is None else own[number], DEFAULT_MODEL.same, 7.0)
        for number, (modality, _) in enumerate(zip(Modality, parts, strict=False))
    }
    pooled = (sum((one.n - 1) * one.variance for one in parts) + PRIOR_VECTORS * PRIOR_DEVIATION**2) / (
        sum(one.n - 1 for one in parts) + PRIOR_VECTORS
    )
    shares = plain_own(parts) if own is None else own[: len(parts)]
    scales = make_scales(targets, parts)
    assert [*scales] == [*targets]
    for number, (part, scale) in enumerate(zip(parts, scales.values(), strict=True)):
        prior_mean, prior_variance = plain_prior(number, parts, shares)
        weight = pooled / prior_variance
        for cosine in (part.mean - 0.2, part.mean, part.mean + 0.1, 0.95):
            others = part.n - 1
            excess = cosine - part.mean
            left = part.mean - (excess / others if others else 0.0)  # the mean without this vector
            mean = (others * left + weight * prior_mean) / (others + weight)
            squares = part.n * part.variance - (part.n / others * excess**2 if others else 0.0)
            variance = (max(squares, 0.0) + PRIOR_VECTORS * pooled) / (others + PRIOR_VECTORS)
            variance *= 1.0 + 1.0 / (others + weight)
            z, _, _ = log_odds_of(np.array([cosine]), np.ones(1, np.int64), scale)
            assert float(z[0]) == pytest.approx((cosine - mean) / math.sqrt(variance), rel=1e-4, abs=1e-4)
        assert scale.items == 7.0
    assert make_scales({}, []) == {}


def term(source: Modality | None, weight: float = 1.0) -> TermStep:
    return TermStep("?", source, weight, "")


@pytest.mark.parametrize(
    ("terms", "own"),
    [
        ([term(Modality.IMAGE)], {Modality.IMAGE: 1.0, Modality.VIDEO: 1.0, Modality.TEXT: 0.0}),
        ([term(Modality.TEXT, 3.0), term(Modality.IMAGE, -1.0)], {Modality.TEXT: 0.75, Modality.VIDEO: 0.25}),
        ([term(Modality.TEXT, 0.0), term(Modality.IMAGE, 0.0)], {Modality.TEXT: 0.5, Modality.IMAGE: 0.5}),
        ([term(Modality.TEXT), term(Modality.TEXT), term(Modality.IMU, 2.0)], {Modality.TEXT: 0.5, Modality.IMU: 0.5}),
        ([term(Modality.TEXT), term(None)], {Modality.TEXT: None, Modality.IMAGE: None}),
    ],
)
def test_the_share_of_a_modality_is_that_of_the_terms_weights(
    terms: list[TermStep], own: dict[Modality, float | None]
) -> None:
    scales = target_scales(iter(terms), dict.fromkeys(own, 0.5), DEFAULT_MODEL)
    assert {modality: scale.own for modality, scale in scales.items()} == pytest.approx(own)
    assert {scale.items for scale in scales.values()} == {1.0}
    assert [scale.items for scale in target_scales(terms, {Modality.TEXT: 12.0}, DEFAULT_MODEL).values()] == [12.0]


def candidates(modality: Modality, cosines: list[float], first: int = 0, added: int = 0) -> Candidates:
    n = len(cosines)
    rows = np.arange(first, first + n)
    return Candidates(modality, rows, 100 + rows, 10 + rows, np.array(cosines, np.float32), np.ones(n, np.int64), added)


SCALES = [*make_scales({m: TargetScale(0.0, DEFAULT_MODEL.same, 9.0) for m in (Modality.IMAGE, Modality.TEXT)},
                       PARTS[1:]).values()]  # fmt: skip


@pytest.mark.parametrize("has_copies", [False, True])
@pytest.mark.parametrize("identical", [[], [11], [3, 12]])
def test_candidates_of_several_partitions_get_the_scores_of_theirs(has_copies: bool, identical: list[int]) -> None:
    cosines = [[0.2, COPY_COSINE, 0.99], [0.99, 0.3]]
    parts = [candidates(Modality.IMAGE, cosines[0]), candidates(Modality.TEXT, cosines[1], first=3, added=1)]
    scored = score_candidates(
        parts, SCALES, np.array(identical, np.int64), lambda modality: has_copies and modality is Modality.IMAGE
    )
    assert scored.modalities == (Modality.IMAGE, Modality.TEXT)
    assert scored.owner.tolist() == [0, 0, 0, 1, 1]
    assert scored.item_ids.tolist() == [10, 11, 12, 13, 14]
    assert scored.segment_rows.tolist() == [100, 101, 102, 103, 104]
    assert scored.is_added.tolist() == [False] * 4 + [True]
    assert scored.word_chances.tolist() == [0.0] * 5
    intercept, _, fisher, _ = DEFAULT_MODEL.same
    for at, (owner, item_id, cosine) in enumerate(zip(scored.owner, scored.item_ids, scored.cosines, strict=True)):
        z, _, log_odds = log_odds_of(np.array([cosine], np.float64), np.ones(1, np.int64), SCALES[owner])
        expected = float(log_odds[0])
        if item_id in identical:
            expected = CERTAIN_LOG_ODDS + float(cosine)
        elif has_copies and owner == 0 and cosine >= np.float32(COPY_COSINE):
            expected = max(expected, intercept + fisher * math.atanh(float(cosine)))
        assert scored.z[at] == pytest.approx(float(z[0]), rel=1e-5)
        assert scored.log_odds[at] == pytest.approx(expected, rel=1e-6)
    taken = scored.take(np.array([4, 0]))
    assert (taken.item_ids.tolist(), taken.owner.tolist(), taken.is_added.tolist()) == ([14, 10], [1, 0], [True, False])


@pytest.mark.parametrize("added", [0, 1, 2])
def test_without_a_query_vector_nothing_is_probable(added: int) -> None:
    part = candidates(Modality.IMAGE, [0.0, 0.0], added=added)
    scored = score_candidates([part], None, np.zeros(0, np.int64), lambda _: True)
    assert scored.z.tolist() == [0.0, 0.0]
    assert scored.log_odds.tolist() == [-CERTAIN_LOG_ODDS] * 2
    assert scored.is_added.tolist() == [False, False, True, True][added : added + 2]
    kept = candidates(Modality.IMAGE, [0.5, 0.25, 0.125]).take(np.array([True, False, True]))
    assert (kept.modality, kept.item_ids.tolist(), kept.cosines.tolist()) == (Modality.IMAGE, [10, 12], [0.5, 0.125])
    assert (kept.rows.tolist(), kept.segment_rows.tolist(), kept.chances.tolist()) == ([0, 2], [100, 102], [1, 1])


def test_log_odds_are_linear_in_their_features_up_to_the_limit() -> None:
    cosines = np.array([-1.0, -MAX_COSINE, 0.0, 0.5, MAX_COSINE, 1.0], np.float32)
    cosine, fisher, _ = features_of(cosines, np.zeros(6))
    assert cosine.tolist() == cosines.astype(np.float64).tolist()
    limits = [min(max(float(one), -MAX_COSINE), MAX_COSINE) for one in cosines]
    assert fisher.tolist() == pytest.approx([math.atanh(one) for one in limits])
    scale = PartitionScale(0.0, 0.0, 1.0, 1.0, 0.0, 1.0, 1.0, -2.0, 3.0, 0.5, 0.25, 4.0)
    z, rarity, log_odds = log_odds_of(np.array([0.5, 1.0]), np.array([1, 3]), scale)
    assert z.tolist() == [0.5, 1.0]
    assert rarity.tolist() == rarities(z, np.array([1, 3]), 4.0).tolist()
    terms = zip((0.5, 1.0), rarity.tolist(), strict=True)
    expected = [-2.0 + 3.0 * c + 0.5 * math.atanh(min(c, MAX_COSINE)) + 0.25 * r for c, r in terms]
    assert log_odds.tolist() == pytest.approx(expected)
    assert log_odds_of(np.array([0.5]), np.ones(1, np.int64), scale._replace(intercept=99.0))[2][0] == MAX_LOG_ODDS


@pytest.mark.parametrize(("z", "n"), [*product((-3.0, 0.0, 2.0, 5.0, 9.0), (1, 2, 50))])
def test_rarity_is_that_of_the_best_of_n_by_chance(z: float, n: int) -> None:
    survival = 0.5 * math.erfc(z / math.sqrt(2.0))
    expected = -math.log(-math.expm1(n * math.log1p(-survival))) - math.log(12.0)
    for chances in ([n], [n, 3]):
        found = rarities(np.full(len(chances), z), np.array(chances), 12.0)
        assert float(found[0]) == pytest.approx(expected, rel=1e-4, abs=1e-5)
