"""Drawings of what was located: the picture stays recognisable, and axes have round values."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bindsearch.media import DepthMap, Picture, ThermalPicture
from bindsearch.operations.locate.drawing import HEAT_SHARE, MIN_SIDE, ROOM, draw_over
from bindsearch.operations.locate.located import Curve, Located, Peak
from bindsearch.operations.show.drawing import MINUTE_STEPS_S, MOST_ROUND, round_values
from bindsearch.types import Modality

NOTHING = Located(Path("a.png"), Modality.IMAGE, "dense features of mini", peak=Peak(0.5, 0.5, 0.9964))


@pytest.mark.parametrize("size", [(1, 1), (1, 3000), (80, 60), (600, 500), (2000, 1000)])
def test_a_picture_fits_and_is_recognisable_below_the_greatest_heat(size: tuple[int, int]) -> None:
    rgb = np.random.default_rng(0).integers(0, 256, (size[1] // 10 + 1, size[0] // 10 + 1, 3), np.uint8)
    media = Picture(rgb.repeat(10, 0).repeat(10, 1)[: size[1], : size[0]])
    heat = np.ones((7, 7), np.float32)
    plain, heated = (np.asarray(draw_over(one, media, 0.9), float) for one in (NOTHING, replace(NOTHING, heat=heat)))
    height, width = plain.shape[:2]
    assert width <= ROOM[0]
    assert height <= ROOM[1]
    assert max(width, height) >= MIN_SIDE
    assert HEAT_SHARE <= 0.5
    below = heated[9 : 9 + height, :width]
    assert np.abs(below - plain).mean() > 20
    if min(size) > 1:
        assert below.std(axis=(0, 1)) == pytest.approx(
            (1 - HEAT_SHARE) * plain.std(axis=(0, 1)), rel=0.02
        )  # contrast is kept


def test_depth_and_heat_are_grey_below_the_relevance() -> None:
    depth_m = np.linspace(1, 4, 48, dtype=np.float32).reshape(6, 8)
    known = np.ones((6, 8), bool)
    for media in (DepthMap(depth_m, known, 500.0, 0.1), ThermalPicture((depth_m / 4).astype(np.float32))):
        assert np.ptp(np.asarray(draw_over(NOTHING, media, 0.9), np.int16), axis=-1).max() <= 2


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0, 5, [0, 1, 2, 3, 4, 5]),
        (0.5, 1, [0.5, 0.6, 0.7, 0.8, 0.9, 1]),
        (-9.81, 3.2, [-8, -6, -4, -2, 0, 2]),
        (12.3, 12.8, [12.3, 12.4, 12.5, 12.6, 12.7, 12.8]),
        (0, 1e-6, [0, 2e-7, 4e-7, 6e-7, 8e-7, 1e-6]),
    ],
)
def test_values_of_an_axis_are_round(low: float, high: float, expected: list[float]) -> None:
    assert round_values(low, high) == pytest.approx(expected)


def test_times_of_an_axis_are_whole_minutes_or_hours_if_it_is_long() -> None:
    assert round_values(0, 150, MINUTE_STEPS_S) == [0, 30, 60, 90, 120, 150]
    assert round_values(0, 7200, MINUTE_STEPS_S) == [0, 1800, 3600, 5400, 7200]
    for high in np.geomspace(1e-3, 1e6, 200).tolist():
        assert 1 <= len(round_values(0.0, high, MINUTE_STEPS_S if high >= 60 else ())) <= MOST_ROUND


def test_results_print_without_their_arrays() -> None:
    values = np.zeros((50, 50), np.float32)
    shown = repr(replace(NOTHING, heat=values, curve=Curve(np.zeros(9), values[0], 0.0, 9.0)))
    assert "array" not in shown
    assert len(shown) < 500
