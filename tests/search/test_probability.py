"""Match probabilities: the formulas, the order they give, their fit, and their file."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bindsearch.encoders import load_encoder, shipped_calibration
from bindsearch.errors import StoreError
from bindsearch.operations.calibrate import fit_coefficients
from bindsearch.search.scoring.calibration_file import (
    CALIBRATION_FILE,
    load_calibration,
    read_calibration,
    write_calibration,
)
from bindsearch.search.scoring.probability import DEFAULT_MODEL, Coefficients, ProbabilityModel
from bindsearch.search.scoring.scores import features_of, log_survival, probabilities, rarities
from bindsearch.storage.config import StoreConfig
from bindsearch.types import LEAST_PROBABILITY, Match, Modality, match_of

CONFIG = StoreConfig(2, "mini", "abc", {}, 10.0, 10.0, 5.0, 384, "2026-11-28T12:00:00Z")
MODEL = ProbabilityModel(
    {(Modality.TEXT, Modality.IMAGE): Coefficients(-3.0, 5.0, 1.0, 0.5)},
    Coefficients(-2.0, 0.0, 1.0, 0.25),
    Coefficients(-4.0, 0.0, 0.0, 1.0),
)


@pytest.mark.parametrize("z", [-8.0, -1.0, -1e-9, 0.0, 0.3, 2.0, 6.0, 12.0])
def test_log_survival_is_that_of_the_normal_distribution(z: float) -> None:
    assert log_survival(np.array([z]))[0] == pytest.approx(math.log(0.5 * math.erfc(z / math.sqrt(2))), abs=3e-7)


@given(st.floats(-3, 6), st.integers(1, 500), st.integers(1, 100_000))
def test_rarity_counts_items_that_chance_makes_as_good(z: float, n: int, items: int) -> None:
    survival = 0.5 * math.erfc(z / math.sqrt(2))
    expected = items * -math.expm1(n * math.log1p(-survival))
    found = rarities(np.array([z]), np.array([n]), np.array([items]))[0]
    assert found == pytest.approx(-math.log(expected), abs=1e-3)


def test_rarity_is_right_by_simulation_of_long_items() -> None:
    rng = np.random.default_rng(0)
    best = rng.standard_normal((20_000, 50)).max(axis=1)  # items of 50 segments
    for z in (2.0, 3.0, 3.5):
        share = float(np.mean(best >= z))
        assert math.exp(-rarities(np.array([z]), np.array([50]), np.array([1.0]))[0]) == pytest.approx(share, rel=0.15)


@settings(max_examples=200)
@given(st.lists(st.floats(-5, 60), min_size=2, max_size=20), st.integers(1, 2000))
def test_rarity_rises_with_z_and_falls_with_segments(values: list[float], n: int) -> None:
    z = np.sort(np.array(values))
    one, many = rarities(z, np.ones(len(z), np.int64), 100.0), rarities(z, np.full(len(z), n), 100.0)
    assert np.isfinite(one).all()
    assert np.isfinite(many).all()
    assert np.diff(one).min() >= -1e-6
    assert (many <= one + 1e-6).all()


def test_probabilities_are_those_of_log_odds() -> None:
    assert probabilities(np.array([-1e9, 0.0, math.log(3), 1e9])).tolist() == pytest.approx([0.0, 0.5, 0.75, 1.0])


def test_words_follow_the_thresholds() -> None:
    assert [match_of(p) for p in (1.0, 0.9999, 0.99, 0.7, 0.5, 0.3, 0.29, 0.0)] == [
        Match.EXACT, Match.STRONG, Match.STRONG, Match.STRONG, Match.LIKELY, Match.LIKELY, Match.WEAK, Match.WEAK,
    ]  # fmt: skip
    assert list(LEAST_PROBABILITY) == list(Match)


def test_videos_use_the_coefficients_of_pictures() -> None:
    assert MODEL.pair(Modality.TEXT, Modality.VIDEO) == MODEL.pairs[Modality.TEXT, Modality.IMAGE]
    assert MODEL.pair(Modality.VIDEO, Modality.IMAGE) == MODEL.same
    assert MODEL.pair(Modality.AUDIO, Modality.IMAGE) == MODEL.across


def test_a_query_of_several_terms_uses_the_mean_of_the_pairs() -> None:
    mixed = MODEL.mixture({Modality.TEXT: 0.75, None: 0.25}, Modality.IMAGE)
    assert mixed == Coefficients(0.75 * -3 + 0.25 * -4, 0.75 * 5, 0.75, 0.75 * 0.5 + 0.25)


def test_a_fit_finds_the_coefficients_that_made_the_data() -> None:
    rng = np.random.default_rng(1)
    features = np.column_stack(features_of(rng.uniform(0, 0.99, 100_000), rng.uniform(-3, 10, 100_000)))
    truth = Coefficients(-4.0, 2.0, 1.5, 0.4)
    odds = truth.intercept + features @ np.array(truth[1:])
    is_match = rng.random(len(odds)) < probabilities(odds)
    fitted = fit_coefficients(features, is_match, np.ones(len(odds)), DEFAULT_MODEL.across, 0.01)
    assert fitted == pytest.approx(truth, rel=0.1)


@pytest.mark.parametrize("column", [0, 2])
def test_a_fitted_slope_is_never_negative(column: int) -> None:
    rng = np.random.default_rng(2)
    features = np.column_stack(features_of(rng.uniform(0, 0.9, 2000), rng.uniform(0, 1, 2000)))
    is_match = rng.random(2000) > features[:, column]  # falls with one column, and ignores the other
    fitted = fit_coefficients(features, is_match, np.ones(2000), DEFAULT_MODEL.same, 0.01)
    assert min(fitted[1:]) == 0
    assert fitted[1 + column] == 0


def test_the_slope_of_the_rarity_is_at_most_one() -> None:
    rng = np.random.default_rng(3)
    features = np.column_stack(features_of(rng.uniform(0, 0.9, 2000), rng.uniform(-1, 1, 2000)))
    fitted = fit_coefficients(features, features[:, 2] > 0, np.ones(2000), DEFAULT_MODEL.same, 0.01)
    assert fitted.rarity == 1


def test_near_copies_are_told_from_what_is_similar() -> None:
    _, fisher, _ = features_of(np.array([0.5, 0.9, 0.99, 1.0, 1.0001]), np.zeros(5))
    assert np.diff(fisher).tolist()[:3] == pytest.approx([0.923, 1.174, 1.501], abs=1e-3)
    assert fisher[3] == fisher[4]


def test_a_model_survives_being_stored(tmp_path: Path) -> None:
    path = tmp_path / CALIBRATION_FILE
    write_calibration(path, MODEL, CONFIG, {"queries": 3})
    assert read_calibration(path, CONFIG) == MODEL
    assert load_calibration(tmp_path, CONFIG) == (MODEL, None)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda one: one.replace(b'"cosine": 5.0', b'"cosine": 6.0'), "does not match its digest"),
        (lambda one: one[:40], "is damaged"),
        (lambda _one: b"[]", "is damaged"),
    ],
)
def test_a_damaged_calibration_is_told_and_not_used(tmp_path: Path, change: object, message: str) -> None:
    path = tmp_path / CALIBRATION_FILE
    write_calibration(path, MODEL, CONFIG, {})
    path.write_bytes(change(path.read_bytes()))  # type: ignore[operator]
    model, problem = load_calibration(tmp_path, CONFIG)
    assert model == DEFAULT_MODEL  # the configuration has other weights than the shipped file
    assert problem is not None
    assert message in problem


def test_a_calibration_of_another_encoder_is_not_used(tmp_path: Path) -> None:
    other = StoreConfig(2, "mini", "other", {}, 10.0, 10.0, 5.0, 384, "2026-11-28T12:00:00Z")
    write_calibration(tmp_path / CALIBRATION_FILE, MODEL, other, {})
    model, problem = load_calibration(tmp_path, CONFIG)
    assert model == DEFAULT_MODEL
    assert "fitted for another encoder" in str(problem)


@pytest.mark.parametrize(
    "values",
    [
        {"intercept": 0, "cosine": -1, "fisher": 0, "rarity": 0},
        {"intercept": 1e9, "cosine": 0, "fisher": 0, "rarity": 0},
        {"intercept": True, "cosine": 0, "fisher": 0, "rarity": 0},
        {"intercept": 0, "cosine": 0},
        [0, 0, 0],
    ],
)
def test_impossible_coefficients_are_refused(values: object) -> None:
    record = json.loads(json.dumps(MODEL.to_record()))
    record["pairs"]["text-image"] = values
    with pytest.raises(ValueError, match=r"coefficients|slope|expected|indices"):
        ProbabilityModel.from_record(record)


def test_the_shipped_calibration_is_for_the_weights_of_mini(tmp_path: Path) -> None:
    path = shipped_calibration("mini")
    assert path is not None
    digest = load_encoder("mini").digest
    config = StoreConfig(2, "mini", digest, {}, 10.0, 10.0, 5.0, 384, "2026-11-28T12:00:00Z")
    model = read_calibration(path, config)
    assert model is not None
    assert (Modality.TEXT, Modality.IMAGE) in model.pairs
    with pytest.raises(StoreError, match="another encoder"):
        read_calibration(path, CONFIG)
    assert load_calibration(tmp_path, config) == (model, None)
