"""Squares that cover pictures, and maps put together from them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bindsearch.media import DepthMap, Picture, ThermalPicture
from bindsearch.operations.locate.dense import MAX_SQUARES, SQUEEZED_ASPECT, areas, cosine_map, square, stitched
from helpers.colour_encoder import COLOURS, ColourEncoder, DenseColourEncoder


@given(st.integers(1, 700), st.integers(1, 700), st.integers(1, 4))
def test_areas_cover_every_pixel_and_stay_inside(height: int, width: int, detail: int) -> None:
    covered = np.zeros((height, width), np.bool_)
    for area in areas(height, width, detail):
        assert 0 <= area.top <= area.top + area.height <= height
        assert 0 <= area.left <= area.left + area.width <= width
        covered[area.top : area.top + area.height, area.left : area.left + area.width] = True
    assert covered.all()


@given(st.integers(20, 2000), st.floats(1, 5))
def test_areas_are_nearly_square_and_few(shorter: int, aspect: float) -> None:
    longer = round(shorter * aspect)
    cover = areas(shorter, longer)
    assert all(max(area.width, area.height) <= (SQUEEZED_ASPECT + 0.1) * min(area.width, area.height) for area in cover)
    embedded = 1 if aspect < 2 else -(-longer // shorter)  # squares that an encoder embeds, `wide_parts`
    assert len(cover) <= 2 * embedded + 1


def test_longest_pictures_have_a_bounded_number_of_areas() -> None:
    assert len(areas(1, 5000)) == len(areas(5000, 1)) == MAX_SQUARES
    assert len(areas(10, 100_000, 4)) <= 7 * MAX_SQUARES


@given(st.integers(3, 60), st.integers(3, 60), st.integers(1, 3), st.floats(-1, 1, width=32))
def test_a_constant_stays_constant(height: int, width: int, detail: int, value: float) -> None:
    cover = areas(height, width, detail)
    parts = [np.full((5, 5, 2), value, np.float32) for _ in cover]
    whole = stitched(parts, cover, (height, width))
    assert whole.shape[0] == 2
    assert whole == pytest.approx(np.full(whole.shape, value), abs=1e-5)


@pytest.mark.parametrize("shape", [(100, 100), (100, 180), (100, 300), (250, 100)])
@pytest.mark.parametrize("detail", [1, 2, 3])
def test_a_slope_stays_a_slope(shape: tuple[int, int], detail: int) -> None:
    """Parts that hold their place in the picture make a map that holds it, too."""
    cover = areas(*shape, detail)
    cells = (np.arange(8) + 0.5) / 8
    parts = [
        np.stack(np.broadcast_arrays(area.top + cells[:, None] * area.height, area.left + cells * area.width), -1)
        for area in cover
    ]
    down, right = stitched(parts, cover, shape)
    height, width = down.shape
    rows, columns = (np.arange(height) + 0.5) / height * shape[0], (np.arange(width) + 0.5) / width * shape[1]
    inner = slice(1, -1)
    assert down[inner, inner] == pytest.approx(np.broadcast_to(rows[:, None], down.shape)[inner, inner], abs=2.0)
    assert right[inner, inner] == pytest.approx(np.broadcast_to(columns, down.shape)[inner, inner], abs=2.0)


@pytest.mark.parametrize("encoder", [DenseColourEncoder(), ColourEncoder()], ids=lambda one: one.name)
@pytest.mark.parametrize("shape", [(96, 96), (96, 140), (96, 250), (250, 96)])
def test_the_map_is_greatest_where_the_colour_is(encoder: ColourEncoder, shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    for _ in range(4):
        rgb = np.full((*shape, 3), (0, 0, 255), np.uint8)
        top, left = int(rng.integers(0, shape[0] - 48)), int(rng.integers(0, shape[1] - 48))
        rgb[top : top + 48, left : left + 48] = (255, 0, 0)
        (cosines,) = cosine_map(encoder, Picture(rgb), np.array([COLOURS["red"]], np.float32))
        row, column = np.unravel_index(cosines.argmax(), cosines.shape)
        y, x = (row + 0.5) / cosines.shape[0] * shape[0], (column + 0.5) / cosines.shape[1] * shape[1]
        assert top - 12 <= y <= top + 60
        assert left - 12 <= x <= left + 60


def test_squares_of_depth_and_temperature_take_the_nearest_values() -> None:
    depth = np.arange(20 * 30, dtype=np.float32).reshape(20, 30)
    (area,) = areas(20, 30)
    cut = square(DepthMap(depth, depth > 5, 500.0, 0.1), area)
    assert isinstance(cut, DepthMap)
    assert cut.depth_m.shape == cut.valid.shape == (20, 20)
    assert np.isin(cut.depth_m, depth).all()
    assert (cut.valid == (cut.depth_m > 5)).all()
    warm = square(ThermalPicture(depth / np.float32(600)), area)
    assert isinstance(warm, ThermalPicture)
    assert warm.values.shape == (20, 20)
    assert (np.diff(warm.values, axis=1) >= 0).all()


@pytest.mark.parametrize("shape", [(1, 1), (1, 5000), (5000, 1), (2, 3)])
@pytest.mark.parametrize("detail", [1, 4])
def test_smallest_and_longest_pictures_have_a_map(shape: tuple[int, int], detail: int) -> None:
    rgb = np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8)
    maps = cosine_map(DenseColourEncoder(), Picture(rgb), np.eye(4, dtype=np.float32), detail)
    assert np.isfinite(maps).all()
    assert maps.size < 4 * 500_000
